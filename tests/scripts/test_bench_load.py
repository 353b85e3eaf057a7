"""bench.py under every shape of load, against a server with vLLM's endpoints in this process."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.scripts.conftest import Scenarios
from tests.support.beside.held import held_at
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    SSE_HEAD,
    Request,
    Step,
    TinyVllm,
    chunk,
    delta,
    event,
    good_stream,
    sse_script,
)
from tests.support.running import info, rows, run_bench, start_bench
from tools.hostile.processes import senders_of

pytestmark = pytest.mark.process

BROKEN: list[Step] = [SSE_HEAD, chunk(delta("x")), CLOSE]
OPEN = {"concurrencies": [], "request_rates": [100.0]}


def completions(server: TinyVllm) -> list[Request]:
    return [r for r in server.requests if r.path == "/v1/chat/completions"]


def salts(requests: list[Request]) -> list[str | None]:
    return [r.json.get("cache_salt") for r in requests]


def assert_ledger(folder: Path) -> None:
    """The server counted the rows and the unmeasured requests, and nothing else."""
    run, found = info(folder), rows(folder)
    moved = {
        name: run.server_counters["after"][f"vllm:{name}_total"]
        - run.server_counters["before"][f"vllm:{name}_total"]
        for name in ("prompt_tokens", "generation_tokens", "request_success")
    }
    beside = run.unmeasured
    assert moved == {
        "prompt_tokens": found["prompt_tokens"].sum() + beside["prompt_tokens"],
        "generation_tokens": found["completion_tokens"].sum() + beside["completion_tokens"],
        "request_success": len(found) + beside["warmup"] + beside["tail"] - beside["failed"],
    }


def test_a_warm_up_comes_first_and_has_no_rows(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    run_bench(tmp_path, scenarios(warmup_requests=5))
    sent = completions(tiny_vllm)
    run_id = info(tmp_path).run_id
    assert salts(sent) == [f"{run_id}-warmup"] * 5 + [run_id] * 12
    assert sorted(rows(tmp_path)["request_index"]) == list(range(12))
    assert info(tmp_path).unmeasured["warmup"] == 5
    assert_ledger(tmp_path)


def test_by_default_each_stream_is_warmed_up_once(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    path = scenarios()
    settings = json.loads(path.read_text())
    del settings["scenarios"]["one"]["warmup_requests"]
    path.write_text(json.dumps(settings))
    run_bench(tmp_path, path)
    assert info(tmp_path).unmeasured["warmup"] == 3
    assert len(completions(tiny_vllm)) == 15


def test_a_warm_up_that_fails_is_told_and_the_run_goes_on(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.misbehave = lambda number: (
        [SSE_HEAD, chunk(delta("a")), CLOSE] if number < 3 else None
    )
    done = run_bench(tmp_path, scenarios(warmup_requests=4))
    assert "2 of 4" in done.stderr
    assert info(tmp_path).unmeasured["failed"] == 2
    assert rows(tmp_path)["error"].isna().all()
    assert_ledger(tmp_path)


def test_streams_begin_one_after_the_other_over_a_latency_of_the_warm_up(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.05
    run_bench(tmp_path, scenarios(warmup_requests=None, concurrencies=[4]), "--workers", "2")
    run, found = info(tmp_path), rows(tmp_path).sort_values("t_scheduled_s")
    spread_s = run.plan["start_spread_s"]
    assert run.plan["start"] == "staggered"
    assert 0.19 < spread_s < 5  # five events 0.05 s apart, on a machine of any speed
    first = found.drop_duplicates("stream_index")
    steps = [place / 4 * spread_s for place in range(4)]
    assert list(first["t_scheduled_s"]) == pytest.approx(steps, abs=1e-5)
    assert (found["send_lag_ms"] >= 0).all()
    assert not [note for note in run.notes if "together" in note]


@pytest.mark.parametrize(
    ("settings", "said"), [({"start": "together", "warmup_requests": 3}, 0), ({}, 1)]
)
def test_streams_that_start_together_say_so(
    scenarios: Scenarios, tmp_path: Path, settings: dict[str, Any], said: int
) -> None:
    run_bench(tmp_path, scenarios(**settings))
    run, found = info(tmp_path), rows(tmp_path)
    assert (run.plan["start"], run.plan["start_spread_s"]) == ("together", 0.0)
    assert sum("started together" in note for note in run.notes) == said  # only if not asked for
    assert (found.drop_duplicates("stream_index")["t_scheduled_s"] == 0).all()


BY_TIME: dict[str, Any] = {"num_requests": None, "duration_s": 0.6}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_loop_by_time_sends_until_it_is_over_and_counts_what_it_sent(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, workers: str
) -> None:
    tiny_vllm.token_gap_s = 0.01
    path = scenarios(**BY_TIME, warmup_requests=3)
    run_bench(tmp_path, path, "--workers", workers)
    run, found = info(tmp_path), rows(tmp_path).sort_values("request_index")
    assert run.status == "complete"
    assert list(found["request_index"]) == list(range(run.num_requests))
    assert found["t_scheduled_s"].max() < 0.6
    assert found["t_end_s"].max() > 0.5
    assert found["error"].isna().all()  # what was under way ended
    assert run.prompts["max_uses"] == -(-run.num_requests // run.prompts["distinct"])
    assert len(set(salts(completions(tiny_vllm)))) == 1 + run.prompts["max_uses"]  # and a warm-up
    assert_ledger(tmp_path)
    assert len(whole(run_bench(tmp_path, path, "--resume").stderr)) == 1


def test_a_number_and_a_time_are_both_reached(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    run_bench(tmp_path, scenarios(duration_s=0.01, num_requests=40))
    assert info(tmp_path).num_requests == len(rows(tmp_path)) == 40
    assert rows(tmp_path)["t_end_s"].max() > 0.01


def test_conversations_by_time_are_whole_and_come_again_under_other_names(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.005
    settings = {**BY_TIME, "concurrencies": [2], "conversations": {"turns": 3}}
    run_bench(tmp_path, scenarios(**{**settings, "num_requests": 13}))
    run, found = info(tmp_path), rows(tmp_path)
    assert run.num_requests == len(found) > 12
    turns = found.groupby("conversation_id")["turn"].apply(sorted)
    assert all(turn == [1, 2, 3] for turn in turns)


def test_ctrl_c_in_a_run_by_time_keeps_its_rows_and_it_is_run_again(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.02
    path = scenarios(num_requests=None, duration_s=600)
    process = start_bench(tmp_path, path)
    wait_until(lambda: len(completions(tiny_vllm)) > 6)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    run, found = info(tmp_path), rows(tmp_path)
    assert (run.status, run.num_requests) == ("interrupted", len(completions(tiny_vllm)))
    assert len(found) == run.num_requests
    assert found["error"].isna().all()
    assert whole(run_bench(tmp_path, path, "--resume", "--dry-run").stdout) == []


def test_ctrl_c_while_streams_begin_sends_no_more_of_them(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    slow: list[Step] = [SSE_HEAD, 2.0, *map(chunk, good_stream()), LAST_CHUNK]

    def misbehave(number: int) -> list[Step] | None:
        return slow if number <= 8 else None

    tiny_vllm.misbehave = misbehave
    settings = {"warmup_requests": 8, "concurrencies": [8], "max_new_tokens": 3}
    with held_at(tiny_vllm, 9) as reached:  # the first of eight streams, in two seconds
        process = start_bench(tmp_path, scenarios(**settings, num_requests=100_000))
        reached()
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    run, found = info(tmp_path), rows(tmp_path)
    assert (process.returncode, run.status) == (130, "interrupted")
    assert 0 < found["stream_index"].nunique() < 8
    assert found["error"].isna().all()


def test_a_run_by_time_that_loses_a_sending_process_goes_on_and_is_not_whole(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.02
    path = scenarios(num_requests=None, duration_s=2)
    with held_at(tiny_vllm, 7) as reached:
        process = start_bench(tmp_path, path, "--workers", "2")
        reached()
        os.kill(senders_of(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=LIMIT_S)
    assert "died" in err
    run, found = info(tmp_path), rows(tmp_path)
    assert run.status == "incomplete"
    assert run.num_requests > len(found)  # what the dead process had under way
    assert found["t_end_s"].max() > 1.5
    assert whole(run_bench(tmp_path, path, "--resume", "--dry-run").stdout) == []


def test_an_open_loop_sends_by_its_schedule_and_keeps_it_up_to_the_end(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    # The last measured reply hangs for a while: meanwhile others have to come.
    slow: list[Step] = [SSE_HEAD, 0.3]

    def misbehave(number: int) -> list[Step] | None:
        return [*slow, chunk(delta("a")), CLOSE] if number == 12 else None

    tiny_vllm.misbehave = misbehave
    run_bench(tmp_path, scenarios(**OPEN))
    run, found = info(tmp_path), rows(tmp_path).sort_values("request_index")
    assert list(found["request_index"]) == list(range(12))
    assert found["concurrency"].isna().all()
    assert set(found["request_rate"]) == {100.0}
    plan = (tmp_path / "results" / "plans" / f"{run.run_id}.csv").read_text().splitlines()[1:]
    planned = [float(line.split(",")[1]) for line in plan]
    assert list(found["t_scheduled_s"]) == pytest.approx(planned, abs=2e-6)
    assert (found["send_lag_ms"] >= 0).all()
    assert run.unmeasured["tail"] > 0
    assert f"{run.run_id}-use2" in salts(completions(tiny_vllm))
    assert run.plan["shape"] == "poisson"
    assert "rate100" in run.run_id


def test_a_cap_on_requests_in_flight_is_kept(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.02
    run_bench(tmp_path, scenarios(**OPEN, max_in_flight=2))
    assert tiny_vllm.most_in_flight == 2
    found = rows(tmp_path)
    assert len(found) == 12
    assert found["send_lag_ms"].max() > found["latency_ms"].min()  # it waited for others to end
    assert_ledger(tmp_path)


def test_several_processes_share_a_schedule_and_a_cap(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.01
    run_bench(tmp_path, scenarios(**OPEN, max_in_flight=4, num_requests=30), "--workers", "2")
    found = rows(tmp_path)
    assert sorted(found["request_index"]) == list(range(30))
    assert tiny_vllm.most_in_flight <= 4
    assert len(info(tmp_path).client_health["workers"]) == 2
    assert_ledger(tmp_path)


def test_a_trace_is_replayed_with_its_lengths(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.0000000,30,3\n"
        "2023-11-16 18:15:46.4000000,60,5\n"
        "2023-11-16 18:15:47.0000000,45,2\n"
    )
    path = scenarios(concurrencies=[], num_requests=None, trace=str(trace), speed=10)
    run_bench(tmp_path, path)
    found = rows(tmp_path).sort_values("request_index")
    assert list(found["t_scheduled_s"]) == pytest.approx([0, 0.04, 0.1], abs=1e-6)
    assert list(found["completion_tokens"]) == [3, 5, 2]
    assert list(found["prompt_tokens"]) == pytest.approx([30, 60, 45], rel=0.05)
    assert info(tmp_path).plan["speed"] == 10
    assert_ledger(tmp_path)


def history(request: Request) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in request.json["messages"]]


ANSWER = "w0w1w2w3"  # as the server puts it, four tokens without spaces


def by_conversation(server: TinyVllm, folder: Path) -> list[list[Request]]:
    """Return each conversation's requests, turn by turn."""
    ids = {r.headers["x-request-id"]: r for r in completions(server)}
    found = rows(folder).sort_values(["conversation_id", "turn"])
    return [
        [ids[request_id] for request_id in group["request_id"]]
        for _, group in found.groupby("conversation_id")
    ]


