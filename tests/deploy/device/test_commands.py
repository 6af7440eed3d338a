"""Commands for a phone, and logs as the tool's versions print them."""

import shlex

import larq_nobn as nobn
import pytest
from deploy.nets import binary_conv, chain, head
from larq_nobn.deploy import ConversionError, phone_commands, read_phone_logs
from larq_nobn.deploy.device._benchmark import read_results

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
    counted="count=50 first=10400 curr=10100 min=9800 max=11900 avg=10250.5 std=310",
    end="Inference timings in us: Init: 5210, First inference: 15873, "
    "Warmup (avg): 12001.5, Inference (avg): 10250.5",
    threads="#threads used for CPU inference: [4]",
    size="",
    profile=(),
):
    warmed = "count=40 first=15873 curr=12000 min=11000 max=15873 avg=12001.5 std=900"
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


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "phone.log"
    path.write_bytes(text.encode(encoding))
    return read_results(str(path))


def test_times_of_the_timed_runs(tmp_path):
    (found,) = read(tmp_path, log())
    assert found.times["min"] == 9800  # not those of the runs that warm up
    assert found.times["count"] == 50
    assert (found.typical, found.threads, found.megabytes) == (10250.5, 4, None)
    assert found.operations == []


def test_a_median_where_there_is_one(tmp_path):
    counted = "count=50 first=10 curr=10 min=9 max=20 avg=1.24027e+06 std=1"
    (found,) = read(tmp_path, log(counted=counted))
    assert found.typical == 1240270
    (found,) = read(tmp_path, log(counted=f"{counted} p5=9 median=11 p95=14"))
    assert found.typical == 11


@pytest.mark.parametrize("counted", ["count=1 curr=700", "count=9 curr=700(all same)"])
def test_runs_that_are_all_the_same(tmp_path, counted):
    (found,) = read(tmp_path, log(counted=counted))
    assert found.typical == 700


@pytest.mark.parametrize("threads", ["", "Num threads: [-1]"])
def test_threads_that_are_not_said(tmp_path, threads):
    assert read(tmp_path, log(threads=threads))[0].threads is None


@pytest.mark.parametrize("prefix", ["INFO: ", "11-20 10:11:12.1  7  8 I tflite  : "])
def test_lines_with_a_level_or_as_the_system_logs_them(tmp_path, prefix):
    lines = log(profile=[*run_order(), *summary()]).splitlines()
    (found,) = read(tmp_path, "\n".join(prefix + line for line in lines))
    assert found.typical == 10250.5
    assert found.operations == READ


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_what_windows_makes_of_it(tmp_path, encoding):
    text = log(profile=summary()).replace("\n", "\r\n")
    (found,) = read(tmp_path, text, encoding)
    assert found.typical == 10250.5
    assert found.operations == READ


@pytest.mark.parametrize("gap", ["\t", "     "])
def test_operations_come_from_the_timed_runs(tmp_path, gap):
    preparing = summary([("AllocateTensors", 1, 1.5, 100.0)], gap)
    profile = [
        "Profiling Info for Benchmark Initialization:",
        *run_order(),
        *preparing,
        "Operator-wise Profiling Info for Regular Benchmark Runs:",
        *run_order(),
        *summary(gap=gap),
        *summary([("Inner", 1, 1.0, 100.0)], gap),  # of a part, summed up before
    ]
    assert read(tmp_path, log(profile=profile))[0].operations == READ
    nothing = profile[: len(run_order()) + len(preparing) + 1]
    assert read(tmp_path, log(profile=nothing))[0].operations == []


