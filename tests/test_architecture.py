"""Reads the package's source and fails where it leaves the house rules."""

import ast
import importlib
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "larq_nobn"
ROOT = Path(__file__).parents[1] / PACKAGE

# Imports point from a later layer to an earlier one, and siblings leave each other
# alone: in the whole package, and in each package that has parts.
LAYERS = (
    {"_errors", "_signals"},
    {
        *("_checks", "_figures", "_files", "_process"),
        *("_progress", "_tables", "_version"),
    },
    {"_keras", "_messages", "_names"},
    {"config"},
    {"_larq", "_math"},
    {"regularizers", "initializers"},
    {"quantizers", "layers", "optimizers", "data"},
    {"graph"},
    {"models", "callbacks"},  # callbacks look for the quantizers of a model
    {"population", "loading"},
    {"calibration"},
    {"diagnostics", "training", "deploy", "interop"},
    {"surgery"},  # proves its results as deployment does
    {"cli"},
    {"__main__"},
)
PARTS: dict[str, tuple[set[str], ...]] = {
    "": LAYERS,
    "surgery": (
        {"_batch_norm", "_report"},
        {"_plan"},
        {"_fold", "_freeze", "_padding", "_reestimate", "_remove"},
    ),
    "training": (
        {"_evaluation", "_training_model"},
        {"_run_settings"},
        {"_checkpoints", "_distribution", "_network", "_runs_before"},
        {"_callbacks"},
        {"_run_folder"},
        {"_first_lines", "_run_images", "_stopping"},
        {"_trainer"},
        {"_comparison"},
        {"_compare"},
    ),
    "deploy": (
        {"_errors", "_shown"},
        {"_opening"},
        {"lite"},
        {"trace"},
        {"operations"},
        {"c"},
        {"_binary_layers"},
        {"_audit"},
        {"verify", "device"},
        {"int8"},
        {"_prepared"},
        {"_convert", "_packed"},
        {"_formats"},
    ),
}


