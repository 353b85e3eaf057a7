#!/usr/bin/env python3
"""Which of two is better: hold runs of B against runs of A, in pairs, and say so in one word.

    python bench/compare.py seqs16 seqs64              two labels of runs in results/
    python bench/compare.py last-week/ results/        two folders
    python bench/compare.py 'old/short_chat-*' RUN,RUN globs, files, run ids; commas between several
    python bench/compare.py --margin ttft_p99_ms=15 A B   another margin, in percent
    python bench/compare.py --out seqs.md A B          also as .md, .json or .png
    python bench/compare.py theirs.json RUN            against a result of `vllm bench serve`
    python bench/compare.py --history nights/ RUN      one night against ten stored ones or more
    python bench/compare.py --schema                   what --format json has

B is held against A: +5 % is 5 % more in B. `faster` is always better: more tokens/s, less latency,
also more successes or fewer joules per token.

What a side is: a label of runs in results (or --results-dir), a folder with runs, or runs by
their ids, files or globs. A word that is a label and a folder or run is refused: label:WORD is the
label, ./WORD the folder. Of a label or a folder it is of each level the newest session, where all
visits of an experiment (ab.py) are one; what is named by id, file or glob is meant, however old. A
folder must have runs of one label. No run can be on both sides.

A pair is one run of A and one of B with the same plan (the same requests, so the same scenario and
seed), level and repeat; or one visit of each, where ab.py made them. It is thrown away whole where
a run of it is INVALID or did other work. A word takes four pairs; with eight, most changes of 5 %
show. Each level is told apart, and its measures are tested together (Holm).

    faster, slower   p < .05, and the 95 % interval lies beyond half of the margin
    equivalent       the 96 % interval lies within the margin
    cannot tell      neither; with about how many pairs more it would

Measures, and their margins in percent: output_tokens_per_s 2, requests_per_s 2, ttft_p50_ms 5,
ttft_p95_ms 5, ttft_p99_ms 10, ttfa_p50_ms 5, ttfa_p95_ms 5 (the answer's first token, where replies
think), tpot_p50_ms 2, tpot_p95_ms 2, latency_p50_ms 5, latency_p99_ms 10, success_rate 0.2,
goodput_per_s 2, energy_per_output_token_j 2. In an open loop TTFT and latency count from the
schedule.

Runs without a partner, and results of other tools, are shown without a word. --history holds one
candidate against all nights of a folder or label that sent the same, ten days at least: a limit for
each measure, and the smallest change for the worse that would have been found.

Nothing is written without --out. What differs between the sides (server, settings, GPUs, client)
stands above the figures. Where the hardware differs there is no word without --other-hardware.

Exit codes: 0 done, and nothing that counts is slower; 3 a measure is slower in B (any but joules
per token); 4 there is no word on a level, or on all; 1 a run's file is missing, damaged or another
run's (a line says which; the rest is still compared), or --out can't be written; 2 wrong usage;
130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.script import add_results, complain, each_run, parser_of, run, say

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.compare.compare import How
    from vllm_bench.compare.comparison import Comparison
    from vllm_bench.compare.pairs import Side
    from vllm_bench.compare.sides import Named

TEXTS, PICTURES = (".md", ".json"), (".png", ".svg", ".pdf")


def main() -> int:
    """Find both sides, compare them, print, and write what --out asks for."""
    args = _parse()
    if args.schema:
        return _print_schema()
    from vllm_bench.compare.compare import How
    from vllm_bench.compare.measures import margins_of
    from vllm_bench.compare.sides import history, sides

    how = How(margins_of(args.margin), same_hardware=not args.other_hardware)
    folder: Path = args.results_dir
    if args.history is not None:
        named = history(args.history, args.sides[0], folder)
    else:
        named = sides(args.sides[0], args.sides[1], folder)
    found, damaged = _compared(named, how, nights=args.history is not None)
    with suppress(BrokenPipeError):  # the reader, head say, has seen enough
        _print(found, args.format)
    written = args.out is None or _write(args.out, found)
    return 1 if damaged or not written else found.exit_code


# ---- flags ----


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("sides", nargs="*", metavar="A B", help="two of: label, folder, run ids, files, globs")
    margin = "a difference that nobody would mind, in percent; repeatable"
    add("--margin", action="append", default=[], metavar="M=PCT", help=margin)
    add("--other-hardware", action="store_true", help="words, even if the hardware differs")
    add("--format", choices=["markdown", "json"], help="print this in place of the tables")
    add("--out", type=Path, metavar="F", help="write this, too: .md, .json, .png, .svg or .pdf")
    add("--history", metavar="A", help="hold one candidate against all nights of a folder or label")
    add("--schema", action="store_true", help="print the JSON schema and stop")
    add_results(parser, "folder with the runs")
    args = parser.parse_args()
    _refuse(parser, args)
    return args


def _refuse(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse what can't be meant."""
    nights = args.history is not None
    wanted, many = (1, "one candidate") if nights else (2, "two sides, A and B")
    if not args.schema and len(args.sides) != wanted:
        given = " ".join(args.sides) or "none"
        parser.error(f"{given}: must be {many}; commas join several runs of a side")
    if args.out is not None and (problem := _problem(args.out)):
        parser.error(f"--out {args.out}: {problem}")


