"""Why a server can't be started with some settings, asked before one is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

from ..records.text import masked, printable
from .env import Settings
from .process import LAUNCHER

DRY_RUN_S = 60.0  # of the launcher, which takes a tenth of a second


def refused(settings: Settings) -> str | None:
    """Return what the launcher says against settings, secrets masked; None: it would start them."""
    try:
        done = subprocess.run(
            ["sh", str(LAUNCHER), "--dry-run"],
            env=dict(settings.environ),
            stdin=subprocess.DEVNULL,
            timeout=DRY_RUN_S,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the launcher didn't answer within {DRY_RUN_S:g} s"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or ["the launcher refused it"])[-1]
    return printable(masked(last, settings.secrets), 400).removeprefix("run_server.sh: ")


def missing_program(environ: Mapping[str, str]) -> str | None:
    """Return the program that would be started, where there is none of that name; else None."""
    program = environ.get("VLLM_COMMAND") or "vllm"
    if environ.get("SIMULATOR") or shutil.which(program, path=environ.get("PATH")):
        return None
    return printable(program, 200)
