"""A run held against the server's own record, to the token: what must hold on any machine.

Nothing here is a measure of speed. Causes come before their effects, orders are the same on
both sides, sums agree exactly, and each figure of a row is what its stamps say. A rule that is
broken raises AssertionError and names the request.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from vllm_bench.records.beside.token_file import load
from vllm_bench.records.find_runs import Run, load_run
from vllm_bench.summary.truth import SeenRequest, seen_requests

from tests.sim.simulated import Simulated
from tests.support.running import BENCH, OWN_CLOCK, run_bench, write_scenario

EXACT = ("--exact", "--ttft-ms", "6", "--itl-ms", "1.5", "--model", "exact")  # the simulator's
SETTINGS = {
    "model": "exact",
    "max_new_tokens": 24,
    "ignore_eos": True,
    "concurrencies": [8],
    "num_requests": 32,
}
LIBRARY = str(BENCH.parent)
US = 1_000  # what the CSV's times in seconds are rounded to, in ns
ROUNDED_MS = 2e-6  # two of the CSV's figures in ms, each rounded to a nanosecond


@dataclass(slots=True)
class Evidence:
    """What client and server each wrote down of one run."""

    run: Run  # rows and JSON
    tokens: dict[str, NDArray[Any]]  # the tokens file
    truth: list[dict[str, Any]]  # the server's lines

    @property
    def choices(self) -> int:
        """Replies that each request asked for."""
        assert self.run.info is not None
        return int(self.run.info.scenario["extra_body"].get("n", 1))


def measured(
    folder: Path, server: Simulated, *words: str, clock: str = "kernel", **settings: object
) -> Evidence:
    """Run bench.py against the simulator, stop both, and return what they wrote down.

    `clock`: what should stamp, the kernel or the sending process.
    """
    scenario = write_scenario(folder, base_url=f"{server.url}/v1", **{**SETTINGS, **settings})
    script, more = (BENCH, {}) if clock == "kernel" else (OWN_CLOCK, {"PYTHONPATH": LIBRARY})
    done = run_bench(folder, scenario, *words, script=script, **more)
    # 4: the machine was too slow for a run worth believing. The stamps must be right all the same.
    assert done.returncode in (0, 4), done.stderr
    (path,) = (folder / "results").glob("*.csv")
    tokens = load(path.parent / "tokens" / f"{path.stem}.npz")
    run = load_run(path)
    assert run.info is not None
    assert run.info.client_health["clock"] == clock
    return Evidence(run, tokens, server.truth())


@dataclass(frozen=True, slots=True)
class Pair:
    """One request as both sides saw it; times in ns of the clock that they share."""

    row: Any  # of the CSV
    seen: SeenRequest
    reads: dict[str, NDArray[Any]]  # stamp, events and tokens of each
    sent_ns: NDArray[np.int64]  # of each chunk that the server handed to its socket
    sent_tokens: NDArray[np.int64]
    true: dict[str, Any]
    unsure_ns: int  # by which the clock of its machine, of several, may be off the server's
    choices: int  # replies that it asked for

    @property
    def name(self) -> str:
        """What to call it when a rule is broken."""
        return str(self.true["request_id"])


def pairs(evidence: Evidence) -> Iterator[Pair]:
    """Yield each request with its counterpart."""
    truth = {line["request_id"]: line for line in evidence.truth}
    seen = {request.request_id: request for request in seen_requests(evidence.run, evidence.tokens)}
    first = evidence.tokens["first_read"]
    places = {int(n): at for at, n in enumerate(evidence.tokens["request_index"])}
    unsure_ns = _unsure_ns(evidence.run)
    for row in pd.DataFrame(evidence.run.frame.columns).itertuples(index=False):
        at = places[int(row.request_index)]
        reads = {
            name: evidence.tokens[name][first[at] : first[at + 1]]
            for name in ("t_ns", "events", "tokens")
        }
        true = truth[row.request_id]
        sent = (np.array(true[key], dtype=np.int64) for key in ("t_sent_ns", "tokens"))
        unsure = unsure_ns.get(row.machine, 0)
        yield Pair(row, seen[row.request_id], reads, *sent, true, unsure, evidence.choices)


def _unsure_ns(run: Run) -> dict[str, int]:
    """Return the ± of each machine's clock; none: one machine sent, whose clock is the server's."""
    assert run.info is not None
    machines = run.info.client_health.get("machines") or []
    return {one["machine"]: round(one["offset_error_ms"] * 1e6) for one in machines}


def check(evidence: Evidence) -> None:
    """Raise AssertionError where a rule is broken."""
    check_nothing_is_missing(evidence)
    check_sums(evidence)
    for pair in pairs(evidence):
        check_order(pair)
        check_causes(pair)
        check_row(pair)
    check_streams(evidence)


def check_nothing_is_missing(evidence: Evidence) -> None:
    """Each request stands once in the rows, in the tokens file and in the server's record."""
    frame, tokens = evidence.run.frame, evidence.tokens
    failed = frame["error"][frame.has("error")]
    assert not failed.size, f"requests failed: {failed[0]}"
    ids = sorted(frame["request_id"])
    assert len(set(ids)) == len(ids), "a request has two rows"
    assert ids == sorted(line["request_id"] for line in evidence.truth), "rows and truth differ"
    indexes = sorted(tokens["request_index"])
    assert indexes == sorted(frame["request_index"]), "rows and tokens file differ"
    reads = np.diff(tokens["first_read"])
    assert len(reads) == len(indexes), "first_read has not one entry a request, and one more"
    assert (reads > 0).all(), "a request without a read"
    assert reads.sum() == len(tokens["t_ns"]), "reads that belong to no request"