def test_several_results_in_one_log(tmp_path):
    cut = log().split("Running")[0]
    second = "count=50 first=7 curr=8 min=7 max=9 avg=8 std=1"
    found = read(tmp_path, log() + cut + log(counted=second))
    assert [each.typical for each in found] == [10250.5, 8]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "phone.log' is no output of lce_benchmark_model; it starts with ''"),
        ("\n adb: no devices\n", "is no output .* starts with 'adb: no devices'. Pass"),
        ("\0\1binary", r"starts with '\?\?binary'"),
        (log(end=""), "phone.log' ends before the times"),
        (log().split("count=50")[0], "phone.log' ends before the times"),
        (log(counted="count=0", end=""), "ends before the times"),
        (log(counted="count=5 first=0 curr=0 min=0 max=0 avg=0"), "ends before the"),
        (
            "STARTING!\nINFO: Loaded model\nERROR: Unresolved custom op: Lce",
            "contains no times, but 'ERROR: Unresolved custom op: Lce'. See",
        ),
    ],
)
def test_logs_without_times_get_one_sentence(tmp_path, text, message):
    with pytest.raises(ConversionError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phone")
    paths = folder / "one.tflite", folder / "two.tflite"
    for count, path in enumerate(paths, 1):
        layers = [binary_conv(name=f"conv{place}") for place in range(count)]
        nobn.convert(chain(*layers, *head()), path, verify=False)
    return paths


def size_line(path):
    return f"The input model file size (MB): {path.stat().st_size / 1e6:.6g}"


@pytest.mark.convert
def test_logs_become_the_same_table(files, tmp_path):
    first, second = tmp_path / "one.log", tmp_path / "two.log"
    first.write_text(log(size=size_line(files[0]), profile=summary()))
    faster = "count=60 first=6 curr=5 min=4000 max=9000 avg=5500 std=1"
    faster += " p5=4500 median=5125.25 p95=8000"
    second.write_text(log(counted=faster, size=size_line(files[1])))
    result = read_phone_logs(files[0], [first, second], files[1])
    one, two = result.timings
    assert (one.ms, one.typical) == (pytest.approx(10.2505), "mean")
    assert (one.low_ms, one.high_ms) == pytest.approx((9.8, 11.9))
    assert (two.ms, two.typical) == (pytest.approx(5.12525), "median")
    assert (two.low_ms, two.high_ms) == pytest.approx((4.5, 8))
    assert (one.spread, two.spread) == ("range", "5 to 95 %")
    assert (one.ratio, two.ratio) == (1, pytest.approx(0.5))
    assert two.ratio_low is two.ratio_high is None
    assert (one.lce_bconv2d, two.lce_bconv2d, one.runs, two.runs) == (1, 2, 50, 60)
    assert (one.operations, two.operations) == (READ, [])
    text = " ".join(str(result).split())
    for part in ("10.251 ms, mean", "0.500", "16 in 6.250 ms, 62.5%", str(second)[-7:]):
        assert part in text
    assert "x86" not in text


@pytest.mark.convert
def test_logs_that_do_not_fit_the_files(files, tmp_path):
    path = tmp_path / "phone.log"
    path.write_text(log(size=size_line(files[1])))
    with pytest.raises(ConversionError, match="contain 1 results, not 2. Pass one"):
        read_phone_logs(files[0], path, files[1])
    with pytest.raises(ConversionError, match=r"phone\.log' is of a file of 0\.\d+ MB"):
        read_phone_logs(files[0], path)
    assert read_phone_logs(files[1], path).timings[0].lce_bconv2d == 2
    with pytest.raises(FileNotFoundError):
        read_phone_logs(files[0], tmp_path / "none.log")


def test_commands_push_and_run_every_file():
    commands = phone_commands("m.tflite", "n.tflite", runs=9, warmup=2, threads=4)
    tool = "/data/local/tmp/lce_benchmark_model"
    flags = "--num_threads=4 --num_runs=9 --warmup_runs=2 --enable_op_profiling=true"
    assert commands == [
        f"adb push lce_benchmark_model {tool}",
        f"adb shell chmod +x {tool}",
        "adb push m.tflite /data/local/tmp/m.tflite",
        f"adb shell {tool} --graph=/data/local/tmp/m.tflite {flags} "
        "> m.tflite.log 2>&1",
        "adb push n.tflite /data/local/tmp/n.tflite",
        f"adb shell {tool} --graph=/data/local/tmp/n.tflite {flags} "
        "> n.tflite.log 2>&1",
    ]


def test_commands_keep_odd_names_and_equal_ones_apart():
    files = ["a/my model;é.tflite", "b/m.tflite", "c/m.tflite", "c/m.tflite"]
    commands = phone_commands(files[0], files[1:])
    pushed = [shlex.split(line)[2:] for line in commands if " push " in line]
    assert pushed[1:] == [
        [files[0], "/data/local/tmp/my_model__.tflite"],
        [files[1], "/data/local/tmp/m.tflite"],
        [files[2], "/data/local/tmp/2_m.tflite"],
    ]


@pytest.mark.parametrize("name", ["runs", "threads"])
def test_counts_out_of_range(name):
    with pytest.raises(ValueError, match=f"{name}=0 is below 1"):
        phone_commands("m.tflite", **{name: 0})
