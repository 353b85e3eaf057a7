"""The report as a browser shows it: drawn, quiet, sortable, in either theme, on a phone, on paper.

Skipped where there is no Chromium.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.page.browsing import Browser, chromium
from tests.page.reported import HOSTILE, level_records, page_of, write_level
from tests.support.made_runs import failed_record

pytestmark = [pytest.mark.browser, pytest.mark.process]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three levels, one with failures, all with hostile words wherever words go."""
    folder = tmp_path_factory.mktemp("report")
    hostile = {
        "scenario": {"description": HOSTILE, "model": HOSTILE, "system_prompt": HOSTILE},
        "server": {"version": HOSTILE, "simulator": True},
    }
    paths = [write_level(folder, streams, **hostile) for streams in (1, 8)]
    failures = [
        failed_record(i, run_id="made-cc64-0", concurrency=64, error=HOSTILE)
        for i in range(390, 400)
    ]
    records = [*level_records(64, count=390), *failures]
    paths.append(write_level(folder, 64, records=records, **hostile))
    path = folder / "report.html"
    path.write_text(page_of(*paths), encoding="utf-8")
    return path


def visible_traces(browser: Browser, chart: int) -> list[bool]:
    """Whether each curve of one of the distributions is drawn."""
    script = (
        "return document.querySelectorAll('.plot[data-kind=curves]')[arguments[0]]"
        "._fullData.map((trace) => trace.visible === true)"
    )
    return list(browser.run(script, chart))


def owned(browser: Browser) -> bool:
    """Whether a script ran that came as a word."""
    return bool(browser.run("return typeof owned") != "undefined")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_asks_for_itself_alone_and_complains_of_nothing(browser, page, theme):
    browser.open(page, theme=theme)
    # A data: address is no request: older plotlys ask the browser so what it can draw.
    asked = {url for url in browser.requests() if not url.startswith("data:")}
    assert asked == {page.as_uri()}
    assert browser.complaints() == []


def test_every_chart_is_drawn(browser, page):
    browser.open(page)
    assert len(browser.all(".plot")) == 5 + 4 + 1  # against load, distributions, timeline
    empty = browser.run(
        "return [...document.querySelectorAll('.plot')].filter((plot) => "
        "!plot.querySelector('.trace path, .trace path.point')).map((plot) => plot.ariaLabel)"
    )
    assert empty == []


TOGGLE = ".plot[data-kind=curves] .legendtoggle"
FIRST_CURVE = "document.querySelector('.plot[data-kind=curves]')._fullData[0].visible"
LAST_CURVE = "document.querySelector('.plot[data-kind=curves]')._fullData.at(-1).visible"


def test_a_click_in_a_legend_hides_that_level_in_every_distribution(browser, page):
    browser.open(page)
    before = visible_traces(browser, 0)
    assert all(before)
    browser.click(TOGGLE)
    browser.wait_for(f"{FIRST_CURVE} !== true")
    for chart in range(4):
        assert visible_traces(browser, chart) == [False, *before[1:]]
    # Later than a double click would be.
    ActionChains(browser.driver).pause(1).click(browser.all(TOGGLE)[0]).perform()
    browser.wait_for(f"{FIRST_CURVE} === true")
    assert visible_traces(browser, 3) == before


def test_a_double_click_in_a_legend_leaves_that_level_alone(browser, page):
    browser.open(page)
    browser.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", TOGGLE)
    ActionChains(browser.driver).double_click(browser.all(TOGGLE)[0]).perform()
    browser.wait_for(f"{LAST_CURVE} !== true")
    for chart in range(4):
        first, *others = visible_traces(browser, chart)
        assert (first, any(others)) == (True, False)


def test_hovering_tells_a_point_and_its_run(browser, page):
    browser.open(page)
    browser.run("document.querySelector('.plot[data-kind=load]').scrollIntoView()")
    drag = browser.all(".plot[data-kind=load] .nsewdrag")[0]
    ActionChains(browser.driver).move_to_element(drag).perform()
    browser.run(
        "Plotly.Fx.hover(document.querySelector('.plot[data-kind=load]'), "
        "[{curveNumber: 0, pointNumber: 1}])"
    )
    browser.wait_for("document.querySelector('.plot[data-kind=load] .hovertext')")
    told = browser.all(".plot[data-kind=load] .hovertext")[0].text
    assert told.startswith("p50: ")
    assert "at 8 streams" in told


def column(browser: Browser, heading: str) -> list[str]:
    """Return a column of the table of runs, from the top."""
    script = (
        "const table = [...document.querySelectorAll('table.sortable')].find((t) => "
        "t.caption.textContent.startsWith('One row per run,'));"
        "const place = [...table.querySelectorAll('th[aria-sort]')].findIndex((th) => "
        "th.textContent.trim() === arguments[0]);"
        "return [...table.tBodies[0].rows].map("
        "(row) => row.cells[place].firstChild.textContent.trim())"
    )
    return list(browser.run(script, heading))


