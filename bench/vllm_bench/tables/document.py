"""`summary.json`: the summary's own types, and a schema that is derived from them.

No figure is in it twice: a column of summary.csv that is part of one of these types is only there,
under the path of its `Column`. All other columns are in `figures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasPath, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict
from pydantic.json_schema import GenerateJsonSchema

from ..classes.fairness import Fairness, fairness
from ..figures.jobs.jobs import JobFigures
from ..figures.machines.side import MachineSide
from ..figures.metrics import METRICS
from ..figures.objectives import Objective, RateObjective, Word
from ..figures.thoughts.thinking import ThinkingFigures
from ..records.row import Column, Value, column_docs
from ..scenario.load import Load
from ..serverside.energy import Cost, Energy
from ..serverside.gpu import GpuSide
from ..serverside.said import ServerSaid
from ..serverside.server import ServerSide
from ..stats.batches import Interval
from ..stats.distribution import Distribution
from ..summary.again import Again, again
from ..summary.capacity import Capacity, capacity, tiers_of
from ..summary.environment import environment
from ..summary.levels import Series, series_of
from ..summary.series_names import named_series
from ..summary.stability import Knee, stability
from ..summary.summary import ErrorGroup, RunSummary, Turn
from ..verdict.finding import Family, Severity
from ..verdict.verdict import Level
from .columns import REPEATED, SUMMARY_COLUMNS
from .level_columns import LEVEL_COLUMNS, level_rows


class View(BaseModel):
    """The part of a summary type that the document has: some of its fields and properties."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")


class FindingView(View):
    """A reason code, its figures and its remedy."""

    code: str
    severity: Annotated[
        str,
        Field(
            validation_alias=AliasPath("severity", "name"),
            json_schema_extra={"enum": list(Severity.__members__)},
        ),
    ]
    figures: str
    advice: str
    about: Family


class VerdictView(View):
    """The verdict, and everything that was found."""

    level: Level
    findings: tuple[FindingView, ...]


class OutcomeView(View):
    """The outcome of one objective."""

    objective: Objective
    arrivals: int
    within: int
    word: Word
    met: bool
    more_needed: int | None  # about how many requests more would show it
    interval: Interval | None
    unmeasured: str | None
    words: str


class RateOutcomeView(View):
    """The outcome of an objective on a rate."""

    objective: RateObjective
    per_s: Annotated[float, Field(validation_alias=AliasPath("rate", "per_s"))]
    whole: bool  # of the whole run, not of the steady window
    word: Word
    met: bool
    more_needed: int | None  # about how many of `more_of` more would show it
    more_of: Literal["s", "runs"]
    interval: Interval | None
    unmeasured: str | None
    words: str


class AttainmentView(View):
    """The outcome of all objectives together."""

    word: Word
    met: bool
    arrivals: int
    good: int
    share: float | None
    interval: Interval | None
    goodput_per_s: float | None
    outcomes: tuple[OutcomeView | RateOutcomeView, ...]


METRIC: JsonDict = {"oneOf": [{"const": m.name, "description": m.doc} for m in METRICS]}
BY_METRIC = Field(json_schema_extra={"propertyNames": METRIC})


class Parts(View):
    """The parts of a run's summary that the document has unchanged."""

    run_id: str
    scenario: str
    load: Load
    verdict: VerdictView
    distributions: Annotated[Mapping[str, Distribution], BY_METRIC]
    absent: Annotated[Mapping[str, str], BY_METRIC]
    exact_tokens: bool | None
    errors: tuple[ErrorGroup, ...]
    attainment: AttainmentView | None
    tiers: Mapping[str, AttainmentView]  # of each of slo_tiers
    turns: tuple[Turn, ...]
    jobs: JobFigures | None  # null: no sessions
    thinking: ThinkingFigures | None  # null: no counted success thought
    machines: tuple[MachineSide, ...]  # that sent it; none: one did alone
    server_side: ServerSide
    server_said: ServerSaid
    gpu_side: GpuSide
    energy: Energy
    cost: Cost


