"""Trained networks as C files on other processors: equal results, and their work.

`convert` writes each network, with bytes as inputs. The same random images are
classified on this computer, on emulated Cortex-M boards, on emulated 64-bit ARM, as a
WebAssembly module in Node, and one of them on a page in Chromium. There compilers do
not contract products and sums (`-ffp-contract=off`), so that all compute the same
numbers in the same order: classes and scores have to be bitwise identical. Then it is
compiled for each board as the example does, without that flag, and QEMU counts
instructions.

What is compiled are copies of the examples. `.ci/run` has Debian's packages with all
commands.

    python benchmarks/boards.py reactnet18-w32-digits   # or: make check-boards
    python benchmarks/boards.py NETWORK "NETWORK --small" --output results/c
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import numpy as np
from _drawing import boards as drawing
from _results import ROOT, leave, say
from PIL import Image

EXAMPLES = ROOT / "examples"
BOARDS = {"Cortex-M4F": "m4", "Cortex-M7": "m7", "Cortex-M33": "m33"}
COMMANDS = (
    *("make", "cc", "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"),
    *("aarch64-linux-gnu-gcc", "qemu-aarch64", "clang", "wasm-ld", "node"),
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A score in nine digits is that of one number of float32 alone.
EQUAL = "-O3 -ffp-contract=off"
LINE = re.compile(r"(.+), (\S+?)(?:: (\d+) instructions)?")
NODE = """
import fs from "node:fs";
import { open } from "./network.mjs";
const network = await open(fs.readFileSync("model.wasm"));
for (const file of process.argv.slice(1)) {
  const [best] = network.classify(fs.readFileSync(file));
  console.log(`${best.label}, ${best.score}`);
}
"""


def said(*command, folder):
    """What a command prints, which has to succeed."""
    # A make that runs this would have others say where they are.
    own = {name: x for name, x in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        [*map(str, command)],
        **{"cwd": folder, "env": own, "capture_output": True, "text": True},
        timeout=3600,
    )
    if done.returncode:
        lines = [*done.stderr.splitlines(), "no message"]
        first = next((line for line in lines if "rror" in line), lines[0])
        raise click.ClickException(f"{' '.join(map(str, command))} failed: {first}")
    return done.stdout


def made(folder, example, *variables):
    """What an example prints, compiled again: classes and scores, and instructions."""
    lines = said("make", "-s", "-W", "model.c", *variables, folder=folder / example)
    return found(lines.splitlines())


def found(lines):
    matches = [LINE.fullmatch(line) for line in lines]
    if None in matches:
        raise click.ClickException(f"no class and score: {lines[matches.index(None)]}")
    rows = [match.groups() for match in matches]
    results = [(label, np.float32(score)) for label, score, _ in rows]
    return results, [int(count or 0) for _, _, count in rows]


def on_page(folder, name):
    """What the page shows of an image."""
    handler = partial(Quiet, directory=folder)
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://localhost:{server.server_port}/index.html?image={name}"
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom")
        waits = "--virtual-time-budget=30000"
        dom = said(browser(), *flags, waits, page, folder=folder)
        server.shutdown()
    return found(re.findall(r"<li>(.*?)</li>", dom)[:1])[0]


def browser():
    return next(filter(shutil.which, BROWSERS), BROWSERS[0])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Says nothing."""


