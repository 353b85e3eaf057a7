"""The report on paper: a PDF that a headless Chromium or Chrome prints of the page."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import BenchError

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("chrome-headless-shell", "headless_shell", "microsoft-edge", "brave-browser"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
LIMIT_S = 180.0  # a page of a hundred runs takes half a minute
DRAWN_MS = 120_000  # of the page's own clock, which goes on when it has nothing to do
FLAGS = ("--headless", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer")


class PdfError(BenchError):
    """No PDF could be made; the text is one line for people."""


def browser() -> str | None:
    """Return a browser that can print; None: there is none on this machine."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def to_pdf(page: bytes, program: str, folder: Path) -> bytes:
    """Return the page as a PDF. Raises PdfError, OSError.

    What the browser needs lies in `folder` meanwhile: one in a snap sees no other.
    """
    with tempfile.TemporaryDirectory(prefix="pdf-", dir=folder) as name:
        here = Path(name).absolute()
        html, pdf = here / "report.html", here / "report.pdf"
        html.write_bytes(page)
        _print(program, html, pdf)
        if not pdf.exists() or not (made := pdf.read_bytes()).startswith(b"%PDF"):
            raise PdfError(f"{program} printed no PDF of the report: print an .html one from it")
        return made


def _print(program: str, html: Path, pdf: Path) -> None:
    words = [program, *FLAGS, f"--user-data-dir={html.parent / 'profile'}"]
    # Its sandbox refuses to run as root, as one does in a container; the page is ours.
    words += ["--no-sandbox"] if os.geteuid() == 0 else []
    words += [f"--virtual-time-budget={DRAWN_MS}", f"--print-to-pdf={pdf}", html.as_uri()]
    none = subprocess.DEVNULL
    try:
        subprocess.run(words, stdin=none, stdout=none, stderr=none, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as e:
        raise PdfError(f"{program} printed no PDF of the report within {LIMIT_S:g} s") from e
