"""The import of the package, its registry, its version and its argument checks."""

import email
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import larq_nobn as nobn
import build
import fresh
import numpy as np
import pyproject_hooks
import pytest
import tensorflow as tf
from larq_nobn import _keras
from larq_nobn._checks import (
    check_channels,
    check_integer,
    check_number,
)
from larq_nobn._files import replacing
from larq_nobn._keras import PACKAGE, keras, open_later_inputs, register
from larq_nobn.layers._grouped import GroupedConv2D
from numpy.testing import assert_array_equal


def of_the_package():
    """What is registered of the package itself, by name."""
    objects = keras.utils.get_custom_objects().items()
    return sorted(name for name, cls in objects if cls.__module__.startswith(PACKAGE))


@pytest.mark.slow
def test_the_import_is_enough_and_light_and_may_come_after_tensorflow():
    """As the server that `fresh` forks processes off found it when it started."""
    done = fresh.run(
        "import json, os\n"
        "import imported_first as first\n"
        "inherited = first.PROCESS == os.getppid() and not first.HAD_CHOSEN\n"
        "print(json.dumps([inherited, first.LATE, first.KERAS, first.IN_IT]))\n"
        "print(json.dumps(first.REGISTERED))"
    )
    assert done.returncode == 0, done.stderr
    # PIL is not among them: tf_keras imports it by itself wherever it is installed.
    actual, registered = map(json.loads, done.stdout.splitlines())
    assert actual == [True, [], "tf_keras", [True, True, True]]
    # What other parts of the package register, files may contain before those are
    # there.
    assert registered == of_the_package()


REMEDY = (
    "Set the environment variable TF_USE_LEGACY_KERAS=1, or import larq_nobn before "
    "anything that imports tensorflow.keras."
)


def test_keras_3_is_rejected_with_what_to_do(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    with pytest.raises(ImportError, match="=0 selects Keras 3, but.*") as told:
        _keras._select_legacy_keras()
    assert str(told.value).endswith(REMEDY)
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    layer = type("Layer", (), {"__module__": "keras.src.layers.layer"})
    keras_3 = SimpleNamespace(layers=SimpleNamespace(Layer=layer))
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(keras=keras_3))
    with pytest.raises(ImportError, match="keras is already Keras 3 in this") as told:
        _keras._select_legacy_keras()
    assert str(told.value).endswith(REMEDY)


class Conditional(keras.layers.Layer):
    """A quantizer of a user, with a condition that AutoGraph has to rewrite."""

    def call(self, inputs):
        if tf.reduce_sum(inputs) > 0:
            return inputs
        return -inputs


def test_autograph_rewrites_what_the_package_calls():
    layer = GroupedConv2D(2, 1, groups=2, input_quantizer=Conditional())
    x = tf.constant([[[[-1.0, -2.0]]]])
    assert_array_equal(tf.function(layer)(x), layer(x))


@pytest.fixture
def objects():
    """What is registered, which is as it was afterwards."""
    actual = keras.utils.get_custom_objects()
    before = dict(actual)
    yield actual
    actual.clear()
    actual.update(before)


def test_register_gives_a_class_its_three_names(objects):
    before = dict(objects)
    passing = type("Passing", (keras.layers.Layer,), {})
    for _ in range(2):  # again changes nothing
        assert register("passing")(passing) is passing
        added = {name: cls for name, cls in objects.items() if name not in before}
        names = ("larq_nobn>Passing", "Passing", "passing")
        assert added == dict.fromkeys(names, passing)


@pytest.mark.parametrize(
    "name, alias, owned",
    [("RSign", "new_alias", "RSign"), ("Unowned", "rsign", "rsign")],
)
def test_register_rejects_a_name_with_an_owner(name, alias, owned, objects):
    before = dict(objects)
    intruder = type(name, (keras.layers.Layer,), {})
    message = f"The name '{owned}' already belongs to .*rename {name}"
    with pytest.raises(ValueError, match=message):
        register(alias)(intruder)
    assert objects == before


def test_version_is_that_of_the_metadata():
    assert nobn.__version__ == importlib.metadata.version(PACKAGE)


def test_other_arguments_are_rejected():
    """Beside those that the tables of quantizers and layers have."""
    for given, message in {
        np.nan: "r=nan is outside [0, 1]",
        10**400: "r=1000",
        1e31: "r=1e+31 is too large for",
        1e-39: "r=1e-39 is 0 in float32.",
        True: "r=True is not a number; it m",
    }.items():
        interval = "[0, 1]" if given is np.nan else "(0, inf)"
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
            check_number("r", given, interval, "")
    with pytest.raises(TypeError, match=r"^g=2\.0 is not a whole number; it mu"):
        check_integer("g", 2.0, 1, "")
    with pytest.raises(ValueError, match=r"^Norm got an input of shape \(3, N"):
        check_channels("Norm", (3, None))


def test_the_umask_decides_who_may_read(tmp_path, monkeypatch):
    """And is never changed: another thread would write for everybody to read."""
    umask = os.umask
    for mask in (0o077, 0o022, 0o000):
        before = umask(mask)
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it was changed"))
        try:
            with replacing(tmp_path / "placed") as temporary:
                temporary.write_text("whole")
            assert not temporary.exists()
        finally:
            umask(before)
        assert (tmp_path / "placed").stat().st_mode & 0o777 == 0o666 & ~mask