ORDERS = {
    whole: {name: place for place, names in enumerate(parts) for name in names}
    for whole, parts in PARTS.items()
}
# Data sets know nothing of the methods.
ONLY = {
    "data": {
        *("_keras", "_checks", "_errors", "_figures", "_files", "_names"),
        *("_process", "_progress", "_signals"),
    }
}
# What code of this package raises by mistake. A handler of these stands around a single
# statement, or raises what it caught again; the others are here, with what they read.
BROAD = {"Exception", "BaseException"}
SLIPS = BROAD | {
    *("AttributeError", "IndexError", "KeyError", "LookupError", "TypeError"),
    *("AssertionError", "NameError", "RuntimeError"),
    "UNREADABLE",  # which contains some of them
}
CATCHES = {
    "_files.py read_arrays": "an archive of somebody's, as NumPy reads it",
    "cli/_exit.py _one_sentence": "all that a command raises, and shows it",
    "cli/_package.py import_modules": "a module of the user's, which it names",
    "data/folder/_decode.py decode": "an image of somebody's, as Pillow reads it",
    "deploy/lite/_file.py parsing": "a TFLite file of somebody's",
    "graph/_errors.py raised_by": "code of the user's, which it names",
    "interop/_checkpoint.py _load": "a pickle of somebody's, as PyTorch reads it",
    "loading/_open.py open_model": "a model of somebody's, as Keras reads it",
}
NAMELESS = {"utils", "util", "misc", "helpers", "helper"}


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """The absolute names of what every import below `tree` brings in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            # `module` names a package by its `__init__`, so each level drops one part.
            parts = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def module_of(path: str) -> str:
    return f"{PACKAGE}/{path}".removesuffix(".py").replace("/", ".")


def backward_imports(path: str, tree: ast.AST) -> Iterator[str]:
    """Those of the whole package, and of each part of it that has parts."""
    parts = Path(path).with_suffix("").parts
    names = [*imports(tree, module_of(path))]
    for depth, part in enumerate(parts):
        whole = "/".join(parts[:depth])
        if whole in ORDERS and part != "__init__":
            yield from backward_in(whole, part, names)


def backward_in(whole: str, part: str, names: list[str]) -> Iterator[str]:
    order = ORDERS[whole]
    inside = [PACKAGE, *filter(None, whole.split("/"))]
    if part not in order:
        yield f"{part} has no place in PARTS"
        return
    allowed = {name for name, place in order.items() if place < order[part]}
    if not whole:
        allowed = ONLY.get(part, allowed)
    for name in names:
        words = name.split(".")
        other = "".join(words[len(inside) :][:1])
        if words[: len(inside)] == inside and other not in {*allowed, part}:
            yield f"{'.'.join([*inside[1:], part])} imports {name}"


def foreign_errors(path: str, tree: ast.AST) -> Iterator[str]:
    """Errors for a user that the command line would take for faults of the package."""
    wrong = {"ValueError": "InvalidValue", "TypeError": "InvalidType"}
    wrong["ImportError"] = "MissingPackage"
    for node in ast.walk(tree):
        made = node.exc if isinstance(node, ast.Raise) else None
        made = node.value if isinstance(node, ast.Return) else made
        name = last_name(made.func) if isinstance(made, ast.Call) else ""
        if name in wrong:
            yield f"raises {name}; use {wrong[name]} of _errors.py"


def of_larq(path: str, tree: ast.AST) -> Iterator[str]:
    """Imports of Larq, whose faults `_larq.py` repairs; its converter is another."""
    for name in imports(tree, module_of(path)):
        if name.split(".")[0] == "larq" and path != "_larq.py":
            yield f"imports {name}; import lq of _larq.py"


def misnamed(path: str) -> Iterator[str]:
    name = Path(path).stem
    if name.strip("_") in NAMELESS:
        yield f"is called {name}; name it after its concept"
    if "/" in path and not name.startswith("_"):
        yield "lies in a sub-package, so its name starts with an underscore"


def unlisted_names(path: str, tree: ast.Module) -> Iterator[str]:
    """What a public module defines, or an `__init__` brings in, but not `__all__`."""
    name = Path(path).stem
    if name.startswith("_") and name != "__init__":
        return
    public, listed = set(), set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            public.add(node.name)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and name == "__init__":
            public |= {alias.asname or alias.name for alias in node.names}
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = set(ast.literal_eval(node.value))
    for missing in sorted(public - listed):
        if not missing.startswith("_"):
            yield f"{missing} is missing from __all__"


def wide_handlers(tree: ast.AST) -> Iterator[str]:
    """Functions whose handlers would take a mistake of ours for what they expect."""
    parents = {id(y): x for x in ast.walk(tree) for y in ast.iter_child_nodes(x)}

    def function_of(node: ast.AST) -> str:
        while not isinstance(node, ast.FunctionDef | ast.Module):
            node = parents[id(node)]
        return getattr(node, "name", "")

    for node in ast.walk(tree):
        called = last_name(node.func) if isinstance(node, ast.Call) else ""
        if called == "suppress" and last_names(node) & BROAD:
            yield function_of(node)
        if not isinstance(node, ast.Try):
            continue
        inside = sum(isinstance(x, ast.stmt) for y in node.body for x in ast.walk(y))
        for handler in node.handlers:
            caught = last_names(handler.type) if handler.type else BROAD
            broad = bool(caught & BROAD)
            if caught & SLIPS and (broad or inside > 1) and not raises_again(handler):
                yield function_of(node)


def last_name(called: ast.expr) -> str:
    """The name of a function, without that of its module."""
    return getattr(called, "attr", getattr(called, "id", ""))


def last_names(node: ast.AST) -> set[str]:
    """The names of classes in an expression, without those of their modules."""
    found = {x.attr for x in ast.walk(node) if isinstance(x, ast.Attribute)}
    return found | {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether a handler ends in raising what it caught, or calls it a fault of ours."""
    last = handler.body[-1]
    if not isinstance(last, ast.Raise):
        return False
    raised = "" if last.exc is None else ast.unparse(last.exc).partition("(")[0]
    return last.exc is None or raised.split(".")[-1] == "internal_error"


def problems(path: str, tree: ast.Module) -> list[str]:
    """Everything wrong with one file, whose path is relative to the package."""
    return [
        *backward_imports(path, tree),
        *foreign_errors(path, tree),
        *of_larq(path, tree),
        *unlisted_names(path, tree),
        *misnamed(path),
    ]


def test_source():
    trees, actual, catches = {}, {}, set()
    for file in ROOT.rglob("*.py"):
        path, tree = str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))
        trees[module_of(path)] = tree
        actual[path] = problems(path, tree)
        catches |= {f"{path} {function}" for function in wide_handlers(tree)}
    assert {path: wrong for path, wrong in actual.items() if wrong} == {}
    assert catches == {*CATCHES}
    own = {name: tree for name, tree in trees.items() if "__init__" not in name}
    assert circle(own) == []


