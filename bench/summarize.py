#!/usr/bin/env python3
"""Sum up runs: what they measured, whether to believe it, and whether objectives were met.

    python bench/summarize.py                            of each level in results/ the newest runs
    python bench/summarize.py --last                     the runs of bench.py's last call
    python bench/summarize.py --all                      every run: history, too
    python bench/summarize.py results/smoke_test-*.csv   some of them; also --label WORD
    python bench/summarize.py --check RUN_ID             for CI: exit 4 INVALID, 3 objective missed
    python bench/summarize.py --format vllm              also as `vllm bench serve` writes it
    python bench/summarize.py --columns                  what the columns mean
    python bench/summarize.py --codes                    what the verdicts' codes mean

Reads results/<run_id>.csv, one row per request; <run_id>.json, what the run was; and, if it is
there, tokens/<run_id>.npz, when each token came. A run may be named by either file, by its id, by
a glob (quoted or not) or by its folder; CSV files that aren't runs are skipped where a glob
or a folder found them, and refused where they are named.

Writes summary.csv (one row per run, and one for each of its classes of users), summary_levels.csv
(one row per level, over its repeats; likewise), summary.md (to paste into a pull request) and
summary.json (all of it; --schema) into the folder of the first run, or into --results-dir. What is
named, or has the label, is written beside them: summaries/<run_id>.csv and so on, or
summaries/<label>.csv; summary.* stay as they are.
With --format vllm also vllm/<run_id>.json.
Figures are computed from these files alone, at any time.

A verdict is VALID, SUSPECT (the figures may mislead) or INVALID (they don't mean what they
say), with the reasons and what to do about each. Times are those of successful requests that were
sent in the steady window (how many of all is said), in an open loop counted from when each was due;
failures stay in every count. A percentile is shown only if there are samples enough for it: p99
needs 368. Runs of other folders, labels or settings are never averaged; repeats whose figures lie
further apart than repeats do (repeats_disagree) have no mean either. An objective is met, missed,
or not shown: then too few requests tell. --format vllm keeps vLLM's definitions, of all requests.

Runs whose files haven't changed aren't read again: cache/ beside them may be deleted at any time.

Exit codes: 0 done; 1 no run, or one of whose files something is missing, damaged or another run's
(a line says what; all others are still summed up); 2 wrong usage; with --check 4, when a run is
INVALID or not whole (killed, interrupted, still going on) or repeats disagree, else 3, when any run
missed an objective (one that is not shown is said, and is no failure); 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.script import add_runs, complain, each_run, find, output, parser_of, run

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.records.find_runs import Run
    from vllm_bench.summary.summary import RunSummary


def main() -> int:
    """Find the runs, sum them up, write, print."""
    args = _parse()
    if args.columns:
        return _print_columns()
    if args.codes or args.schema:
        return _print_reference(codes=args.codes)
    from vllm_bench.summary.kept import Kept
    from vllm_bench.summary.levels import series_of
    from vllm_bench.summary.summary import sorted_summaries
    from vllm_bench.tables.vllm_format import over_all, to_vllm

    chosen = find(args)
    theirs: dict[str, bytes] = {}  # each run in vLLM's format, by its file's name
    kept = Kept()

    def take(run: Run) -> RunSummary:
        if args.format == "vllm":
            theirs[run.path.stem] = to_vllm(over_all(run))
        return kept.summarized(run)

    taken, damaged = each_run(chosen.paths, take, None if args.format else kept.run)
    if not taken:
        return 1
    summaries = sorted_summaries(taken)
    levels = [level for series in series_of(summaries) for level in series.levels]
    kept.take_levels(levels)
    folder, name = output(args, chosen)
    written = _write(folder, name, summaries, theirs)
    with suppress(BrokenPipeError):  # the reader, head say, has seen enough
        _print(summaries, folder, written)
    kept.keep_levels(levels)
    if not written or chosen.problems or damaged:
        return 1
    from vllm_bench.tables.level_lines import exit_code

    return exit_code(summaries) if args.check else 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_runs(parser, "runs and results")
    parser.add_argument("--columns", action="store_true", help="explain the columns and stop")
    parser.add_argument("--codes", action="store_true", help="explain the verdicts and stop")
    parser.add_argument("--schema", action="store_true", help="print summary.json's and stop")
    parser.add_argument("--check", action="store_true", help="exit 4 INVALID, 3 objective missed")
    parser.add_argument("--format", choices=["vllm"], help="write vllm/<run_id>.json as well")
    return parser.parse_args()


def _print_columns() -> int:
    from vllm_bench.records.beside.answers import AnswerRow
    from vllm_bench.records.beside.samples import GpuRow, SaidRow, ServerRow
    from vllm_bench.records.request_record import RequestRecord
    from vllm_bench.records.row import column_docs
    from vllm_bench.tables.columns import SUMMARY_COLUMNS
    from vllm_bench.tables.level_columns import LEVEL_COLUMNS

    for title, docs in (
        ("<run_id>.csv, one row per request", column_docs(RequestRecord)),
        ("telemetry/<run_id>.csv, one row per GPU and sample", column_docs(GpuRow)),
        ("server_metrics/<run_id>.csv, one row per value that changed", column_docs(SaidRow)),
        ("what is read of it, one row per engine and second", column_docs(ServerRow)),
        ("answers/<run_id>.csv, one row per question answered", column_docs(AnswerRow)),
        ("summary.csv, one row per run", [(c.name, c.doc) for c in SUMMARY_COLUMNS]),
        ("summary_levels.csv, one row per level of load", [(c.name, c.doc) for c in LEVEL_COLUMNS]),
    ):
        print(title)
        width = max(len(name) for name, _ in docs)
        print(*(f"  {name:{width}}  {doc}" for name, doc in docs), "", sep="\n")
    return 0


def _print_reference(*, codes: bool) -> int:
    from vllm_bench.answers.lost import LOST
    from vllm_bench.summary.levels import DISAGREE
    from vllm_bench.tables.document import schema
    from vllm_bench.verdict.verdict import codes_table

    print(f"{codes_table()}\n\n{DISAGREE}\n\n{LOST}" if codes else json.dumps(schema(), indent=2))
    return 0


def _write(
    folder: Path, name: str | None, summaries: list[RunSummary], theirs: dict[str, bytes]
) -> list[Path]:
    """Write all files; where the folder can't be written, say so and return none."""
    from vllm_bench.records.safe_file import write_atomically

    written = []
    try:
        for path, data in _files(folder, name, summaries, theirs):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
            written.append(path)
    except OSError as e:
        complain(f"{folder}: summary not written: {e.strerror}")
        return []
    return written


