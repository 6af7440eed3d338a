"""A headless Chromium without a driver: DevTools messages through two pipes."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--remote-debugging-pipe", "about:blank"),
)
SECONDS = 30  # for one answer


class BrowserError(Exception):
    """There is no browser, or it does not answer."""


def executable() -> str:
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise BrowserError(
        "No Chromium was found, in which the built pages are looked at. Install it, as "
        "in `apt-get install chromium`."
    )


class Browser:
    """One browser with one tab; use it in a `with` statement.

    Attributes:
        errors: What the open page has complained about since it was opened.
        requested: The addresses that it asked for.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.requested: list[str] = []
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self._loaded = False

    def __enter__(self) -> Browser:
        path = executable()
        self._profile = tempfile.mkdtemp()
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        redirect = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            [*("bash", "-c", redirect, path, path), *FLAGS[:-1]]
            + [f"--user-data-dir={self._profile}", FLAGS[-1]],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        tab = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self._profile, ignore_errors=True)

    def look(self, width: int, dark: bool = False) -> None:
        """Sets the width of the window, and which colours the reader asks for."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {
            "name": "prefers-color-scheme",
            "value": "dark" if dark else "light",
        }
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Opens a page and waits for its scripts, images and fonts."""
        self.errors, self.requested, self._loaded = [], [], False
        self._ask("Page.navigate", url=address)
        while not self._loaded:
            self._note(self._receive())
        self.run("document.fonts.ready.then(() => new Promise(requestAnimationFrame))")

    def run(self, script: str) -> Any:
        """What a JavaScript expression is, as JSON."""
        answer = self._ask(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in answer:
            raise BrowserError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = True) -> None:
        answer = self._ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], end - time.monotonic())
            part = os.read(self._in, 1 << 20) if ready else b""
            if not part:
                raise BrowserError("Chromium has ended, or does not answer.")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        """Keeps what an event says of the page."""
        of = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requested.append(of["request"]["url"])
            case "Network.loadingFailed" if not of.get("canceled"):
                self.errors.append(f"not loaded: {of['errorText']}")
            case "Network.responseReceived" if of["response"]["status"] >= 400:
                response = of["response"]
                self.errors.append(f"{response['status']}: {response['url']}")
            case "Runtime.exceptionThrown":
                self.errors.append(of["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled" if of["type"] in ("error", "assert"):
                said = (str(arg.get("value", "")) for arg in of["args"])
                self.errors.append(f"console: {' '.join(said)}")
            case "Log.entryAdded" if of["entry"]["level"] == "error":
                self.errors.append(f"console: {of['entry']['text']}")
