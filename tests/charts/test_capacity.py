"""How much a server takes: the course of a search, and several configurations in one picture."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from vllm_bench.charts.capacity.pareto import configurations_chart
from vllm_bench.charts.capacity.search import OUTCOMES, search_chart
from vllm_bench.charts.chart import DARK
from vllm_bench.charts.pen_plotly import for_page
from vllm_bench.charts.picture.style import in_style
from vllm_bench.charts.pictures import search_pictures
from vllm_bench.search.kept import Search
from vllm_bench.search.probe import Late, Probe
from vllm_bench.search.steps import Space
from vllm_bench.stats.batches import binomial_bound

from tests.charts.drawn import drawn_at, legend_words, overflowing, picture, texts, written
from tests.support.made_runs import made_record


def late(late_requests, of, value_ms=None, limit_ms=500.0, allowed=0.01):
    low, high = (binomial_bound(late_requests, of, 0.95, upper=up) for up in (False, True))
    words = "success rate ≥ 99 %" if limit_ms is None else f"TTFT p99 ≤ {limit_ms:g} ms"
    return Late(
        objective=words,
        figure="" if limit_ms is None else "TTFT p99",
        limit_ms=limit_ms,
        value_ms=value_ms,
        allowed=allowed,
        of=of,
        late=late_requests,
        low=low,
        high=high,
    )


def probe(number, purpose, load, *lates, tiers=("",), **changes):
    fields = {"run_id": f"r{number}", "requests": 1000, "counted": 1000, "seconds": 30.0}
    found = dict.fromkeys(tiers, lates)
    return Probe(number=number, purpose=purpose, load=load, late=found, **{**fields, **changes})


GOOD, OVER, UNSURE = late(0, 1000, 200.0), late(300, 1000, 4000.0), late(9, 1000, 490.0)
COURSE = (
    probe(1, "find", 8, GOOD),
    probe(2, "find", 16, OVER, over="its queue grew to 134", limits=("KV cache full",)),
    probe(3, "close", 12, GOOD, spoilt="INVALID (loop_lag)"),
    probe(4, "close", 12, UNSURE),
    *(probe(n, "confirm", 12, late(2, 1000, 450.0)) for n in (5, 6, 7)),
)


def search(*probes, tiers=("",), of="rate", **changes):
    scenario = {"name": "short_chat", "model": "m", "dataset": "dolly"}
    space = Space(low=1, high=64, whole=of != "rate", tiers=tiers)
    fields = {"id": "x", "asked": "x", "minutes": 30.0, "estimate_s": (1.0, 2.0), "server": {}}
    return Search(scenario=scenario, of=of, space=space, probes=probes, **{**fields, **changes})


def chart_of(found):
    return search_chart(found, found.found[0])


def by_name(panel):
    return {line.name: line for line in panel.lines}


def test_each_run_is_a_row_with_its_outcome_and_what_decided():
    course, _ = chart_of(search(*COURSE)).panels
    assert [label for _, label in course.y.ticks] == [f"{p.number} {p.purpose}" for p in COURSE]
    first, last = course.y.span
    assert first > last  # the first on top
    marks = by_name(course)
    assert (list(marks["met"].x), list(marks["met"].y)) == ([8, 12, 12, 12], [0, 4, 5, 6])
    assert list(marks["missed"].x) == [16]
    assert list(marks["not shown"].x) == [12]
    assert list(marks["can't be believed"].y) == [2]
    told = [words.split("\n") for _, words in course.beside]
    assert told[1] == ["16", "TTFT p99 4000 ms of 500, its qu…"]
    assert told[2] == ["12", "INVALID (loop_lag)"]


def test_outcomes_differ_in_mark_and_the_unbelieved_is_hollow():
    assert len({place for _, place, _ in OUTCOMES.values()}) == len(OUTCOMES)
    assert OUTCOMES["can't be believed"][2] == "hollow"


def test_the_bracket_closes_from_row_to_row():
    course, _ = chart_of(search(*COURSE)).panels
    bars = by_name(course)["where the answer may be"]
    low, high = chart_of(search(*COURSE)).x.span
    assert list(bars.x) == [8, 8, 8, 12, 12, 12, 12]
    assert list(bars.until) == [high, 16, 16, 16, 16, 16, 16]
    assert low < 8
    assert high > 16


def test_the_answer_is_a_line_through_both_panels_that_says_whether_it_was_confirmed():
    found = search(*COURSE)
    (rule,) = chart_of(found).panels[0].rules
    assert (rule.at, rule.upright) == (12, True)
    assert "confirmed 3 times" in rule.name
    figure = picture(chart_of(found))
    for axes in figure.axes:
        assert any(list(line.get_xdata()) == [12, 12] for line in axes.lines)
    (unsure,) = chart_of(search(*COURSE[:4])).panels[0].rules
    assert "not confirmed" in unsure.name


def test_where_nothing_met_there_is_no_answer_line():
    found = search(probe(1, "find", 1, OVER))
    assert chart_of(found).panels[0].rules == []
    picture(chart_of(found))


def test_the_figure_stands_against_load_with_the_objectives_line():
    _, figures = chart_of(search(*COURSE)).panels
    assert (figures.y.words, figures.y.log) == ("TTFT p99 (ms)", True)
    (rule,) = figures.rules
    assert rule.at == 500
    assert rule.name == "objective: TTFT p99 ≤ 500 ms"
    points = [(x, y) for line in figures.lines for x, y in zip(line.x, line.y, strict=True)]
    assert sorted(points) == [(8, 200), (12, 450), (12, 450), (12, 450), (12, 490), (16, 4000)]


@pytest.mark.parametrize(
    ("one", "allowed"),
    [
        (late(30, 1000, None), 1),  # too few requests for a p99
        (late(30, 1000, limit_ms=None, allowed=0.02), 2),  # success
    ],
)
def test_without_the_figure_it_is_the_share_late(one, allowed):
    found = search(probe(1, "find", 8, one), probe(2, "find", 16, one))
    figures = chart_of(found).panels[1]
    assert figures.y.unit == "%"
    assert figures.rules[0].at == pytest.approx(allowed)
    assert list(itertools.chain(*(line.y for line in figures.lines))) == pytest.approx([3, 3])


def test_nothing_to_believe_has_rows_alone_and_nothing_run_no_chart():
    spoilt = search(probe(1, "find", 8, GOOD, spoilt="the client is the limit"))
    assert len(chart_of(spoilt).panels) == 1
    picture(chart_of(spoilt))
    assert chart_of(search()) is None


def test_streams_are_named_on_the_axis():
    assert "streams" in chart_of(search(*COURSE, of="concurrency")).x.words


def test_each_tier_has_its_picture_with_its_answer():
    tiers = ("", "batch")
    probes = [dataclasses.replace(p, late=dict.fromkeys(tiers, p.late[""])) for p in COURSE]
    found = search(*probes, tiers=tiers, server={"simulator": True})
    own, batch = search_pictures(found)
    assert (own.name, batch.name) == ("x", "x_batch")
    assert "batch" in batch.heading.title
    assert "12" in own.heading.verdict
    assert "simulated" in own.heading.setup
    with in_style(DARK):
        assert overflowing(picture(batch.chart, batch.heading.title)) == []


def test_the_page_can_draw_it_too():
    drawn = for_page(chart_of(search(*COURSE)))
    symbols = {t["name"]: t["marker"]["symbol"] for t in drawn["data"] if "symbol" in str(t)}
    assert len(set(symbols.values())) == len(OUTCOMES)


# ---- configurations ----


def runs_of(folder, name, slower, gpus=1, levels=(1, 8, 32)):
    """Runs of a configuration that is so many times slower than another, at some levels."""
    found = []
    for streams in levels:
        per_s = min(4 * streams, 60) / slower
        records = [
            made_record(
                i,
                run_id=f"{name}-{streams}",
                concurrency=streams,
                tpot_ms=(8 + streams / 2) * slower,
                t_sent_s=i / per_s,
            )
            for i in range(60)
        ]
        found.append(drawn_at(written(folder, records, scenario={"gpus": gpus})).summary)
    return found


def configurations(folder, many, **changes):
    return {f"c{n}": runs_of(folder, f"c{n}", 1 + 0.06 * n, **changes) for n in range(many)}


def lines_of(chart):
    return [line for line in chart.lines if line.role == "marked"]


def test_each_configuration_is_a_line_through_its_levels(tmp_path):
    chart = configurations_chart(configurations(tmp_path, 3))
    assert [line.name for line in lines_of(chart)] == ["1: c0 ?", "2: c1 ?", "3: c2 ?"]
    first, second, _ = lines_of(chart)
    assert list(first.x) == pytest.approx([1000 / 8.5, 1000 / 12, 1000 / 24])
    assert list(second.x) == pytest.approx([x / 1.06 for x in first.x])
    assert first.words[0].startswith("1 stream")
    assert chart.panels[0].y.unit.endswith("GPU")


def test_the_frontier_is_over_all_configurations(tmp_path):
    found = configurations(tmp_path, 2)
    (frontier,) = (line for line in configurations_chart(found).lines if line.name == "frontier")
    assert sorted(frontier.x) == pytest.approx(sorted(lines_of(configurations_chart(found))[0].x))


def test_each_is_divided_by_its_own_gpus_and_one_unknown_leaves_all_whole(tmp_path):
    one, two = runs_of(tmp_path, "one", 1), runs_of(tmp_path, "two", 1, gpus=2)
    chart = configurations_chart({"one": one, "two": two})
    a, b = lines_of(chart)
    assert list(b.y) == pytest.approx([y / 2 for y in a.y])
    unknown = runs_of(tmp_path, "unknown", 1, gpus=None)
    chart = configurations_chart({"one": one, "two": two, "unknown": unknown})
    assert chart.panels[0].y.unit.endswith("server")
    a, b, c = lines_of(chart)
    assert list(a.y) == pytest.approx(list(b.y))
    assert list(a.y) == pytest.approx(list(c.y))


def test_labels_lie_apart_and_the_looks_differ_however_many_there_are(tmp_path):
    chart = configurations_chart(configurations(tmp_path, 16))
    looks = {(line.place % 7, line.colour) for line in lines_of(chart)}
    assert len(looks) == 16
    figure = picture(chart)
    figure.draw_without_rendering()
    numbers = {str(n) for n in range(1, 17)}
    labels = [text for text in figure.axes[0].texts if text.get_text() in numbers]
    assert len(labels) > 8
    boxes = [text.get_window_extent() for text in labels]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert overflowing(figure) == []
    assert len(legend_words(figure)) == 17


def test_one_without_figures_is_named_and_none_at_all_is_no_picture(tmp_path):
    found = {**configurations(tmp_path, 1), "won't start": []}
    assert "won't start" in configurations_chart(found).note
    assert configurations_chart({"won't start": []}) is None


def test_a_long_or_untrusted_name_is_cut_and_harmless(tmp_path):
    runs = runs_of(tmp_path, "a", 1)
    chart = configurations_chart({"<b>$x$ {y}" * 9: runs})
    figure = picture(chart)
    assert overflowing(figure) == []
    assert "<b>$x$" in texts(figure)
    names = [trace["name"] for trace in for_page(chart)["data"]]
    assert not set("".join(names)) & set("<>{}$")
    assert np.isfinite(lines_of(chart)[0].y).all()