def _problem(out: Path) -> str | None:
    if out.is_dir():
        return "is a folder; name a file in it, compared.md say"
    endings = (*TEXTS, *PICTURES)
    return None if out.suffix.lower() in endings else f"must end in {', '.join(endings)}"


# ---- what is compared ----


def _compared(named: tuple[Named, Named], how: How, *, nights: bool) -> tuple[Comparison, int]:
    """Return the comparison, and how many runs couldn't be read whole; A may be nights."""
    from vllm_bench.compare.compare import compare
    from vllm_bench.compare.history import against_history

    problems = dict.fromkeys(problem for side in named for problem in side.problems)
    for problem in problems:
        complain(problem)
    damaged = len(problems)
    if any(side.files for side in named):
        return _of_results(named, how), damaged
    if older := len({path.resolve() for side in named for path in side.left_out}):
        runs = "1 older run is" if older == 1 else f"{older} older runs are"
        say(f"{runs} left out: name them by id or glob")
    (a, bad_a), (b, bad_b) = (_side(side) for side in named)
    found = (against_history if nights else compare)(a, b, how)
    return found, damaged + bad_a + bad_b


def _side(named: Named) -> tuple[Side, int]:
    """Read the runs of a side; those that can't be read are told."""
    from vllm_bench.compare.pairs import Side
    from vllm_bench.summary.kept import Kept
    from vllm_bench.summary.summary import sorted_summaries

    kept = Kept()
    runs, damaged = each_run(named.runs, kept.summarized, kept.run)
    return Side(named.name, tuple(sorted_summaries(runs))), damaged


def _of_results(named: tuple[Named, Named], how: How) -> Comparison:
    """Compare results of `vllm bench serve`; runs of ours then count by its definitions, too."""
    from vllm_bench.compare.compare import compare
    from vllm_bench.compare.notes import SIMULATED
    from vllm_bench.compare.pairs import Side
    from vllm_bench.compare.theirs import THEIR_WAY, facts_apart, told

    of_a, of_b = (list(_results(side)) for side in named)
    a, b = (
        Side(side.name, (), tuple(told(name, result) for name, result, _ in found))
        for side, found in zip(named, (of_a, of_b), strict=True)
    )
    found = compare(a, b, how)
    apart = facts_apart([result for _, result, _ in of_a], [result for _, result, _ in of_b])
    simulated = [SIMULATED] if any(simulated for *_, simulated in (*of_a, *of_b)) else []
    notes = (THEIR_WAY, *simulated, *found.notes)
    return dataclasses.replace(found, differences=apart, notes=notes)


def _results(side: Named) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield the results of a side, each with its name, and whether it is known to be simulated.

    Raises RecordsError.
    """
    from vllm_bench.compare.theirs import read_results
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.tables.vllm_format import over_all, to_vllm

    for path in side.files:
        yield from ((path.name, result, False) for result in read_results(path))
    for path in side.runs:
        whole = over_all(load_run(path))
        yield path.stem, json.loads(to_vllm(whole)), whole.simulated


# ---- what is shown ----


def _print_schema() -> int:
    from vllm_bench.tables.compared_document import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _print(found: Comparison, form: str | None) -> None:
    from vllm_bench.tables.compared import to_markdown
    from vllm_bench.tables.terminal import print_comparison, wide_console

    if form is None:
        print_comparison(found, wide_console())
    else:
        print(to_markdown(found) if form == "markdown" else _json(found), end="")


def _json(found: Comparison) -> str:
    from vllm_bench.tables.compared_document import to_json

    return to_json(found).decode()


def _write(out: Path, found: Comparison) -> bool:
    """Write the comparison as its file's ending says; False where that can't be done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        written = _write_text(out, found) if out.suffix.lower() in TEXTS else _draw(out, found)
    except OSError as e:
        complain(f"{out}: not written: {e.strerror}")
        return False
    if written:
        say(f"wrote {', '.join(map(str, written))}")
    return True


def _write_text(out: Path, found: Comparison) -> list[Path]:
    from vllm_bench.records.safe_file import write_atomically
    from vllm_bench.tables.compared import to_markdown

    text = to_markdown(found) if out.suffix.lower() == ".md" else _json(found)
    write_atomically(out, text.encode())
    return [out]


def _draw(out: Path, found: Comparison) -> list[Path]:
    """Draw the changes, and beside them the load curves of both sides as <name>_load."""
    os.environ["MPLBACKEND"] = "agg"  # matplotlib refuses to load where this names another one
    from vllm_bench.charts.pen_matplotlib import draw, save
    from vllm_bench.charts.picture.style import in_style
    from vllm_bench.charts.pictures import comparison_pictures

    kind: Any = out.suffix.lower().removeprefix(".")
    written = []
    with in_style():
        for picture in comparison_pictures(found, out.stem):
            if picture.chart is None:
                complain(f"no {picture.name}{out.suffix}: {picture.why_not}")
                continue
            path = out.with_name(f"{picture.name}{out.suffix}")
            save(draw(picture.chart, picture.heading), path, kind)
            written.append(path)
    return written


if __name__ == "__main__":
    sys.exit(run(main))
