"""A real browser for tests of pages: headless chromium, its DOM after the scripts have run, and pictures of it.

Where there is none, a test is skipped with the reason; where CI is set, it fails.
"""

import os
import re
import shutil
import subprocess
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


def _run(page: Path, folder: Path, *options: str) -> str:
    command = [executable(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--disable-background-networking", "--no-first-run", f"--user-data-dir={folder / 'profile'}",
               *options, page.resolve().as_uri()]  # fmt: skip
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
