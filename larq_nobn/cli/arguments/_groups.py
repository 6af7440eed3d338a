"""Long lists of options under headings."""

from __future__ import annotations

import click

from ...config import GROUPS, WHERE, Settings, settings_of
from ._command import Command

_HELP = "Options"
_SETTINGS = settings_of(Settings)


class Grouped(Command):
    """A command whose `--help` shows its options in groups.

    An option is in the group of the setting that it sets, or takes several values of;
    the others say where a training runs.
    """

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Writes a section for each group that the command has options of."""
        sections: dict[str, list[tuple[str, str]]] = {
            heading: [] for heading in (*GROUPS, _HELP)
        }
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                sections[_heading(parameter)].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _heading(parameter: click.Parameter) -> str:
    if "--help" in parameter.opts:
        return _HELP
    name = parameter.name or ""
    found = _SETTINGS.get(name) or _SETTINGS.get(name.removesuffix("s"))
    return found.group if found else WHERE