# These columns of summary.csv show a part of the document in one cell.
IN_ONE_CELL = {
    *("concurrency", "request_rate", "notes", "errors", "objectives", "objectives_missed", "tiers"),
    *("server_absent", "gpu_absent", "energy_absent", "cost_absent"),
    *(f"server_{name}" for name, _ in column_docs(ServerSaid)),
}
RUN_FIGURES = [
    column
    for column in SUMMARY_COLUMNS
    if column.name not in IN_ONE_CELL
    and not (isinstance(column.get, str) and column.get.split(".")[0] in Parts.model_fields)
]
# Each run's own figures are in `runs`.
LEVEL_FIGURES = [c for c in LEVEL_COLUMNS if c.name not in {f"{r.name}_runs" for r in REPEATED}]


def _one_for_each(columns: Iterable[Column[Any]]) -> WithJsonSchema:
    cell = {"type": ["string", "number", "null"]}
    properties = {column.name: {**cell, "description": column.doc} for column in columns}
    return WithJsonSchema(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )


class OfClass(Parts):
    """A class of a run; `figures` has what no other part has, under its name in summary.csv."""

    figures: Annotated[Mapping[str, Value], _one_for_each(RUN_FIGURES)]


class Run(OfClass):
    """A run, and the same of the requests of each of its classes."""

    classes: Mapping[str, OfClass]


class CapacityView(View):
    """The highest load that met every objective, and the next higher one."""

    met: Load | None
    missed: Load | None
    first: Load | None  # the lowest that met them, where lower ones had too little load for a rate
    words: str


class ScenarioView(View):
    """Figures over the levels of one series."""

    scenario: str
    name: str  # the scenario's, with its label or what else tells it from others
    run_ids: tuple[str, ...]
    stability: tuple[str, ...]
    knee: Knee | None
    capacity: CapacityView | None
    tiers: Mapping[str, CapacityView]  # of each of slo_tiers
    again: Again | None


class Document(View):
    """summary.json of vllm-bench."""

    schema_version: Literal[2]
    runs: list[Run]
    levels: list[Annotated[Mapping[str, Value], _one_for_each(LEVEL_FIGURES)]]
    scenarios: list[ScenarioView]
    fairness: list[Fairness]  # of each level of several classes
    environment: Mapping[str, str]


def document(summaries: Sequence[RunSummary]) -> Document:
    """Return the document of sorted summaries. A missing value is null."""
    series = series_of(summaries)
    return Document(
        schema_version=2,
        runs=[_run(summary) for summary in summaries],
        levels=[{c.name: c.value(row) for c in LEVEL_FIGURES} for row in level_rows(series)],
        scenarios=[_scenario(name, one) for name, one in named_series(series)],
        fairness=fairness(series),
        environment=dict(environment(summaries)),
    )


def _run(summary: RunSummary) -> Run:
    classes = {name: OfClass(**_parts(part)) for name, part in summary.classes.items()}
    return Run(**_parts(summary), classes=classes)


def _parts(summary: RunSummary) -> dict[str, Any]:
    figures = {column.name: column.value(summary) for column in RUN_FIGURES}
    return {name: getattr(summary, name) for name in Parts.model_fields} | {"figures": figures}


def _scenario(name: str, series: Series) -> ScenarioView:
    judged, most = stability(series.levels), capacity(series.levels)
    return ScenarioView(
        scenario=series.scenario,
        name=name,
        run_ids=tuple(run.run_id for run in series.runs),
        stability=tuple(judged.lines) if judged else (),
        knee=judged.knee if judged else None,
        capacity=_capacity(most) if most else None,
        tiers={
            tier: _capacity(found)
            for tier in tiers_of(series)
            if (found := capacity(series.levels, tier))
        },
        again=again(series, name),
    )


def _capacity(found: Capacity) -> CapacityView:
    met, missed, first = (lv.load if lv else None for lv in (found.met, found.beyond, found.first))
    return CapacityView(met=met, missed=missed, first=first, words=found.words)


def to_json(summaries: Sequence[RunSummary]) -> bytes:
    """Return summary.json."""
    return f"{document(summaries).model_dump_json(indent=2)}\n".encode()


class Strict(GenerateJsonSchema):
    """Requires all keys of a dataclass and allows no other; pydantic does so only for models."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        return {**super().dataclass_schema(schema), "additionalProperties": False}


def schema() -> dict[str, Any]:
    """Return the JSON schema of summary.json."""
    found = Document.model_json_schema(schema_generator=Strict, mode="serialization")
    no_bound = {"type": ["number", "null"], "description": "null: there is no upper bound"}
    found["$defs"]["Interval"]["properties"]["high"] |= no_bound
    return {"$schema": Strict.schema_dialect, **found}
