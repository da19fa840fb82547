"""A real browser for tests of pages: headless chromium, its DOM after the scripts have run, and pictures of it.

Where there is none, a test is skipped with the reason; where CI is set, it fails.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str:
    """Path of the browser: BROWSER_BINARY, or one on the path."""
    found = os.environ.get("BROWSER_BINARY") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = "no chromium found; on Debian `apt-get install chromium`, or set BROWSER_BINARY"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _command(folder: Path, *options: str) -> list[str]:
    return [executable(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-background-networking", "--no-first-run", f"--user-data-dir={folder / 'profile'}", *options]  # fmt: skip


def _run(page: Path, folder: Path, *options: str) -> str:
    command = [*_command(folder, *options), page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def dom(page: Path, folder: Path) -> str:
    """The page's document after its scripts have run."""
    return _run(page, folder, "--virtual-time-budget=20000", "--dump-dom")


def said(page: Path, folder: Path) -> str:
    """The text that the page's scripts put into the element with the id `out`."""
    found = re.search(r'<pre id="out">(.*?)</pre>', dom(page, folder), re.S)
    assert found, "the page has no answer"
    return unescape(found[1])


def picture(page: Path, folder: Path, width: int, height: int, name: str = "page.png", *, dark: bool = False) -> Path:
    """A PNG of the page at this size, for a reader who prefers light paper or dark."""
    path = folder / name
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _run(page, folder, f"--window-size={width},{height}", "--virtual-time-budget=3000", f"--screenshot={path}", *theme)
    return path


def printed(page: Path, folder: Path, name: str = "page.pdf") -> Path:
    """The page as it is printed."""
    path = folder / name
    _run(page, folder, "--virtual-time-budget=3000", "--no-pdf-header-footer", f"--print-to-pdf={path}")
    return path


class Session:
    """A page in a browser that is told what to do by Chrome's DevTools protocol, over a pair of pipes."""

    def __init__(self, told: int, heard: int) -> None:
        self.told, self.heard, self.last, self.session = told, os.fdopen(heard, "rb"), 0, {}

    def call(self, method: str, **params: object) -> dict:
        """The result of a command; what the browser tells by itself meanwhile is let go."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params, **self.session}
        os.write(self.told, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self.last:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self) -> bytes:
        read = bytearray()
        while (byte := self.heard.read(1)) != b"\0":
            assert byte, "the browser has gone"
            read += byte
        return bytes(read)

    def run(self, script: str) -> object:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int, modifiers: int = 0) -> None:
        """Press a key, by its name and its virtual code."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, modifiers=modifiers
            )


@contextmanager
def session(page: Path, folder: Path, width: int = 1280, height: int = 900) -> Iterator[Session]:
    """The page, loaded, with a keyboard and what a screen reader is told of it."""
    (to_browser, told), (heard, from_browser) = os.pipe(), os.pipe()
    ends = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (to_browser, from_browser)]
    wired = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'  # it listens on 3 and speaks on 4
    command = _command(folder, "--remote-debugging-pipe", f"--window-size={width},{height}")
    process = subprocess.Popen(["bash", "-c", wired, "bash", *command], pass_fds=ends, stderr=subprocess.DEVNULL)
    for each in (to_browser, from_browser, *ends):
        os.close(each)
    try:
        opened = Session(told, heard)
        target = opened.call("Target.createTarget", url=page.resolve().as_uri())["targetId"]
        attached = opened.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        opened.session = {"sessionId": attached}
        while opened.run("location.protocol + document.readyState") != "file:complete":
            time.sleep(0.05)
        yield opened
    finally:
        process.kill()
        process.wait()
        os.close(told)
        opened.heard.close()
