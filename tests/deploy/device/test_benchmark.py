"""Timing files side by side: here, on made-up seconds, and on a phone."""

import json
import os
import sys
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head
from larq_nobn.deploy import ConversionError, benchmark, benchmark_on_phone
from larq_nobn.deploy.device import _benchmark
from larq_nobn.deploy.device._benchmark import (
    _alternate,
    _phone_timings,
    _timings,
)
from larq_nobn.deploy.lite import _converter


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same network with one binary convolution and with two."""
    folder = tmp_path_factory.mktemp("benchmark")
    paths = folder / "one.tflite", folder / "two.tflite"
    for count, path in enumerate(paths, 1):
        layers = [binary_conv(8, name=f"conv{place}") for place in range(count)]
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
    actual = [audited("a.tflite"), audited("b.tflite")]
    first, second = _timings(actual, seconds, 2, np.random.default_rng(0))
    assert (first.ms, first.low_ms, first.high_ms) == pytest.approx((3, 2, 4))
    assert (first.ratio, first.ratio_low, first.ratio_high) == (1, 1, 1)
    assert (second.ms, second.low_ms, second.high_ms) == pytest.approx((4, 4, 4))
    assert second.ratio == pytest.approx(4 / 3)
    assert second.ratio_low < second.ratio < second.ratio_high <= 4
    assert (second.path, second.runs, second.threads) == ("b.tflite", 5, 2)
    assert (second.size_bytes, second.lce_bconv2d, second.float_ops) == (1500, 2, 5)


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
    for part in ("(x86_64)", "do not predict", "ms, median", "quartiles", "95 %"):
        assert part in " ".join(text.split())
    saved = json.loads(result.to_json(tmp_path / "b.json"))
    assert saved == result.to_dict() == json.loads((tmp_path / "b.json").read_text())
    assert "do not predict those of a phone" in saved["note"]
    assert saved["timings"][1]["runs"] == 3


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"runs": 0}, "runs=0 is below 1. 50"),
        ({"warmup": -1}, "warmup=-1 is below 0. 5"),
    ],
)
def test_numbers_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        benchmark("m.tflite", **changes)
    if changes.keys() & {"runs", "threads"}:
        with pytest.raises(ValueError, match=message.split(".")[0]):
            benchmark_on_phone("m.tflite", **changes)


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


# --- on a phone, and what its programs print

TITLE = "=" * 30
OPERATIONS = (
    ("LceBconv2d", 16, 6.25, 62.5),
    ("Convolution (NHWC, F32) IGEMM", 2, 2.5, 25.0),
    ("LceQuantize", 16, 1.25, 12.5),
)
READ = [
    {"op": name, "count": count, "ms": ms, "share": percent / 100}
    for name, count, ms, percent in OPERATIONS
]


def summary(rows=OPERATIONS, gap="\t"):
    names = ("[Node type]", "[count]", "[avg ms]", "[avg %]", "[cdf %]", "[mem KB]")
    lines = [f"{TITLE} Summary by node type {TITLE}", gap.join(names)]
    for name, count, ms, percent in rows:
        cells = (f"{'':>8}{name}", f"{count:>9}", f"{ms:>10.3f}", f"{percent:>10.3f}%")
        lines.append(
            gap.join((*cells, f"{99.9:>10.3f}%", f"{0:>10.3f}", f"{count:>9}"))
        )
    total = "Timings (microseconds): count=50 first=9 curr=9 min=9 max=9 avg=9 std=0"
    return [*lines, "", total, "Memory (bytes): count=0", "34 nodes observed", ""]


def run_order():
    """Rows that must not be taken for those of the summary."""
    return [
        f"{TITLE} Run Order {TITLE}",
        "[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]",
        "\tLceQuantize\t 0.100\t 0.100\t 1.000%\t 1.000%\t 0.000\t 1\t[sign]:0",
        "",
        f"Number of nodes executed: {len(OPERATIONS)}",
    ]


def log(
    *,
    counted="count=50 first=10400 curr=10100 min=9800 max=11900 avg=10250.5 std=310"
    " p5=9900 median=10250.5 p95=11000",
    end="Inference timings in us: Init: 5210, First inference: 15873, "
    "Warmup (avg): 12001.5, Inference (avg): 10250.5",
    profile=(),
):
    warmed = "count=40 first=15873 curr=12000 min=11000 max=15873 avg=12001.5 std=900"
    warmed += " p5=11000 median=12000 p95=15000"
    lines = [
        "STARTING!",
        "Graph: [/data/local/tmp/model.tflite]",
        "Loaded model /data/local/tmp/model.tflite",
        "Initialized session in 5.21ms.",
        "Running benchmark for at least 1 iterations and at least 0.5 seconds",
        warmed,
        "",
        "Running benchmark for at least 50 iterations and at least 1 seconds",
        counted,
        "",
        end,
        *profile,
    ]
    return "\n".join(lines) + "\n"


def read(*texts):
    files = [audited(f"{number}.tflite") for number in range(len(texts))]
    logs = {file.path: text for file, text in zip(files, texts, strict=True)}
    return _phone_timings(files, logs, 4)


INITIAL = [
    "Profiling Info for Benchmark Initialization:",
    *run_order(),
    *summary([("AllocateTensors", 1, 1.5, 100.0)]),
]
BOTH = [
    *INITIAL,
    "Operator-wise Profiling Info for Regular Benchmark Runs:",
    *run_order(),
    *summary(),
    *summary([("Inner", 1, 1.0, 100.0)]),  # of a part, summed up before
]


@pytest.mark.parametrize(
    "text, operations",
    [
        (log(), []),  # not the times of the runs that warm up
        (log(profile=INITIAL), []),
        (log(profile=BOTH).replace("count", "INFO: count"), READ),
    ],
)
def test_times_of_the_timed_runs(text, operations):
    (actual,) = read(text)
    assert (actual.ms, actual.low_ms, actual.high_ms) == pytest.approx(
        (10.2505, 9.9, 11)
    )
    assert (actual.runs, actual.threads, actual.spread) == (50, 4, "5 to 95 %")
    assert actual.operations == operations


def test_ratios_are_to_the_first():
    faster = "count=60 first=6 curr=5 min=4000 max=9000 avg=5500 std=1"
    faster += " p5=4500 median=5125.25 p95=8000"
    one, two = read(log(profile=BOTH), log(counted=faster))
    assert (one.ratio, two.ratio) == (1, pytest.approx(0.5))
    assert two.ratio_low is two.ratio_high is None
    text = " ".join(str(nobn.deploy.Benchmark("a phone", "", [one, two])).split())
    for part in ("10.251 ms, median", "0.500", "16 in 6.250 ms, 62.5%"):
        assert part in text


@pytest.mark.parametrize(
    "text, shown",
    [
        (log().split("count=50")[0], "Running benchmark for at least 50 iterations"),
        (log().replace(" median=", " mean="), "Inference timings in us"),  # older ones
        ("STARTING!\nINFO: Loaded\nERROR: Unresolved op: Lce", "ERROR: Unresolved op"),
    ],
)
def test_a_program_without_times_gets_one_sentence(text, shown):
    message = f"'0.tflite' printed no times, but '{shown}.*'. Use that"
    with pytest.raises(ConversionError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """A folder with a file for LCE and one for LiteRT."""
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(files[0].read_bytes())
    net = chain(binary_conv(8), *head())
    nobn.convert(net, "n.tflite", verify=False, runtime="litert")
    return tmp_path


# Stands for adb and the phone: its folder is `phone`, and each file takes a time of its
# own there.
ADB = """#!{python}
import pathlib, shutil, sys
command, *rest = sys.argv[1:]
phone = pathlib.Path("phone")
with open("calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
if not phone.is_dir():
    sys.exit("adb: no devices/emulators found")
def place(name):
    return phone / name.replace("--graph=", "").rpartition("/")[2]
if command == "push":
    shutil.copy(rest[0], place(rest[1]))
elif rest[0] != "chmod":
    assert place(rest[0]).is_file()
    assert place(rest[1]).is_file()
    tool = place(rest[0]).name
    print("STARTING!", file=sys.stderr)
    time = 200 if tool == "benchmark_model" else 800
    times = f"curr={time} min={time} max={time} avg={time} std=0"
    print(f"count=9 first=1 {times} p5={time} median={time} p95={time}")
    print(f"Inference timings in us: Init: 1, Inference (avg): {time}")
"""


@pytest.fixture
def adb(here, monkeypatch):
    """A folder from which a program like adb is started."""
    path = here / "bin" / "adb"
    path.parent.mkdir()
    path.write_text(ADB.replace("{python}", sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return here


@pytest.mark.convert
def test_files_of_both_runtimes_on_a_phone(adb, monkeypatch):
    with pytest.raises(ConversionError, match=r"'lce_benchmark_model'.*Save lce_"):
        benchmark_on_phone("m.tflite")
    for tool in ("lce_benchmark_model", "benchmark_model"):
        Path(tool).touch()
    with pytest.raises(ConversionError, match="no devices/emulators found.*Connect"):
        benchmark_on_phone("m.tflite")
    Path("phone").mkdir()
    Path("calls").unlink()
    done = []
    actual = benchmark_on_phone(
        "m.tflite",
        ["n.tflite", "m.tflite"],
        runs=9,
        warmup=2,
        threads=4,
        progress=lambda: done.append(1),
    )
    tmp = "/data/local/tmp"
    flags = "--num_threads=4 --num_runs=9 --warmup_runs=2 --enable_op_profiling=true"
    assert Path("calls").read_text().splitlines() == [
        f"push lce_benchmark_model {tmp}/lce_benchmark_model",
        f"shell chmod +x {tmp}/lce_benchmark_model",
        f"push m.tflite {tmp}/m.tflite",
        f"shell {tmp}/lce_benchmark_model --graph={tmp}/m.tflite {flags}",
        f"push benchmark_model {tmp}/benchmark_model",
        f"shell chmod +x {tmp}/benchmark_model",
        f"push n.tflite {tmp}/n.tflite",
        f"shell {tmp}/benchmark_model --graph={tmp}/n.tflite {flags} "
        "--use_xnnpack=true",
    ]
    assert [timing.ms for timing in actual.timings] == [0.8, 0.2, 0.8]
    assert [timing.ratio for timing in actual.timings] == [1, 0.25, 1]
    assert [timing.lce_bconv2d for timing in actual.timings] == [1, 0, 1]
    assert len(done) == 2
    monkeypatch.setenv("PATH", str(adb))
    with pytest.raises(ConversionError, match="'adb'.* was not found. Install"):
        benchmark_on_phone("m.tflite")
