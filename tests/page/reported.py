"""Runs made up for the report's tests, and the page that comes of them."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from vllm_bench.charts.over_time import Room
from vllm_bench.charts.pictures import DrawnRun, drawn_run
from vllm_bench.page.page import to_html
from vllm_bench.records.beside.token_file import save
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import facts_of, summarize

from tests.support.made_runs import made_info, made_record, write_run

# Each would do something somewhere: end a script, run one, be a formula, a template, a cell.
HOSTILE = """</script><script>document.title="owned"</script><img src=x onerror="owned=1"> """ + (
    """$x^2$ {{ 7*7 }} %{x} "quoted" 'too' &amp; <b>bold</b><a href="javascript:owned=1">go</a>"""
)
INFO = ("server", "observed", "notes", "client_health")  # what a level may set of its info
SLO = {"ttft_ms": {"p95": 500.0}, "success_rate": 0.999}


def level_records(streams: int, count: int = 400, repeat: int = 0, **changes: Any) -> list[Any]:
    """Records of one level, its streams busy all the time: TTFT grows with their number."""
    rng = np.random.default_rng(streams + 1000 * repeat)
    free_s = [0.0] * streams
    found = []
    for i in range(count):
        ttft_ms = float(20 * streams * rng.lognormal(0, 0.4))
        sent_s = free_s[i % streams]
        fields = {
            "run_id": f"made-cc{streams}-{repeat}",
            "concurrency": streams,
            "t_sent_s": sent_s,
            "ttft_ms": ttft_ms,
            "latency_ms": ttft_ms + 190,
            "tpot_ms": 10.0 * streams**0.5,
            **changes,
        }
        found.append(made_record(i, **fields))
        free_s[i % streams] = found[-1].t_end_s
    return found


def write_level(folder: Path, streams: int, *, tokens: bool = True, **changes: Any) -> Path:
    """Write a run of one level, each token's stamp beside it, and return the path of its rows."""
    scenario = {"slo": SLO, **changes.pop("scenario", {})}
    info_changes = {k: changes.pop(k) for k in INFO if k in changes}
    records = changes.pop("records", None) or level_records(streams, **changes)
    path = write_run(folder, records, made_info(records, scenario=scenario, **info_changes))
    if tokens:
        (folder / "tokens").mkdir(exist_ok=True)
        save(_reads(records), folder / "tokens" / f"{path.stem}.npz")
    return path


def _reads(records: list[Any]) -> dict[str, Any]:
    """Return reads of one token each, evenly from the first token to the end."""
    streamed = [r for r in records if r.ttft_ms is not None]
    stamps = [
        np.linspace(1e9 * r.t_sent_s + 1e6 * r.ttft_ms, 1e9 * r.t_end_s, r.completion_tokens)
        for r in streamed
    ]
    counts = [len(s) for s in stamps]
    one = np.ones(sum(counts), dtype=np.uint16)
    return {
        "request_index": np.array([r.request_index for r in streamed], dtype=np.int32),
        "first_read": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "t_ns": np.concatenate(stamps).astype(np.int64),
        "events": one,
        "tokens": one,
    }


def reported(*paths: Path, most: int = 300) -> list[DrawnRun]:
    """Return what the report keeps of runs."""
    return [_reported(path, Room(most, most, 2 * most)) for path in paths]


def _reported(path: Path, room: Room) -> DrawnRun:
    run = load_run(path)
    facts = facts_of(run)
    return drawn_run(summarize(run, facts), facts, room)


def page_of(*paths: Path) -> str:
    """Return the report of runs."""
    return to_html(reported(*paths))


class Page(HTMLParser):
    """A page's elements in order, and the text of each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._texts: list[list[str]] = []  # of each element, in the order of `elements`
        self._open: list[int] = []  # places of the elements that are open
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(len(self.elements))
        self.elements.append((tag, dict(attrs)))
        self._texts.append([])
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._tag(self._open.pop()) != tag:
            pass

    def handle_data(self, data: str) -> None:
        inmost = self._tag(self._open[-1]) if self._open else ""
        if inmost == "script":
            self.scripts[-1] += data
        elif inmost != "style":
            for place in self._open:
                self._texts[place].append(data)

    def _tag(self, place: int) -> str:
        return self.elements[place][0]

    @property
    def text(self) -> str:
        """All that a reader sees, on one line."""
        return self.read("html")[0]

    def read(self, name: str) -> list[str]:
        """Return the text of each element of this tag, `.class` or `#id`, each on one line."""
        named = zip(self.elements, self._texts, strict=True)
        return [" ".join(" ".join(texts).split()) for one, texts in named if _is(name, *one)]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every such element."""
        return [attrs for name, attrs in self.elements if name == tag]


def _is(name: str, tag: str, attrs: dict[str, str | None]) -> bool:
    names = {tag, f"#{attrs.get('id')}", *(f".{c}" for c in (attrs.get("class") or "").split())}
    return name in names
