"""Slowdown against the same requests alone, and what each class got of the server."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.charts.by_class.fairness import fairness_chart
from vllm_bench.classes.fairness import Fairness, fairness, fairness_lines
from vllm_bench.classes.jain import jain_index
from vllm_bench.classes.slowdown import NOT_MADE, ratio_interval
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.in_flight import waiting_share
from vllm_bench.figures.throughput import Service, service
from vllm_bench.figures.window import Window
from vllm_bench.page.which import two_sides
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.stats.batches import Interval
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import RunSummary
from vllm_bench.tables.level_columns import level_rows

from tests.classes.made import MIX, Asked, alone_run, info_of, made_run, mixed_order, rows_of
from tests.support.made_runs import frame_of, summed
from tests.verdict.judging import stamped

SPREAD = {"chat": [100.0, 110.0, 90.0, 120.0], "legal": [200.0, 210.0, 190.0]}


def fair(*runs: RunSummary) -> Fairness:
    (found,) = fairness(series_of(list(runs)))
    return found


def both(
    folder: Path, mixed: list[RequestRecord], alone: list[RequestRecord], asked: Asked = MIX
) -> Fairness:
    runs = [made_run(folder, mixed, asked), *(alone_run(folder, alone, n, asked) for n in asked)]
    return fair(*runs)


def slowed(rows: list[RequestRecord], name: str, times: float) -> list[RequestRecord]:
    """The same rows, in which a class waited so many times as long."""
    return [
        dataclasses.replace(row, ttft_ms=times * (row.ttft_ms or 0.0))
        if row.class_ == name
        else row
        for row in rows
    ]


def test_the_slowdown_of_equal_runs_is_1(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD, send_lag_ms=0.0)
    found = both(tmp_path, rows, rows)
    assert {(s.class_name, s.percentile) for s in found.slowdowns} == {
        (name, q) for name in MIX for q in (50.0, 95.0)
    }
    assert [one.ratio for one in found.slowdowns] == [1.0] * 4
    assert [one.ratio for one in found.apart] == [1.0, 1.0]


def test_a_class_that_waits_twice_as_long_is_slowed_by_2(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD, send_lag_ms=0.0)
    found = both(tmp_path, slowed(rows, "legal", 2.0), rows)
    of = {(s.class_name, s.percentile): s for s in found.slowdowns}
    assert of["legal", 50.0].ratio == pytest.approx(2.0)
    assert of["chat", 50.0].ratio == pytest.approx(1.0)
    worst = found.apart[0]
    assert (worst.worst, worst.best, worst.told_apart) == ("legal", "chat", True)
    assert worst.ratio == pytest.approx(2.0)
    interval = of["legal", 50.0].interval
    assert interval is not None
    assert interval.low <= 2.0 <= interval.high


@pytest.mark.parametrize(
    "changes", [{"session": "another"}, {"repeat": 2}, {"plan": {"nothing": 1}}], ids=str
)
def test_only_the_same_requests_of_the_same_session_are_a_pair(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    mixed = made_run(tmp_path, rows)
    if "plan" in changes:
        asked = {**MIX, "chat": {"share": 0.7}}
        info = info_of([r for r in rows if r.class_ == "chat"], asked, alone="chat")
        info.plan["classes"]["chat"]["plan"]["sha256"] = "of other requests"
        own = [r for r in rows if r.class_ == "chat"]
        alone = summed(tmp_path, own, info, name="alone")
    else:
        alone = alone_run(tmp_path, rows, "chat", **changes)  # type: ignore[arg-type]
    assert {one.absent for one in fair(mixed, alone).slowdowns} == {NOT_MADE}


def test_a_run_alone_that_is_invalid_gives_no_slowdown(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    broken = rows_of(mixed_order(400), {"chat": [100.0, -1.0], "legal": 200.0})
    found = both(tmp_path, rows, broken)
    of = {s.class_name: s for s in found.of(50.0)}
    assert of["chat"].ratio is None
    assert of["chat"].absent not in (None, NOT_MADE)
    assert of["legal"].ratio is not None
    assert not found.apart


def test_a_mix_that_is_invalid_is_the_reason_and_not_runs_that_were_made(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    broken = rows_of(mixed_order(400), {"chat": [100.0, -1.0], "legal": [200.0, -1.0]})
    found = both(tmp_path, broken, rows)
    assert NOT_MADE not in {s.absent for s in found.slowdowns}
    assert not any("--alone" in line for line in fairness_lines(found))


def test_few_requests_need_more(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(90), SPREAD)
    found = both(tmp_path, rows, rows)
    of = {(s.class_name, s.percentile): s for s in found.slowdowns}
    assert of["legal", 50.0].ratio is not None
    assert of["legal", 95.0].ratio is None


def test_repeats_are_pooled(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(200), SPREAD)
    runs = []
    for n in (1, 2, 3):
        folder = tmp_path
        runs.append(made_run(folder, rows, name=f"mix{n}", repeat=n, session=f"s{n}"))
        runs += [alone_run(folder, rows, name, repeat=n, session=f"s{n}") for name in MIX]
    found = fair(*runs)
    assert len(found.run_ids) == 3
    assert {len(one.run_ids) for one in found.slowdowns} == {3}
    assert found.slowdowns[0].ratio == pytest.approx(1.0)


def test_with_priorities_it_is_said_who_paid(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    asked = {"chat": {"share": 0.7, "priority": 0}, "legal": {"share": 0.3, "priority": 5}}
    found = both(tmp_path, slowed(rows, "legal", 3.0), rows, asked)
    assert found.priorities == (("chat", 0.0), ("legal", 5.0))
    (line, *_) = fairness_lines(found)
    assert "legal paid for chat" in line


BY_PRIORITY: Asked = {
    "chat": {"share": 0.7, "priority": 0},
    "legal": {"share": 0.3, "priority": 5},
}


@pytest.mark.parametrize(("times", "paid"), [(1.0, False), (1.01, False), (0.5, False), (3, True)])
def test_who_is_hardly_slowed_more_didn_t_pay(tmp_path: Path, times: float, paid: bool) -> None:
    rows = rows_of(mixed_order(400), {"chat": SPREAD["chat"], "legal": [200.0, 260.0, 140.0]})
    found = both(tmp_path, slowed(rows, "legal", times), rows, BY_PRIORITY)
    (line, *_) = fairness_lines(found)
    assert ("paid for" in line) == paid


def test_of_classes_without_a_slowdown_nothing_is_said_by_priority(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    asked = {**BY_PRIORITY, "last": {"share": 0.01, "priority": 9}}
    lasts = [
        dataclasses.replace(row, class_="last", request_index=1000 + i)
        for i, row in enumerate(rows[:3])
    ]
    found = both(tmp_path, [*slowed(rows, "legal", 3.0), *lasts], [*rows, *lasts], asked)
    assert [name for name, _ in found.priorities] == ["chat", "legal", "last"]
    (line, *_) = fairness_lines(found)
    assert "legal paid for chat" in line
    assert "goes last" not in line


def test_priorities_that_a_server_ignores_explain_nothing(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    fcfs = {"settings": {"scheduling_policy": "fcfs"}}
    found = fair(
        made_run(tmp_path, slowed(rows, "legal", 3.0), BY_PRIORITY, server=fcfs),
        *(alone_run(tmp_path, rows, n, BY_PRIORITY, server=fcfs) for n in BY_PRIORITY),
    )
    assert found.priorities == ()
    assert "paid for" not in "".join(fairness_lines(found))


def test_what_is_compared_of_sessions_stands_in_lines_rows_and_chart(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    found = both(tmp_path, slowed(rows, "legal", 2.0), rows)
    job = "job without waits"
    of_jobs = [
        dataclasses.replace(s, figure=job) if s.class_name == "legal" else s
        for s in found.slowdowns
    ]
    mixed = dataclasses.replace(found, slowdowns=tuple(of_jobs))
    chart, plain = fairness_chart([mixed]), fairness_chart([found])
    assert chart is not None
    assert plain is not None
    assert job in chart.note
    assert job not in plain.note
    assert sum(f"legal, {job}" in words for line in chart.lines for words in line.words or ()) == 2
    assert all(f"legal ({job})" in line for line in [*fairness_lines(mixed)][:2])


def test_levels_have_their_slowdowns_in_rows(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    runs = [
        made_run(tmp_path, slowed(rows, "legal", 2.0)),
        *(alone_run(tmp_path, rows, n) for n in MIX),
    ]
    by_class = {r.level.class_: r for r in level_rows(series_of(runs)) if r.fair}
    legal = by_class["legal"].slowed(50.0)
    assert legal is not None
    assert legal.ratio == pytest.approx(2.0, rel=0.01)
    apart = by_class[None].apart(50.0)
    assert apart is not None
    assert apart.worst == "legal"
    assert by_class["chat"].apart(50.0) is None


def test_runs_of_two_classes_alone_are_no_two_sides(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(200), SPREAD)
    assert two_sides([alone_run(tmp_path, rows, name) for name in MIX]) is None


def test_the_chart_has_a_mark_for_each_slowdown(tmp_path: Path) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    found = both(tmp_path, slowed(rows, "legal", 50.0), rows)
    chart = fairness_chart([found])
    assert chart is not None
    p50 = next(line for line in chart.lines if line.name == "p50")
    assert p50.x.tolist() == [s.ratio for s in found.of(50.0)]
    assert fairness_chart([dataclasses.replace(found, slowdowns=())]) is None


def test_a_class_without_a_slowdown_says_once_why_in_lines_that_leave_room(
    tmp_path: Path,
) -> None:
    rows = rows_of(mixed_order(400), SPREAD)
    found = both(tmp_path, slowed(rows, "legal", 2.0), rows)
    why = "its run is INVALID (merged_reads) alone"
    without = [
        dataclasses.replace(s, ratio=None, absent=why) if s.class_name == "chat" else s
        for s in found.slowdowns
    ]
    chart = fairness_chart([dataclasses.replace(found, slowdowns=tuple(without))])
    assert chart is not None
    words = [text for _, text in chart.panels[0].beside]
    assert [text.replace("\n", " ") for text in words].count(why) == 1
    assert max(len(line) for text in words for line in text.split("\n")) < 30


# ---- the interval of a ratio ----


@given(
    st.tuples(*[st.floats(0.01, 100)] * 2),
    st.tuples(*[st.floats(0.0, 2.0)] * 4),
)
def test_an_interval_holds_its_ratio_and_is_wider_than_either(
    centres: tuple[float, float], widths: tuple[float, float, float, float]
) -> None:
    over, under = centres
    a, b, c, d = widths
    its = Interval(over * math.exp(-a), over * math.exp(b))
    theirs = Interval(under * math.exp(-c), under * math.exp(d))
    found = ratio_interval(over, its, under, theirs)
    ratio = over / under
    assert found.low <= ratio * 1.0000001
    assert found.high >= ratio * 0.9999999
    assert math.log(ratio / found.low) == pytest.approx(math.hypot(a, d), abs=1e-6)
    assert math.log(found.high / ratio) == pytest.approx(math.hypot(b, c), abs=1e-6)


def test_without_an_upper_bound_the_ratio_has_none() -> None:
    assert not ratio_interval(2.0, Interval(1.0, math.inf), 1.0, Interval(0.5, 2.0)).bounded
    assert not ratio_interval(2.0, Interval(1.0, 3.0), 1.0, Interval(0.0, 2.0)).bounded
    assert ratio_interval(2.0, Interval(1.0, 3.0), 1.0, Interval(0.5, math.inf)).low == 0.0


def test_it_covers_the_ratio_of_two_means_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        logs = random.normal(0.0, [0.1, 0.2])
        (a, b), z = np.exp(logs), 1.96
        found = ratio_interval(
            a,
            Interval(a * math.exp(-z * 0.1), a * math.exp(z * 0.1)),
            b,
            Interval(b * math.exp(-z * 0.2), b * math.exp(z * 0.2)),
        )
        held += found.low <= 1.0 <= found.high
    assert 0.92 <= held / 400 <= 0.98


# ---- Jain's index ----


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=8))
def test_the_index_lies_between_one_takes_all_and_as_promised(values: list[float]) -> None:
    found = jain_index(values)
    if not any(values):
        assert found is None
        return
    assert found is not None
    assert 1 / len(values) - 1e-9 <= found <= 1 + 1e-9
    assert jain_index(values[::-1]) == pytest.approx(found)


@given(st.floats(1e-6, 1e9), st.integers(1, 9))
def test_equal_service_is_1_and_one_alone_is_its_share(value: float, count: int) -> None:
    assert jain_index([value] * count) == pytest.approx(1.0)
    assert jain_index([value] + [0.0] * (count - 1)) == pytest.approx(1 / count)


def waiting_rows(ttft_s: float) -> list[RequestRecord]:
    """Two classes, each a request a tenth of a second, whose first token takes so long."""
    rows = rows_of(["chat", "legal"] * 200, {"chat": 1000 * ttft_s, "legal": 1000 * ttft_s})
    return [
        dataclasses.replace(
            row,
            latency_ms=(row.ttft_ms or 0.0) + 50.0,
            t_end_s=(row.t_sent_s or 0.0) + ttft_s + 0.05,
        )
        for row in rows
    ]


def got(run: RunSummary, **of_each: Service | None) -> RunSummary:
    """The same run, in which each class got so much."""
    classes = {n: dataclasses.replace(p, service=of_each[n]) for n, p in run.classes.items()}
    return dataclasses.replace(run, classes=classes)


def test_the_index_is_of_tokens_by_share_where_all_had_to_wait(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(200), SPREAD))
    chat, legal = Service(9000.0, "share", 0.75, 0.95), Service(1000.0, "share", 0.25, 0.90)
    found = fair(got(run, chat=chat, legal=legal)).jain
    x = [9000 / 0.75, 1000 / 0.25]
    assert found is not None
    assert found.index == pytest.approx(sum(x) ** 2 / (2 * sum(v * v for v in x)))
    assert found.normalised["chat"] == pytest.approx(x[0] / (sum(x) / 2))
    idle = dataclasses.replace(legal, waiting=0.89)
    for other in (idle, dataclasses.replace(legal, waiting=None), None):
        assert fair(got(run, chat=chat, legal=other)).jain is None


def test_service_is_fresh_prompts_and_twice_the_output_in_the_window(tmp_path: Path) -> None:
    rows = [
        dataclasses.replace(row, cached_tokens=100 if row.class_ == "chat" else None)
        for row in waiting_rows(2.0)
    ]
    facts = stamped(
        Facts(frame_of(tmp_path, rows), info_of(rows)),
        events=[1] * 20,
        ms=2000.0 + 2.5 * np.arange(20),
    )
    assert facts.window is not None
    for name, cached in (("chat", 100), ("legal", 0)):
        found = service(facts.classes[name])
        own = [row for row in rows if row.class_ == name]
        sent = np.array([row.t_sent_s for row in own])
        ends = np.array([row.t_end_s for row in own])
        start_s, end_s = facts.window.start_s, facts.window.end_s
        shares = np.clip(np.minimum(ends, end_s) - np.maximum(sent, start_s), 0, None) / 2.05
        stamps = (sent[:, None] + 2.0 + 0.0025 * np.arange(20)).ravel()
        inside = ((stamps >= start_s) & (stamps < end_s)).sum()
        assert found is not None
        assert found.tokens == pytest.approx((250 - cached) * shares.sum() + 2 * inside, rel=1e-3)
        assert found.waiting == pytest.approx(1.0, abs=0.05)
        assert (found.promise, found.weight) == ("share", MIX[name]["share"])


def test_a_run_without_stamps_has_no_service(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows_of(mixed_order(200), SPREAD))
    assert [part.service for part in run.classes.values()] == [None, None]
    assert fair(run).jain is None


def test_shares_and_streams_are_different_promises(tmp_path: Path) -> None:
    asked = {"chat": {"share": 1.0}, "agents": {"streams": 2}}
    rows = rows_of(["chat", "agents"] * 100, {"chat": 100.0, "agents": 100.0})
    run = made_run(tmp_path, rows, asked)
    chat, agents = Service(9.0, "share", 1.0, 1.0), Service(9.0, "streams", 2.0, 1.0)
    assert fair(got(run, chat=chat, agents=agents)).jain is None
    both_of_streams = dataclasses.replace(chat, promise="streams")
    assert fair(got(run, chat=both_of_streams, agents=agents)).jain is not None


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(1, 400), st.booleans()), min_size=1, max_size=12
    )
)
def test_the_waiting_share_is_what_a_ruler_says(
    tmp_path_factory: pytest.TempPathFactory, given_: list[tuple[int, int, bool]]
) -> None:
    rows = [
        dataclasses.replace(
            rows_of(["chat"], {"chat": float(wait)})[0],
            request_index=i,
            t_sent_s=sent / 1000,
            t_end_s=(sent + wait + 500) / 1000 if answered else (sent + wait) / 1000,
            ttft_ms=float(wait) if answered else None,
        )
        for i, (sent, wait, answered) in enumerate(given_)
    ]
    window, seen = Window(0.2, 0.8), np.zeros(2000, dtype=bool)
    for sent, wait, _ in given_:
        seen[sent : sent + wait] = True
    frame = frame_of(tmp_path_factory.mktemp("ruler"), rows)
    assert waiting_share(frame, window) == pytest.approx(seen[200:800].mean(), abs=1e-6)