def _files(
    folder: Path, name: str | None, summaries: list[RunSummary], theirs: dict[str, bytes]
) -> Iterator[tuple[Path, bytes]]:
    from vllm_bench.records.row import to_csv
    from vllm_bench.summary.levels import series_of
    from vllm_bench.summary.summary import with_classes
    from vllm_bench.tables.columns import SUMMARY_COLUMNS
    from vllm_bench.tables.document import to_json
    from vllm_bench.tables.level_columns import LEVEL_COLUMNS, level_rows
    from vllm_bench.tables.markdown import to_markdown

    base = f"summaries/{name}" if name else "summary"
    yield folder / f"{base}.csv", to_csv(SUMMARY_COLUMNS, with_classes(summaries))
    yield folder / f"{base}_levels.csv", to_csv(LEVEL_COLUMNS, level_rows(series_of(summaries)))
    yield folder / f"{base}.md", to_markdown(summaries).encode()
    yield folder / f"{base}.json", to_json(summaries)
    for summary in summaries if theirs else ():
        yield folder / "vllm" / f"{summary.name}.json", theirs[summary.name]


def _print(summaries: list[RunSummary], folder: Path, written: list[Path]) -> None:
    from vllm_bench.tables.terminal import print_summary, wide_console

    print_summary(summaries, wide_console())
    if written:
        names = ", ".join(path.relative_to(folder).as_posix() for path in written)
        print(f"\nWrote to {folder}: {names}")


if __name__ == "__main__":
    sys.exit(run(main))
