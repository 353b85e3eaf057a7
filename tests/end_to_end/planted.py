"""Lies to plant into a run's evidence, each with what the check must say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.end_to_end.golden import Evidence, pairs

MS = 1_000_000


def victim(evidence: Evidence) -> int:
    """Return the place, in the tokens file, of a request that a lie of any kind can be told about.

    Its stream sent another one after it, and of those it has the most reads: where the machine
    was slow, several tokens may have come in one.
    """
    frame = evidence.run.frame
    order = np.argsort(frame["t_sent_s"])
    last = {stream: row for row, stream in zip(order, frame["stream_index"][order], strict=True)}
    followed = set(np.delete(frame["request_index"], list(last.values())).tolist())
    reads = np.diff(evidence.tokens["first_read"])
    indexes = evidence.tokens["request_index"]
    return max((at for at, n in enumerate(indexes) if n in followed), key=lambda at: reads[at])


def reads_of(evidence: Evidence) -> slice:
    """Return where the victim's reads lie."""
    begin, end = evidence.tokens["first_read"][victim(evidence) :][:2]
    return slice(begin, end)


def row_of(evidence: Evidence) -> int:
    """Return the place of the victim's row."""
    index = evidence.tokens["request_index"][victim(evidence)]
    return int(np.flatnonzero(evidence.run.frame["request_index"] == index)[0])


def add(evidence: Evidence, column: str, value: float) -> None:
    """Change one cell of the victim's row."""
    evidence.run.frame[column][row_of(evidence)] += value


def true_of(evidence: Evidence) -> dict[str, Any]:
    """Return the server's line of the victim."""
    name = evidence.run.frame["request_id"][row_of(evidence)]
    (line,) = [line for line in evidence.truth if line["request_id"] == name]
    return line


def start_ns(evidence: Evidence) -> int:
    assert evidence.run.info is not None
    return evidence.run.info.clock_start.monotonic_ns


def all_stamps_early(evidence: Evidence) -> None:
    """The rows say the same: only the server can tell."""
    margin_ns = min(int((p.seen.stamps_ns - p.sent_ns).min()) for p in pairs(evidence))
    early_ns = max(1 * MS, margin_ns + 1)  # 1 ms, unless the machine was slower than that
    evidence.tokens["t_ns"] -= early_ns
    for column in ("ttft_ms", "ttfa_ms", "latency_ms"):
        evidence.run.frame.columns[column] -= early_ns / 1e6
    evidence.run.frame.columns["t_end_s"] -= early_ns / 1e9


def one_stamp_early(evidence: Evidence) -> None:
    reads = reads_of(evidence)
    seen = int(evidence.tokens["events"][reads][:2].sum())  # before the third read
    sent_ns = true_of(evidence)["t_sent_ns"][seen]
    evidence.tokens["t_ns"][reads.start + 2] = sent_ns - start_ns(evidence) - 1


def a_late_send_stamp(evidence: Evidence) -> None:
    received_s = (true_of(evidence)["t_received_ns"] - start_ns(evidence)) / 1e9
    later_s = received_s - evidence.run.frame["t_sent_s"][row_of(evidence)] + 5e-6
    for column in ("t_scheduled_s", "t_sent_s", "t_end_s"):
        add(evidence, column, later_s)


def a_lost_token(evidence: Evidence) -> None:
    """The rows say the same."""
    gone = reads_of(evidence).start + 1
    events = int(evidence.tokens["events"][gone])
    for column, change in (("token_events", events), ("token_reads", 1), ("completion_tokens", 1)):
        add(evidence, column, -change)
    place = victim(evidence)
    for name in ("t_ns", "events", "tokens"):
        evidence.tokens[name] = np.delete(evidence.tokens[name], gone)
    evidence.tokens["first_read"][place + 1 :] -= 1


def a_lost_request(evidence: Evidence) -> None:
    evidence.run = dataclasses.replace(evidence.run, frame=evidence.run.frame.of(slice(-1)))


def a_request_that_the_server_never_had(evidence: Evidence) -> None:
    evidence.truth.pop()


def a_request_without_tokens(evidence: Evidence) -> None:
    """As if the tokens file had been torn off before its last request."""
    tokens = evidence.tokens
    first = tokens["first_read"]
    evidence.tokens = {name: tokens[name][: first[-2]] for name in ("t_ns", "events", "tokens")}
    evidence.tokens |= {"request_index": tokens["request_index"][:-1], "first_read": first[:-1]}


def two_rows_of_a_request(evidence: Evidence) -> None:
    names = evidence.run.frame["request_id"]
    names[0] = names[1]