@pytest.mark.parametrize("stream", [True, False])
def test_each_turn_waits_for_the_last_answer_and_carries_the_history(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, stream: bool
) -> None:
    settings: dict[str, Any] = {"conversations": {"turns": 3}, "concurrencies": [2]}
    run_bench(tmp_path, scenarios(**settings, num_requests=8, stream=stream, system_prompt="Be."))
    answer = ANSWER if stream else "w0 w1 w2 w3"
    found = rows(tmp_path)
    assert len(found) == 8
    talks = by_conversation(tiny_vllm, tmp_path)
    assert sorted(len(talk) for talk in talks) == [2, 3, 3]
    for talk in talks:
        for before, after in itertools.pairwise(talk):
            assert history(after)[:-1] == [*history(before), ("assistant", answer)]
            assert after.arrived_ns > before.arrived_ns
        assert history(talk[0])[0] == ("system", "Be.")
    for _, group in found.groupby("conversation_id"):
        turns = group.sort_values("turn")
        assert list(turns["turn"]) == list(range(1, len(turns) + 1))
        assert (turns["t_sent_s"].iloc[1:].array >= turns["t_end_s"].iloc[:-1].array).all()
        assert turns["prompt_tokens"].is_monotonic_increasing
    assert_ledger(tmp_path)


