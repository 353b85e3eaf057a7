"""A comparison as JSON: its own types, and a schema that is derived from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ..compare.comparison import Comparison, Difference, Effect, LevelRows, Pair, Row, Word
from ..compare.words import answer
from ..scenario.load import Load
from .document import Strict, View


class MeasureView(View):
    """What the sides are compared by."""

    name: str
    title: str
    unit: str
    more_is_better: bool
    margin: float  # a fraction
    headline: bool


class RowView(View):
    """One measure at one level. `a_values` and `b_values` have a value for each pair."""

    measure: MeasureView
    a: float | None
    b: float | None
    a_values: tuple[float | None, ...]
    b_values: tuple[float | None, ...]
    effect: Effect | None
    word: Word | None
    why: str | None
    p: float | None
    more_pairs: int | None
    smallest: float | None
    limit: float | None


class PairView(View):
    """A pair: the run ids of both of its sides."""

    a: tuple[str, ...]
    b: tuple[str, ...]


class LevelView(View):
    """All measures at one level."""

    scenario: str
    load: Load
    pairs: tuple[PairView, ...]
    dropped: tuple[str, ...]
    refusal: str | None
    nights: int | None
    rows: tuple[RowView, ...]


class ComparedDocument(View):
    """What compare.py --format json prints."""

    schema_version: Literal[1]
    a: str
    b: str
    answer: str
    exit_code: Annotated[int, Field(json_schema_extra={"enum": [0, 3, 4]})]
    differences: tuple[Difference, ...]
    levels: tuple[LevelView, ...]
    notes: tuple[str, ...]
    refusals: tuple[str, ...]


def compared_document(found: Comparison) -> ComparedDocument:
    """Return the document of a comparison. A missing value is null."""
    return ComparedDocument(
        schema_version=1,
        a=found.a,
        b=found.b,
        answer=answer(found),
        exit_code=found.exit_code,
        differences=found.differences,
        levels=tuple(map(_level, found.levels)),
        notes=found.notes,
        refusals=found.refusals,
    )


def _level(level: LevelRows) -> LevelView:
    return LevelView(
        scenario=level.scenario,
        load=level.load,
        pairs=tuple(map(_pair, level.pairs)),
        dropped=level.dropped,
        refusal=level.refusal,
        nights=level.nights,
        rows=tuple(_row(level, row) for row in level.rows),
    )


def _pair(pair: Pair) -> PairView:
    a, b = (tuple(run.run_id for run in unit.runs) for unit in (pair.a, pair.b))
    return PairView(a=a, b=b)


def _row(level: LevelRows, row: Row) -> RowView:
    own = {name: getattr(row, name) for name in RowView.model_fields if hasattr(row, name)}
    return RowView(
        **{**own, "measure": MeasureView.model_validate(row.measure)},
        a_values=tuple(pair.a.value(row.measure) for pair in level.pairs),
        b_values=tuple(pair.b.value(row.measure) for pair in level.pairs),
    )


def to_json(found: Comparison) -> bytes:
    """Return the comparison as JSON."""
    return f"{compared_document(found).model_dump_json(indent=2)}\n".encode()


def schema() -> dict[str, Any]:
    """Return the JSON schema of what `to_json` gives."""
    made = ComparedDocument.model_json_schema(schema_generator=Strict, mode="serialization")
    return {"$schema": Strict.schema_dialect, **made}
