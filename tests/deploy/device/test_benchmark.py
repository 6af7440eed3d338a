"""Timing files side by side: here, on made-up seconds, and from the logs of a phone."""

import json
import os
import sys
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head
from larq_nobn.deploy import (
    ConversionError,
    benchmark,
    phone_commands,
    read_phone_logs,
)
from larq_nobn.deploy.device import _benchmark
from larq_nobn.deploy.device._benchmark import (
    _alternate,
    _logged,
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
            phone_commands("m.tflite", **changes)


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


# --- commands for a phone, and the logs that they leave

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
    threads="#threads used for CPU inference: [4]",
    size="",
    profile=(),
):
    warmed = "count=40 first=15873 curr=12000 min=11000 max=15873 avg=12001.5 std=900"
    warmed += " p5=11000 median=12000 p95=15000"
    lines = [
        "STARTING!",
        "Graph: [/data/local/tmp/model.tflite]",
        threads,
        "Loaded model /data/local/tmp/model.tflite",
        size,
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


def read(text):
    return _logged(audited(), "phone.log", text.encode())


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
    "text, threads, operations",
    [
        (log(), 4, []),  # not the times of the runs that warm up
        (log(threads="", profile=INITIAL), None, []),
        (log(profile=BOTH).replace("count", "INFO: count"), 4, READ),
    ],
)
def test_times_of_the_timed_runs(text, threads, operations):
    actual = read(text)
    assert (actual.ms, actual.threads) == (pytest.approx(10.2505), threads)
    assert actual.operations == operations


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\n adb: no devices\n", "adb: no devices"),
        (log().split("count=50")[0], "Running benchmark for at least 50 iterations"),
        (log().replace(" median=", " mean="), "Inference timings in us"),  # older ones
        (2 * log(), "Inference timings in us"),
        ("STARTING!\nINFO: Loaded\nERROR: Unresolved op: Lce", "ERROR: Unresolved op"),
    ],
)
def test_logs_without_times_get_one_sentence(text, shown):
    message = f"phone.log' contains no times of one run .*, but '{shown}.*'. Pass all"
    with pytest.raises(ConversionError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def size_line(path):
    return f"The input model file size (MB): {path.stat().st_size / 1e6:.6g}"


@pytest.mark.convert
def test_logs_become_the_same_table(files, tmp_path):
    first, second = tmp_path / "one.log", tmp_path / "two.log"
    first.write_text(log(size=size_line(files[0]), profile=BOTH))
    faster = "count=60 first=6 curr=5 min=4000 max=9000 avg=5500 std=1"
    faster += " p5=4500 median=5125.25 p95=8000"
    second.write_text(log(counted=faster, size=size_line(files[1])))
    result = read_phone_logs(files[0], [first, second], files[1])
    one, two = result.timings
    assert (one.ms, one.low_ms, one.high_ms) == pytest.approx((10.2505, 9.9, 11))
    assert (two.ms, two.typical) == (pytest.approx(5.12525), "median")
    assert (two.low_ms, two.high_ms) == pytest.approx((4.5, 8))
    assert (one.spread, two.spread) == 2 * ("5 to 95 %",)
    assert (one.ratio, two.ratio) == (1, pytest.approx(0.5))
    assert two.ratio_low is two.ratio_high is None
    assert (one.lce_bconv2d, two.lce_bconv2d, one.runs, two.runs) == (1, 2, 50, 60)
    assert (one.operations, two.operations) == (READ, [])
    text = " ".join(str(result).split())
    for part in (
        "10.251 ms, median",
        "0.500",
        "16 in 6.250 ms, 62.5%",
        str(second)[-7:],
    ):
        assert part in text
    assert "x86" not in text


@pytest.mark.convert
def test_logs_that_do_not_fit_the_files(files, tmp_path):
    path = tmp_path / "phone.log"
    path.write_text(log(size=size_line(files[1])))
    with pytest.raises(ConversionError, match="are 1 logs of 2 files. Pass one"):
        read_phone_logs(files[0], path, files[1])
    with pytest.raises(ConversionError, match=r"phone\.log' is of a file of 0\.\d+ MB"):
        read_phone_logs(files[0], path)
    assert read_phone_logs(files[1], path).timings[0].lce_bconv2d == 2
    with pytest.raises(FileNotFoundError):
        read_phone_logs(files[0], tmp_path / "none.log")


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """A folder with a file for LCE and one for LiteRT."""
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(files[0].read_bytes())
    net = chain(binary_conv(8), *head())
    nobn.convert(net, "n.tflite", verify=False, runtime="litert")
    return tmp_path


@pytest.mark.convert
def test_commands_push_and_run_every_file(here):
    commands = phone_commands("m.tflite", "n.tflite", runs=9, warmup=2, threads=4)
    tmp = "/data/local/tmp"
    flags = "--num_threads=4 --num_runs=9 --warmup_runs=2 --enable_op_profiling=true"
    assert commands == [
        f"adb push lce_benchmark_model {tmp}/lce_benchmark_model",
        f"adb shell chmod +x {tmp}/lce_benchmark_model",
        f"adb push m.tflite {tmp}/m.tflite",
        f"adb shell {tmp}/lce_benchmark_model --graph={tmp}/m.tflite {flags} "
        "> m.tflite.log 2>&1",
        f"adb push benchmark_model {tmp}/benchmark_model",
        f"adb shell chmod +x {tmp}/benchmark_model",
        f"adb push n.tflite {tmp}/n.tflite",
        f"adb shell {tmp}/benchmark_model --graph={tmp}/n.tflite {flags} "
        "--use_xnnpack=true > n.tflite.log 2>&1",
    ]
    with pytest.raises(ConversionError, match=r"'none\.tflite' cannot be read"):
        phone_commands("none.tflite")


# Stands for adb and the phone: its folder is `phone`, and each file takes a time of its
# own there.
ADB = """#!{python}
import pathlib, shutil, sys
command, *rest = sys.argv[1:]
phone = pathlib.Path("phone")
if not phone.is_dir():
    sys.exit("adb: no devices/emulators found")
def place(name):
    return phone / name.replace("--graph=", "").rpartition("/")[2]
if command == "push":
    shutil.copy(rest[0], place(rest[1]))
elif rest[0] != "chmod":
    assert place(rest[0]).is_file()
    tool, size = place(rest[0]).name, place(rest[1]).stat().st_size
    print("STARTING!", file=sys.stderr)
    print(f"The input model file size (MB): {size / 1e6:g}")
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
        nobn.deploy.benchmark_on_phone("m.tflite")
    for tool in ("lce_benchmark_model", "benchmark_model"):
        Path(tool).touch()
    with pytest.raises(ConversionError, match="no devices/emulators found.*Connect"):
        nobn.deploy.benchmark_on_phone("m.tflite")
    Path("phone").mkdir()
    done = []
    actual = nobn.deploy.benchmark_on_phone(
        "m.tflite", ["n.tflite", "m.tflite"], progress=lambda: done.append(1)
    )
    assert [timing.ms for timing in actual.timings] == [0.8, 0.2, 0.8]
    assert [timing.ratio for timing in actual.timings] == [1, 0.25, 1]
    assert [timing.lce_bconv2d for timing in actual.timings] == [1, 0, 1]
    assert len(done) == 2
    assert sorted(path.name for path in adb.glob("*.log")) == []
    monkeypatch.setenv("PATH", str(adb))
    with pytest.raises(ConversionError, match="'adb'.* was not found. Install"):
        nobn.deploy.benchmark_on_phone("m.tflite")
