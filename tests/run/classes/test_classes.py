"""bench.py with classes of users, against the simulator: rows, files, runs alone, forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_info import RunInfo, read_run_info
from vllm_bench.run.prepare import Job, _context_of
from vllm_bench.vllm.models import Model

from tests.plan.test_request import scenario
from tests.scenario.test_answer_form import CITY, by
from tests.sim.simulated import Simulated
from tests.support.frames import read_frame
from tests.support.made_plans import made_plan
from tests.support.running import run_bench

SECRET = "sk-live-4711abcd"
FLAGS = (
    *("--model", "tiny", "--profile", "tiny-cpu", "--max-num-seqs", "8"),
    *("--enable-lora", "--lora-modules", "red=/x/red", "blue=/x/blue", "--max-loras", "2"),
)
CLASSES: dict[str, Any] = {
    "chat": {"share": 0.6, "ignore_eos": True},
    "legal": {
        **{"share": 0.4, "model": "red", "priority": 10, "max_new_tokens": 64},
        **{"response_format": by(CITY), "headers": {"X-Key": SECRET}},
        "endpoint": "responses",
    },
    "agents": {"streams": 2, "model": "blue", "conversations": {"turns": 2}},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Simulated]:
    with Simulated(*FLAGS) as running:
        yield running


def scenario_of(folder: Path, server: Simulated, **changes: Any) -> Path:
    settings = {
        **{"base_url": f"{server.url}/v1", "model": "tiny", "dataset": "sample"},
        **{"max_new_tokens": 8, "request_rates": [60], "num_requests": 40, "classes": CLASSES},
        **changes,
    }
    path = folder / "s.yaml"
    given = {key: value for key, value in settings.items() if value is not ...}
    path.write_text(json.dumps({"scenarios": {"mix": given}}))
    return path


def runs(folder: Path) -> list[tuple[RunInfo, Any]]:
    """Each run's JSON and rows, in the order in which they were made."""
    found = [(read_run_info(p), read_frame(p.with_suffix(".csv"))) for p in _jsons(folder)]
    return sorted(found, key=lambda run: run[0].clock_start.monotonic_ns)


def _jsons(folder: Path) -> list[Path]:
    return list((folder / "results").glob("*.json"))


@pytest.mark.process
def test_a_mix_and_each_class_alone(tmp_path: Path, server: Simulated) -> None:
    path = scenario_of(tmp_path, server)
    done = run_bench(tmp_path, path, "--alone")
    assert done.returncode in (0, 4), done.stderr
    (mix, rows), *alone = runs(tmp_path)
    assert "by class: chat" in done.stderr
    assert SECRET not in done.stderr + done.stdout + mix.run_id
    assert SECRET not in "".join(p.read_text() for p in _jsons(tmp_path))

    # The mix: whole, each row of one class, each class as it was planned.
    assert rows["error_kind"].isna().all()
    counts = rows["class"].value_counts()
    told = mix.plan["classes"]
    assert {name: c["num_requests"] for name, c in told.items()} == dict(counts)
    assert counts["chat"] + counts["legal"] == 40
    assert counts["agents"] >= 2
    assert mix.num_requests == len(rows) == counts.sum()
    assert rows["request_index"].is_unique
    agents = rows[rows["class"] == "agents"]
    assert set(agents["turn"]) == {1, 2}
    assert rows[rows["class"] != "agents"]["turn"].isna().all()
    assert mix.server["replied_as"].keys() == {"tiny", "red", "blue"}

    # Answers of the one class that asks for a form are held against it.
    legal = rows[rows["class"] == "legal"]
    assert (legal["answer_valid"] == 1).all()
    assert rows[rows["class"] != "legal"]["answer_valid"].isna().all()

    # The ledger adds up over the models of all classes.
    before, after = mix.server_counters["before"], mix.server_counters["after"]
    assert before is not None
    assert after is not None
    moved = after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"]
    assert moved == rows["completion_tokens"].sum() + mix.unmeasured["completion_tokens"]

    # Alone, each sends what it sent in the mix.
    assert [info.plan["alone"] for info, _ in alone] == ["chat", "legal", "agents"]
    for info, own in alone:
        name = info.plan["alone"]
        mixed = rows[rows["class"] == name].set_index("request_index")
        assert set(own["class"]) == {name}
        assert info.scenario["label"] == f"alone-{name}"
        assert info.plan["classes"][name]["plan"]["sha256"] == told[name]["plan"]["sha256"]
        both = own.set_index("request_index").join(mixed.add_suffix("_mixed"), how="inner")
        assert len(both) >= min(len(own), len(mixed))
        assert (both["prompt_id"] == both["prompt_id_mixed"]).all()
        if name != "agents":
            assert (both["t_scheduled_s"] == both["t_scheduled_s_mixed"]).all()

    again = run_bench(tmp_path, path, "--alone", "--resume")
    assert again.stderr.count("is complete: not run again") == 4
    assert len(_jsons(tmp_path)) == 4
    # A class that changes makes its own runs and the mix's anew; the others stay.
    changed = {**CLASSES, "legal": {**CLASSES["legal"], "priority": 3}}
    dry = run_bench(
        *(tmp_path, scenario_of(tmp_path, server, classes=changed)),
        *("--alone", "--resume", "--dry-run"),
    )
    assert dry.returncode == 0, dry.stderr
    assert "legal alone" in dry.stdout


