"""Notebooks, run when the site is built: docs/notebooks/*.ipynb become pages.

The committed notebooks have no results. Each page offers the executed notebook to
download, and a button that opens the committed one in Colab if CITATION.cff has the
public address. What a run has left is kept in .cache/ for as long as the notebook and
the package stay as they are, and nothing of it is committed.
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
OUTPUT = re.compile(r"(?:^ {4}.*\n+)+", re.MULTILINE)


def in_colab(citation: str, name: str) -> str:
    """The button that opens a notebook in Colab; none without a public address."""
    address = re.search(r"^repository-code: *\W?https://([\w./-]+)", citation, re.M)
    if address is None:
        return ""
    place = address[1].replace("github.com", "colab.research.google.com/github", 1)
    place = f"https://{place}/blob/main/docs/notebooks/{name}.ipynb"
    return f"[Open in Colab]({place}){{ .md-button }} "


def fingerprint(content: str) -> str:
    """Changes with the notebook and with every module of the package."""
    found = hashlib.sha256(content.encode())
    for module in sorted((ROOT / "larq_nobn").rglob("*.py")):
        found.update(module.read_bytes())
    return found.hexdigest()[:24]


def executed(content: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in an empty folder unless that was done."""
    kept = CACHE / f"{fingerprint(content)}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    notebook = nbformat.reads(content, as_version=4)
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
    said = textwrap.dedent(output[0]).strip()
    return f"```{{ .text .output }}\n{said}\n```\n\n" if said else "\n"


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
    link = in_colab((ROOT / "CITATION.cff").read_text(encoding="utf-8"), name)
    link += f"[Download this notebook]({name}.ipynb)\n"
    text = text.replace("![png](", "![What the cell above has drawn](")
    title, _, rest = text.strip().partition("\n")
    found: dict[str, str | bytes] = {f"{name}.md": f"{title}\n\n{link}\n{rest}\n"}
    found[f"{name}.ipynb"] = nbformat.writes(notebook)
    return found | resources["outputs"]


def on_files(files: Any, config: Any) -> Any:
    folder = Path(config["docs_dir"]) / "notebooks"
    for path in sorted(folder.glob("*.ipynb")):
        try:
            notebook = executed(path.read_text(encoding="utf-8"))
        except (CellExecutionError, CellTimeoutError) as error:
            raise PluginError(f"notebooks/{path.name}: {error}") from error
        files.remove(files.get_file_from_path(f"notebooks/{path.name}"))
        for name, content in pages(path.stem, notebook).items():
            place = f"notebooks/{name}"
            files.append(File.generated(config, place, content=content))
    return files