def test_an_input_layer_of_before_opens_what_a_later_one_saves():
    class Input:
        def __init__(self, name):
            self.name = name

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    with pytest.raises(TypeError, match="optional"):
        Input.from_config({"name": "image", "optional": False})
    open_later_inputs(Input)
    assert Input.from_config({"name": "image", "optional": False}).name == "image"
    with pytest.raises(TypeError, match="optional"):  # which it cannot be
        Input.from_config({"name": "image", "optional": True})


ROOT = Path(__file__).parents[1]
SHIPPED = (
    *("larq_nobn", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md"),
    *("CHANGELOG.md", "CITATION.cff", "LICENSE"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what a package is made of, in which building leaves its traces."""
    place = tmp_path_factory.mktemp("tree")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "files")
            shutil.copytree(ROOT / name, place / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, place / name)
    return place


@pytest.fixture(scope="module")
def wheel(tree):
    builder = build.ProjectBuilder(tree, runner=pyproject_hooks.quiet_subprocess_runner)
    return zipfile.ZipFile(builder.build("wheel", tree / "dist"))


@pytest.mark.slow
def test_the_wheel_contains_the_package_and_nothing_else(wheel, tree):
    names = set(wheel.namelist())
    expected = {str(path.relative_to(tree)) for path in tree.glob("larq_nobn/**/*.py")}
    held = {name for name in names if ".dist-info/" not in name}
    kinds = ("npz", "c", "json")
    files = (p for kind in kinds for p in tree.glob(f"larq_nobn/**/*.{kind}"))
    others = {str(p.relative_to(tree)) for p in files}
    assert held == expected | others | {"larq_nobn/py.typed"}
    assert {Path(name).suffix for name in others} == {".npz", ".c", ".json"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_metadata_is_complete(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    actual = email.message_from_bytes(wheel.read(name))
    assert (actual["Name"], actual["Version"]) == ("larq_nobn", nobn.__version__)
    assert actual["License-Expression"] == "Apache-2.0"
    assert actual["Requires-Python"] == ">=3.10,<3.13"
    assert actual["Description-Content-Type"] == "text/markdown"
    assert "binary neural networks" in actual["Keywords"].split(",")
    classifiers = actual.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    minors = [c.rpartition(" ")[2] for c in classifiers if ":: Python :: 3." in c]
    assert minors == ["3.10", "3.11", "3.12"]
    assert all("https://" in url for url in actual.get_all("Project-URL"))
    extras = set(actual.get_all("Provides-Extra"))
    assert {"all", "cluster", "data", "lce", "plots", "torch"} <= extras
    scripts = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert "larq-nobn = larq_nobn.cli:main" in scripts


def test_the_citation_and_the_changelog_have_the_same_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == nobn.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert releases[0].split(",")[0] == nobn.__version__
    for release in releases:
        assert re.fullmatch(
            r"\d+\.\d+\.\d+, (not yet released|\d{4}-\d\d-\d\d)", release
        )


def test_links_of_the_index_lead_to_the_public_address(tree):
    """As `setup.py` makes them of the one address in CITATION.cff."""
    given = (tree / "CITATION.cff").read_text()
    address = "https://example.org/larq_nobn"
    (tree / "CITATION.cff").write_text(f"{given}\nrepository-code: {address}\n")
    code = (
        "import json, runpy, setuptools\n"
        "setuptools.setup = lambda **given: print(json.dumps(given))\n"
        "runpy.run_path('setup.py')"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=tree, capture_output=True, text=True, check=True)
    (tree / "CITATION.cff").write_text(given)
    made = json.loads(done.stdout)
    assert made["project_urls"]["Source"] == address
    links = re.findall(r"(\]\(|src=\"|srcset=\")([^)\"]+)", made["long_description"])
    assert all(link.startswith("https://") for _, link in links)
    tag = f"v{nobn.__version__}"
    images = f"{address}/raw/{tag}/docs/images"
    assert ('src="', f"{images}/promise.svg") in links
    assert ('srcset="', f"{images}/promise-dark.svg") in links
    assert ("](", f"{address}/blob/{tag}/LICENSE") in links


@pytest.mark.slow
def test_without_extras_a_sentence_names_the_missing_one(tmp_path):
    """The commands and functions of `tests/tools/_compat/bare.py`."""
    done = fresh.run(
        "import json, os, sys\n"
        "for name in ('larq_compute_engine', 'tensorflow_datasets', 'sklearn',"
        " 'sklearn.datasets', 'matplotlib', 'matplotlib.figure', 'tensorboard',"
        " 'torch', 'distributed'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT / 'tests' / 'tools' / '_compat')!r})\n"
        "import bare\n"
        # What needs none is for that tool, but for one conversion.
        "bare.COMMANDS = {line: remedy for line, remedy in bare.COMMANDS.items()"
        " if remedy or 'litert' in line}\n"
        f"os.chdir({str(tmp_path)!r})\n"
        f"found = bare.look(Path({str(tmp_path)!r}))\n"
        "print(json.dumps(found))"
    )
    assert done.returncode == 0, done.stderr
    actual = json.loads(done.stdout.splitlines()[-1])
    assert {name: wrong for name, (*_, wrong) in actual.items() if wrong} == {}
    remedies = {remedy for remedy, *_ in actual.values() if remedy}
    assert remedies == {
        f"pip install 'larq-nobn[{extra}]'"
        for extra in ("lce", "data", "plots", "torch", "cluster")
    }