def test_a_heading_sorts_numbers_as_numbers_by_click_and_by_key(browser, page):
    browser.open(page)
    assert column(browser, "run") == ["1 stream", "8 streams", "64 streams"]
    heading = browser.run(
        "return [...document.querySelectorAll('table.sortable')].find((t) => "
        "t.caption.textContent.startsWith('One row per run,'))"
        ".querySelector('th[aria-sort] button')"
    )
    browser.run("arguments[0].scrollIntoView({block: 'center'})", heading)
    heading.click()
    assert column(browser, "run") == ["1 stream", "8 streams", "64 streams"]  # not 1, 64, 8
    heading.send_keys(Keys.ENTER)
    assert column(browser, "run") == ["64 streams", "8 streams", "1 stream"]
    assert browser.run("return arguments[0].parentNode.ariaSort", heading) == "descending"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_button_changes_the_theme_of_page_and_charts(browser, page, theme):
    browser.open(page, theme=theme)
    colours = (
        "return [getComputedStyle(document.body).backgroundColor, "
        "document.querySelector('.plot .xtick text').style.fill, "
        "document.querySelector('.plot .trace .js-line').style.stroke]"
    )
    before = browser.run(colours)
    assert browser.run("return document.documentElement.dataset.theme") == theme
    browser.click("#theme")
    after = browser.run(colours)
    assert all(a != b for a, b in zip(before, after, strict=True)), (before, after)
    browser.click("#theme")
    assert browser.run(colours) == before


def test_the_timeline_shows_the_run_that_is_chosen(browser, page):
    browser.open(page)
    options = browser.all("select option")
    assert [o.text.split(" (")[0] for o in options] == ["1 stream", "8 streams", "64 streams"]
    assert options[2].is_selected()  # the one that says most
    ends = "return document.querySelector('[data-kind=timelines]')._fullData[0].x.at(-1)"
    last = browser.run(ends)
    options[0].click()
    browser.wait_for(f"(() => {{ {ends} }})() !== {last}")
    assert "http_5xx" not in browser.all("[data-kind=timelines] .legend")[0].text


def test_what_a_number_means_is_told_on_focus_and_closed_by_escape(browser, page):
    browser.open(page)
    browser.run("document.querySelector('main abbr').focus()")
    tip = browser.all("#tip")[0]
    assert tip.is_displayed()
    assert tip.text
    ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_no_width_needs_sideways_scrolling_of_the_page(browser, page, width):
    browser.open(page, width=width)
    wide, shown = browser.run(
        "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    )
    assert wide <= shown
    boxes = browser.run(
        "return [...document.querySelectorAll('table')].filter((t) => "
        "t.offsetParent && !t.closest('.scroll')).length"
    )
    assert boxes == 0


def test_hostile_words_do_nothing_and_are_shown_as_they_are(browser, page):
    browser.open(page)
    assert "owned" not in browser.run("return document.title")
    assert not owned(browser)
    for tag in ("img", "a[href]", "iframe"):
        assert browser.all(tag) == []
    assert "onerror=" in browser.all(".description")[0].text
    browser.run(
        "const plot = document.querySelector('[data-kind=timelines]');"
        "const place = plot._fullData.findIndex((trace) => trace.name.startsWith('http_5xx'));"
        "plot.scrollIntoView();"
        "const axis = plot._fullData[place].yaxis;"
        "Plotly.Fx.hover(plot, [{curveNumber: place, pointNumber: 0}], `x${axis}`)"
    )
    browser.wait_for("document.querySelector('[data-kind=timelines] .hovertext')")
    shown = browser.run(
        "return document.querySelector('[data-kind=timelines] .hovertext').textContent"
    )
    for part in ("</script>", "<img src=x", "$x^2$", "%{x}", "<b>bold</b>"):
        assert part in shown.replace("\xa0", " "), shown
    assert browser.all(".hovertext a") == []
    assert browser.complaints() == []


def test_even_a_script_that_got_into_the_page_would_not_run(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    planted = (
        '<script>owned = 1</script><img src="https://example.invalid/x.png" onerror="owned=1">'
    )
    broken.write_text(text.replace("<main>", f"<main>{planted}"), encoding="utf-8")
    browser.open(broken)
    assert not owned(browser)
    complaints = browser.complaints()
    for directive in ("script-src", "img-src"):
        assert any(directive in words for words in complaints)


def test_paper_is_white_and_has_every_chart(browser, page):
    browser.open(page, theme="dark")
    browser.run(
        "window.seen = {}; window.addEventListener('beforeprint', () => {"
        "seen.theme = document.documentElement.dataset.theme;"
        "seen.charts = document.querySelectorAll('.plot[data-drawn]').length;"
        "seen.widest = Math.max(...[...document.querySelectorAll('.plot')].map("
        "(p) => p.querySelector('svg').width.baseVal.value))})"
    )
    printed = browser.command("Page.printToPDF", printBackground=True, landscape=True)
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    seen = browser.run("return seen")
    assert (seen["theme"], seen["charts"]) == ("light", 10)
    assert seen["widest"] < (11.69 - 2 * 0.47) * 96  # A4 across, less its margins
    browser.wait_for("document.documentElement.dataset.theme === 'dark'")  # back again


def test_the_page_without_javascript_still_has_every_figure(browser, page):
    browser.open(page)
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.driver.get(page.as_uri())
        shown = browser.all("body")[0].text
        (instead,) = browser.all(".noscript")
        assert "JavaScript" in instead.text
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
    assert re.search(r"64 streams.*INVALID", shown, re.DOTALL)