def circle(sources: dict[str, ast.AST]) -> list[str]:
    """Modules, by dotted name, that import one another in a circle; none if empty."""
    needs = {
        module: {
            other
            for name in imports(tree, module)
            for other in (name, name.rpartition(".")[0])
            if other in sources and other != module
        }
        for module, tree in sources.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_a_circle_is_found():
    name = f"{PACKAGE}.data"
    sources = {
        f"{name}._a": ast.parse("from ._b import x"),
        f"{name}._b": ast.parse("def f():\n    from . import _c"),
        f"{name}._c": ast.parse("from ._a import y"),
    }
    assert {f"{name}._a", f"{name}._b", f"{name}._c"} <= set(circle(sources))
    sources[f"{name}._c"] = ast.parse("from ._d import y")
    assert circle(sources) == []


BAD = [
    ("layers/_a.py", "from ..quantizers import RSign", "layers imports larq_nobn.quan"),
    ("layers/_a.py", "from .. import models", "layers imports larq_nobn.models"),
    ("_math.py", "def f():\n    from .layers import A", "_math imports larq_nobn."),
    ("deploy/_a.py", "from ..training import train", "deploy imports larq_nobn.trai"),
    ("deploy/lite/_a.py", "from ..verify import x", "deploy.lite imports larq_nobn.de"),
    ("deploy/odd/_a.py", "", "odd has no place in PARTS"),
    ("data/_a.py", "from .._math import unit_sum", "data imports larq_nobn._math"),
    ("plots.py", "", "plots has no place in PARTS"),
    ("layers/_a.py", "def f(x):\n    raise ValueError(x)", "use InvalidValue of"),
    ("layers/_a.py", "def f():\n    import larq as lq", "imports larq; import lq of"),
    ("layers/_a.py", "from larq.layers import QuantDense", "imports larq.layers.Quant"),
    ("cli/_utils.py", "", "is called _utils; name it after its concept"),
    ("cli/train.py", "", "its name starts with an underscore"),
    ("__init__.py", "from . import layers", "layers is missing from __all__"),
]
GOOD = [
    ("__init__.py", "from . import _a as _a\nfrom .cli import m\n__all__=['m']"),
    (
        "models/_a.py",
        "from ..layers import A\nfrom .._math import b\nfrom ._c import D",
    ),
    ("surgery.py", "from .models import A\ndef b(): ...\n__all__ = ['b']"),
    ("deploy/int8/_conversion.py", "from .._opening import y"),
    ("_larq.py", "import larq as lq"),
    ("deploy/lite/_a.py", "import larq_compute_engine as lce"),
]


def test_rules_find_what_is_wrong_and_nothing_else():
    for path, source, problem in BAD:
        actual = problems(path, ast.parse(source))
        assert any(problem in each for each in actual), source
    for path, source in GOOD:
        assert problems(path, ast.parse(source)) == [], source


# The statements of a function, and whether they would take a mistake for a reason.
HANDLERS = [
    ("try: g()\n    except Exception as e: raise ValueError from e", True),
    ("try: g()\n    except: return None", True),
    ("try: g()\n    except (OSError, builtins.BaseException): raise x", True),
    ("try: g(); h()\n    except KeyError: return None", True),
    ("with contextlib.suppress(Exception): g()", True),
    ("try: g()\n    except KeyError: x = 1", False),
    ("try: g()\n    except Exception: h(); raise", False),
    ("try: g()\n    except Exception as e: raise internal_error(x) from e", False),
]


def test_handlers_that_may_take_a_mistake_of_ours_for_a_reason():
    for text, wide in HANDLERS:
        tree = ast.parse(f"def f():\n    {text}")
        assert list(wide_handlers(tree)) == ["f"] * wide, text


def test_scripts_and_measurements_that_are_named_are_there():
    """In comments, docstrings and pages; notes say which of theirs were removed."""
    named = re.compile(
        r"(?<![\w/.])(?:results|benchmarks|docs|tests|examples)/[\w./*-]+"
    )
    top, missing = ROOT.parent, []
    pages = [*top.glob("docs/**/*.md"), *top.glob("*.md"), top / "Makefile"]
    for file in (*ROOT.rglob("*.py"), *pages):
        for path in named.findall(file.read_text("utf-8")):
            if not any(top.glob(path.rstrip("/.-"))):
                missing.append(f"{file.relative_to(top)}: {path}")
    assert missing == []


def test_scripts_import_what_there_is():
    """Nothing else runs benchmarks, whose imports of private names break unseen."""
    folders = [ROOT.parent / name for name in ("benchmarks", "docs/tools", "examples")]
    missing = []
    for script in (file for folder in folders for file in folder.glob("*.py")):
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith(
                PACKAGE
            ):
                module = importlib.import_module(str(node.module))
                names = [alias.name for alias in node.names]
                missing += [(script.name, n) for n in names if not hasattr(module, n)]
    assert missing == []
