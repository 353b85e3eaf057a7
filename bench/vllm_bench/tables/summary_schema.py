"""The JSON schema of summary.json, derived from the tables that the file is written from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

import orjson

from ..figures.absent import docs_of
from ..figures.metrics import METRICS
from ..serverside.energy import Cost, Energy
from ..serverside.gpu import GpuSide, GpuUse
from ..serverside.server import ServerSide
from ..summary.stability import State
from ..verdict.finding import Severity
from ..verdict.verdict import LEVELS
from .columns import summary_column_docs
from .document import SCHEMA_VERSION
from .level_columns import level_column_docs

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
YES_OR_NO: Schema = {"type": "boolean"}
CELL: Schema = {"type": ["string", "number", "null"]}


def _object(**properties: Schema) -> Schema:
    """Return an object with exactly these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _columns(docs: Iterable[tuple[str, str]]) -> Schema:
    return _object(**{name: {**CELL, "description": doc} for name, doc in docs})


def _one_of(words: Iterable[str]) -> Schema:
    return {"enum": list(words)}


def _figures(kind: type[Any], **more: Schema) -> Schema:
    """Return a group of figures: those made with `doc`, each with its meaning, and `more`."""
    hints = get_type_hints(kind)
    told = {n: {**_of_type(hints[n]), "description": doc} for n, doc in docs_of(kind)}
    return _object(**told, **more)


def _of_type(hint: object) -> Schema:
    if hint is int:
        return COUNT
    return _or_null(TEXT if str in get_args(hint) else NUMBER)


INTERVAL = _or_null(_object(low=NUMBER, high=NUMBER))
LOAD = _object(unit=_one_of(["streams", "requests/s"]), value=NUMBER, speed=_or_null(NUMBER))
DISTRIBUTION = _object(
    n=COUNT,
    mean=NUMBER,
    std=NUMBER,
    min=NUMBER,
    max=NUMBER,
    percentiles=_list(_object(percentile=NUMBER, value=NUMBER, within_run=INTERVAL)),
)
OUTCOME = _object(
    metric=_or_null(TEXT),
    share=NUMBER,
    limit_ms=_or_null(NUMBER),
    arrivals=COUNT,
    within=COUNT,
    met=YES_OR_NO,
    short_of=COUNT,
    interval=INTERVAL,
    unmeasured=_or_null(TEXT),
    words=TEXT,
)
OBJECTIVES = _object(
    met=YES_OR_NO,
    arrivals=COUNT,
    good=COUNT,
    attainment=_or_null(NUMBER),
    interval=INTERVAL,
    goodput_per_s=_or_null(NUMBER),
    outcomes=_list(OUTCOME),
)
FINDING = _object(code=TEXT, severity=_one_of(s.name for s in Severity), figures=TEXT, advice=TEXT)
REASONS: Schema = {"type": "object", "additionalProperties": TEXT}  # by figure that is null
GPU = _figures(
    GpuUse,
    index=COUNT,
    name=_or_null(TEXT),
    samples=COUNT,
    covered_share=NUMBER,
    throttled_by={"type": "object", "additionalProperties": NUMBER},
)
BESIDE = {
    "server_side": _figures(ServerSide, absent=REASONS),
    "gpu_side": _figures(GpuSide, gpus=_list(GPU), absent=REASONS),
    "energy": _figures(Energy, absent=REASONS),
    "cost": _figures(Cost, absent=REASONS),
}
TURN = _object(
    turn=COUNT,
    n=COUNT,
    ttft_p50_ms=_or_null(NUMBER),
    ttft_p95_ms=_or_null(NUMBER),
    prompt_tokens_mean=_or_null(NUMBER),
    cached_share=_or_null(NUMBER),
)
STABILITY = _object(
    load=LOAD,
    p50_ms=_or_null(NUMBER),
    p95_ms=_or_null(NUMBER),
    state=_one_of(get_args(State)),
    invalid=_or_null(TEXT),
    words=TEXT,
)
AGAIN = _object(file=TEXT, text=TEXT, commands=_list(TEXT), masked=YES_OR_NO)  # its YAML and how


def _metrics(value: Schema) -> Schema:
    """Return an object whose keys are metrics, any of which may be missing."""
    return {
        "type": "object",
        "properties": {m.name: {**value, "description": m.doc} for m in METRICS},
        "additionalProperties": False,
    }


def schema() -> Schema:
    """Return the whole schema."""
    run = _object(
        figures=_columns(summary_column_docs()),
        verdict=_object(level=_one_of(LEVELS.values()), findings=_list(FINDING)),
        distributions=_metrics(DISTRIBUTION),
        absent=_metrics(TEXT),
        exact_tokens=_or_null(YES_OR_NO),
        errors=_list(_object(kind=TEXT, count=COUNT, example=TEXT)),
        objectives=_or_null(OBJECTIVES),
        turns=_list(TURN),
        **BESIDE,
    )
    scenario = _object(
        scenario=TEXT,
        run_ids=_list(TEXT),
        stability=_list(STABILITY),
        knee=_or_null(_object(load=LOAD, next_load=LOAD, gain=NUMBER, words=TEXT)),
        capacity=_or_null(_object(met=_or_null(LOAD), missed=_or_null(LOAD), words=TEXT)),
        again=_or_null(AGAIN),
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "summary.json of vllm-bench",
        **_object(
            schema_version={"const": SCHEMA_VERSION},
            runs=_list(run),
            levels=_list(_columns(level_column_docs())),
            scenarios=_list(scenario),
            environment=_list(_object(what=TEXT, value=TEXT)),
        ),
    }


def schema_text() -> bytes:
    """Return docs/summary.schema.json."""
    return orjson.dumps(schema(), option=orjson.OPT_INDENT_2) + b"\n"
