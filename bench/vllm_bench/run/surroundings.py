"""What a run has to say of its surroundings: the client's machine and versions, the server's."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..vllm.server import Model, Server

PACKAGES = ("uvloop", "httptools", "orjson", "httpx", "pydantic", "numpy", "pandas")


def client_facts(repository: Path) -> dict[str, Any]:
    """Return versions, the git commit of this toolkit, and the machine's size."""
    changes = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git(repository, "rev-parse", "HEAD"),
        "git_dirty": None if changes is None else changes != "",
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
    }


def server_facts(server: Server, served: Sequence[Model], model: str) -> dict[str, Any]:
    """Return what the server says of itself; None where it doesn't say."""
    found = next((m for m in served if m.id == model), None)
    version = server.version()
    return {
        "base_url": server.base_url,
        "version": version,
        "simulator": "simulator" in (version or ""),  # ours says so in its version
        "on_client_machine": server.on_this_machine(),
        "model": model,
        "model_root": found.root if found else None,
        "max_model_len": found.max_model_len if found else None,
        "cache_config": server.cache_config(),
        "system_fingerprint": None,  # comes with the first reply
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(repository: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or not a checkout: a run from a tarball
    return done.stdout.strip()
