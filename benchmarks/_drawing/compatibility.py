"""Which versions work, which open whose files, and what is said without extras."""

from __future__ import annotations

from .markdown import table

STEPS = {
    "tests": "tests",
    "train": "trains",
    "convert": "converts",
    "keras_3": "Keras 3",
    "save": "saves",
}
NOTED = ("tensorflow", "tf-keras", "larq-compute-engine", "numpy")


def compat(result):
    """All tables, for the log."""
    return "\n\n".join(draw(result) for draw in DRAWN)


def environments(result):
    """A row per environment, and why something failed."""
    notes = []

    def cell(found, name):
        step = found["steps"].get(name)
        if step is None or step["passed"]:
            return "-" if step is None else "yes"
        reasons = "; ".join(step.get("failures") or [step["said"]])
        notes.append(f"{label(found)}, {STEPS.get(name, name)}: {reasons}")
        return step["said"] if name == "tests" and " of " in step["said"] else "no"

    rows = []
    for found in result["environments"]:
        first = [n for n in ("install", "import") if failed(found, n)]
        shown = [cell(found, name) for name in first or STEPS]
        versions = {"tensorflow": found["tensorflow"], **found.get("versions", {})}
        known = [versions.get(name, "-") for name in NOTED]
        rest = ["-"] * (len(STEPS) - len(shown))
        rows.append([found["python"], *known, *shown, *rest])
    head = ["Python", "TensorFlow", "tf-keras", "LCE", "NumPy", *STEPS.values()]
    return "\n\n".join([table(head, rows), *notes])


def failed(found, name):
    return not found["steps"].get(name, {"passed": True})["passed"]


def label(found):
    label = f"Python {found['python']} with TensorFlow {found['tensorflow']}"
    return label if found["numpy"] == "1" else f"{label} and NumPy {found['numpy']}"


def opened_files(result):
    """Rows open, columns have written; what does not open is named."""
    environments = result["environments"]
    written = {
        f"python-{e['python']}-tensorflow-{e['tensorflow']}": e["tensorflow"]
        for e in environments
        if e["python"] == environments[0]["python"]
        and e["numpy"] == "1"
        and e["steps"].get("save", {}).get("passed")
    }
    notes, rows = [], []
    for found in environments:
        if "opened" in found:
            cells = [opens(found, *each, notes) for each in written.items()]
            rows.append([label(found), *cells])
    head = ["opened with", *(f"saved with {version}" for version in written.values())]
    return "\n\n".join([table(head, rows), *notes])


def opens(found, name, version, notes):
    """How many kinds of files open, and which do not."""
    tried = found["opened"].get(name)
    if tried is None:
        return "-"
    wrong = {kind: step["said"] for kind, step in tried.items() if not step["passed"]}
    notes += [f"{label(found)}, {kind} of {version}: {wrong[kind]}" for kind in wrong]
    return f"{len(tried) - len(wrong)} of {len(tried)}" if wrong else "all"


_SHORT = " --width 8 --blocks 1,1 --epochs 1 --limit 64"


def without_extras(result):
    """What works without any extra, and what the rest says.

    Options that only keep a command short are left out: they would widen the table.
    """
    found = result["without_extras"]
    rows = [
        [f"`{name.replace(_SHORT, ' ...')}`", sentence or "works"]
        for name, (_, sentence, _) in found.items()
        if name.startswith("larq-nobn ")
    ]
    wrong = [f"{name}: {problem}" for name, (*_, problem) in found.items() if problem]
    return "\n\n".join([table(["without extras", ""], rows), *wrong])


DRAWN = (environments, opened_files, without_extras)
