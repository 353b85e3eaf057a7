"""Results of `vllm bench serve`, in its own definitions: of all requests, TTFT from the send.

A file has one result, or with --append-result one a line. Ours are the same in `vllm/<run_id>.json`
(`summarize.py --format vllm`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from ..records.request_record import RecordsError
from ..records.safe_file import read_regular
from ..records.text import ABSENT, printable
from ..scenario.load import Load
from .comparison import Difference
from .pairs import Told

MOST_BYTES = 256_000_000  # with --save-detailed it has the text of every reply
MARKS = ("completed", "request_throughput", "output_throughput")  # keys that it always has
KEYS = {  # by the measures' names
    "output_tokens_per_s": ("output_throughput",),
    "requests_per_s": ("request_throughput",),
    "ttft_p50_ms": ("p50_ttft_ms", "median_ttft_ms"),
    "ttft_p95_ms": ("p95_ttft_ms",),
    "ttft_p99_ms": ("p99_ttft_ms",),
    "tpot_p50_ms": ("p50_tpot_ms", "median_tpot_ms"),
    "tpot_p95_ms": ("p95_tpot_ms",),
    "latency_p50_ms": ("p50_e2el_ms", "median_e2el_ms"),
    "latency_p99_ms": ("p99_e2el_ms",),
    "goodput_per_s": ("request_goodput",),
}
FACTS = ("model_id", "tokenizer_id", "backend", "num_prompts", "burstiness", "max_concurrency")
THEIR_WAY = "figures as `vllm bench serve` defines them: of all requests, TTFT from the send"
Result = dict[str, Any]


def is_vllm(path: Path) -> bool:
    """Whether a file has results of `vllm bench serve`."""
    try:
        return bool(read_results(path))
    except RecordsError:
        return False


def read_results(path: Path) -> list[Result]:
    """Return the results in a file. Raises RecordsError: none, or it can't be read."""
    if path.suffix not in (".json", ".jsonl"):
        raise RecordsError(f"{path}: not a JSON of `vllm bench serve`")
    try:
        found = _parsed(read_regular(path, MOST_BYTES))
    except OSError as e:
        raise RecordsError(f"{path}: can't be read: {e.strerror}") from e
    except ValueError as e:
        raise RecordsError(f"{path}: not a JSON of `vllm bench serve`: {e}") from e
    if not found or not all(isinstance(one, dict) and {*MARKS} <= one.keys() for one in found):
        raise RecordsError(f"{path}: not a JSON of `vllm bench serve`: no {', '.join(MARKS)}")
    return found


def _parsed(data: bytes) -> list[Any]:
    try:
        return [orjson.loads(data)]
    except ValueError:
        return [orjson.loads(line) for line in data.splitlines() if line.strip()]


def told(name: str, result: Result) -> Told:
    """Return what a result tells of the measures."""
    found = {measure: _first(result, keys) for measure, keys in KEYS.items()}
    known = {measure: value for measure, value in found.items() if value is not None}
    done, failed = _number(result.get("completed")), _number(result.get("failed"))
    asked = _number(result.get("num_prompts")) if failed is None else (done or 0) + failed
    if done is not None and asked:
        known["success_rate"] = done / asked
    return Told(name, _load(result), known)


def _first(result: Result, keys: Sequence[str]) -> float | None:
    return next((value for key in keys if (value := _number(result.get(key))) is not None), None)


def _number(value: object) -> float | None:
    """Return a figure; None: there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _load(result: Result) -> Load:
    """Return the load: the rate asked for, else how many were in flight at most, or at once."""
    rate = _number(result.get("request_rate"))
    if rate:
        return Load("requests/s", rate)
    streams = _number(result.get("max_concurrency")) or _number(result.get("num_prompts"))
    return Load("streams", streams or 0)


def facts_apart(a: Sequence[Result], b: Sequence[Result]) -> tuple[Difference, ...]:
    """Return in which settings the results of the sides differ."""
    found = []
    for key in FACTS:
        one, other = (dict.fromkeys(_shown(r.get(key)) for r in side) for side in (a, b))
        if one.keys() != other.keys():
            found.append(Difference(key, ", ".join(one), ", ".join(other)))
    return tuple(found)


def _shown(value: object) -> str:
    return ABSENT if value is None else printable(value, 80)
