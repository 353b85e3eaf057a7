"""bench.py with classes of users, against the simulator: rows, files, runs alone, forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Made:
    """What one call with --alone left: the mix, and then each class alone."""

    folder: Path
    said: str
    every: list[tuple[RunInfo, Any]]

    @property
    def mix(self) -> tuple[RunInfo, Any]:
        return self.every[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, server: Simulated) -> Made:
    folder = tmp_path_factory.mktemp("mix")
    done = run_bench(folder, scenario_of(folder, server), "--alone")
    assert done.returncode in (0, 4), done.stderr
    return Made(folder, done.stderr + done.stdout, runs(folder))


@pytest.mark.process
def test_a_mix_is_whole_and_each_row_is_of_one_class(made: Made) -> None:
    mix, rows = made.mix
    assert rows["error_kind"].isna().all()
    assert rows["request_index"].is_unique
    counts = rows["class"].value_counts()
    assert {name: c["num_requests"] for name, c in mix.plan["classes"].items()} == dict(counts)
    assert counts["chat"] + counts["legal"] == 40
    assert counts["agents"] >= 2
    assert mix.num_requests == len(rows) == counts.sum()


@pytest.mark.process
def test_each_class_is_sent_with_its_own_keys(made: Made) -> None:
    mix, rows = made.mix
    assert mix.server["replied_as"].keys() == {"tiny", "red", "blue"}
    assert set(rows[rows["class"] == "agents"]["turn"]) == {1, 2}
    assert rows[rows["class"] != "agents"]["turn"].isna().all()
    assert (rows[rows["class"] == "legal"]["answer_valid"] == 1).all()
    assert rows[rows["class"] != "legal"]["answer_valid"].isna().all()


@pytest.mark.process
def test_the_ledger_adds_up_over_the_models_of_all_classes(made: Made) -> None:
    mix, rows = made.mix
    counter = "vllm:generation_tokens_total"
    before, after = ((mix.server_counters[at] or {})[counter] for at in ("before", "after"))
    assert after - before == rows["completion_tokens"].sum() + mix.unmeasured["completion_tokens"]


@pytest.mark.process
def test_no_secret_of_a_class_is_told(made: Made) -> None:
    assert "by class: chat" in made.said
    files = "".join(path.read_text() for path in _jsons(made.folder))
    assert SECRET not in made.said + made.mix[0].run_id + files


@pytest.mark.process
def test_alone_each_class_sends_what_it_sent_in_the_mix(made: Made) -> None:
    mix, rows = made.mix
    assert [info.plan["alone"] for info, _ in made.every[1:]] == ["chat", "legal", "agents"]
    for info, own in made.every[1:]:
        name = info.plan["alone"]
        assert set(own["class"]) == {name}
        assert info.scenario["label"] == f"alone-{name}"
        hashes = [one.plan["classes"][name]["plan"]["sha256"] for one in (info, mix)]
        assert hashes[0] == hashes[1]
        mixed = rows[rows["class"] == name].set_index("request_index")
        both = own.set_index("request_index").join(mixed.add_suffix("_mixed"), how="inner")
        assert len(both) >= min(len(own), len(mixed))
        # When a turn of a session is due depends on the answers before it.
        for column in ("prompt_id", *(["t_scheduled_s"] if name != "agents" else [])):
            assert (both[column] == both[f"{column}_mixed"]).all()


@pytest.mark.process
def test_of_runs_alone_only_those_of_a_changed_class_are_made_again(
    made: Made, server: Simulated
) -> None:
    again = run_bench(made.folder, scenario_of(made.folder, server), "--alone", "--resume")
    assert again.stderr.count("is complete: not run again") == 4
    assert len(_jsons(made.folder)) == 4
    # The mix has other settings then, too.
    changed = {**CLASSES, "legal": {**CLASSES["legal"], "priority": 3}}
    path = scenario_of(made.folder, server, classes=changed)
    dry = run_bench(made.folder, path, "--alone", "--resume", "--dry-run")
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
