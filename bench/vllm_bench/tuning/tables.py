"""What is left of a tune: tune.csv, tables for people, the trade-offs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..figures.digits import markdown_table, short
from ..figures.metrics import headline_metric
from ..records.row import columns, csv_lines, doc
from ..records.text import ABSENT, code, markdown, printable
from ..summary.capacity import per_user
from ..summary.levels import Level, output_tokens_per_s
from ..summary.summary import RunSummary
from .best_env import setting_words
from .ranking import Placed, gpus_of, levels_of_runs
from .trials import Tried

STAGES = {"screen": "screened", "full": "in full", "again": "by turns"}
OF_TIMES = {"ttft": (50, 95, 99), "tpot": (50, 95), "latency": (50, 95, 99)}
figure = partial(doc, default=None)  # of a run: a configuration may have none


@dataclass(frozen=True, slots=True)
class TuneRow:
    """One run of one configuration, or a configuration that has none: a row of tune.csv."""

    configuration: str = doc("its name")
    settings: str = doc("what of it differs from the base, as variables")
    stage: str = doc("screen: one short level; full: every level; again: the two best by turns")
    visit: int | None = doc("of the turns, from 1")
    ready_s: float | None = doc("seconds from the server's start until it served")
    kv_cache_tokens: int | None = doc("tokens that the KV cache holds, as the server says")
    kv_cache_requests: float | None = doc("requests of full length that it holds, as it says")
    capacity: float | None = doc("the highest load that met the objectives, by a search")
    capacity_unit: str | None = doc("requests/s or streams")
    concurrency: int | None = figure("streams held open; empty: an open loop")
    request_rate: float | None = figure("requests per second asked for; empty: a closed loop")
    verdict: str | None = figure("VALID, SUSPECT or INVALID")
    objectives: str | None = figure("met, missed or not shown; empty: the scenario has none")
    requests: int | None = figure("requests that ended, however they did")
    succeeded: int | None = figure("of these, successes")
    gpus: int | None = figure("GPUs of the server, as far as is known")
    output_tokens_per_s: float | None = figure("output tokens per second of the server")
    output_tokens_per_s_per_gpu: float | None = figure("the same by GPU; empty: GPUs not known")
    tokens_per_s_per_user: float | None = figure("tokens per second of the median request")
    requests_per_s: float | None = figure("successes per second")
    ttft_p50_ms: float | None = figure("TTFT; in an open loop, here and below, from the schedule")
    ttft_p95_ms: float | None = figure("95th percentile of it")
    ttft_p99_ms: float | None = figure("99th percentile of it")
    tpot_p50_ms: float | None = figure("time per output token after the first, median")
    tpot_p95_ms: float | None = figure("95th percentile of it")
    latency_p50_ms: float | None = figure("latency, median")
    latency_p95_ms: float | None = figure("95th percentile of it")
    latency_p99_ms: float | None = figure("99th percentile of it")
    run_id: str | None = figure("the run, in the folder runs")
    problem: str | None = figure("why there is no figure, and the server's last log lines")


def to_csv(found: Sequence[Tried]) -> bytes:
    """Return tune.csv."""
    rows = [row for tried in found for row in _rows(tried)]
    return (",".join(columns(TuneRow)) + "\n" + csv_lines(rows)).encode(errors="backslashreplace")


def _rows(tried: Tried) -> Iterator[TuneRow]:
    if not tried.runs:
        yield _row(tried, None)
    yield from (_row(tried, run) for run in tried.runs)


def _row(tried: Tried, run: RunSummary | None) -> TuneRow:
    trial, highest = tried.trial, tried.trial.capacity
    problem = " | ".join(filter(None, (trial.why, *trial.log)))
    return TuneRow(
        configuration=trial.configuration,
        settings=setting_words(trial.settings),
        stage=trial.stage,
        visit=trial.visit or None,
        ready_s=None if trial.ready_s is None else round(trial.ready_s, 3),
        kv_cache_tokens=trial.kv_tokens,
        kv_cache_requests=trial.most_concurrent,
        capacity=highest.value if highest else None,
        capacity_unit=highest.unit if highest else None,
        gpus=gpus_of(tried),
        problem=problem or None,
        **(_figures(run, gpus_of(tried)) if run else {}),
    )


def _figures(run: RunSummary, gpus: int | None) -> dict[str, Any]:
    """Return the columns that are of a run."""
    rate, throughput = output_tokens_per_s(run), run.steady or run.throughput
    times = {
        f"{metric}_p{p}_ms": run.percentile(headline_metric(f"{metric}_ms", run.load), p)
        for metric, percentiles in OF_TIMES.items()
        for p in percentiles
    }
    return {
        "concurrency": run.concurrency,
        "request_rate": run.load.value if run.load.is_open else None,
        "verdict": run.verdict.level,
        "objectives": run.attainment.word if run.attainment else None,
        "requests": run.requests,
        "succeeded": run.succeeded,
        "output_tokens_per_s": rate,
        "output_tokens_per_s_per_gpu": rate / gpus if rate and gpus else None,
        "tokens_per_s_per_user": per_user(run),
        "requests_per_s": throughput.requests_per_s if throughput else None,
        "run_id": run.run_id,
        **times,
    }


# ---- for people ----


def lines(ranked: Sequence[Placed]) -> Iterator[str]:
    """Yield a line for each configuration of a stage, the best first."""
    width = max((len(printable(one.name)) for one in ranked), default=0)
    for place, one in enumerate(ranked, 1):
        said = _said(one)
        yield f"  {place if one.score else ABSENT:>2}  {printable(one.name):{width}}  {said}"
        if one.score is None:
            yield from (f"        | {printable(line, 200)}" for line in one.tried.trial.log)


def _said(one: Placed) -> str:
    if one.score is None:
        return f"no figure: {printable(one.why)}"
    doubts = [one.score.doubt, "objectives MISSED" if one.score.missed else ""]
    asides = [*(d for d in doubts if d), *_of_the_start(one.tried)]
    return f"{one.score.words} ({', '.join(asides)})" if asides else one.score.words


def _of_the_start(tried: Tried) -> Iterator[str]:
    trial = tried.trial
    if trial.ready_s is not None:
        yield f"ready in {short(trial.ready_s)} s"
    if trial.kv_tokens is not None:
        yield f"KV cache {trial.kv_tokens:,} tokens"


HEADINGS = ("configuration", "measured", "ready s", "KV tokens", "most at once", "load", "verdict")
OF_A_LEVEL = ("TTFT ms p50/p95", "TPOT ms p50", "latency ms p95/p99", "tokens/s", "a user")


def table(found: Sequence[Tried]) -> list[list[str]]:
    """Return a row per configuration and level, with its headings first; cells are plain text."""
    rows = [[*HEADINGS, *OF_A_LEVEL]]
    for tried in found:
        trial = tried.trial
        requests = short(trial.most_concurrent) if trial.most_concurrent else ABSENT
        kv = f"{trial.kv_tokens:,}" if trial.kv_tokens else ABSENT
        head = [trial.configuration, STAGES[trial.stage], short(trial.ready_s), kv, requests]
        levels = levels_of_runs(tried.runs)
        rows += [[*head, level.load.words, *_cells(level)] for level in levels]
        if not levels:
            why = trial.why or (trial.capacity.words if trial.capacity else "nothing was measured")
            rows.append([*head, ABSENT, why, *[ABSENT] * len(OF_A_LEVEL)])
    return rows


def _cells(level: Level) -> list[str]:
    ttft, latency = (headline_metric(f"{m}_ms", level.load) for m in ("ttft", "latency"))
    return [
        level.verdict + (f" ({level.reasons})" if level.reasons else ""),
        _both(level, ttft, 50, 95),
        short(level.percentile("tpot_ms", 50)),
        _both(level, latency, 95, 99),
        short(level.centre(output_tokens_per_s)),
        short(level.centre(per_user)),
    ]


def _both(level: Level, metric: str, one: float, other: float) -> str:
    return f"{short(level.percentile(metric, one))}/{short(level.percentile(metric, other))}"


TRADE_OFFS = ("Configuration", "Concurrency ceiling", "TTFT p50", "p95/p99 latency", "Throughput")


def trade_offs(found: Sequence[Tried]) -> str:
    """Return the table of expected trade-offs, filled with what was measured, as Markdown."""
    rows = [[*TRADE_OFFS], ["---"] * len(TRADE_OFFS)]
    for tried in found:
        levels = [lv for lv in levels_of_runs(tried.runs) if lv.figures_of]
        cells = [_ceiling(tried), *_traded(levels)]
        rows.append([code(tried.trial.configuration), *map(markdown, cells)])
    return markdown_table(rows)


def _ceiling(tried: Tried) -> str:
    """Return how many run at once: what the scheduler takes, and what the cache has room for."""
    trial, parts = tried.trial, list[str]()
    if trial.capacity is not None:
        parts.append(trial.capacity.words)
    if str(trial.server.get("max_num_seqs") or "").isdecimal():
        parts.append(f"at most {trial.server['max_num_seqs']} run")
    if trial.most_concurrent is not None:
        parts.append(f"the cache holds {short(trial.most_concurrent)} of full length")
    return trial.why or "; ".join(parts) or ABSENT


def _traded(levels: Sequence[Level]) -> tuple[str, str, str]:
    if not levels:
        return ABSENT, ABSENT, ABSENT
    low, top = levels[0], levels[-1]
    best = max(levels, key=lambda level: level.centre(output_tokens_per_s) or 0.0)
    ttft = [
        f"{short(lv.percentile(headline_metric('ttft_ms', lv.load), 50))} ms at {lv.load.words}"
        for lv in dict.fromkeys((low, top))
    ]
    late = _both(top, headline_metric("latency_ms", top.load), 95, 99)
    rate = short(best.centre(output_tokens_per_s))
    return (
        ", ".join(ttft),
        f"{late} ms at {top.load.words}",
        f"{rate} tokens/s at {best.load.words}",
    )


def to_markdown(title: str, words: str, found: Sequence[Tried], simulated: bool) -> str:
    """Return tune.md."""
    stand_in = "\n\nThese servers were the **simulator**: no GPU, no model." if simulated else ""
    heads, *rows = table(found)
    cells = [[code(row[0]), *map(markdown, row[1:])] for row in rows]
    figures = markdown_table([heads, ["---"] * len(heads), *cells])
    return (
        f"# {markdown(title)}\n\n**{markdown(words)}**{stand_in}\n\n"
        f"## Trade-offs, as measured\n\n{trade_offs(found)}\n\n"
        f"## Figures\n\n{figures}\n"
    )