def prepare(folder, network, count):
    """Writes the network and random images into copies of the examples."""
    command = (sys.executable, "-m", "larq_nobn", "convert")
    said(*command, *network.split(), "model.c", "--pixels", folder=folder)
    header = (folder / "model.h").read_text(encoding="utf-8")
    defined = re.findall(r"define MODEL_(\w+) (\d+)", header)
    sizes = {name: int(size) for name, size in defined}
    shape = [sizes[f"INPUT_{axis}"] for axis in ("HEIGHT", "WIDTH", "CHANNELS")]
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    for example in ("c", "microcontroller", "web"):
        shutil.copytree(EXAMPLES / example, folder / example)
        for name in ("model.c", "model.h"):
            shutil.copy(folder / name, folder / example)
    for i, image in enumerate(pixels):
        drawn = Image.fromarray(image.squeeze())
        drawn.save(folder / "c" / f"{i}.ppm")
        drawn.save(folder / "web" / f"{i}.png")
        (folder / "web" / f"{i}.bin").write_bytes(image.tobytes())
    rows = ",\n".join(f"{{{','.join(map(str, x.ravel()))}}}" for x in pixels)
    array = f"static const uint8_t images[][{pixels[0].size}] = {{{rows}}};\n"
    path = folder / "microcontroller" / "image.h"
    path.write_text(f"#include <stdint.h>\n{array}", encoding="utf-8")
    constants = re.search(r"([\d,]+) bytes of constants", header)[1]
    return int(constants.replace(",", "")), sizes["MEMORY_BYTES"]


def results_of(folder, count):
    """Classes and scores on this computer, and by the name of every other target."""
    images = "IMAGES=" + " ".join(f"{i}.ppm" for i in range(count))
    arm = ("CC=aarch64-linux-gnu-gcc", "EMULATOR=qemu-aarch64")
    wanted, _ = made(folder, "c", images, f"CFLAGS={EQUAL}")
    results = {}
    for name, flags in {
        "vectors of this computer": [f"CFLAGS={EQUAL} -march=native"],
        "64-bit ARM": [*arm, f"CFLAGS={EQUAL} -static"],
    }.items():
        results[name], _ = made(folder, "c", images, *flags)
    for name, board in BOARDS.items():
        flags = f"BOARD={board}", f"CFLAGS={EQUAL}"
        results[name], _ = made(folder, "microcontroller", *flags)
    web, raw = folder / "web", [f"{i}.bin" for i in range(count)]
    for name, flags in {"WebAssembly": "", "WebAssembly SIMD128": "-msimd128"}.items():
        said("make", "-W", "model.c", f"CFLAGS={EQUAL} {flags}", folder=web)
        lines = said("node", "--input-type=module", "-e", NODE, *raw, folder=web)
        results[name], _ = found(lines.splitlines())
    results["page in Chromium"] = on_page(web, "0.png")
    return wanted, results


def on_board(folder, board):
    """What a network needs on a board, compiled as the example does."""
    _, counts = made(folder, "microcontroller", f"BOARD={board}")
    place = folder / "microcontroller"
    lines = said("arm-none-eabi-size", f"{board}.o", folder=place).splitlines()
    text, data, *_ = map(int, lines[1].split()[:2])
    return {"flash_bytes": text + data, "instructions": round(statistics.mean(counts))}


def measure(folder, network, count):
    """One network: its sizes, equal results everywhere, and what boards need."""
    constants, memory = prepare(folder, network, count)
    wanted, results = results_of(folder, count)
    for name, got in results.items():
        if not got or got != wanted[: len(got)]:
            raise click.ClickException(
                f"{network}: {name} computes {got}, and this computer {wanted}."
            )
    said("make", "-W", "model.c", folder=folder / "web")
    return {
        "constant_bytes": constants,
        "memory_bytes": memory,
        "wasm_bytes": (folder / "web" / "model.wasm").stat().st_size,
        "boards": {name: on_board(folder, board) for name, board in BOARDS.items()},
        "equal_on": list(results),
    }


@click.command()
@click.argument("networks", nargs=-1, required=True)
@click.option("--images", default=4, show_default=True)
@click.option("--output", type=Path, help="Folder of the log.  [default: none]")
def main(networks, images, output):
    """Compiles networks for other processors, and runs them there."""
    needed = *COMMANDS, browser()
    missing = [name for name in needed if not shutil.which(name)]
    if missing:
        raise click.ClickException(
            f"{', '.join(missing)} not found. Install them: .ci/run names the packages."
        )
    rows = {}
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            rows[network] = measure(Path(folder), network, images)
    result = {"images": images, "rows": rows}
    if output:
        leave(output / "boards", __doc__, drawing.boards, **result)
    else:
        say(tables=drawing.boards(result))


if __name__ == "__main__":
    main()
