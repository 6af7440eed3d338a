"""Runs files in clients that are no wheels of this environment.

    make check-clients

Three networks, in float, in int8, and in int8 with bytes outside, all of which take
pixels: in MediaPipe's ImageClassifier, which needs NumPy 2 and gets an environment of
its own, and in LiteRT.js, by the page of `examples/web` in Chromium. Outputs have to be
those of LiteRT in Python, and classes have to have their names.
"""

import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

import larq_nobn as nobn  # isort: skip
import larq as lq
from ai_edge_litert.interpreter import Interpreter
from larq_nobn._keras import keras
from larq_nobn.deploy import Preprocessing, convert, fake_quantize
from PIL import Image

MEDIAPIPE, LITERT_JS = "mediapipe==1.2.3", "@litertjs/core@2.5.3"
EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE, COUNT = 32, 8
LABELS = ["cat", "dog", "grün", "two words", "e"]
STEPS = Preprocessing((0.49, 0.48, 0.45), (0.25, 0.24, 0.26), (SIZE, SIZE))
HARNESS = """<!doctype html><iframe src="/litert.html?%s"></iframe><script>
const look = setInterval(() => {
  const page = document.querySelector('iframe').contentDocument;
  const row = page && page.getElementById('classes');
  const said = page && page.getElementById('said');
  if (!row || !(row.dataset.scores || said.textContent)) return;
  clearInterval(look);
  fetch('/done', {method: 'POST', body: JSON.stringify({
    scores: row.dataset.scores || '[]', first: (row.firstChild || said).textContent})});
}, 50);
</script>"""


def own():
    """A network of its own: binary layers and ordinary ones."""
    sign = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    return keras.Sequential(
        [
            keras.layers.Conv2D(32, 3, strides=2, input_shape=(SIZE, SIZE, 3)),
            lq.layers.QuantConv2D(32, 3, **sign),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(LABELS)),
        ]
    )


def write(folder):
    """Writes pictures and files; returns the files with LiteRT's outputs."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    pixels = np.kron(blocks, np.ones((1, SIZE // 4, SIZE // 4, 1), np.uint8))
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number}.png")
    shape = (SIZE, SIZE, 3)
    networks = {
        "reactnet": nobn.models.ReActNet18(shape, 5, width=16, blocks=(1, 1)),
        "quicknet": nobn.models.QuickNetSmall(shape, 5, width=8, blocks=(1, 1)),
        "own": own(),
    }
    wanted = {}
    for name, model in networks.items():
        ranged = fake_quantize(model, STEPS(pixels), verify=False)
        for kind in ("float", "float32", "uint8"):
            file = folder / f"{name}_{kind}.tflite"
            options = {} if kind == "float" else {"int8": True, "io": kind}
            convert(
                *(model if kind == "float" else ranged, file),
                **{"data": STEPS(pixels), "runtime": "litert", "pixels": True},
                **{"labels": LABELS, "preprocessing": STEPS},
                **options,
            )
            wanted[file.name] = in_litert(file, pixels)
    return wanted


def in_litert(file, pixels):
    interpreter, outputs = Interpreter(str(file)), []
    interpreter.allocate_tensors()
    (given,), (made,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    for picture in pixels:
        interpreter.set_tensor(given["index"], picture[None].astype(given["dtype"]))
        interpreter.invoke()
        output = interpreter.get_tensor(made["index"])[0].astype(np.float32)
        scale, zero = made["quantization"]
        outputs.append((output - zero) * np.float32(scale) if scale else output)
    return np.array(outputs)


def check_mediapipe(folder, wanted):
    environment = folder / "mediapipe"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, MEDIAPIPE], check=True)
    pictures = [f"{folder}/{number}.png" for number in range(COUNT)]
    script = EXAMPLES / "mediapipe" / "classify.py"
    for name, outputs in wanted.items():
        call = [python, script, folder / name, *pictures]
        done = subprocess.run(call, check=True, capture_output=True, text=True)
        found = re.findall(r": (.+) \((\S+)\)$", done.stdout, re.MULTILINE)
        best = [LABELS[k] for k in outputs.argmax(axis=1)]
        assert [label for label, _ in found] == best, (name, found)
        scores = [float(score) for _, score in found]
        np.testing.assert_allclose(scores, outputs.max(axis=1), rtol=1e-4, atol=1e-4)
        print(f"MediaPipe, {name}: {COUNT} of {COUNT} classes, and their scores")


def check_litert_js(folder, wanted):
    shutil.copy(EXAMPLES / "web" / "litert.html", folder)
    subprocess.run(["npm", "install", "--silent", LITERT_JS], cwd=folder, check=True)
    arrived, told = threading.Event(), {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            if not self.path.startswith("/harness?"):
                return super().do_GET()
            page = (HARNESS % self.path.partition("?")[2]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def do_POST(self):
            told.update(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.end_headers()
            arrived.set()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    for name, outputs in wanted.items():
        if name.endswith("_uint8.tflite"):
            continue  # LiteRT.js takes float32 and int32
        query = f"file={name}&picture=0.png"
        address = f"http://127.0.0.1:{server.server_port}/harness?{query}"
        arrived.clear()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
        ]
        profile = f"--user-data-dir={folder}/profile"
        with subprocess.Popen(
            [chromium, *options, profile, address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as browser:
            came = arrived.wait(120)
            browser.kill()
        assert came, f"{name}: the page said nothing within two minutes"
        scores = np.array(json.loads(told["scores"]))
        assert len(scores), (name, told["first"])
        np.testing.assert_allclose(scores, outputs[0], rtol=1e-4, atol=1e-4)
        assert told["first"].startswith(f"{LABELS[scores.argmax()]}: "), told
        print(f"LiteRT.js, {name}: equal to LiteRT, {told['first']}")


with tempfile.TemporaryDirectory() as scratch:
    place = Path(scratch)
    files = write(place)
    check_litert_js(place, files)
    check_mediapipe(place, files)
