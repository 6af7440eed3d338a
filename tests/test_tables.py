"""Tables as text."""

import pytest
import rich.console
from larq_nobn._tables import as_text
from rich.table import Table


@pytest.mark.parametrize("notebook", [False, True])
def test_a_table_is_text_in_a_notebook_too(notebook, monkeypatch, capsys):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: notebook)
    table = Table("name", title="what", title_style="italic")
    table.add_row("value")
    text = as_text(table)
    assert [word for word in text.split() if word.isalpha()] == [
        "what",
        "name",
        "value",
    ]
    assert "\x1b" not in text
    assert capsys.readouterr().out == ""