def check_sums(evidence: Evidence) -> None:
    """Both sides counted the same, for each request and over all."""
    for pair in pairs(evidence):
        row, sent = pair.row, len(pair.sent_ns)
        events = len(pair.seen.stamps_ns)
        assert events == sent, f"{pair.name}: {sent} chunks were sent and {events} seen"
        assert row.token_events == sent, f"{pair.name}: token_events of its row"
        assert row.token_reads == len(pair.reads["t_ns"]), f"{pair.name}: token_reads of its row"
        made = pair.true["completion_tokens"]
        assert pair.sent_tokens.sum() == made, f"{pair.name}: the server's own tokens"
        assert row.completion_tokens == made, f"{pair.name}: completion_tokens of its row"
        assert row.prompt_tokens == pair.true["prompt_tokens"], f"{pair.name}: prompt_tokens"
    frame, choices = evidence.run.frame, evidence.choices
    expected = {
        "generation_tokens": frame["completion_tokens"].sum(),
        # Each of n choices is a request of its own to the engine, which has the prompt again.
        "prompt_tokens": frame["prompt_tokens"].sum() * choices,
        "request_success": len(frame) * choices,
    }
    assert evidence.run.info is not None
    counters = evidence.run.info.server_counters
    before, after = counters["before"], counters["after"]
    assert before is not None
    assert after is not None
    for name, value in expected.items():
        counted = after[f"vllm:{name}_total"] - before[f"vllm:{name}_total"]
        assert counted == value, f"/metrics counted {counted:g} {name}, the rows {value}"


def check_order(pair: Pair) -> None:
    """The client's reads are in order, and bring the server's chunks in the server's order."""
    stamps, events, tokens = (
        pair.reads[name].astype(np.int64) for name in ("t_ns", "events", "tokens")
    )
    assert (np.diff(stamps) > 0).all(), f"{pair.name}: stamps out of order"
    assert (events > 0).all(), f"{pair.name}: a read that brought nothing"
    if not tokens.any():  # the client says that it can't know, which is so only then
        assert (pair.sent_tokens > 1).any(), f"{pair.name}: tokens of its reads are not known"
        return
    starts = np.concatenate([[0], np.cumsum(events)[:-1]])
    brought = np.add.reduceat(pair.sent_tokens, starts)
    wrong = np.flatnonzero(tokens != brought)
    assert not wrong.size, f"{pair.name}: tokens of read {wrong[0]}: not what the server sent then"


def check_causes(pair: Pair) -> None:
    """Nothing was seen before it was done; nothing was done before it was asked for."""
    ahead = pair.seen.sent_ns - pair.true["t_received_ns"] - pair.unsure_ns
    assert ahead <= US, f"{pair.name}: the server had it {ahead} ns before it was sent"
    early = np.flatnonzero(pair.seen.stamps_ns + pair.unsure_ns < pair.sent_ns)
    assert not early.size, f"{pair.name}: chunk {early[0]} was seen before the server sent it"


def check_row(pair: Pair) -> None:
    """The figures of a row are those of its stamps."""
    row, stamps = pair.row, pair.seen.stamps_ns
    last_ms = (stamps[-1] - stamps[0]) / 1e6
    gaps = np.diff(pair.reads["t_ns"]) / 1e6
    # t_sent_s is the one time that only the CSV has, rounded to a microsecond.
    _near(pair, "ttft_ms", (stamps[0] - pair.seen.sent_ns) / 1e6, US / 1e6)
    _near(pair, "latency_ms", row.ttft_ms + last_ms)
    _near(pair, "tpot_ms", last_ms / (row.completion_tokens / pair.choices - 1))
    if gaps.size:
        _near(pair, "max_gap_ms", gaps.max())
    else:  # a machine so slow that all came in one read
        assert math.isnan(row.max_gap_ms), f"{pair.name}: max_gap_ms of a single read"
    _near(pair, "send_lag_ms", (row.t_sent_s - row.t_scheduled_s) * 1e3, 2 * US / 1e6)
    _near(pair, "t_end_s", row.t_sent_s + row.latency_ms / 1e3, 2 * US / 1e9)
    visible = row.ttfa_ms
    if not math.isnan(visible):  # some token was no reasoning
        since = (stamps - stamps[0]) / 1e6 + row.ttft_ms
        assert abs(since - visible).min() <= ROUNDED_MS, f"{pair.name}: ttfa_ms: no stamp"


def _near(pair: Pair, column: str, expected: float, allowed: float = ROUNDED_MS) -> None:
    found = getattr(pair.row, column)
    assert abs(found - expected) <= allowed, f"{pair.name}: {column} {found}, not {expected:.6f}"


def check_streams(evidence: Evidence) -> None:
    """A stream sends its next request when its last reply is there, and not before."""
    by_stream: dict[int, list[Pair]] = {}
    for pair in sorted(pairs(evidence), key=lambda pair: pair.seen.sent_ns):
        by_stream.setdefault(int(pair.row.stream_index), []).append(pair)
    assert set(by_stream) <= set(range(evidence.run.info.concurrency)), (
        "more streams than asked for"
    )
    for stream in by_stream.values():
        for one, following in itertools.pairwise(stream):
            late = one.seen.stamps_ns[-1] - following.seen.sent_ns
            assert late <= US, (
                f"{one.name}: a token was seen after the stream sent its next request"
            )
            received = (one.true["t_received_ns"], following.true["t_received_ns"])
            assert received[0] < received[1], f"{one.name}: received out of its stream's order"
