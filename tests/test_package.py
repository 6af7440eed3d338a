"""The import of the package, its registry, its version and its argument checks."""

import importlib.metadata
import inspect
import os
import subprocess
import sys

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn import optimizers
from larq_nobn._checks import (
    check_channels,
    check_choice,
    check_flag,
    check_integer,
    check_number,
)
from larq_nobn._files import replacing
from larq_nobn._keras import PACKAGE, keras, register

PUBLIC = [
    member
    for space in (nobn.quantizers, nobn.layers, optimizers)
    for name in space.__all__
    if inspect.isclass(member := getattr(space, name))
]


def python(code, switch=None):
    """Runs code in a process that has not chosen a Keras yet, or has by `switch`."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    if switch is not None:
        environment["TF_USE_LEGACY_KERAS"] = switch
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )


@pytest.mark.slow
def test_import_alone_is_enough_and_light():
    result = python(
        "import sys, larq_nobn\n"
        "late = {'larq_compute_engine', 'tensorflow_datasets', 'matplotlib',"
        " 'sklearn', 'tensorboard', 'torch'}\n"
        "print(sorted(late & set(sys.modules)))\n"
        "import larq, tensorflow as tf\n"
        "print(larq_nobn._keras.keras.__name__)\n"
        "print(issubclass(larq.layers.QuantConv2D, tf.keras.layers.Layer))\n"
        "print(issubclass(larq_nobn.layers.RPReLU, tf.keras.layers.Layer))"
    )
    assert result.returncode == 0, result.stderr
    # PIL is not among them: tf_keras imports it by itself wherever it is installed.
    assert result.stdout.split() == ["[]", "tf_keras", "True", "True"]


@pytest.mark.slow
def test_tensorflow_may_come_first():
    result = python(
        "import tensorflow as tf\n"
        "tf.constant(1)\n"
        "import larq_nobn, larq\n"
        "from tensorflow.keras.layers import Layer\n"
        "print(issubclass(larq_nobn.layers.RPReLU, Layer))\n"
        "print(Layer is tf.keras.layers.Layer)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["True", "True"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "before, switch, start",
    [
        (
            "import tensorflow as tf; tf.keras.layers",
            None,
            "tensorflow.keras is already Keras 3 in this process, but larq_nobn needs",
        ),
        ("", "0", "TF_USE_LEGACY_KERAS=0 selects Keras 3, but larq_nobn needs legacy"),
    ],
)
def test_keras_3_is_refused_with_what_to_do(before, switch, start):
    result = python(f"{before}\nimport larq_nobn", switch)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {start}")
    assert last.endswith(
        "Set the environment variable TF_USE_LEGACY_KERAS=1, or import larq_nobn "
        "before anything that imports tensorflow.keras."
    )


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_public_classes_are_registered(cls):
    objects = keras.utils.get_custom_objects()
    assert objects[f"larq_nobn>{cls.__name__}"] is cls
    assert objects[cls.__name__] is cls
    assert keras.utils.get_registered_name(cls) == f"larq_nobn>{cls.__name__}"


def test_register_gives_a_class_its_three_names():
    objects = keras.utils.get_custom_objects()
    before = dict(objects)

    class Passing(keras.layers.Layer):
        pass

    try:
        assert register("passing")(Passing) is Passing
        added = {name: cls for name, cls in objects.items() if name not in before}
        names = ("larq_nobn>Passing", "Passing", "passing")
        assert added == dict.fromkeys(names, Passing)
        assert register("passing")(Passing) is Passing  # again changes nothing
    finally:
        objects.clear()
        objects.update(before)


@pytest.mark.parametrize(
    "name, alias, owned",
    [
        ("RSign", None, "RSign"),
        ("RSign", "new_alias", "RSign"),
        ("Unowned", "rsign", "rsign"),
        ("Unowned", "RPReLU", "RPReLU"),
    ],
)
def test_register_refuses_a_name_with_an_owner(name, alias, owned):
    objects = keras.utils.get_custom_objects()
    before = dict(objects)
    intruder = type(name, (keras.layers.Layer,), {})
    message = f"The name '{owned}' already belongs to .*rename {name}"
    with pytest.raises(ValueError, match=message):
        register(alias)(intruder)
    assert objects == before


def test_version_is_that_of_the_metadata():
    assert nobn.__version__ == importlib.metadata.version(PACKAGE)


def test_public_names_exist():
    assert [name for name in nobn.__all__ if not hasattr(nobn, name)] == []


ADVICE = "Use one half."


@pytest.mark.parametrize(
    "value, interval",
    [(0.5, "(0, 1)"), (0, "[0, 1)"), (1, "(0, 1]"), (1e300, "(0, inf)")],
)
def test_numbers_inside_their_interval_come_back_as_floats(value, interval):
    found = check_number("rate", value, interval, ADVICE)
    assert found == value
    assert type(found) is float


@pytest.mark.parametrize(
    "value, interval, error, message",
    [
        (0, "(0, 1)", ValueError, "rate=0 is outside (0, 1). Use one half."),
        (1.0, "(0, 1)", ValueError, "rate=1.0 is outside (0, 1). Use one half."),
        (-0.1, "[0, 1]", ValueError, "rate=-0.1 is outside [0, 1]. Use one half."),
        (1.5, "[0, 1]", ValueError, "rate=1.5 is outside [0, 1]. Use one half."),
        (float("nan"), "[0, 1]", ValueError, "rate=nan is outside [0, 1]. Use one ha"),
        (float("inf"), "(0, inf)", ValueError, "rate=inf is outside (0, inf). Use on"),
        ("0.5", "(0, 1)", TypeError, "rate='0.5' is not a number; it must lie in (0,"),
        (True, "(0, 1]", TypeError, "rate=True is not a number; it must lie in (0, 1"),
        (None, "(0, 1)", TypeError, "rate=None is not a number; it must lie in (0, 1)"),
    ],
)
def test_other_numbers_are_refused(value, interval, error, message):
    with pytest.raises(error) as caught:
        check_number("rate", value, interval, ADVICE)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(ADVICE)


def test_integers():
    found = check_integer("groups", np.int64(3), 1, "Use 1.")
    assert found == 3
    assert type(found) is int
    for value, error, message in [
        (0, ValueError, "groups=0 is below 1. Use 1."),
        (2.0, TypeError, "groups=2.0 is not a whole number; it must be 1 or more. Use"),
        (True, TypeError, "groups=True is not a whole number; it must be 1 or more."),
        ("2", TypeError, "groups='2' is not a whole number; it must be 1 or more. Us"),
    ]:
        with pytest.raises(error) as caught:
            check_integer("groups", value, 1, "Use 1.")
        assert str(caught.value).startswith(message)


def test_flags():
    assert check_flag("gain", True) is True
    assert check_flag("gain", False) is False
    for value in (0, 1, "yes", None):
        with pytest.raises(TypeError) as caught:
            check_flag("gain", value)
        assert str(caught.value) == (
            f"gain={value!r} is neither True nor False. Pass one of them."
        )


def test_choices():
    words = iter(("hard", "soft"))
    assert check_choice("reset", "soft", words) == "soft"
    for value in ("sof", "", None, ("hard",)):
        with pytest.raises(ValueError) as caught:
            check_choice("reset", value, ("hard", "soft"))
        assert str(caught.value) == (
            f"reset={value!r} is not known. Choose from hard, soft."
        )


def test_a_file_that_takes_a_place_is_as_readable_as_any_other(tmp_path):
    plain, placed = tmp_path / "plain", tmp_path / "placed"
    plain.write_text("")
    with replacing(placed) as temporary:
        temporary.write_text("whole")
    assert placed.read_text() == "whole"
    assert placed.stat().st_mode == plain.stat().st_mode


def test_channels():
    assert check_channels("Layer", (None, None, 7)) == 7
    for shape in (None, (3,), (3, None), ()):
        with pytest.raises(ValueError) as caught:
            check_channels("Layer", shape)
        assert str(caught.value) == (
            f"Layer got an input of shape {shape}, but it needs a batch axis and a "
            "known number of channels. Give the input layer its shape."
        )