@pytest.mark.process
def test_alone_without_classes_is_refused(tmp_path: Path, server: Simulated) -> None:
    classes = {"chat": {"share": 1}}  # which is alone anyway
    done = run_bench(tmp_path, scenario_of(tmp_path, server, classes=classes), "--alone")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--alone" in done.stderr


@pytest.mark.process
def test_a_class_whose_model_is_not_served_is_told_before_the_start(
    tmp_path: Path, server: Simulated
) -> None:
    classes = {"chat": {"share": 0.5}, "legal": {"share": 0.5, "model": "green"}}
    done = run_bench(tmp_path, scenario_of(tmp_path, server, classes=classes))
    assert done.returncode == 2
    assert "green" in done.stderr
    assert "red, blue" in done.stderr


@pytest.mark.parametrize(
    ("served", "limit"),
    [
        ([Model("tiny", None, 2048), Model("red", "/a", None, parent="tiny")], 2048),
        ([Model("red", "/a", None, parent="tiny"), Model("tiny", None, 2048)], 2048),
        ([Model("tiny", None, 2048), Model("red", "/a", 512, parent="tiny")], 512),
        ([Model("tiny", None, 2048), Model("red", "/a", None)], None),
        ([Model("red", "/a", None, parent="gone")], None),
        ([Model("tiny", None, 2048)], None),
    ],
)
def test_an_adapters_context_is_its_parents(served: list[Model], limit: int | None) -> None:
    assert _context_of(scenario(model="red"), served) == limit


def test_a_form_that_vllm_forgot_is_noted() -> None:
    for body, noted in (({"guided_json": {}, "top_p": 1}, 1), ({"top_p": 1}, 0)):
        plan = made_plan(3, extra_body=body)
        server: Any = None
        notes = [n for n in Job(plan.scenario, server, [], [plan]).notes if "guided_" in n]
        assert len(notes) == noted


@pytest.mark.process
def test_a_form_that_the_server_drops_is_found(tmp_path: Path) -> None:
    asked = {"response_format": by(CITY), "max_new_tokens": 400, "num_requests": 8}
    with Simulated(*FLAGS, "--faults", "ignore_schema") as bad:
        shape = {"classes": ..., "request_rates": ..., "concurrencies": [8]}
        done = run_bench(tmp_path, scenario_of(tmp_path, bad, **asked, **shape))
    assert done.returncode in (0, 4), done.stderr
    ((_, rows),) = runs(tmp_path)
    assert (rows["answer_valid"] == 0).all()
    assert "form_dropped" in done.stdout
