"""Charts as pictures: the same bytes, either theme, words that stay on the page."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from vllm_bench.charts.chart import (
    DARK,
    FONT,
    LEVELS,
    LIGHT,
    SERIES,
    Axis,
    Chart,
    Heading,
    Line,
    Panel,
)
from vllm_bench.charts.pen_matplotlib import draw, save
from vllm_bench.charts.picture import words
from vllm_bench.charts.picture.axes import plain_numbers
from vllm_bench.charts.picture.style import in_style
from vllm_bench.charts.picture.words import drawable, fonts

from tests.charts.drawn import overflowing, picture, texts


def chart(name="a line", **axis) -> Chart:
    """Return a chart of one line."""
    values = np.array([1.0, 2, 40])
    line = Line(name=name, x=values, y=values, colour="c0")
    x = Axis(**{"words": "x", **axis})
    return Chart(title="", doc="", x=x, panels=[Panel(y=Axis(words="y"), lines=[line])])


def test_a_heading_says_what_was_measured_and_whether_to_believe_it():
    heading = Heading("made", "a model · dolly", "Verdict: INVALID (errors)")
    figure = draw(chart(), heading)
    assert "made\n" in texts(figure) + "\n"
    assert f"{heading.setup}\n{heading.verdict}" in texts(figure)
    (subtitle,) = (
        t for t in figure.findobj() if getattr(t, "get_text", str)().startswith(heading.setup)
    )
    assert subtitle.get_color() == LIGHT["error"]


@pytest.mark.parametrize("before", range(1, 60))
def test_no_line_of_a_heading_cuts_a_number_from_what_it_counts(before: int) -> None:
    setup = f"{'m' * before} · 3,688 of 3,688 requests succeeded · figures of 3,076"
    verdict = f"{'v' * before} +21.1 % (+20.4 to +21.9 %)"
    lines = words.subtitle_lines(Heading("a", setup, verdict), 7).split("\n")
    assert " ".join(lines) == f"{setup} {verdict}"
    assert not [line for line in lines if line.startswith(("%", "3,076", "of "))]


def test_levels_of_a_rate_keep_their_fractions():
    ticks = [(0.5, "0.5"), (2.5, "2.5"), (40.0, "40")]
    figure = picture(chart(ticks=ticks, log=True))
    figure.draw_without_rendering()
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0.5", "2.5", "40"]


def test_untrusted_names_are_drawn_as_they_are_and_never_as_mathematics(tmp_path):
    name = r"a$\frac{b}$ x^2 \u202e"
    figure = draw(chart(name), Heading(name, "file:/tmp/$a_b$.jsonl", ""))
    save(figure, tmp_path / "a.png")  # a parsed formula would raise here
    assert texts(figure).count(r"a$\frac{b}$ x^2") == 2
    assert "$a_b$" in texts(figure)


def test_characters_that_the_font_lacks_become_question_marks():
    assert drawable("Привет é") == "Привет é"


@pytest.mark.parametrize("name", ["W" * 80, "a long name of many words " * 9, "x-$y_z$-" * 10])
def test_a_long_title_stays_on_the_page(name):
    figure = picture(chart(), name)
    assert overflowing(figure) == []
    assert name[:20].split()[0] in texts(figure)


def test_a_saved_picture_is_a_png_of_a_size_to_look_at(tmp_path):
    path = tmp_path / "a.png"
    save(picture(chart()), path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20], "big") >= 1200
    assert list(tmp_path.glob("*.tmp")) == []


@pytest.mark.parametrize(
    ("kind", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89")]
)
def test_the_same_chart_gives_the_same_bytes(tmp_path, kind, begins):
    for name in ("a", "b"):
        save(picture(chart()), tmp_path / name, kind)
    data = (tmp_path / "a").read_bytes()
    assert data.startswith(begins)
    assert data == (tmp_path / "b").read_bytes()


def test_a_dark_picture_is_dark_all_over_and_its_words_are_light(tmp_path):
    with in_style(DARK):
        figure: Figure = picture(chart())
        save(figure, tmp_path / "a.svg", "svg")
    assert figure.get_facecolor() == pytest.approx(rgba(DARK["paper"]))
    assert figure.axes[0].lines[0].get_color() == DARK["c0"]
    drawn = (tmp_path / "a.svg").read_text().lower()
    assert LIGHT["paper"].lower() not in drawn
    assert LIGHT["c0"].lower() not in drawn


def test_both_themes_name_the_same_colours():
    assert LIGHT.keys() == DARK.keys()


def rgba(colour):
    return [*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0]


def luminance(colour):
    """WCAG's relative luminance."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba(colour)[:3]]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_words_can_be_read_and_bars_differ_in_grey(look):
    for ground in (look["paper"], look["window"], look["aside"]):
        assert contrast(look["ink"], ground) > 7
        assert contrast(look["quiet"], ground) > 4.5
        assert contrast(look["error"], ground) > 4.5
    lines = [*(f"c{n}" for n in range(SERIES)), *(f"s{n}" for n in range(LEVELS))]
    assert all(contrast(look[name], look["paper"]) > 2 for name in lines)
    assert contrast(look["window"], look["aside"]) > 1.15
    assert contrast(look["wait"], look["decode"]) > 1.8
    assert contrast(look["decode"], look["pause"]) > 1.8


@pytest.mark.parametrize("there", [True, False])
def test_names_in_other_scripts_are_drawn_where_a_font_has_them(monkeypatch, there):
    has = there and len(fonts()) > 1 and words._font_has("模")
    monkeypatch.setattr(words, "fonts", lambda: fonts() if there else [FONT])
    words._font_has.cache_clear()
    assert drawable("模型 ok") == ("模型 ok" if has else "?? ok")
    words._font_has.cache_clear()
    assert fonts()[0] == FONT


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.0, "0"), (0.1 + 0.2, "0.3"), (2.5, "2.5"), (12.5, "12.5"), (17.5, "17.5"), (20.0, "20"),
     (1500.0, "1,500"), (1_250_000.0, "1,250,000"), (-12.5, "-12.5"), (0.00125, "0.00125")],
)  # fmt: skip
def test_ticks_are_labelled_with_what_they_are(value: float, label: str) -> None:
    assert plain_numbers()(value) == label
