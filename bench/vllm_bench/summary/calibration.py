"""The client's own error at one load, as calibrate.py measures it and the summary shows it."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ..figures.digits import markdown_table, short
from ..records.kinds import number
from ..records.request_record import RecordsError
from ..records.row import Column, column_docs
from ..records.safe_file import read_regular, write_atomically

EXACT_MS = 0.1  # a token's stamp at p99: a hundredth of the shortest gaps that servers make
MOST_BYTES = 1_000_000
EXACT_PERCENT = 0.1  # reads with several events: they can't move a p99


def _doc(heading: str, text: str, **more: Any) -> Any:
    return field(metadata={"heading": heading, "description": text}, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One level: times in ms, against the simulator's own record of what it did."""

    streams: int = _doc("streams", "streams held open")
    tokens_per_s: float = _doc("tok/s", "tokens per second over all streams")
    ttft_set_ms: float = _doc("TTFT set", "time to first token that the simulator was set to")
    ttft_mean_ms: float = _doc("TTFT mean", "mean TTFT that the client reports")
    ttft_error_mean_ms: float = _doc("TTFT error mean", "client's TTFT minus the server's own")
    ttft_error_p99_ms: float | None = _doc("TTFT error p99", "the same at p99")
    before_server_p99_ms: float | None = _doc(
        "of it before the server's stamp, p99",
        "from the client's send to the moment the server had read the request: the send, the "
        "network, and a server that reads late",
    )
    stamp_p50_ms: float | None = _doc("stamp error p50", "from the server's write of a token")
    stamp_p99_ms: float | None = _doc("stamp error p99", "… to the client's stamp of it")
    stamp_worst_ms: float = _doc("stamp error worst", "the worst of all tokens")
    itl_set_ms: float = _doc("ITL set", "gap between tokens that the simulator was set to")
    itl_p99_ms: float | None = _doc("ITL p99", "gaps as the client saw them")
    true_itl_p99_ms: float | None = _doc("true ITL p99", "gaps as the server made them")
    loop_lag_p99_ms: float | None = _doc("loop lag p99", "lag of the sending loop's 10 ms tick")
    loop_cpu_us: float = _doc("loop CPU µs/chunk", "CPU of the sending processes for each chunk")
    whole_cpu_us: float = _doc("whole CPU µs/chunk", "CPU of all of bench.py, start-up included")
    sender_memory_mb: float = _doc("sender MB", "peak memory of a sending process")
    parent_memory_mb: float = _doc("parent MB", "peak memory of bench.py's other process")
    # Absent in files of earlier versions.
    late_p99_ms: float | None = _doc(
        "read late p99", "how long after the kernel's stamp a token was read", default=None
    )
    merged_percent: float | None = _doc(
        "reads with several events, %", "of these only the last event is told exactly", default=None
    )
    first_merged_percent: float | None = _doc(
        "… of first reads, %", "the same of the replies' first reads", default=None
    )


FIELDS = dataclasses.fields(Calibration)
COLUMNS: tuple[Column[Calibration], ...] = tuple(
    Column(name, meaning, name) for name, meaning in column_docs(Calibration)
)


def is_exact(row: Calibration) -> bool:
    """Whether nearly every token was told to a tenth of a millisecond."""
    merged, stamp_ms = row.merged_percent, row.stamp_p99_ms
    if merged is None or stamp_ms is None:
        return False
    return merged <= EXACT_PERCENT and stamp_ms <= EXACT_MS


def judged(rows: Sequence[Calibration]) -> str:
    """Return in a line up to which load the client is exact here, and what to do for more."""
    exact = list(itertools.takewhile(is_exact, rows))
    beyond = rows[len(exact) : len(exact) + 1]
    if exact:
        said = f"Exact here up to {_load(exact[-1])}: {_errors(exact[-1])}."
    else:
        limits = f"{EXACT_MS:g} ms at p99 and {EXACT_PERCENT:g} % of such reads would be"
        said = f"Not exact here at any load that was tried ({limits})."
    said += "".join(f" At {_load(row)}: {_errors(row)}." for row in beyond)
    if not beyond:
        return f"{said} Nothing beyond was tried."
    return (
        f"{said} For more: the server on another machine, nothing else on this one, and more cores "
        "(a sending process for each 128 streams, on at most half of them)."
    )


def _load(row: Calibration) -> str:
    return f"{row.streams} streams and {row.tokens_per_s:,.0f} tokens/s"


def _errors(row: Calibration) -> str:
    merged = "an unknown share" if row.merged_percent is None else f"{row.merged_percent:.2f} %"
    stamp = "unknown" if row.stamp_p99_ms is None else f"{row.stamp_p99_ms:.3f} ms"
    return (
        f"a token's stamp off by {stamp} at p99, TTFT by {row.ttft_error_mean_ms:+.2f} ms in the "
        f"mean with its way to the server, {merged} of the reads with several events"
    )


def median_of(repeats: Sequence[Calibration]) -> Calibration:
    """Return the row of medians of the repeats of one level."""
    return Calibration(**{c.name: _median([c.value(r) for r in repeats]) for c in COLUMNS})


def _median(values: list[Any]) -> Any:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def to_markdown(rows: Sequence[Calibration], machine: str) -> str:
    """Return a table with one column per level, since there are more figures than levels."""
    streams, *figures = (
        [field.metadata["heading"], *(_cell(getattr(row, field.name)) for row in rows)]
        for field in FIELDS
    )
    table = markdown_table([streams, ["---", *["--:"] * len(rows)], *figures])
    return f"Times in ms. {machine}\n\n{table}\n"


def _cell(value: float | None) -> str:
    return str(value) if isinstance(value, int) else short(value)


def sidecar(results_folder: Path, run_id: str) -> Path:
    """Return the file with the client's error at a run's load."""
    return results_folder / "calibration" / f"{run_id}.json"


def write_sidecar(path: Path, row: Calibration) -> None:
    """Write the file with the client's error. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, orjson.dumps(dataclasses.asdict(row), option=orjson.OPT_INDENT_2))


def read_sidecar(path: Path) -> Calibration | None:
    """Return the error at a run's load; None where none was measured. Raises RecordsError."""
    try:
        found = orjson.loads(read_regular(path, MOST_BYTES))
        wrong = [f.name for f in FIELDS if f.name in found and not _is_right(f, found[f.name])]
        if wrong:
            raise RecordsError(f"{path}: not a calibration: {', '.join(wrong)}")
        return Calibration(**found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as e:
        raise RecordsError(f"{path}: not a calibration: {e}") from e


def _is_right(field: dataclasses.Field[Any], value: object) -> bool:
    return number(value) or (value is None and "None" in str(field.type))


def in_words(row: Calibration) -> str:
    """Return the error as a footnote to a run."""
    return (
        f"client's own error at {row.streams} streams and {row.tokens_per_s:,.0f} tok/s, by "
        f"calibrate.py: TTFT {row.ttft_error_mean_ms:+.2f} ms mean, "
        f"{short(row.ttft_error_p99_ms)} p99; a token's stamp {short(row.stamp_p99_ms)} ms p99"
    )