def a_failure(evidence: Evidence) -> None:
    evidence.run.frame["error"][row_of(evidence)] = "HTTP 500"


def swapped_stamps(evidence: Evidence) -> None:
    first = reads_of(evidence).start
    stamps = evidence.tokens["t_ns"]
    stamps[[first + 1, first + 2]] = stamps[[first + 2, first + 1]]


def swapped_requests(evidence: Evidence) -> None:
    order = evidence.tokens["request_index"]
    order[[0, -1]] = order[[-1, 0]]


def a_token_in_another_read(evidence: Evidence) -> None:
    first = reads_of(evidence).start
    evidence.tokens["tokens"][first] += 1
    evidence.tokens["tokens"][first + 1] -= 1


def a_stamp_after_the_next_request(evidence: Evidence) -> None:
    """The row says the same, so it is the stream's next request that tells."""
    frame, row = evidence.run.frame, row_of(evidence)
    sent_s = frame["t_sent_s"]
    mine = frame["stream_index"] == frame["stream_index"][row]
    following_s = sent_s[mine & (sent_s > sent_s[row])].min()
    reads, stamps = reads_of(evidence), evidence.tokens["t_ns"]
    late_ns = round(following_s * 1e9) + 5_000 - int(stamps[reads.stop - 1])
    stamps[reads.stop - 1] += late_ns
    add(evidence, "latency_ms", late_ns / 1e6)
    add(evidence, "t_end_s", late_ns / 1e9)
    add(evidence, "tpot_ms", late_ns / 1e6 / (frame["completion_tokens"][row] - 1))
    frame["max_gap_ms"][row] = np.diff(stamps[reads]).max() / 1e6


def one_stream_too_many(evidence: Evidence) -> None:
    evidence.run.frame["stream_index"][row_of(evidence)] = evidence.run.info.concurrency


def uncounted(what: str) -> Callable[[Evidence], None]:
    """Return what makes the server's counter differ by one."""

    def plant(evidence: Evidence) -> None:
        assert evidence.run.info is not None
        after = evidence.run.info.server_counters["after"]
        assert after is not None
        after[f"vllm:{what}_total"] += 1

    return plant


def a_token_made_and_never_sent(evidence: Evidence) -> None:
    true_of(evidence)["completion_tokens"] += 1


def wrong(column: str, by: float) -> Callable[[Evidence], None]:
    """Return what puts a wrong figure into a row."""
    return lambda evidence: add(evidence, column, by)


PLANTED: list[tuple[Callable[[Evidence], None], str]] = [
    (all_stamps_early, "was seen before the server sent it"),
    (one_stamp_early, "was seen before the server sent it|out of order"),
    (a_late_send_stamp, "before it was sent"),
    (a_lost_token, "chunks were sent and"),
    (a_lost_request, "rows and truth differ"),
    (a_request_that_the_server_never_had, "rows and truth differ"),
    (a_request_without_tokens, "rows and tokens file differ"),
    (two_rows_of_a_request, "a request has two rows"),
    (a_failure, "requests failed: HTTP 500"),
    (swapped_stamps, "stamps out of order"),
    (swapped_requests, "before the server sent it|ttft_ms|token_reads|tokens of read"),
    (a_token_in_another_read, "tokens of read"),
    (a_stamp_after_the_next_request, "after the stream sent its next request"),
    (one_stream_too_many, "more streams than asked for"),
    (uncounted("generation_tokens"), "counted .* generation_tokens"),
    (uncounted("prompt_tokens"), "counted .* prompt_tokens"),
    (uncounted("request_success"), "counted .* request_success"),
    (a_token_made_and_never_sent, "the server's own tokens"),
    (wrong("completion_tokens", 1), "completion_tokens of its row"),
    (wrong("prompt_tokens", -1), "prompt_tokens"),
    (wrong("token_events", 1), "token_events of its row"),
    (wrong("token_reads", -1), "token_reads of its row"),
    (wrong("ttft_ms", 0.002), "ttft_ms"),
    (wrong("ttfa_ms", 0.002), "ttfa_ms"),
    (wrong("latency_ms", 0.0001), "latency_ms"),
    (wrong("tpot_ms", 0.0001), "tpot_ms"),
    (wrong("max_gap_ms", 0.0001), "max_gap_ms"),
    (wrong("send_lag_ms", 0.003), "send_lag_ms"),
    (wrong("t_end_s", 0.000003), "t_end_s"),
]
NAMES = [f"{number} {match}" for number, (_, match) in enumerate(PLANTED)]
