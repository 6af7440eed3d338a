"""Timing files side by side: the arithmetic on made-up seconds, and real files."""

import json

import larq_nobn as nobn
import larq_compute_engine as engine
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head
from larq_compute_engine.mlir.python import tflite_schema as schema
from larq_nobn.deploy import ConversionError, benchmark
from larq_nobn.deploy.device import _benchmark
from larq_nobn.deploy.device._benchmark import (
    _alternate,
    _note,
    _random_input,
    _timings,
)
from larq_nobn.deploy.lite import _converter


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same network with one binary convolution and with two."""
    folder = tmp_path_factory.mktemp("benchmark")
    paths = folder / "one.tflite", folder / "two.tflite"
    for count, path in enumerate(paths, 1):
        layers = [binary_conv(name=f"conv{place}") for place in range(count)]
        nobn.convert(chain(*layers, *head()), path, verify=False)
    return paths


def audited(path="m.tflite"):
    floats = [{"op": "ADD", "count": 3, "layers": []}]
    floats += [{"op": "MUL", "count": 2, "layers": []}]
    fields = nobn.deploy.Audit.__dataclass_fields__
    known = {"path": path, "size_bytes": 1500, "lce_bconv2d": 2, "float_ops": floats}
    return nobn.deploy.Audit(**{name: known.get(name, 0) for name in fields})


def test_medians_quartiles_and_ratios():
    seconds = np.array([[0.001, 0.002, 0.003, 0.004, 0.005], [0.004] * 5])
    found = [audited("a.tflite"), audited("b.tflite")]
    first, second = _timings(found, seconds, 2, np.random.default_rng(0))
    assert (first.ms, first.low_ms, first.high_ms) == pytest.approx((3, 2, 4))
    assert (first.ratio, first.ratio_low, first.ratio_high) == (1, 1, 1)
    assert (second.ms, second.low_ms, second.high_ms) == pytest.approx((4, 4, 4))
    assert second.ratio == pytest.approx(4 / 3)
    assert second.ratio_low < second.ratio < second.ratio_high <= 4
    assert (second.path, second.runs, second.threads) == ("b.tflite", 5, 2)
    assert (second.size_bytes, second.lce_bconv2d, second.float_ops) == (1500, 2, 5)


def test_what_slows_whole_rounds_down_stays_out_of_the_ratio():
    drift = np.linspace(1, 3, 50)  # the computer gets slower and slower
    seconds = np.stack([drift, 2 * drift])
    _, second = _timings([audited()] * 2, seconds, 1, np.random.default_rng(0))
    assert second.ratio_low == pytest.approx(2)
    assert second.ratio_high == pytest.approx(2)


def test_a_file_is_run_with_room_for_the_tensors_of_its_operations(files, monkeypatch):
    given = []

    class Interpreter(engine.testing.Interpreter):
        def __init__(self, content, **options):
            given.append(content)
            super().__init__(content, **options)

    monkeypatch.setattr(engine.testing, "Interpreter", Interpreter)
    benchmark(files[0], runs=1, warmup=0)
    graph = schema.Model.GetRootAsModel(given[0], 0).Subgraphs(0)
    assert graph.TensorsLength() > 128 + 16 * graph.OperatorsLength()


def test_the_interval_of_a_ratio_contains_the_true_one():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(20):
        seconds = np.stack([np.full(30, 1.0), 1.5 + 0.2 * random.normal(size=30)])
        _, second = _timings([audited()] * 2, seconds, 1, random)
        hits += second.ratio_low <= 1.5 <= second.ratio_high
    assert hits >= 17  # 19 on average


def test_files_take_turns_in_changing_order():
    order, calls = [], []
    runners = [lambda name=name: order.append(name) for name in "abc"]
    random = np.random.default_rng(0)
    seconds = _alternate(runners, 2, 20, random, lambda: calls.append(1))
    assert seconds.shape == (3, 20)
    assert (seconds > 0).all()
    assert len(calls) == len(order) == 66
    rounds = ["".join(order[i : i + 3]) for i in range(0, 66, 3)]
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) == 6


def test_runs_before_the_timed_ones_do_not_count(monkeypatch):
    clock = iter(range(0, 1000))
    slow = iter([100, 0, 0])  # seconds that each run takes beyond the clock's one
    now = [0.0]
    monkeypatch.setattr(_benchmark.time, "perf_counter", lambda: now[0] + next(clock))

    def run():
        now[0] += next(slow)

    seconds = _alternate([run], 1, 2, np.random.default_rng(0), None)
    assert seconds.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    "kind, lowest, highest",
    [
        (np.float32, -5, 5),
        (np.int8, -128, 127),
        (np.uint8, 0, 255),
        (np.int32, -(2**31), 2**31 - 1),
    ],
)
def test_inputs_are_random_numbers_of_the_type_that_a_file_takes(kind, lowest, highest):
    made = _random_input(np.random.default_rng(0), (1, 50, 50, 3), np.dtype(kind))
    assert (made.shape, made.dtype) == ((1, 50, 50, 3), kind)
    middle, half = (lowest + highest) / 2, (highest - lowest) / 2
    assert made.min() < middle - 0.6 * half and made.max() > middle + 0.6 * half
    again = _random_input(np.random.default_rng(0), (1, 50, 50, 3), np.dtype(kind))
    assert (made == again).all()


@pytest.mark.parametrize(
    "machine, sentence",
    [
        ("x86_64", "do not predict those of a phone"),
        ("AMD64", "do not predict those of a phone"),
        ("armv7l", "do not predict those of a phone"),
        ("aarch64", "optimised kernels ran"),
        ("arm64", "optimised kernels ran"),
    ],
)
def test_the_processor_decides_what_the_times_are_worth(machine, sentence):
    assert _note(machine).startswith(f"{machine}: LCE")
    assert sentence in _note(machine)


@pytest.mark.convert
def test_two_files_side_by_side(files, tmp_path, monkeypatch):
    monkeypatch.setattr(_benchmark.platform, "machine", lambda: "x86_64")
    seen = []
    result = nobn.benchmark(
        *files, runs=3, warmup=1, threads=2, progress=lambda: seen.append(1)
    )
    assert len(seen) == 8
    assert [t.path for t in result.timings] == [str(path) for path in files]
    assert [t.lce_bconv2d for t in result.timings] == [1, 2]
    assert [t.size_bytes for t in result.timings] == [f.stat().st_size for f in files]
    for timing in result.timings:
        floats = sum(op["count"] for op in nobn.audit(timing.path).float_ops)
        assert timing.float_ops == floats
        assert 0 < timing.low_ms <= timing.ms <= timing.high_ms
        assert timing.ratio_low <= timing.ratio <= timing.ratio_high
    text = str(result)
    for part in (
        "(x86_64)",
        "do not predict those of a phone",
        "ms, median",
        "quartiles",
        "95 %",
    ):
        assert part in " ".join(text.split())
    saved = json.loads(result.to_json(tmp_path / "b.json"))
    assert saved == result.to_dict() == json.loads((tmp_path / "b.json").read_text())
    assert "do not predict those of a phone" in saved["note"]
    assert saved["timings"][1]["runs"] == 3


@pytest.mark.convert
def test_one_file_alone_and_a_list_of_others(files):
    one, two = files
    assert len(benchmark(one, runs=1, warmup=0).timings) == 1
    several = benchmark(str(one), [two, str(one)], runs=1, warmup=0)
    assert [t.lce_bconv2d for t in several.timings] == [1, 2, 1]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"runs": 0}, "runs=0 is below 1. 50"),
        ({"warmup": -1}, "warmup=-1 is below 0. 5"),
        ({"threads": 0}, "threads=0 is below 1. Devices"),
        ({"seed": -1}, "seed=-1 is below 0"),
    ],
)
def test_numbers_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        benchmark("m.tflite", **changes)


@pytest.mark.convert
def test_files_that_cannot_be_timed(files, tmp_path, monkeypatch):
    with pytest.raises(ConversionError, match=r"none\.tflite' cannot be read"):
        benchmark(files[0], tmp_path / "none.tflite")
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(files[0].read_bytes()[:-1])
    with pytest.raises(ConversionError, match=r"cut\.tflite' is a damaged TFLite"):
        benchmark(cut)

    class Unable:
        class testing:
            def Interpreter(content, num_threads):
                raise RuntimeError("no such operation")

    monkeypatch.setattr(_converter, "compute_engine", lambda: Unable)
    with pytest.raises(ConversionError, match=r"cannot run '.*one\.tflite': .* oper"):
        benchmark(files[0])
