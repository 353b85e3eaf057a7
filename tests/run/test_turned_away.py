"""bench.py against a server that turns requests away, is away itself, or closes under a request."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.far_end import (
    CLOSE,
    LAST_CHUNK,
    RESET,
    SSE_HEAD,
    Request,
    Step,
    TinyVllm,
    chunk,
    event,
)
from tests.support.running import ROOT, info, rows, run_bench, tiny_scenario

pytestmark = pytest.mark.process
Scenarios = Callable[..., Path]


@pytest.fixture
def scenarios(tmp_path: Path, tiny_vllm: TinyVllm) -> Scenarios:
    """Return what writes a scenario file: 12 requests of 4 tokens over 3 streams, or as told."""
    settings = {"base_url": tiny_vllm.base_url, "concurrencies": [3], "num_requests": 12}
    return lambda **changes: tiny_scenario(tmp_path, **{**settings, **changes})


BUSY: list[Step] = [b"HTTP/1.1 503 X\r\ncontent-length: 4\r\n\r\nbusy"]
SLOW_DOWN: list[Step] = [b"HTTP/1.1 429 X\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nslow"]
FULL: list[Step] = [
    SSE_HEAD,
    chunk(event({"error": {"message": "the queue is full", "code": 503}}) + event("[DONE]")),
    LAST_CHUNK,
]


@pytest.mark.parametrize(
    ("script", "kind"),
    [(BUSY, "http_5xx"), (SLOW_DOWN, "http_429"), (FULL, "error_event"), ([RESET], "truncated")],
    ids=["503", "429", "503 in a stream", "reset"],
)
def test_a_stream_that_was_turned_away_waits_and_says_so(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, script: list[Step], kind: str
) -> None:
    tiny_vllm.misbehave = lambda number: script if number <= 6 else None
    run_bench(tmp_path, scenarios(num_requests=24))
    found = rows(tmp_path)
    assert len(found) == 24
    failed = found[found["error_kind"].notna()]
    assert dict(Counter(failed["error_kind"])) == {kind: 6}
    assert (found["waited_ms"] > 0).sum() == 6  # one after each
    waits = sorted(found["waited_ms"][found["waited_ms"] > 0])
    if kind == "http_429":
        assert waits == [1000.0] * 6
    else:
        assert all(50 <= wait <= 100 for wait in waits[:3])
        assert all(100 <= wait <= 200 for wait in waits[3:])
    for _, group in found.groupby("stream_index"):
        ordered = group.sort_values("t_scheduled_s")
        free_s = ordered["t_end_s"].iloc[:-1].to_numpy()
        begun_s = (ordered["t_scheduled_s"] - ordered["waited_ms"] / 1000).iloc[1:].to_numpy()
        assert (begun_s >= free_s - 0.001).all()
    assert (found["send_lag_ms"].dropna() >= 0).all()  # the clock starts after the wait


def test_conversations_and_open_loops_record_what_was_turned_away(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.misbehave = lambda number: BUSY if number <= 4 else None
    run_bench(tmp_path, scenarios(concurrencies=[2], conversations={"turns": 3}, num_requests=21))
    found = rows(tmp_path)
    # Four of seven conversations end with their first turn: without its answer there is no second.
    assert (len(found), found["error_kind"].notna().sum()) == (4 + 3 * 3, 4)
    assert (found["waited_ms"] > 0).sum() == 4
    assert info(tmp_path).sessions["turns_not_sent"] == 4 * 2


def test_arrivals_of_an_open_loop_are_not_held_back(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.misbehave = lambda number: BUSY if number <= 6 else None
    run_bench(tmp_path, scenarios(concurrencies=[], request_rates=[100.0]))
    found = rows(tmp_path)
    assert (found["waited_ms"] == 0).all()
    assert (found["error_kind"] == "http_5xx").sum() == 6


@pytest.mark.parametrize("load", [{"concurrencies": [3, 4]}, {"request_rates": [50.0, 60.0]}])
def test_a_server_that_is_gone_for_good_ends_the_level_and_begins_no_other(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, load: dict[str, Any]
) -> None:
    tiny_vllm.misbehave = lambda number: [RESET] if number > 12 else None
    path = scenarios(**{"concurrencies": [], **load}, num_requests=1000)
    done = run_bench(tmp_path, path, "--give-up-s", "0.5")
    run, found = info(tmp_path), rows(tmp_path)
    assert (done.returncode, run.status) == (1, "failed")
    assert any("gave up" in note for note in run.notes)
    assert sum("gave up" in line for line in done.stderr.splitlines()) == 1
    assert found["error_kind"].isna().sum() == 12
    assert 12 < len(found) < 1000


def test_a_server_that_turns_some_away_is_not_gone(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 1.0  # one stream goes on for four seconds, and brings few reads
    tiny_vllm.misbehave = lambda number: BUSY if 1 < number < 60 else None
    done = run_bench(tmp_path, scenarios(num_requests=14), "--give-up-s", "0")
    assert info(tmp_path).status == "complete", done.stderr
    found = rows(tmp_path)
    assert len(found) == 14
    assert found["waited_ms"].sum() > 2 * 2000  # two streams, for longer than a server may be gone


class ClosesEarly(TinyVllm):
    """Closes a connection when its third request comes, unread for all that anybody knows."""

    async def answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        before = [r for r in self.requests if r.connection == request.connection]
        if "completions" in request.path and len(before) == 3:
            return await self.play([CLOSE], reader, writer)
        return await super().answer(request, reader, writer)


@pytest.mark.parametrize(
    "load",
    [
        {"concurrencies": [4]},
        {"concurrencies": [4], "conversations": {"turns": 4}},
        {"concurrencies": [], "request_rates": [200.0], "max_in_flight": 2},
    ],
    ids=["closed", "conversations", "open"],
)
def test_a_request_that_crosses_a_close_goes_once_more(
    scenarios: Scenarios, tmp_path: Path, load: dict[str, Any]
) -> None:
    with ClosesEarly() as server:
        run_bench(tmp_path, scenarios(base_url=server.base_url, **load, num_requests=40))
    found = rows(tmp_path)
    assert len(found) == 40
    assert found["error_kind"].isna().all(), Counter(found["error"])
    assert set(found["resent"]) == {0, 1}
    resent = found[found["resent"] == 1]
    assert resent["connect_ms"].notna().all()
    # The clock runs from the first send.
    assert (resent["ttft_ms"] >= resent["connect_ms"]).all()
    bodies = Counter(
        r.headers["x-request-id"] for r in server.requests if "x-request-id" in r.headers
    )
    assert sorted(bodies[i] for i in found["request_id"]) == sorted(1 + found["resent"])


def test_a_run_says_what_broke_a_sending_process(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(
        "from vllm_bench.send import lanes\n"
        "real = lanes.Lanes.send\n"
        "def send(self, lane, request, slot_ns):\n"
        "    if request.index == 7: raise ZeroDivisionError('planted')\n"
        "    real(self, lane, request, slot_ns)\n"
        "lanes.Lanes.send = send\n"
    )
    path = scenarios(num_requests=40)
    done = run_bench(tmp_path, path, PYTHONPATH=f"{shim}:{ROOT / 'bench'}")
    run, found = info(tmp_path), rows(tmp_path)
    assert (done.returncode, run.status) == (1, "failed")
    assert "ZeroDivisionError: planted" in done.stderr
    assert 4 <= len(found) < 40
    assert json.dumps(run.notes).count("planted") == 1