def test_a_person_thinks_before_the_next_turn(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    talk = {"turns": 3, "think_time_s": 0.05}
    run_bench(tmp_path, scenarios(conversations=talk, concurrencies=[1], num_requests=3))
    found = rows(tmp_path).sort_values("turn")
    meant = found["t_scheduled_s"].iloc[1:].array - found["t_end_s"].iloc[:-1].array
    assert (meant >= 0.05 - 1e-6).all()
    assert (found["send_lag_ms"] >= 0).all()


@pytest.mark.parametrize(
    "script",
    [
        BROKEN,
        sse_script([delta("x"), event({"error": {"message": "no", "code": 500}}), event("[DONE]")]),
        sse_script([delta("x")]),  # in good order, but without its end
    ],
    ids=["cut", "error_event", "no_done"],
)
def test_a_turn_that_fails_ends_its_conversation(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, script: list[Step]
) -> None:
    tiny_vllm.misbehave = lambda number: script if number == 2 else None
    talk = {"turns": 3}
    run_bench(tmp_path, scenarios(conversations=talk, concurrencies=[1], num_requests=6))
    assert [len(history(request)) for request in completions(tiny_vllm)] == [1, 3, 1, 3, 5]
    assert list(rows(tmp_path)["error_kind"].isna()) == [True, False, True, True, True]
    assert info(tmp_path).sessions["turns_not_sent"] == 1


def test_a_cold_cache_finds_no_history_either(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    run_bench(tmp_path, scenarios(conversations={"turns": 2}, num_requests=4, cache="cold"))
    assert len(set(salts(completions(tiny_vllm)))) == 4


def test_repeats_take_turns_with_levels_and_have_schedules_of_their_own(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    rates = {"concurrencies": [], "request_rates": [150.0, 300.0]}
    run_bench(tmp_path, scenarios(**rates, repeats=2, num_requests=6))
    runs = [read_run_info(p) for p in (tmp_path / "results").glob("*.json") if "rate" in p.name]
    runs.sort(key=lambda run: run.clock_start.monotonic_ns)
    assert [(r.repeat, r.request_rate) for r in runs] == [
        (1, 150.0),
        (1, 300.0),
        (2, 150.0),
        (2, 300.0),
    ]
    assert len({r.plan["sha256"] for r in runs}) == 4
    assert len({r.seeds["schedule"] for r in runs}) == 2
    assert runs[0].prompts["sha256"] != runs[2].prompts["sha256"]


def whole(told: str) -> list[str]:
    """Return the ids of the runs that are told to be whole, in order."""
    return sorted(re.findall(r"(\S+) is complete", told))


def test_a_resumed_bench_runs_what_is_missing_and_nothing_else(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    path = scenarios(concurrencies=[2, 3], repeats=2)
    run_bench(tmp_path, path)
    first = sorted((tmp_path / "results").glob("one-*.csv"))
    assert len(first) == 4
    first[0].unlink()  # one is gone
    cut = first[1].with_suffix(".json")  # and one was cut off
    cut.write_text(cut.read_text().replace('"status": "complete"', '"status": "interrupted"'))
    sent = len(completions(tiny_vllm))
    done = run_bench(tmp_path, path, "--resume")
    assert whole(done.stderr) == [path.stem for path in first[2:]]
    assert len(completions(tiny_vllm)) - sent == 2 * 12
    again = run_bench(tmp_path, path, "--resume")
    assert len(whole(again.stderr)) == 4
    assert len(completions(tiny_vllm)) - sent == 2 * 12
    assert again.stdout.count("one-cc") >= 4  # the table is of all of them


@pytest.mark.parametrize("change", [{"max_new_tokens": 5}, {"seed": 1}, {"num_requests": 13}])
def test_a_run_of_another_plan_is_no_substitute(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, change: dict[str, Any]
) -> None:
    run_bench(tmp_path, scenarios())
    sent = len(completions(tiny_vllm))
    run_bench(tmp_path, scenarios(**change), "--resume")
    assert len(completions(tiny_vllm)) == sent + change.get("num_requests", 12)


def test_an_open_loop_that_loses_a_sending_process_ends_once_the_others_have_measured_theirs(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.1
    path = scenarios(concurrencies=[], request_rates=[20.0], arrival="constant", num_requests=30)
    with held_at(tiny_vllm, 5) as reached:
        process = start_bench(tmp_path, path, "--workers", "2")
        reached()
        os.kill(senders_of(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=LIMIT_S)
    assert "died" in err
    run, found = info(tmp_path), rows(tmp_path)
    lost = next(w["worker"] for w in run.client_health["workers"] if w["lost"])
    assert {*range(1 - lost, 30, 2)} <= {*found["request_index"]}
    # Half of 20 requests a second would be sent for a minute behind these.
    assert run.unmeasured["tail"] < 300


def test_ctrl_c_while_the_last_replies_come_leaves_a_whole_run_and_begins_no_other(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.2
    with held_at(tiny_vllm, 2) as reached:
        process = start_bench(tmp_path, scenarios(concurrencies=[2, 1], num_requests=2))
        reached()
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert len(completions(tiny_vllm)) == 2
    assert info(tmp_path).status == "complete"
    assert rows(tmp_path)["error"].isna().all()


def test_ctrl_c_in_the_tail_leaves_a_whole_run(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    slow: list[Step] = [SSE_HEAD, 0.5, *map(chunk, good_stream()), LAST_CHUNK]

    def misbehave(number: int) -> list[Step] | None:
        return slow if number <= 4 else [SSE_HEAD, HANG]

    tiny_vllm.misbehave = misbehave
    process = start_bench(tmp_path, scenarios(**OPEN, num_requests=4, max_new_tokens=3))
    wait_until(lambda: len(list((tmp_path / "results").glob("*.csv"))) == 1)
    wait_until(lambda: len(rows(tmp_path)) == 4)
    assert len(completions(tiny_vllm)) > 4
    process.send_signal(signal.SIGINT)
    wait_until(lambda: info(tmp_path).status == "running")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    run = info(tmp_path)
    assert run.status == "complete"
    assert run.unmeasured["failed"] == run.unmeasured["tail"] > 0
