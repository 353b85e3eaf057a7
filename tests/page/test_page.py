"""The report's page, parsed: what it says, and that nothing foreign is markup."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.page.page import policy_hash, room_for, script_json, script_source, to_html
from vllm_bench.page.tables import levels_table, runs_table
from vllm_bench.page.verdicts import _reasons
from vllm_bench.records.run_info import ClockPair
from vllm_bench.scenario.scenario import KNOWN_KEYS, Scenario, load_scenarios
from vllm_bench.summary.again import again, scenario_yaml
from vllm_bench.summary.levels import series_of
from vllm_bench.tables.machines.machine_lines import MOST_ROWS
from vllm_bench.verdict.finding import Finding, Severity

from tests.machines.made import NAMES, made_health, of_machines
from tests.page.reported import (
    HOSTILE,
    Page,
    level_records,
    page_of,
    reported,
    write_level,
)
from tests.support.made_runs import failed_record, made_info, made_record, write_run
from tests.support.reading import numbers

ANY = st.text(max_size=200)
SIMULATED = ".simulated"


@given(text=ANY)
def test_no_text_ends_a_script_element_and_json_reads_it_back(text):
    written = script_json({"words": text})
    assert "<" not in written
    assert json.loads(written) == {"words": text}


def test_a_script_cannot_end_its_own_element_and_is_hashed_as_the_browser_reads_it():
    source = script_source('let a = "</script>";\r\nlet b = "<!--";\r')
    assert "</script" not in source
    assert "<!--" not in source
    assert "\r" not in source
    # openssl dgst -sha256 -binary | base64, of `alert(1)`
    assert policy_hash("alert(1)") == "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"


def test_a_finding_about_two_families_is_told_once_with_both():
    one = Finding("buffered", Severity.INVALID, "late", "do this", "TTFT")
    other = dataclasses.replace(one, about="pace")
    (reason,) = _reasons(["a", "b"], [[one, other], [dataclasses.replace(one, figures="later")]])
    assert [(found.runs, found.figures) for found in reason.found] == [
        (("a",), "late (as to TTFT, pace)"),
        (("b",), "later (as to TTFT)"),
    ]
    assert (reason.advice, {found.advice for found in reason.found}) == ("do this", {""})


@pytest.fixture
def hostile(tmp_path) -> str:
    """The page of runs with hostile words in every place that takes words."""
    settings = {"description": HOSTILE, "model": HOSTILE, "dataset": HOSTILE}
    server = {"version": HOSTILE, "system_fingerprint": HOSTILE, "model_root": HOSTILE}
    failed = [
        failed_record(i, run_id="x", scenario=HOSTILE, error=HOSTILE, error_kind=HOSTILE)
        for i in range(90, 100)
    ]
    records = [*level_records(4, count=90, run_id="x", scenario=HOSTILE), *failed]
    path = write_level(tmp_path, 4, records=records, scenario=settings, server=server)
    return page_of(path.rename(tmp_path / "x.csv"))


def test_hostile_words_make_no_element_and_no_attribute(hostile):
    page = Page(hostile)
    assert page.all("img") == page.all("a") == []
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert len(page.scripts) == 4
    assert page.text.count("onerror=") >= 5
    assert "{{ 7*7 }}" in page.text
    assert "49" not in {word.strip("{} ") for word in page.text.split()}


def test_the_policy_forbids_the_network_and_names_each_script_by_its_hash(hostile):
    page = Page(hostile)
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    (allowed,) = re.findall(r"script-src ([^;]*);", policy)
    scripts = [text for text in page.scripts if not text.startswith('{"s0"')]
    assert allowed.split() == [policy_hash(text) for text in scripts]
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    # Nothing stands between the page's start and the policy that could be asked for.
    assert hostile.index("Content-Security-Policy") < hostile.index("<script")


def test_nothing_is_loaded_from_anywhere(hostile):
    page = Page(hostile)
    for tag, attrs in page.elements:
        assert not {"src", "href", "srcset", "action", "background"} & set(attrs), (tag, attrs)
    style = hostile.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_verdict_stands_first_with_each_code_its_meaning_and_what_to_do(tmp_path):
    failed = [failed_record(i, run_id="bad", concurrency=8) for i in range(350, 400)]
    bad = write_level(tmp_path, 8, records=[*level_records(8, count=350, run_id="bad"), *failed])
    page = Page(page_of(write_level(tmp_path, 1), bad))
    assert page.read("title") == ["INVALID: made"]
    assert page.read("#verdict-title") == ["INVALID"]
    assert page.read(".level") == ["VALID", "INVALID"]  # of each run
    (text,) = page.read("#verdict")
    summary = reported(bad)[0].summary
    for finding in summary.verdict.findings:
        assert finding.code in text
        assert finding.figures in text
        assert finding.advice in text
    assert page.text.index("errors") < page.text.index("Objectives")


def test_a_simulator_is_named_loudly_and_a_real_server_never_is(tmp_path):
    real, made_up = tmp_path / "real", tmp_path / "made_up"
    for folder in (real, made_up):
        folder.mkdir()
    loud, pill = Page(page_of(write_level(made_up, 1, server={"simulator": True}))).read(SIMULATED)
    assert loud.startswith(pill)
    assert Page(page_of(write_level(real, 1))).read(SIMULATED) == []
    both = page_of(write_level(real, 8), *made_up.glob("*.csv"))
    assert numbers(Page(both).read(SIMULATED)[0])[:2] == [1, 2]  # of the runs


def test_objectives_are_told_by_level_with_their_figures(tmp_path):
    slo = {"slo": {"ttft_ms": {"p95": 500.0}}}
    page = Page(page_of(*(write_level(tmp_path, n, scenario=slo) for n in (1, 16))))
    (capacity,) = page.read(".capacity")
    assert numbers(capacity) == [1, 16, 95, 500]  # streams that met all, that missed p95 <= 500 ms
    met, missed = page.read(".met"), page.read(".missed")
    assert (met[0], missed[0]) == ("met", "MISSED")  # the level, and then each objective
    assert numbers(met[1]) == [100]  # % of the counted requests of 1 stream
    assert numbers(missed[1])[0] < 95


def test_rates_and_tiers_are_told_by_level(tmp_path):
    slo = {"ttft_ms": None, "requests_per_s": {"min": 1000.0}}
    tiers = {"relaxed": {"ttft_ms": {"p95": 10_000.0}}, "<b>": {"success_rate": 0.9}}
    scenario = {"slo": slo, "slo_tiers": tiers}
    page = Page(page_of(*(write_level(tmp_path, n, scenario=scenario) for n in (1, 16))))
    missed = page.read(".missed")
    assert missed[0] == "MISSED"
    assert numbers(missed[1])[0] < 1000
    overall, relaxed, odd = page.read(".capacity")
    assert numbers(overall) == [16, 1000]
    assert "tier relaxed" in relaxed
    assert "<b>" in odd
    assert page.read(".met")


def test_a_percentile_without_its_samples_says_so_and_is_sorted_last(tmp_path):
    (run,) = reported(write_level(tmp_path, 4, count=100))
    table = runs_table([run.summary])
    headings = [(c.group, c.heading) for c in table.columns]
    assert table.rows[0][headings.index(("TTFT ms", "p99"))].text == "needs 368"
    more = reported(tmp_path / "made-cc4-0.csv", write_level(tmp_path, 8))
    table = runs_table([one.summary for one in more])
    place = [(c.group, c.heading) for c in table.columns].index(("TTFT ms", "p99"))
    assert (table.rows[0][place].text, table.rows[0][place].sort) == ("needs 368", None)
    assert table.rows[1][place].sort == more[1].summary.percentile("ttft_ms", 99)


def test_in_an_open_loop_times_count_from_the_schedule_first(tmp_path):
    records = [made_record(i, request_rate=20.0, send_lag_ms=5.0) for i in range(400)]
    (run,) = reported(write_level(tmp_path, 4, records=records))
    table = runs_table([run.summary])
    groups = [name for name, _ in table.groups if name.startswith("TTFT")]
    assert [name.split()[-1] for name in groups] == ["schedule", "send"]
    page = Page(to_html([run]))
    captions = [caption for caption in page.read("figcaption") if caption.startswith("TTFT")]
    assert captions
    assert all("schedule" in caption for caption in captions)
    assert "20 requests/s" in page.text


def test_turns_of_conversations_have_a_table(tmp_path):
    records = [
        made_record(i, conversation_id=f"c{i // 3}", turn=i % 3 + 1, prompt_tokens=100 * (i % 3))
        for i in range(120)
    ]
    page = Page(page_of(write_level(tmp_path, 4, records=records)))
    assert "Turns" in page.read("h3")
    (row,) = (row for row in page.read("tr") if " needs 72 200" in row)
    assert row.endswith("2025-11-24T12:00:00Z 3 38 100 needs 72 200")


def test_levels_of_several_runs_have_intervals_over_them(tmp_path):
    paths = [write_level(tmp_path, s, repeat=n) for s in (1, 8) for n in range(3)]
    (series,) = series_of([run.summary for run in reported(*paths)])
    table = levels_table(series)
    assert len(table.rows) == 2
    place = [(c.group, c.heading) for c in table.columns].index(("TTFT ms", "p50"))
    over = series.levels[0].over_rows("ttft_ms", 50)
    cell = table.rows[0][place]
    assert cell.sort == over.centre
    low, high = numbers(cell.small)
    assert low < over.centre < high


def test_every_column_and_chart_says_what_it_means_to_keyboard_and_finger_too(tmp_path):
    page = Page(page_of(*(write_level(tmp_path, streams) for streams in (1, 8))))
    for attrs in page.all("abbr"):
        assert attrs["title"]
        assert attrs["tabindex"] == "0"
    sortable = [a for a in page.all("th") if "aria-sort" in a]
    explained = [a for a in page.all("button") if "title" in a and "id" not in a]
    assert len(explained) == len(sortable) > 30
    assert all(a["title"] for a in explained)
    assert len(page.read(".glossary")) == 2


def test_the_settings_of_a_run_are_a_scenario_file_that_runs_again(tmp_path):
    scenario = Scenario(
        name="again",
        model="m: #1",
        max_new_tokens=64,
        concurrencies=[1, 8],
        num_requests=400,
        description=HOSTILE,
        headers={"X-Team": "a secret"},
        extra_body={"top_k": 5},
        slo={"ttft_ms": {"p99": 500}},
    )
    text = scenario_yaml(json.loads(json.dumps(scenario.masked())))
    assert "secret" not in text
    path = tmp_path / "again.yaml"
    path.write_text(text)
    found = load_scenarios(path)["again"]
    assert found == scenario.model_copy(update={"headers": {"X-Team": "***"}})


@pytest.mark.parametrize(
    "load",
    [
        {"request_rates": [1.5, 3], "duration_s": 60},
        {"request_rates": [2], "num_requests": 10, "arrival": "gamma", "cv": 2.0},
        {"trace": "t.csv", "speed": [1, 2], "num_requests": 5},
        {"concurrencies": [4], "num_requests": 8, "conversations": {"turns": 3}},
    ],
)
def test_open_loops_are_written_so_that_they_run_again_too(tmp_path, load):
    scenario = Scenario(name="again", model="m", max_new_tokens=64, **load)
    path = tmp_path / "again.yaml"
    path.write_text(scenario_yaml(json.loads(json.dumps(scenario.masked()))))
    assert load_scenarios(path)["again"] == scenario


def test_how_to_repeat_has_commit_file_and_commands_and_says_what_is_masked(tmp_path):
    headers = {"headers": {"X-Team": "***"}}
    runs = reported(write_level(tmp_path, 1, scenario=headers))
    (series,) = series_of([run.summary for run in runs])
    found = again(series, "made")
    assert [command.split() for command in found.commands] == [
        ["git", "checkout", "0" * 40],
        ["python", "bench/bench.py", "--scenarios", "made.yaml", "--name", "made"],
        ["python", "bench/report.py"],
    ]
    assert found.masked
    page = Page(to_html(runs))
    assert any("***" in words for words in page.read("p"))  # beside the file, what to put in
    assert " ".join(found.commands) in page.read("pre")


def test_a_run_without_its_json_still_has_a_page(tmp_path):
    path = write_level(tmp_path, 4)
    path.with_suffix(".json").unlink()
    page = Page(page_of(path))
    assert "no_run_info" in page.read("code")
    assert "made: " in page.read("#again")[0]
    assert page.read("pre") == []  # nothing to paste


def test_a_run_without_any_success_still_has_a_page(tmp_path):
    records = [failed_record(i) for i in range(10)]
    page = Page(page_of(write_level(tmp_path, 4, records=records, tokens=False)))
    assert "curves" not in [attrs.get("data-kind") for attrs in page.all("div")]
    assert records[0].error in page.text


def test_more_runs_have_fewer_points_each():
    assert room_for(1).curve == room_for(10).curve == 500
    assert 60 == room_for(1000).curve < room_for(50).curve < 500


def test_ten_runs_fit_in_8_mb(tmp_path):
    paths = [write_level(tmp_path, s, repeat=n, count=2000) for s in (1, 8) for n in range(5)]
    assert len(page_of(*paths).encode()) < 8_000_000


def test_no_scenario_key_is_lost_on_the_way_to_the_file():
    settings = {"name": "x", **dict.fromkeys(KNOWN_KEYS, "given")}
    assert all(f"{key}: given" in scenario_yaml(settings) for key in KNOWN_KEYS)


def test_the_parts_of_the_page_are_plain_files():
    parts = Path(__file__).resolve().parents[2] / "bench" / "vllm_bench" / "page" / "report"
    assert {p.name for p in parts.iterdir()} == {
        "template.html",
        "style.css",
        "theme.js",
        "page.js",
    }


def test_what_invalid_runs_seem_to_meet_does_not_count(tmp_path):
    failed = [failed_record(i, run_id="bad", concurrency=4) for i in range(380, 400)]
    records = [*level_records(4, count=380, run_id="bad"), *failed]
    slo = {"slo": {"ttft_ms": {"p50": 10_000.0}}}
    page = Page(page_of(write_level(tmp_path, 4, records=records, scenario=slo)))
    (capacity,) = page.read(".capacity")
    assert "INVALID (errors" in capacity
    assert page.read(".met") == []  # although 95 % were within the limit
    assert "INVALID" in page.read(".pill")


def test_a_figure_that_a_doubt_is_about_is_marked_and_says_why_on_hovering(tmp_path):
    late = {"loop_lag_ms": {"ticks": 1000, "p99": 12.0}}  # of gaps of 47 ms, of a TTFT of over 240
    records = [dataclasses.replace(r, ttft_ms=500.0) for r in level_records(4, count=400)]
    (run,) = reported(write_level(tmp_path, 4, records=records, client_health=late))
    assert {f.about for f in run.summary.verdict.findings if f.code == "loop_lag"} == {"gaps"}
    table = runs_table([run.summary])
    marked = {c.group for c, cell in zip(table.columns, table.rows[0], strict=True) if cell.more}
    assert marked == {"ITL ms", "worst gap"}
    page = to_html([run])
    assert "SUSPECT as to gaps (loop_lag)" in page


def test_the_page_opens_on_what_was_run_last(tmp_path):
    runs = []
    for name, wall_s in (("a_old", 1e9), ("b_new", 2e9), ("c_middle", 1.5e9)):
        records = [made_record(i, run_id=name, scenario=name) for i in range(20)]
        info = made_info(records, scenario={"name": name})
        info = dataclasses.replace(info, clock_start=ClockPair(wall_s=wall_s, monotonic_ns=0))
        runs.append(write_run(tmp_path, records, info))
    names = re.findall(r'<h2 id="s\d+-title">(\w+)', to_html(reported(*runs)))
    assert names == ["b_new", "c_middle", "a_old"]


def test_machines_have_a_table_and_their_names_are_no_markup(tmp_path):
    names = (HOSTILE[:250], *NAMES[1:])
    records = of_machines(level_records(4), names)
    health = made_health(names, machines={"node-b": {"lost": HOSTILE, "offset_ms": -3.0}})
    page = Page(page_of(write_level(tmp_path, 4, records=records, client_health=health)))
    assert page.all("img") == page.all("a") == []
    assert "Machines" in page.read("h3")
    assert all(name in page.text for name in NAMES[1:])
    assert "Machines" not in Page(page_of(write_level(tmp_path, 8))).read("h3")


def test_of_very_many_machines_the_odd_ones_are_shown(tmp_path):
    names = tuple(f"node-{n:02}" for n in range(40))
    health = made_health(names, machines={"node-39": {"lost": "died"}})
    records = of_machines(level_records(40), names)
    page = Page(page_of(write_level(tmp_path, 40, records=records, client_health=health)))
    cells = [cell for cell in page.read("td") if cell in names]
    assert len(cells) == MOST_ROWS
    assert "node-39" in cells
    assert "24 more machines" in page.text
