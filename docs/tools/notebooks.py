"""Notebooks, run when the site is built: docs/notebooks/*.py become pages with results.

A script is cut into cells at lines that start with `# %%`; a cell `# %% [markdown]` is
text in comments. Each page offers the executed notebook to download. What a run has
left is kept in .cache/ for as long as the script and the package stay as they are, and
nothing of it is committed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "notebooks"
SECONDS = 900  # for one cell, on a busy machine
BEGIN = re.compile(r"^# %%(.*)$", re.MULTILINE)
OUTPUT = re.compile(r"(?:^ {4}.*\n+)+", re.MULTILINE)


def cells(script: str) -> nbformat.NotebookNode:
    """The notebook of a script."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    parts = BEGIN.split(script)
    if parts[0].strip():
        raise ValueError("Something stands before the first '# %%'.")
    for number, (kind, body) in enumerate(zip(parts[1::2], parts[2::2], strict=True)):
        body = body.strip("\n")
        if kind.strip() == "[markdown]":
            text = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(body)
        cell["id"] = f"cell-{number}"
        notebook.cells.append(cell)
    return notebook


def fingerprint(script: str) -> str:
    """Changes with the script and with every module of the package."""
    found = hashlib.sha256(script.encode())
    for module in sorted((ROOT / "larq_nobn").rglob("*.py")):
        found.update(module.read_bytes())
    return found.hexdigest()[:24]


def executed(script: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in an empty folder unless that was done."""
    kept = CACHE / f"{fingerprint(script)}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    notebook = cells(script)
    # As wide as the tables of Larq's summary, for which the site's style has room.
    wide = {"COLUMNS": "108", "TERM": "dumb"}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), **wide}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors only
            resources={"metadata": {"path": folder}},
        )
        client.execute(env=os.environ | quiet)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ
    CACHE.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept)
    return notebook


def _fenced(output: re.Match[str]) -> str:
    """An output as a block of its own style, whose lines are long."""
    return f"```{{ .text .output }}\n{textwrap.dedent(output[0]).strip()}\n```\n\n"


def pages(name: str, notebook: nbformat.NotebookNode) -> dict[str, str | bytes]:
    """What the notebook adds to the folder of the site, by path."""
    for cell in notebook.cells:
        if "outputs" in cell:  # without warnings of libraries
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, resources={"unique_key": name, "output_files_dir": f"{name}_files"}
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # colors of a terminal
    text = re.sub(r"^ *WARNING:tensorflow:.*\n+", "", text, flags=re.MULTILINE)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    text = "".join(
        part if part.startswith("```") else OUTPUT.sub(_fenced, part) for part in parts
    )
    link = f"[Download this notebook]({name}.ipynb)\n"
    text = text.replace("![png](", "![What the cell above has drawn](")
    title, _, rest = text.strip().partition("\n")
    found: dict[str, str | bytes] = {f"{name}.md": f"{title}\n\n{link}\n{rest}\n"}
    found[f"{name}.ipynb"] = nbformat.writes(notebook)
    return found | resources["outputs"]


def on_files(files: Any, config: Any) -> Any:
    folder = Path(config["docs_dir"]) / "notebooks"
    for script in sorted(folder.glob("*.py")):
        try:
            notebook = executed(script.read_text(encoding="utf-8"))
        except (CellExecutionError, CellTimeoutError, ValueError) as error:
            raise PluginError(f"notebooks/{script.name}: {error}") from error
        for path, content in pages(script.stem, notebook).items():
            place = f"notebooks/{path}"
            files.append(File.generated(config, place, content=content))
    return files
