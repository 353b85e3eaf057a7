#!/usr/bin/env python3
"""Find how much a server can take: the highest load at which a scenario's objectives are met.

    python bench/capacity.py --name S                  the highest request rate
    python bench/capacity.py --name S --of concurrency the most streams
    python bench/capacity.py --name S --minutes 60     with more time, surer
    python bench/capacity.py --name S --dry-run        what it would run, and how long
    python bench/capacity.py --name S --resume         go on with a search that was broken off
    python bench/capacity.py --request-rate 8 --slo ttft_ms.p99=500
                                                       without a file: the flags are the scenario

The objectives are the scenario's slo, and each of its slo_tiers, which has an answer of its own. Of
a scenario with conversations or recorded sessions the answer is a number of sessions. The load is
doubled from --low (never past --high) until a run doesn't meet them, then the bracket is halved
until it is 3 % wide. Then the answer is confirmed: 3 to 6 runs with other prompts and times, whose
share of late requests together must lie within what is allowed, with 90 %; else it is tried again
3 % lower. A run that is clearly over is ended early. Between two runs the server comes
to rest. Where the objectives aren't met, the answer says which one broke first, and what the server
said then. docs/jobs/HIGHEST.md.

--low and --high are, if not given, the lowest and the highest of the scenario's levels, an eighth
and eight times of an only one, else 1 and 1024. --minutes is what the search may take; with little
time its runs are short, and it says what the answer is then worth.

Writes results/capacity/<id>.csv, a row for each run; results/capacity/<id>.json, the same, what was
asked and what was found; results/capacity/<id>.png, a picture of its course, and one for each of
slo_tiers; and the runs themselves, as bench.py does, in results/capacity/<id>/.

Exit codes: 0 found, confirmed or not; 1 no server, or one that was gone or another one meanwhile,
or a run that broke off; 2 wrong usage, or a mistake in the scenario file; 3 not even the lowest
load meets the objectives; 4 nothing could be judged, the client being the limit, say; 130
interrupted. What was measured is kept each time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.interrupts import INTERRUPTS, end_at_once, set_handlers

if __name__ == "__main__":
    set_handlers(end_at_once)  # until `run` answers them

import argparse
import gc
from contextlib import suppress
from typing import TYPE_CHECKING

from vllm_bench.errors import BenchError
from vllm_bench.flags import (
    add_load,
    add_machines,
    add_sending,
    machines_of,
    number,
    refuse_rows_remote,
)
from vllm_bench.script import (
    SCENARIOS,
    add_results,
    answering,
    complain,
    parser_of,
    read_env,
    run,
    say,
    writing_to,
)

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.experiments.capacity import Asked, Searching
    from vllm_bench.machines.fleet.fleet import Fleet
    from vllm_bench.run.session import Session
    from vllm_bench.scenario.scenario import Scenario
    from vllm_bench.search.axis import Of
    from vllm_bench.search.kept import Search

OF = ("rate", "concurrency", "sessions")
MINUTES = 30.0
LOAD = number(0, 1_000_000, above=True)


def main() -> int:
    """Check everything, search, say what was found."""
    gc.set_threshold(100_000)
    args = _parse()
    kept = f"what was measured is in {args.results_dir / 'capacity'}: --resume goes on"
    with writing_to(args.results_dir, kept):
        return _capacity(args)


def _capacity(args: argparse.Namespace) -> int:
    from vllm_bench.experiments.capacity import Searching, asked_of, estimate_s
    from vllm_bench.machines import asked as machines_asked
    from vllm_bench.search.words import asked_words, between, minutes

    refuse_rows_remote(args)
    read_env()
    machines = machines_asked.Asked(**machines_of(args), workers=args.workers)
    machines_asked.check(machines, say)
    scenario = _scenario(args)
    asked = asked_of(scenario, _of(args, scenario), args.low, args.high, args.minutes)
    for line in asked_words(asked.scenario, asked.of, asked.space):
        say(line)
    say(
        f"about {between(estimate_s(asked))}, by where the answer lies; "
        f"{minutes(asked.budget_s)} at most (--minutes)"
    )
    machines = machines.without_keys_of(scenario)
    if args.dry_run:
        machines_asked.say_dry(machines, say)
        _print_plan(asked)
        return 0
    with machines_asked.fleet_asked(machines, say, args.wait_s) as fleet:
        session = _session(args, fleet)
        return _searched(args, Searching(asked=asked, session=session, say=say))


def _searched(args: argparse.Namespace, searching: Searching) -> int:
    """Search, and say what was found; where that breaks off, what is known so far."""
    search = searching.begun(resume=args.resume)
    if search.probes:
        say(f"goes on with {search.id}: {len(search.probes)} runs are made")
    try:
        return _ended(searching.run(search), args.results_dir)
    except (BenchError, OSError, KeyboardInterrupt):
        _say_known(args.results_dir, search.id)
        raise


def _say_known(results: Path, search_id: str) -> None:
    """Say what a search that broke off has found so far."""
    from vllm_bench.records.beside.going_on import KeptError
    from vllm_bench.search.kept import FOLDER, read_search
    from vllm_bench.search.words import answer_lines

    with suppress(KeptError):  # it was broken off before its first run had ended
        search = read_search(results / FOLDER / f"{search_id}.json")
        with answering():
            print("so far:", *answer_lines(search), sep="\n  ")


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--name", metavar="S", help="the scenario")
    add("--scenarios", type=Path, default=SCENARIOS, metavar="F", help="the scenario file")
    of = "what to raise (default: rate, or streams with --concurrency; of sessions: sessions)"
    add("--of", choices=OF, help=of)
    add("--low", type=LOAD, metavar="X", help="the lowest load that is tried")
    add("--high", type=LOAD, metavar="X", help="the highest")
    budget = f"what the search may take (default: {MINUTES:g})"
    add("--minutes", type=LOAD, default=MINUTES, metavar="M", help=budget)
    add("--resume", action="store_true", help="go on with the newest search that has no answer yet")
    add("--dry-run", action="store_true", help="show what would be run, and stop")
    add_results(parser)
    add("--telemetry", action="store_true", default=None, help="sample GPUs during the runs")
    add_load(parser)
    add_sending(parser)
    add_machines(parser)
    return parser.parse_args()


def _scenario(args: argparse.Namespace) -> Scenario:
    """Return the scenario to search with. Raises ScenarioError, UsageError."""
    from vllm_bench.scenario.by_flags import ALONE, given_by, makes_a_scenario, one_named, usual
    from vllm_bench.scenario.scenario import KNOWN_KEYS, load_scenarios

    given = given_by(vars(args), KNOWN_KEYS)
    if args.name is None and makes_a_scenario(given):
        return load_scenarios(args.scenarios, given, {ALONE: usual(given)})[ALONE]
    return one_named(load_scenarios(args.scenarios, given), args.name, args.scenarios)


def _of(args: argparse.Namespace, scenario: Scenario) -> Of | None:
    """Return what is raised: streams also where --concurrency gives them; None: as usual."""
    if args.of is None and args.concurrencies and not scenario.holds_sessions:
        return "concurrency"
    of: Of | None = args.of
    return of


def _session(args: argparse.Namespace, fleet: Fleet | None) -> Session:
    from vllm_bench.run.session import Session

    return Session(
        environ=os.environ,
        interrupts=INTERRUPTS,
        say=say,
        screen=sys.stderr,
        plain=args.plain,
        folder=args.results_dir,
        wait_s=args.wait_s,
        give_up_s=args.give_up_s,
        workers=args.workers,
        fleet=fleet,
    )


def _print_plan(asked: Asked) -> None:
    """Print the runs of a search whose answer lies in the middle of its range."""
    from vllm_bench.experiments.capacity import planned
    from vllm_bench.search.words import load_words, minutes, step_words

    answer = asked.space.rounded((asked.space.low * asked.space.high) ** 0.5)
    print(f"If the answer were {load_words(asked.of, answer)}:")
    for at, (step, size, took_s) in enumerate(planned(asked, answer), 1):
        print(f"  [{at}] {step_words(asked.of, step, size.requests)}: {minutes(took_s)}")


def _ended(search: Search, results: Path) -> int:
    """Print the answer and what it took, and return the exit code."""
    from vllm_bench.figures.digits import counted
    from vllm_bench.search.kept import FOLDER
    from vllm_bench.search.words import answer_lines, between, minutes

    with answering():
        print(*answer_lines(search), sep="\n")
    took, estimate = minutes(search.took_s), between(search.estimate_s)
    say(f"{counted(len(search.probes), 'run')} in {took}; estimated were {estimate}")
    try:
        drawn = _drawn(search, results / FOLDER)
    except OSError as e:  # the answer stands; what was measured is kept
        return search.exit_code or complain(f"{e.filename}: picture not written: {e.strerror}")
    say(f"Read on: {', '.join(map(str, [results / FOLDER / f'{search.id}.csv', *drawn]))}")
    return search.exit_code


def _drawn(search: Search, folder: Path) -> list[Path]:
    """Draw the search's course, for each tier, and return the files. Raises OSError."""
    os.environ["MPLBACKEND"] = "agg"  # matplotlib refuses to load where this names another one
    from vllm_bench.charts.pen_matplotlib import draw, save
    from vllm_bench.charts.pictures import search_pictures

    drawn = []
    for picture in search_pictures(search):
        if picture.chart is not None:
            drawn.append(folder / f"{picture.name}.png")
            save(draw(picture.chart, picture.heading), drawn[-1])
    return drawn


if __name__ == "__main__":
    sys.exit(run(main, aside=True))  # a search waits for no terminal
