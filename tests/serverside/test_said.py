"""What a server says beyond its load, by hand: from made pages, and from those of a real server."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.beside.sample_file import read_server
from vllm_bench.records.beside.samples import ServerRow
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.row import Rows
from vllm_bench.records.run_info import write_run_info
from vllm_bench.serverside.said import ServerSaid
from vllm_bench.summary.summary import RunSummary, summarize
from vllm_bench.verdict.finding import Severity

from tests.support.made_runs import (
    NOON_S,
    made_info,
    made_record,
    server_row,
    write_pages,
    write_run,
    write_server_rows,
)

OLD, OTHER = NOON_S - 5000, NOON_S - 4000  # starts of servers that were there before the run


def run_of(folder: Path, pages: Iterable[tuple[float, str]]) -> RunSummary:
    """A hundred seconds: a request each 250 ms; the window is 1.75 s to 100 s."""
    records = [made_record(i) for i in range(400)]
    info = made_info(records)
    path = write_run(folder, records, info)
    observed = write_pages(path, pages)
    write_run_info(path.with_suffix(".json"), dataclasses.replace(info, observed=observed))
    return summarize(load_run(path))


def said_of(folder: Path, pages: Iterable[tuple[float, str]]) -> ServerSaid:
    return run_of(folder, pages).server_said


def each_second(page: Callable[[int], str]) -> list[tuple[float, str]]:
    return [(float(t), page(t)) for t in range(-1, 110)]


def line(name: str, value: float, **labels: object) -> str:
    pairs = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"vllm:{name}{{{pairs}}} {value}\n" if labels else f"vllm:{name} {value}\n"


def engine(number: int, running: float, tokens: float = 0.0) -> str:
    return line("num_requests_running", running, engine=number, model_name="m") + line(
        "generation_tokens_total", tokens, engine=number, model_name="m"
    )


def two(folder: Path, before: str, after: str) -> ServerSaid:
    """What is said of a run before which there was one page, and after it another."""
    return said_of(folder, each_second(lambda t: before if t < 50 else after))


def real(shared: Path, name: str) -> str:
    return (shared / "wire2" / f"{name}.txt").read_text().partition("\n\n")[2]


def fresh(text: str) -> str:
    """The page of the same server before it did anything."""
    lines = [
        text
        if not text.startswith("vllm:") or "_info" in text
        else f"{text.rpartition(' ')[0]} 0.0"
        for text in text.splitlines()
    ]
    return "\n".join([*lines, ""])


# ---- a real server's pages ----


def test_a_real_servers_speculation(shared: Path, tmp_path: Path) -> None:
    page = real(shared, "metrics_ngram")
    said = two(tmp_path, fresh(page), page)
    assert said.spec_acceptance_length == pytest.approx(1 + 531 / 1135)
    assert said.spec_acceptance_rate == pytest.approx(531 / 3228)
    assert said.spec_by_position == {
        str(at): pytest.approx(n / 1135) for at, n in enumerate((278, 119, 51, 43, 40))
    }
    assert (said.prompt_computed, said.prompt_from_cache) == (1926, 0)
    assert (said.lora_running_peak, said.external_hit_rate, said.rejected) == (None, None, None)


def test_a_real_servers_two_engines(shared: Path, tmp_path: Path) -> None:
    page = real(shared, "metrics_two_engines")
    run = run_of(tmp_path, each_second(lambda t: fresh(page) if t < 50 else page))
    said = run.server_said
    assert (said.engines, said.engine_balance, said.engines_idle) == (2, None, 0)
    assert said.prompt_computed == 105
    assert said.finished == {"length": 24}
    assert said.cached_by_source is said.spec_acceptance_rate is None
    assert run.server_side.sampled


def test_a_real_servers_adapters_of_now_are_those_with_the_largest_value(
    shared: Path, tmp_path: Path
) -> None:
    page = real(shared, "metrics_lora_under_load")
    said = said_of(tmp_path, each_second(lambda _: page))
    assert (said.lora_running_mean, said.lora_running_peak) == (2, 2)
    assert said.lora_adapters == "blue, red"
    assert said.waiting_capacity_mean == said.waiting_capacity_peak == 2


def test_a_real_servers_images(shared: Path, tmp_path: Path) -> None:
    page = real(shared, "metrics_vision")
    assert two(tmp_path, fresh(page), page).mm_cache_hit_rate == pytest.approx(4 / 11)


# ---- made pages ----


def test_adapters_that_have_ended_are_not_running(tmp_path: Path) -> None:
    def page(t: int) -> str:
        sets = {"red": 50.0, "red,blue": 100.0 if t < 25 else 75.0, "": 99.0 if t < 25 else 200.0}
        return engine(0, 1) + "".join(
            line("lora_requests_info", at, running_lora_adapters=names, waiting_lora_adapters="x")
            for names, at in sets.items()
        )

    said = said_of(tmp_path, each_second(page))
    assert said.lora_running_peak == 2
    assert said.lora_running_mean == pytest.approx(2 * (24.5 - 2) / 98, rel=0.01)
    assert said.lora_adapters == "blue, red"


def test_waiting_is_by_reason_and_a_mean_over_time(tmp_path: Path) -> None:
    def page(t: int) -> str:
        reasons = {"capacity": 6.0, "deferred": float(t % 2)}
        return "".join(
            engine(e, 1) + line("num_requests_waiting_by_reason", value, engine=e, reason=reason)
            for reason, value in reasons.items()
            for e in (0, 1)
        )

    said = said_of(
        tmp_path, each_second(lambda t: "".join(dict.fromkeys(page(t).splitlines(True))))
    )
    assert (said.waiting_capacity_mean, said.waiting_capacity_peak) == (12, 12)
    assert said.waiting_deferred_mean == pytest.approx(1)
    assert said.waiting_deferred_peak == 2


@pytest.mark.parametrize("ending", ["_total", ""])
@pytest.mark.parametrize("begin", ["vllm:", "ray_vllm_"])
def test_counters_are_differences_by_kind_whatever_they_are_called(
    tmp_path: Path, ending: str, begin: str
) -> None:
    def page(n: int) -> str:
        found = engine(0, 1)
        for source, each in (("local_compute", 70), ("local_cache_hit", 20), ("other", 1)):
            found += line(f"prompt_tokens_by_source{ending}", each * n, source=source)
        for tier, each in (("device", 15), ("host", 5), ("disk", 0)):
            found += line(f"prompt_tokens_cached_by_source{ending}", each * n, source=tier)
        found += line(f"external_prefix_cache_queries{ending}", 80 * n, engine=0)
        found += line(f"external_prefix_cache_hits{ending}", 20 * n, engine=0)
        found += line(f"admission_rejections{ending}", n, reason="max_num_queued_reqs")
        found += line(f"request_success{ending}", 2 * n, finished_reason="stop")
        return found.replace("vllm:", begin)

    said = two(tmp_path, page(3), page(10))
    assert (said.prompt_computed, said.prompt_from_cache) == (490, 140)
    assert said.prompt_from_transfer is None
    assert said.cached_by_source == {"device": 105, "host": 35}
    assert said.external_hit_rate == 0.25
    assert said.rejected == {"max_num_queued_reqs": 7}
    assert said.finished == {"stop": 14}


def test_a_counter_that_comes_later_was_nothing_before(tmp_path: Path) -> None:
    more = line("admission_rejections_total", 3, reason="new")
    assert two(tmp_path, engine(0, 1), engine(0, 1) + more).rejected == {"new": 3}


@pytest.mark.parametrize("begin", ["vllm:", "ray_vllm_"])
def test_offloaded_blocks_are_told_by_kind(tmp_path: Path, begin: str) -> None:
    def page(n: int) -> str:
        moved = line("kv_offload_total_bytes_total", n, transfer_type="GPU_to_CPU")
        return (engine(0, 1) + moved).replace("vllm:", begin)

    assert two(tmp_path, page(5), page(12)).kv_moved == {"kv_offload_total_bytes GPU_to_CPU": 7}


@pytest.mark.parametrize(("last_s", "known"), [(99, True), (60, False)])
def test_counters_that_were_not_read_to_the_runs_end_are_not_the_runs(
    tmp_path: Path, last_s: int, known: bool
) -> None:
    pages = [(t, server(OLD, 100.0 * (t + 1))) for t, _ in each_second(str) if t <= last_s]
    said = said_of(tmp_path, pages)
    assert (said.rejected is not None) == known
    assert (said.counters_absent is None) == known
    assert said.engines == 1  # what gauges say needs no end


def test_a_server_that_says_no_more_has_no_figure(tmp_path: Path) -> None:
    said = two(tmp_path, engine(0, 1), engine(0, 1, 900))
    told = {k: v for k, v in dataclasses.asdict(said).items() if v is not None}
    assert told == {"engines": 1}


def test_texts_of_a_server_are_shown_harmlessly(tmp_path: Path) -> None:
    bad = line("admission_rejections_total", 3, reason="\x1b[2J" + "x" * 500)
    (reason,) = two(tmp_path, engine(0, 1), engine(0, 1) + bad).rejected or {}
    assert reason.isprintable()
    assert len(reason) <= 60


@pytest.mark.parametrize(("found", "told"), [(0, False), (9, False), (30, True), (100, True)])
def test_pictures_that_the_processor_knew_are_told(tmp_path: Path, found: int, told: bool) -> None:
    def page(t: int) -> str:
        after = t >= 50
        return (
            engine(0, 1)
            + line("mm_cache_queries_total", 40 + 100 * after)
            + line("mm_cache_hits_total", 40 + found * after)
        )

    run = run_of(tmp_path, each_second(page))
    assert run.server_said.mm_cache_hit_rate == found / 100
    codes = {f.code: f.severity for f in run.verdict.findings}
    assert codes.get("pictures_cached") == (Severity.NOTE if told else None)


# ---- engines ----


def engines(*running: float) -> Callable[[int], str]:
    return lambda t: "".join(engine(i, n, 10 * n * max(t, 0)) for i, n in enumerate(running))


@pytest.mark.parametrize(
    ("running", "balance", "idle"),
    [
        ((4, 4, 4, 4), 1, 0),
        ((6, 6, 4, 0), 1.5, 1),
        ((16, 0, 0, 0), 4, 3),
        ((4, 3, 0, 0), 2.2857, 0),  # too little work for all
        ((0, 0), None, 0),
        ((8,), None, None),
    ],
)
def test_engines_are_told_apart(
    tmp_path: Path, running: tuple[float, ...], balance: float | None, idle: int | None
) -> None:
    run = run_of(tmp_path, each_second(engines(*running)))
    said = run.server_said
    assert said.engines == len(running)
    assert said.engine_balance == (balance and pytest.approx(balance, abs=1e-3))
    assert said.engines_idle == idle
    codes = {f.code: f.severity for f in run.verdict.findings}
    assert codes.get("engine_idle") == (Severity.SUSPECT if idle else None)


@pytest.mark.parametrize("seed", range(3))
def test_the_balance_is_that_of_the_areas_under_what_each_engine_ran(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    ran = [[rng.choice((0, 3, 4, 9)) for _ in range(111)] for _ in range(4)]
    pages = each_second(lambda t: "".join(engine(i, own[t + 1], t) for i, own in enumerate(ran)))
    # The window begins at 1.75 s: readings lie at 2 s to 100 s, which are places 3 to 101.
    areas = [sum((a + b) / 2 for a, b in itertools.pairwise(own[3:102])) for own in ran]
    wanted = max(areas) / (sum(areas) / len(areas))
    assert said_of(tmp_path, pages).engine_balance == pytest.approx(wanted, rel=1e-6)


def test_an_engine_that_worked_between_the_readings_is_not_idle(tmp_path: Path) -> None:
    def page(t: int) -> str:
        return engine(0, 8, 80 * t + 80) + engine(1, 0, t + 1)

    assert said_of(tmp_path, each_second(page)).engines_idle == 0


def test_an_older_runs_engines_are_told_too(tmp_path: Path) -> None:
    records = [made_record(i) for i in range(400)]
    path = write_run(tmp_path, records, made_info(records))
    rows = [
        server_row(float(t), name, running=n, generation_tokens_total=n * (t + 1))
        for t in range(-1, 110)
        for name, n in (("0", 6.0), ("1", 0.0), ("all", 6.0))
    ]
    write_server_rows(path, rows)
    said = summarize(load_run(path)).server_said
    assert (said.engines, said.engine_balance, said.engines_idle) == (2, 2, 1)


# ---- restarts and replicas ----


def started(at_s: float | None) -> str:
    return "" if at_s is None else f"process_start_time_seconds {at_s}\n"


def server(at_s: float | None, tokens: float) -> str:
    refused = line("admission_rejections_total", tokens / 10, reason="full")
    return started(at_s) + engine(0, 3, tokens) + refused


def found_in(folder: Path, page: Callable[[int], str]) -> tuple[set[str], ServerSaid]:
    run = run_of(folder, each_second(page))
    codes = {"server_restarted", "replicas_in_turn", "ledger_mismatch", "engine_idle"}
    return codes & {f.code for f in run.verdict.findings}, run.server_said


@pytest.mark.parametrize("tells", [True, False])
def test_a_restart_has_no_counters_over_it(tmp_path: Path, tells: bool) -> None:
    def page(t: int) -> str:
        old, new = (OLD, NOON_S + 49) if tells else (None, None)
        return server(old, 5000 + 100 * t) if t < 50 else server(new, 100 * (t - 50))

    codes, said = found_in(tmp_path, page)
    assert codes == {"server_restarted"}
    assert said.rejected is None
    assert "restarted" in (said.counters_absent or "")


def test_each_replica_has_a_difference_of_its_own(tmp_path: Path) -> None:
    def page(t: int) -> str:
        return server(OLD, 5000 + 100 * t) if t % 2 else server(OTHER, 900 + 50 * t)

    run = run_of(tmp_path, each_second(page))
    (finding,) = [f for f in run.verdict.findings if f.code == "replicas_in_turn"]
    assert "ledger_mismatch" not in {f.code for f in run.verdict.findings}
    assert "11,000" in finding.figures
    assert "5,400" in finding.figures
    assert run.server_said.rejected == {"full": pytest.approx(1100 + 540)}


def test_replicas_that_do_not_tell_when_they_began_have_none(tmp_path: Path) -> None:
    def page(t: int) -> str:
        return server(None, 5000 + 100 * t if t % 2 else 900 + 50 * t)

    codes, said = found_in(tmp_path, page)
    assert codes == {"replicas_in_turn"}
    assert said.rejected is None


@pytest.mark.parametrize("step_s", [-3600.0, -20.0, 30.0, 86400.0])
def test_a_clock_that_is_set_is_no_restart(tmp_path: Path, step_s: float) -> None:
    def page(t: int) -> str:
        return server(OLD + (step_s if t >= 50 else 0), 5000 + 100 * t)

    codes, said = found_in(tmp_path, page)
    assert codes == set()
    assert said.rejected == {"full": 1100}


def test_a_clock_that_is_set_and_set_back_is_no_restart(tmp_path: Path) -> None:
    def page(t: int) -> str:
        return server(OLD + (900 if 30 <= t < 60 else 0), 5000 + 100 * t)

    assert found_in(tmp_path, page)[0] == set()


def test_a_sound_server_is_accused_of_nothing(tmp_path: Path) -> None:
    codes, said = found_in(tmp_path, lambda t: server(OLD, 5000 + 100 * t))
    assert codes == set()
    assert said.counters_absent is None


def test_figures_are_json(tmp_path: Path) -> None:
    said: Any = dataclasses.asdict(said_of(tmp_path, each_second(engines(3, 5))))
    assert isinstance(said["engine_balance"], float)


def test_an_older_file_of_the_same_readings_gives_the_same_figures(
    shared: Path, tmp_path: Path
) -> None:
    """The columns of before are a view: rows that a run from before wrote say the same."""
    page = real(shared, "metrics_two_engines")
    (tmp_path / "new").mkdir()
    new = run_of(tmp_path / "new", each_second(lambda t: moved(page, t)))
    (path,) = (tmp_path / "new").glob("*.csv")
    view = read_server(path)[0]
    assert view is not None
    (tmp_path / "old").mkdir()
    records = [made_record(i) for i in range(400)]
    old_path = write_run(tmp_path / "old", records, made_info(records))
    write_server_rows(old_path, [row_of(view, at) for at in range(len(view))])
    old = summarize(load_run(old_path))
    mine, theirs = (dataclasses.asdict(run.server_side) for run in (new, old))
    assert mine.pop("absent") == theirs.pop("absent")
    assert mine == {k: v if v is None else pytest.approx(v, abs=1e-6) for k, v in theirs.items()}
    assert new.server_side.queue_mean_ms is not None


def moved(page: str, t: int) -> str:
    """The page t seconds on: each value grows by itself each second."""
    lines = [
        f"{head} {float(value) * (2 + t)}" if head.startswith("vllm:") else text
        for text in page.splitlines()
        for head, _, value in [text.rpartition(" ")]
    ]
    return "\n".join([*lines, ""])


def row_of(rows: Rows, at: int) -> ServerRow:
    whole = ("ttft_count", "itl_count", "queue_count", "prefill_count", "decode_count")
    cells = {name: values[at] for name, values in rows.columns.items()}
    known = {
        name: value
        for name, value in cells.items()
        if not (isinstance(value, float) and math.isnan(value))
    }
    return ServerRow(**{n: int(v) if n in whole else v for n, v in known.items()})
