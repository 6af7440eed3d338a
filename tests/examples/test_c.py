"""The examples in C classify what they come with, and reject other images."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS = "reactnet18-w32-digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example with its network, compiled."""
    folder = shutil.copytree(EXAMPLES / "c", tmp_path_factory.mktemp("made") / "c")
    model = nobn.models.ReActNet18(weights=DIGITS)
    card = {"dataset": "digits", "verify": False}
    nobn.convert(model, folder / "model.c", pixels=True, **card)
    made(folder, "classify")
    return folder


def made(folder, *arguments):
    command = ["make", "-s", *arguments]
    # A make that runs the tests would have this one say where it is.
    own = {name: x for name, x in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=own)


def test_it_classifies_a_digit(folder):
    label, score = made(folder).stdout.split(", ")
    header, pixels = (folder / "digit.pgm").read_bytes().split(b"255\n", 1)
    assert (header, label) == (b"P5\n8 8\n", "5")
    image = np.frombuffer(pixels, np.uint8).reshape(1, 8, 8, 1)
    wanted = nobn.deploy.Runner(folder / "model.c")(image)
    assert float(score) == pytest.approx(wanted.max(), rel=1e-5)
    assert wanted.argmax() == 5


def test_the_images_for_a_microcontroller_are_digits(folder):
    text = (EXAMPLES / "microcontroller" / "image.h").read_text()
    numbers = [int(x) for x in re.findall(r"\d+", text.partition("= {")[2])]
    images = np.array(numbers, np.uint8).reshape(2, 8, 8, 1)
    run = nobn.deploy.Runner(folder / "model.c")
    assert [run(image[None]).argmax() for image in images] == [5, 7]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"P6\n8 8\n255\n" + bytes(192), id="three channels"),
        pytest.param(b"P5\n8 9\n255\n" + bytes(72), id="another size"),
        pytest.param(b"P5\n8 8\n15\n" + bytes(64), id="other steps"),
        pytest.param(b"P5\n8 8\n255\n" + bytes(63), id="too short"),
        pytest.param(b"\x89PNG\r\n", id="another format"),
        pytest.param(b"", id="empty"),
        pytest.param(None, id="none"),
    ],
)
def test_other_images_are_rejected(folder, content):
    if content is not None:
        (folder / "other.pgm").write_bytes(content)
    done = made(folder, f"IMAGES={'other' if content is not None else 'none'}.pgm")
    assert done.returncode and done.stdout == ""
    assert "pgm is not a PGM (P5) file of 8 x 8 pixels." in done.stderr
