"""The walkthroughs name files that are there, and calls that are made in that order."""

import json
import re
import sys
import threading
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from click.testing import CliRunner
from larq_nobn.cli import main
from larq_nobn.quantizers import ScaledStdSign
from PIL import Image
from training.runs import with_little_network, without_curves

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "larq_nobn"
PAGES = [ROOT / "docs" / name for name in ("walkthroughs.md", "architecture.md")]
TEXT = PAGES[0].read_text(encoding="utf-8")
LAYER = "stage2_block1"
ROW = r"^\| `([\w/]+\.py)` \| `(\w+)` \| .+ \|$"


def rows(function):
    """The files and functions of one table, in its order."""
    table = TEXT.split(f"| `{function}` | |")[1].split("\n\n")[0]
    return re.findall(ROW, table, re.MULTILINE)


def called(function):
    """The files and functions of the package that are called, and what is returned."""
    seen, known = [], {}

    def step_of(code):
        inside = code.co_filename.startswith(f"{PACKAGE}/")
        path = code.co_filename.removeprefix(f"{PACKAGE}/")
        return (path, code.co_name) if inside else None

    def note(frame, event, _):
        if event == "call":
            code = frame.f_code
            if code not in known:
                known[code] = step_of(code)
            if known[code] is not None:
                seen.append(known[code])

    threading.setprofile(note)  # of those that are started by it
    sys.setprofile(note)
    try:
        made = function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return seen, made


def network(normalization):
    return nobn.models.ReActNet18((8, 8, 3), 10, normalization, 8, blocks=(1, 1))


def folded():
    model = nobn.fold_batch_norm(network("batch_norm"))
    assert model.get_layer(f"{LAYER}_conv").use_bias
    return model


def removed():
    model = nobn.remove_batch_norm(network("batch_norm"))
    kernel = model.get_layer(f"{LAYER}_conv").kernel_quantizer
    assert isinstance(kernel, ScaledStdSign)
    return model


def fake_quantized():
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    model = nobn.deploy.fake_quantize(network("nobn"), images)
    names = [layer.name for layer in model.layers]
    wanted = [f"{LAYER}_act_shift_in", f"{LAYER}_act", f"{LAYER}_act_range"]
    assert [name for name in names if name in wanted] == wanted
    return model


RUNS = {
    "fold_batch_norm": folded,
    "remove_batch_norm": removed,
    "fake_quantize": fake_quantized,
}


def check(function, seen, most=6):
    way = rows(function)
    assert len(way) >= 4 and len({path for path, _ in way}) <= most
    assert [step for step in way if step not in seen] == []
    left = iter(seen)
    assert all(step in left for step in way)  # one after the other


@pytest.mark.parametrize("function", RUNS)
def test_a_function_takes_the_way_that_is_written(function):
    seen, model = called(RUNS[function])
    check(function, seen)
    assert f"{LAYER}_norm" not in [layer.name for layer in model.layers]


@pytest.mark.convert
def test_convert_takes_the_way_that_is_written(tmp_path):
    model = network("batch_norm")
    path = tmp_path / "model.tflite"
    seen, report = called(lambda: nobn.convert(model, path, verify=False))
    check("convert", seen, most=4)
    assert report.lce_bconv2d == 2
    kernels = {kernel.name: kernel for kernel in nobn.deploy.packed_kernels(model)}
    assert kernels[f"{LAYER}_conv"].scales.shape == (16,)


def test_a_training_takes_the_ways_that_are_written(tmp_path):
    """Of images in a folder."""
    place = tmp_path
    random = np.random.default_rng(0)
    for number in range(24):
        file = place / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
    line = "train --recipe plain --width 4 --blocks 1 --epochs 1 --clip-factor 0.03"
    line = [*line.split(), "--dataset", f"{place}/images", "--output", f"{place}/run"]
    with with_little_network(), without_curves(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LARQ_NOBN_CACHE", str(place / "cache"))
        seen, result = called(lambda: CliRunner().invoke(main, line))
    assert result.exit_code == 0, result.output
    record = json.loads((place / "run" / "run.json").read_text())
    for what in ("train", "clip_factor", "image"):
        check(what, seen, most=8)
    assert record["settings"]["clip_factor"] == 0.03


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_are_there(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:[\w.]+/)*\w*\.py|(?:\w+/)+)`", text))
    tops = ("larq_nobn", "docs", "tests", "benchmarks", "results")
    found = [x for top in tops for x in (ROOT / top, *(ROOT / top).rglob("*"))]
    paths = [f"/{x.relative_to(ROOT).as_posix()}" for x in found]
    for name in names:
        ending = f"/{name.rstrip('/')}"
        assert any(path.endswith(ending) for path in paths), name
