"""The client's error: a run compared with the server's own record of when it sent what.

The simulator's truth file has, for each request, when its last byte came and when each chunk was
handed to the socket, by the client's clock. What the client reports beyond that is its own error,
that of the network, and that of a server that reads late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..records.find_runs import Run
from ..records.request_record import RecordsError
from ..stats.batches import Values
from ..stats.distribution import Distribution, describe

Stamps = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrueRequest:
    """What the server recorded of one request; ns of the monotonic clock."""

    received_ns: int
    sent_ns: Stamps


@dataclass(frozen=True, slots=True)
class Errors:
    """The client's error over a run, in ms. A negative error would mean a wrong clock."""

    requests: int
    tokens: int
    ttft_ms: Distribution  # as the client reports it, to compare with the error
    ttft_error_ms: Distribution  # the client's TTFT minus the server's own
    send_ms: Distribution  # the part before: from the client's stamp to the server's
    stamp_ms: Distribution  # from the server's stamp of a token to the client's
    itl_ms: Distribution  # gaps between reads as the client saw them
    true_itl_ms: Distribution  # gaps as the server made them


def read_truth(path: Path) -> dict[str, TrueRequest]:
    """Read a truth file into {request id: what was sent}. Raises RecordsError."""
    try:
        return dict(_requests(path.read_bytes().splitlines()))
    except OSError as e:
        raise RecordsError(f"{path}: can't be read: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise RecordsError(f"{path}: not a truth file: {e}") from e


def _requests(lines: list[bytes]) -> Iterator[tuple[str, TrueRequest]]:
    for line in lines:
        row = orjson.loads(line)
        sent = np.array(row["t_sent_ns"], dtype=np.int64)
        yield row["request_id"], TrueRequest(row["t_received_ns"], sent)


def client_errors(
    run: Run, tokens: Mapping[str, NDArray[Any]], truth: Mapping[str, TrueRequest]
) -> Errors:
    """Return the client's error over the successes of a run. Raises RecordsError.

    The client must have seen each chunk that the server sent. Otherwise a token was lost, and times
    can't be compared.
    """
    seen = seen_requests(run, tokens)
    pairs = [(request, _true_of(run, request, truth)) for request in seen]
    if not pairs:
        raise RecordsError(f"{run.path}: no request succeeded")
    ttft = np.array([r.stamps_ns[0] - r.sent_ns for r, _ in pairs])
    true_ttft = np.array([t.sent_ns[0] - t.received_ns for _, t in pairs])
    return Errors(
        requests=len(pairs),
        tokens=sum(len(r.stamps_ns) for r, _ in pairs),
        ttft_ms=_in_ms(ttft),
        ttft_error_ms=_in_ms(ttft - true_ttft),
        send_ms=_in_ms(np.array([t.received_ns - r.sent_ns for r, t in pairs])),
        stamp_ms=_in_ms(np.concatenate([r.stamps_ns - t.sent_ns for r, t in pairs])),
        itl_ms=_in_ms(np.concatenate([np.diff(r.stamps_ns) for r, _ in pairs])),
        true_itl_ms=_in_ms(np.concatenate([np.diff(t.sent_ns) for _, t in pairs])),
    )


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """What the client recorded of one request; ns of the monotonic clock."""

    request_id: str
    sent_ns: int
    stamps_ns: Stamps  # one for each token event


def seen_requests(run: Run, tokens: Mapping[str, NDArray[Any]]) -> list[SeenRequest]:
    """Return the successes with the stamps of their token events. Raises RecordsError."""
    if run.info is None:
        raise RecordsError(f"{run.path}: no run's JSON to say when it started")
    start_ns = run.info.clock_start.monotonic_ns
    first = tokens["first_read"]
    places = {int(index): place for place, index in enumerate(tokens["request_index"])}
    rows = run.frame.of(~run.frame.has("error_kind"))
    found = []
    sent = zip(rows["request_index"], rows["request_id"], rows["t_sent_s"], strict=True)
    for index, request_id, sent_s in sent:
        place = places[int(index)]
        reads = slice(first[place], first[place + 1])
        stamps = np.repeat(tokens["t_ns"][reads], tokens["events"][reads]) + start_ns
        sent_ns = start_ns + round(float(sent_s) * 1e9)
        found.append(SeenRequest(str(request_id), sent_ns, stamps))
    return found


def _true_of(run: Run, request: SeenRequest, truth: Mapping[str, TrueRequest]) -> TrueRequest:
    true = truth.get(request.request_id)
    if true is None:
        raise RecordsError(f"{run.path}: the truth file has no request {request.request_id}")
    sent, seen = len(true.sent_ns), len(request.stamps_ns)
    if sent != seen:
        raise RecordsError(f"{request.request_id}: {sent} chunks were sent and {seen} were seen")
    return true


def _in_ms(values_ns: NDArray[Any]) -> Distribution:
    values: Values = values_ns.astype(np.float64) / 1e6
    found = describe(values)
    assert found is not None  # there is a request, and it has at least two tokens
    return found


def error_figures(errors: Errors) -> dict[str, float | None]:
    """Return the figures of a `Calibration` that are errors."""
    return {
        "ttft_mean_ms": errors.ttft_ms.mean,
        "ttft_error_mean_ms": errors.ttft_error_ms.mean,
        "ttft_error_p99_ms": errors.ttft_error_ms.percentile(99),
        "before_server_p99_ms": errors.send_ms.percentile(99),
        "stamp_p50_ms": errors.stamp_ms.percentile(50),
        "stamp_p99_ms": errors.stamp_ms.percentile(99),
        "stamp_worst_ms": errors.stamp_ms.max,
        "itl_p99_ms": errors.itl_ms.percentile(99),
        "true_itl_p99_ms": errors.true_itl_ms.percentile(99),
    }
