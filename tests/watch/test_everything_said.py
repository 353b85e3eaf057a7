"""All that a server says is kept, only what changed is written, and any reading can be rebuilt."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.beside.labels import labels_of
from vllm_bench.records.beside.said_file import Said
from vllm_bench.records.beside.sample_file import read_server
from vllm_bench.vllm.page import NAME
from vllm_bench.vllm.page_reader import PageReader
from vllm_bench.watch.vllm_metrics import ServerMetricsSampler, ServerRecording

RUNNING = 'vllm:num_requests_running{engine="0"} 1\n'
Key = tuple[str | None, str, tuple[tuple[str, str], ...]]


def recorded(folder: Path, pages: Sequence[str], **more: Any) -> tuple[Said, Path]:
    left = list(pages)
    path = folder / "server_metrics" / "x.csv"
    recording = ServerRecording(path)
    sampler = ServerMetricsSampler(lambda: left.pop(0), recording, **more)
    for _ in pages:
        sampler.sample()
    recording.anchor(0, 0.0)
    recording.facts()
    _, said = read_server(folder / "x.csv")
    assert said is not None
    return said, path


def page_says(text: str) -> dict[Key, str]:
    """Return what a page says, by a reader of its own: one that knows nothing of changes."""
    found: dict[Key, str] = {}
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if line.startswith(("vllm:", "process_start_time_seconds")):
            name = re.match(r"[\w:]+", head)
            assert name
            labels = labels_of(head[name.end() :])
            engine = labels.pop("engine", None)
            found[engine, name.group(), tuple(sorted(labels.items()))] = repr(float(value))
    return found


def at(said: Said, reading: int) -> dict[Key, float]:
    """Return all that the page of one reading said."""
    found = {}
    for one in said.series:
        row = int(np.searchsorted(one.at, reading, side="right")) - 1
        if row >= 0 and one.there[row]:
            found[one.engine, one.name, tuple(sorted(one.labels.items()))] = float(one.values[row])
    return found


def rebuilt(said: Said, reading: int) -> dict[Key, str]:
    return {key: repr(value) for key, value in at(said, reading).items()}


names = st.sampled_from(["vllm:a_total", "vllm:new_family", "vllm:h_bucket", "vllm:kv_x{y"]).map(
    lambda name: name.partition("{")[0]
)
# Whatever is printable, quotes, backslashes, braces, commas and blanks among it.
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp", "Zs"]) | st.just(" "),
    max_size=6,
).map(str.strip)
values = st.floats(width=64) | st.integers(0, 10**12).map(float) | st.just(1.0)
series = st.tuples(names, st.sampled_from([None, "0", "1"]), st.none() | texts)


def line_of(one: tuple[str, str | None, str | None], value: float) -> str:
    name, engine, label = one
    pairs = [] if engine is None else [f'engine="{engine}"']
    if label is not None:
        escaped = label.replace("\\", "\\\\").replace('"', '\\"')
        pairs.append(f'le="{escaped}"')
    return f"{name}{'{' + ','.join(pairs) + '}' if pairs else ''} {value!r}\n"


pages = st.dictionaries(series, values, max_size=8).map(
    lambda found: RUNNING + "".join(line_of(one, value) for one, value in found.items())
)


@given(st.lists(pages, min_size=1, max_size=6))
def test_any_reading_can_be_rebuilt_from_what_changed(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        said, _ = recorded(Path(name), texts)
    assert len(said.t_s) == len(texts)
    for number, text in enumerate(texts):
        assert rebuilt(said, number) == page_says(text)


@given(st.lists(pages, min_size=1, max_size=3), st.integers(1, 3))
def test_a_page_that_is_said_again_has_no_row_but_its_own(texts: list[str], again: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        said, path = recorded(Path(name), [*texts, *[texts[-1]] * again])
        lines = path.read_text().splitlines()
    last = [line for line in lines[1:] if float(line.split(",")[0]) >= said.t_s[-again]]
    assert {line.split(",")[1] for line in last} <= {"0", "1", "2"}


def wire(shared: Path, name: str) -> str:
    return (shared / name).read_text().partition("\n\n")[2]


@pytest.mark.parametrize(
    "name",
    ["wire/metrics_under_load", "wire2/metrics_two_engines", "wire2/metrics_ngram",
     "wire2/metrics_lora_under_load", "wire2/metrics_vision"],
)  # fmt: skip
def test_a_real_page_is_kept_whole(shared: Path, tmp_path: Path, name: str) -> None:
    text = wire(shared, f"{name}.txt")
    said, _ = recorded(tmp_path, [text])
    assert rebuilt(said, 0) == page_says(text)
    families = set(re.findall(r"(?m)^# TYPE (vllm:\S+)", text)) - {"vllm:lora_requests_info"}
    assert len(families) >= 38
    assert all(any(one.name.startswith(family) for one in said.series) for family in families)


def test_a_restart_and_a_family_that_comes_and_goes_are_kept(tmp_path: Path) -> None:
    more = 'vllm:x_total{engine="0",kind="a"} 3\n'
    texts = [RUNNING, RUNNING + more, RUNNING, RUNNING + more]
    said, path = recorded(tmp_path, texts)
    assert [len(at(said, i)) for i in range(4)] == [1, 2, 1, 2]
    rows = [line for line in path.read_text().splitlines() if line.split(",")[1] == "4"]
    assert [line.split(",", 2)[2] for line in rows] == [
        '3,0,vllm:x_total,"kind=""a"""', ",,,", "3,,,",
    ]  # fmt: skip


def test_a_page_that_cannot_be_read_loses_no_change(tmp_path: Path) -> None:
    one, two = RUNNING, RUNNING.replace("1\n", "2\n")
    said, _ = recorded(tmp_path, [one, "vllm:num_requests_running{ 2\n", two, ""])
    assert len(said.t_s) == 2
    assert [rebuilt(said, i) for i in range(2)] == [page_says(one), page_says(two)]


def test_lines_with_a_time_or_an_exemplar_are_read(tmp_path: Path) -> None:
    text = (
        'vllm:num_requests_running{engine="0"} 4 1700000000\n'
        'vllm:h_bucket{engine="0",le="1"} 5 # {trace="x"} 0.3\n'
    )
    said, _ = recorded(tmp_path, [text, text.replace("} 4", "} 6").replace("} 5", "} 7")])
    found = [{key[1]: value for key, value in at(said, i).items()} for i in range(2)]
    assert found == [
        {"vllm:num_requests_running": 4.0, "vllm:h_bucket": 5.0},
        {"vllm:num_requests_running": 6.0, "vllm:h_bucket": 7.0},
    ]


def test_no_secret_and_no_control_character_reaches_the_file(tmp_path: Path) -> None:
    text = f'{RUNNING}vllm:x{{path="key sk-very-secret",url="http://u:pw@h/",bad="\x1b[2J"}} 1\n'
    mask = PageReader.__init__.__defaults__
    assert mask == (str,)
    _, path = recorded(tmp_path, [text], mask=lambda t: t.replace("sk-very-secret", "***"))
    kept = path.read_text()
    assert "sk-very-secret" not in kept
    assert "\x1b" not in kept


def test_a_name_that_only_begins_like_a_known_one_is_left_out(tmp_path: Path) -> None:
    assert NAME.match("process_start_time_seconds_of_others 3")
    said, _ = recorded(tmp_path, [f"{RUNNING}process_start_time_seconds_of_others 3\nother 4\n"])
    assert len(at(said, 0)) == 1
