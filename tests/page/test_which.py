"""Which of two is better: the section of a report whose runs have exactly two labels."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.page.page import to_html
from vllm_bench.page.which import two_sides
from vllm_bench.records.run_info import ClockPair

from tests.page.browsing import Browser, chromium
from tests.page.reported import HOSTILE, Page, level_records, reported, write_level
from tests.support.made_runs import NOON_S, made_info, write_run

SECTION = "#which"


def label_runs(
    folder: Path, *labels: str | None, levels=(1, 8), repeats=4, every_s=100.0, **info: Any
):
    """Write runs of these labels by turns, each 5 % slower than the label before, and read them."""
    paths = []
    turns = itertools.count()
    for repeat, (place, label), streams in itertools.product(
        range(1, repeats + 1), enumerate(labels), levels
    ):
        name = f"made-{place}-cc{streams}-{repeat}"
        slower = 1.05**place * (1 + 0.002 * repeat * (-1) ** place)
        records = [
            dataclasses.replace(r, latency_ms=r.latency_ms * slower, tpot_ms=r.tpot_ms * slower)
            for r in level_records(streams, count=150, repeat=repeat, run_id=name)
        ]
        scenario = {} if label is None else {"label": label}
        begun_s = NOON_S + every_s * next(turns)
        clock = {
            "clock_start": ClockPair(wall_s=begun_s, monotonic_ns=0),
            "clock_end": ClockPair(wall_s=begun_s + 60, monotonic_ns=60_000_000_000),
        }
        of_one = {key: value(place, repeat) for key, value in info.items()}
        found = made_info(records, scenario=scenario, repeat=repeat, **clock, **of_one)
        paths.append(write_run(folder, records, found))
    return reported(*paths)


def page_with(folder: Path, *labels: str | None, **changes: Any) -> Page:
    return Page(to_html(label_runs(folder, *labels, **changes)))


def test_two_labels_have_a_section_with_the_answer_and_all_figures(tmp_path):
    page = page_with(tmp_path, "old", "new")
    (section,) = page.read(SECTION)
    (answer, *_) = page.read(".capacity")
    assert answer.startswith("B (new) is slower than A (old)")
    assert answer in section
    captions = [caption for caption in page.read("caption") if "pairs" in caption]
    assert captions == ["made · 1 stream · 4 pairs", "made · 8 streams · 4 pairs"]
    assert page.read(".slower")
    assert page.text.index("Which is better") < page.text.index("Against load")
    kinds = [a["data-kind"] for a in page.all("div") if a.get("data-section") == "which"]
    assert kinds.count("effects") == 2  # of each level
    assert kinds.count("overlays") == 4  # TTFT, TPOT, latency, tokens/s


def test_its_charts_lie_in_the_pages_data(tmp_path):
    page = page_with(tmp_path, "old", "new")
    (data,) = (json.loads(text) for text in page.scripts if text.startswith('{"s0"'))
    effects, overlays = data["which"]["effects"], data["which"]["overlays"]
    names = {trace["name"] for chart in effects for trace in chart["data"]}
    assert {"margin", "B is slower"} <= names
    drawn = {trace["name"] for chart in overlays for trace in chart["data"]}
    assert {"old, p50", "new, p50", "old", "new"} <= drawn


def test_what_differs_is_told_once(tmp_path):
    versions = [{"version": "0.30.0"}, {"version": "0.31.0"}]
    page = page_with(tmp_path, "old", "new", server=lambda place, _: versions[place])
    (table,) = page.read(".differs")
    assert "server version 0.30.0 0.31.0" in table


@pytest.mark.parametrize("labels", [["one"], [None], ["a", "b", "c"], [None, "b"]])
def test_other_numbers_of_labels_have_none(tmp_path, labels):
    page = page_with(tmp_path, *labels, levels=[8], repeats=2)
    assert page.read(SECTION) == []
    assert "which" not in [a.get("data-section") for a in page.all("div")]


def test_runs_without_a_label_belong_to_neither_side(tmp_path):
    runs = label_runs(tmp_path, "a", None, "b", levels=[8])
    a, b = two_sides([run.summary for run in runs])
    assert (a.name, b.name) == ("a", "b")
    assert (len(a.runs), len(b.runs)) == (4, 4)


@pytest.mark.parametrize("every_s", [100.0, 0.1])
def test_the_first_that_ran_is_a_whatever_it_is_called(tmp_path, every_s):
    runs = label_runs(tmp_path, "zebra", "ape", levels=[8], every_s=every_s)
    a, b = two_sides([run.summary for run in reversed(runs)])
    assert (a.name, b.name) == ("zebra", "ape")


def test_an_experiments_sides_are_the_two(tmp_path):
    def visit(place: int, repeat: int) -> dict[str, Any]:
        number = 2 * repeat - 1 + place
        of_visit = {"visit": number, "pair": repeat, "restarted": True}
        return {"kind": "ab", "id": "x", "side": "ab"[place], **of_visit}

    runs = label_runs(tmp_path, None, None, levels=[8], experiment=visit)
    a, b = two_sides([run.summary for run in runs])
    assert (a.name, b.name) == ("a", "b")
    page = Page(to_html(runs))
    assert "4 pairs" in page.read(SECTION)[0]


def test_too_few_pairs_say_so_and_draw_what_there_is(tmp_path):
    page = page_with(tmp_path, "old", "new", repeats=2)
    (section,) = page.read(SECTION)
    assert "2 pairs" in section
    assert not {"faster", "slower", "equivalent"} & {*page.read(".pill")}
    (data,) = (json.loads(text) for text in page.scripts if text.startswith('{"s0"'))
    assert "no word" in {t["name"] for chart in data["which"]["effects"] for t in chart["data"]}


def test_sides_with_nothing_in_common_are_told_apart_and_nothing_breaks(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = write_level(tmp_path / "a", 1, scenario={"label": "a"})
    other = write_level(tmp_path / "b", 8, scenario={"label": "b"})
    page = Page(to_html(reported(one, other)))
    (section,) = page.read(SECTION)
    assert "no level" in section


def test_hostile_labels_make_no_element(tmp_path):
    page = page_with(tmp_path, HOSTILE, "new", levels=[8])
    assert page.all("img") == page.all("a") == []
    assert len(page.scripts) == 4
    (data,) = (text for text in page.scripts if text.startswith('{"s0"'))
    for chart in json.loads(data)["which"]["effects"]:
        axis = chart["layout"]["xaxis"]["title"]["text"]
        assert not set(axis.replace("<br>", "")) & set("<>{}$")


# ---- in a browser ----


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("which")
    page = folder / "report.html"
    page.write_text(to_html(label_runs(folder, HOSTILE, "new")), encoding="utf-8")
    return page


@pytest.mark.browser
@pytest.mark.process
@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_chart_of_the_section_is_drawn_within_the_page(browser, written, width, theme):
    browser.open(written, width=width, theme=theme)
    wide, shown, marks, words = browser.run(
        "const root = document.documentElement;"
        "const plots = [...document.querySelectorAll('[data-kind=effects]')];"
        "return [root.scrollWidth, root.clientWidth,"
        " plots.map((p) => p.querySelectorAll('.trace .points path').length),"
        " plots.map((p) => [...p.querySelectorAll('.annotation-text')].map((t) => {"
        "  const box = t.getBoundingClientRect(); const all = p.getBoundingClientRect();"
        "  return box.width > 0 && box.right <= all.right + 1 && box.left >= all.left; }))]"
    )
    assert wide <= shown
    assert len(marks) == 2
    assert all(count >= 8 for count in marks)
    assert all(inside for of_one in words for inside in of_one)
    assert all(len(of_one) >= 8 for of_one in words)
    assert browser.complaints() == []
