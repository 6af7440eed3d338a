"""Which versions work, which open whose files, and what is said without extras."""

from __future__ import annotations

from .markdown import table

STEPS = {
    "tests": "tests",
    "train": "trains",
    "convert": "converts",
    "save": "saves",
}


def compat(result):
    """All tables, for the log."""
    return "\n\n".join(draw(result) for draw in (environments, files, extras))


def environments(result):
    """A row per environment, and why something failed."""
    notes = []

    def cell(found, name):
        step = found["steps"].get(name)
        if step is None:
            return "-"
        if step["passed"]:
            return "yes"
        notes.append(f"{label(found)}, {STEPS.get(name, name)}: {reason(step)}")
        return step["said"] if name == "tests" and " of " in step["said"] else "no"

    rows = []
    for found in result["environments"]:
        versions = found.get("versions", {})
        at_first = [cell(found, n) for n in ("install", "import") if failed(found, n)]
        shown = at_first or [cell(found, name) for name in STEPS]
        rows.append(
            [
                found["python"],
                versions.get("tensorflow", found["tensorflow"]),
                versions.get("tf-keras", "-"),
                versions.get("larq-compute-engine", "-"),
                versions.get("numpy", "-"),
                *shown,
                *["-"] * (len(STEPS) - len(shown)),
            ]
        )
    head = ["Python", "TensorFlow", "tf-keras", "LCE", "NumPy", *STEPS.values()]
    return "\n\n".join([table(head, rows), *notes])


def failed(found, name):
    return not found["steps"].get(name, {"passed": True})["passed"]


def reason(step):
    return "; ".join(step.get("failures") or [step["said"]])


def label(found):
    return f"Python {found['python']} with TensorFlow {found['tensorflow']}"


def files(result):
    """Rows open, columns have written; what does not open is named."""
    written = {
        f"python-{e['python']}-tensorflow-{e['tensorflow']}": e
        for e in result["environments"]
        if e.get("steps", {}).get("save", {}).get("passed")
    }
    main = result["environments"][0]["python"]
    columns = {n: e for n, e in written.items() if e["python"] == main}
    notes, rows = [], []
    for found in result["environments"]:
        if "opened" not in found:
            continue
        cells = [opens(found, name, of, notes) for name, of in columns.items()]
        rows.append([f"{found['tensorflow']}, Python {found['python']}", *cells])
    head = ["opened with", *(f"saved with {e['tensorflow']}" for e in columns.values())]
    return "\n\n".join([table(head, rows), *notes])


def opens(found, name, of, notes):
    """How many kinds of files open, and which do not."""
    tried = found["opened"].get(name)
    if tried is None:
        return "-"
    for kind, step in tried.items():
        if not step["passed"]:
            notes.append(
                f"{label(found)}, {kind} of {of['tensorflow']}: {step['said']}"
            )
    passed = sum(step["passed"] for step in tried.values())
    return "all" if passed == len(tried) else f"{passed} of {len(tried)}"


_SHORT = " --width 8 --blocks 1,1 --epochs 1 --limit 64"


def extras(result):
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
