"""The tables of all settings, written into docs/reference/settings.md.

    python docs/tools/settings.py

A test fails while they are not those of the code.
"""

from __future__ import annotations

from pathlib import Path

from larq_nobn.config._fields import GROUPS, Setting, settings_of
from larq_nobn.config._presets import RECIPES
from larq_nobn.config._recipe import Recipe

PAGE = Path(__file__).parents[1] / "reference" / "settings.md"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->\n"
_OF_RECIPES = settings_of(Recipe)


def table(cls: type) -> str:
    """A table for each group of the settings of a dataclass."""
    parts = []
    for group in GROUPS:
        settings = [each for each in settings_of(cls).values() if each.group == group]
        rows = "".join(f"|{'|'.join(row(each))}|\n" for each in settings)
        parts.append(f"## {group}\n\n|Setting|Meaning|Allowed|Default|\n|-|-|-|-|\n")
        parts.append(f"{rows}\n")
    return "".join(parts)


def row(setting: Setting) -> list[str]:
    name = f"`{setting.name}`"
    if setting.option:
        name += f", `--{setting.name.replace('_', '-')}`"
    return [name, setting.help, setting.allowed, default(setting)]


def default(setting: Setting) -> str:
    if setting.name not in _OF_RECIPES:
        return shown(setting, setting.default)
    plain, usual = (getattr(RECIPES[n], setting.name) for n in ("plain", "nobn"))
    found = shown(setting, plain)
    return (
        found
        if plain == usual
        else f"{found}; {shown(setting, usual)} in recipe `nobn`"
    )


def shown(setting: Setting, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return setting.absent if value is None else str(value)


def main() -> None:
    from larq_nobn.training import RunSettings

    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page = f"{before}{BEGIN}\n{table(RunSettings)}{END}{after}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
