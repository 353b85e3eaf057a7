"""What is asked before a server is started: the launcher's own look, and whether there is vLLM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vllm_bench.launch import refused as module
from vllm_bench.launch.env import Settings, settings_of
from vllm_bench.launch.refused import missing_program, refused


def settings(**values: str) -> Settings:
    return settings_of(Path("a.env"), values, {"PATH": os.environ["PATH"]})


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "launcher.sh"
    monkeypatch.setattr(module, "LAUNCHER", path)
    return path


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", None),
        ("echo 'Starting …'; echo 'run_server.sh: PORT is taken by s3cret' >&2; exit 2", "PORT is"),
        ("exit 2", "the launcher refused it"),
    ],
)
def test_the_launchers_last_line_is_told(launcher: Path, script: str, said: str | None) -> None:
    launcher.write_text(script)
    found = refused(settings(VLLM_API_KEY="s3cret"))
    assert (found or "").startswith(said or "")
    assert (found is None) == (said is None)
    assert "s3cret" not in (found or "")


@pytest.mark.process
def test_a_launcher_that_hangs_is_no_traceback(
    launcher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRY_RUN_S", 0.1)
    launcher.write_text("exec sleep 60")
    assert "0.1 s" in (refused(settings()) or "")


def test_a_program_that_isnt_there_is_named(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path)}
    assert missing_program(environ) == "vllm"
    assert missing_program({**environ, "VLLM_COMMAND": "/x/vllm"}) == "/x/vllm"
    assert missing_program({**environ, "SIMULATOR": "tiny-cpu"}) is None
    (tmp_path / "vllm").touch(mode=0o755)
    assert missing_program(environ) is None
