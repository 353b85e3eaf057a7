#!/usr/bin/env python3
"""Which of two servers is better: start each by turns, load both alike, and say so in one word.

    python bench/ab.py a.env b.env --name short_chat      8 visits: A B B A A B B A
    python bench/ab.py a.env b.env --name short_chat --resume --visits 16
    python bench/ab.py --no-restart --base-url-a http://gpu7:8000/v1 \\
        --base-url-b http://gpu7:8001/v1 --name short_chat     two servers that stand
    python bench/ab.py main.env mine.env --name gate --check --margin ttft_p99_ms=15

An env file has the settings of one server, as .env has them (MAX_NUM_SEQS=64); what .env and the
shell set holds for both, below it. A visit starts a server with server/run_server.sh, waits until
it is ready, checks that it is what was asked (settings and model as it tells them; the same version
and fingerprint at each visit of a side), throws a first run away, runs the scenario at all of its
levels, and stops the server. Two visits are a pair: both send the same requests, by a seed of its
own. A server's start has a level of its own, so the mean of a start is what is compared, and a word
takes four starts a side: under 8 visits there are figures and no word.

Runs carry the label of their side: the env file's name without its ending (--label-a, --label-b).
They are judged in pairs, as compare.py judges them, which reads them again at any time. What was
asked and what became of each visit is in results/experiments/<id>.json, the servers' logs in the
folder of that name; no value of a secret is in either.

Where a run is INVALID its pair is thrown away; if fewer than four are left of eight visits or more,
others are made in their place: at most as many visits again.

A server that doesn't start is tried once more; then ab.py ends with the last lines of its log.
Ctrl-C stops the run and takes the server down; visits that are whole stay, and --resume makes the
others, with the same env files, scenario and labels. If ab.py itself is killed, the next one in the
folder ends the server that it left behind. --no-restart takes turns between two servers that stand:
what is found is then true of these two processes.

--check makes it a gate: where the first look says slower, all visits are made again on fresh seeds,
and only what both looks call slower is red (docs/CI.md).

Exit codes: 0 done, and nothing that counts is slower (--check: green); 3 a measure is slower in B
(red); 4 there is no word at one of the levels or at all, as with under 8 visits; 1 a server doesn't
start, twice, or a visit can't be made; 2 wrong usage: an env file, a scenario, a port that is
taken; 130 interrupted.
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
import shlex
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vllm_bench.errors import BenchError, UsageError
from vllm_bench.flags import add_machines, machines_of, seconds
from vllm_bench.script import (
    ROOT,
    SCENARIOS,
    add_results,
    answering,
    each_run,
    notes_once,
    parser_of,
    read_env,
    run,
    say,
    writing_to,
)

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.compare.compare import How
    from vllm_bench.compare.comparison import Comparison
    from vllm_bench.compare.pairs import Side as Runs
    from vllm_bench.experiments.servers import SideServer
    from vllm_bench.experiments.state import State
    from vllm_bench.experiments.turns import Means, Turns
    from vllm_bench.experiments.visits import Side
    from vllm_bench.machines.fleet.fleet import Fleet
    from vllm_bench.run.session import Session
    from vllm_bench.scenario.scenario import Scenario

READY_S = 1800.0  # a large model that is compiled takes a quarter of an hour
GIVE_UP_S = 60.0
LOOKS = 2  # the first one, and one with as many visits more as it asked for: METHOD.md


def main() -> int:
    """Check everything, take turns, compare, and say what it is."""
    args = _parse()
    with writing_to(args.results_dir):
        return _ab(args)


def _ab(args: argparse.Namespace) -> int:
    read_env()  # .env: what is set already wins
    from vllm_bench.compare.compare import How
    from vllm_bench.compare.measures import margins_of
    from vllm_bench.machines.asked import Asked, check, fleet_asked

    machines = Asked(**machines_of(args))
    check(machines, say)
    how = How(margins_of(args.margin), same_hardware=not args.other_hardware)
    scenario = _scenario(args)
    servers = _servers(args, scenario)
    machines = machines.without_keys_of(scenario)
    with fleet_asked(machines, say, args.wait_s) as fleet:
        return _compare(args, _means(args, scenario, servers, fleet), how)


def _compare(args: argparse.Namespace, means: Means, how: How) -> int:
    """Look once, of a gate perhaps twice, and return the exit code."""
    from vllm_bench.experiments.gate import Gate

    first, first_found = _looked(args, means, how, turn=1)
    if not args.check:
        _say_how_to_go_on(first, first_found, means.scenario)
        return first_found.exit_code
    gate = Gate(first_found)
    if gate.asks_again:
        say("gate: slower in the first look: all visits are made again, on fresh seeds")
        _, second_found = _looked(args, means, how, turn=2, repeats=first.id)
        gate = Gate(first_found, second_found)
    with answering():
        print(*gate.lines(), sep="\n")
    return gate.exit_code


# ---- flags ----


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.allow_abbrev = False  # the command to go on with is made of these words
    add = parser.add_argument
    add("env_files", nargs="*", type=Path, metavar="ENV", help="A's and B's settings: a.env b.env")
    add("--name", metavar="S", help="the scenario (default: the file's only one)")
    add("--visits", type=_visits, metavar="N", help="starts of both together, even (default: 8)")
    add("--resume", action="store_true", help="go on with the newest experiment that asked this")
    stand = parser.add_argument_group("two servers that stand, in place of env files")
    add_stand = stand.add_argument
    add_stand("--no-restart", action="store_true", help="take turns between them, without starts")
    add_stand("--base-url-a", metavar="U", help="A's address, ending in /v1")
    add_stand("--base-url-b", metavar="U", help="B's")
    add("--label-a", metavar="WORD", help="A's label (default: its env file's name)")
    add("--label-b", metavar="WORD", help="B's")
    judged = parser.add_argument_group("how it is judged")
    margin = "a difference that nobody would mind, in percent; repeatable"
    judged.add_argument("--margin", action="append", default=[], metavar="M=PCT", help=margin)
    judged.add_argument("--other-hardware", action="store_true", help="words, even if it differs")
    judged.add_argument("--check", action="store_true", help="a gate: look again before it is red")
    _add_load(parser)
    add_machines(parser)
    ready = f"wait this long for a server to be ready, and for machines (default: {READY_S:g})"
    add("--wait-s", type=seconds, default=READY_S, metavar="S", help=ready)
    add("--plain", action="store_true", help="lines instead of the live view, on a terminal too")
    add_results(parser)
    args = parser.parse_args()
    _refuse(parser, args)
    return args


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the load").add_argument
    scenarios = "scenario file (default: bench/scenarios.yaml)"
    add("--scenarios", type=Path, default=SCENARIOS, metavar="F", help=scenarios)
    add("--model", metavar="M", help="the model (default: the one that the env files name)")
    add("--set", action="append", metavar="KEY=VALUE", help="a key of the scenario: duration_s=30")
    add("--quick", action="store_true", help="the smallest runs that can be VALID")
    add("--telemetry", action="store_true", help="sample this machine's GPUs during the runs")


def _refuse(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse what can't be meant."""
    urls = (args.base_url_a, args.base_url_b)
    if args.no_restart and (args.env_files or not all(urls)):
        parser.error("--no-restart needs --base-url-a and --base-url-b, and no env files")
    if not args.no_restart and any(urls):
        parser.error("--base-url-a, --base-url-b: only --no-restart takes servers that stand")
    if not args.no_restart and len(args.env_files) != 2:
        given = " ".join(map(str, args.env_files)) or "none"
        parser.error(f"{given}: must be two env files, A's and B's")


def _visits(text: str) -> int:
    from vllm_bench.experiments.visits import MOST_VISITS

    if not text.isdecimal() or not 2 <= int(text) <= MOST_VISITS or int(text) % 2:
        raise argparse.ArgumentTypeError(f"{text}: must be an even number from 2 to {MOST_VISITS}")
    return int(text)


# ---- what is asked ----


def _scenario(args: argparse.Namespace) -> Scenario:
    """Return the one scenario that is meant. Raises ScenarioError, UsageError."""
    from vllm_bench.scenario.by_flags import one_named, quick, with_assigned
    from vllm_bench.scenario.scenario import KNOWN_KEYS, load_scenarios

    given: dict[str, object] = quick({}) if args.quick else {}
    given |= {"model": args.model} if args.model else {}
    given |= {"telemetry": True} if args.telemetry else {}
    given = with_assigned(given, args.set, KNOWN_KEYS)
    for key in given.keys() & {"label", "base_url"}:
        raise UsageError(f"--set {key}: the side's own: --label-a, the env file")
    return one_named(load_scenarios(args.scenarios, given), args.name, args.scenarios)


def _servers(args: argparse.Namespace, scenario: Scenario) -> Mapping[Side, SideServer]:
    """Return both servers, checked as far as that goes before one is started. Raises UsageError."""
    from vllm_bench.experiments.sides import check_pair, standing_pair, started_pair

    labels = args.label_a, args.label_b
    if args.no_restart:
        pair = standing_pair((args.base_url_a, args.base_url_b), labels)
    else:
        files = args.env_files[0], args.env_files[1]
        pair = started_pair(files, labels, os.environ, keep_model=bool(args.model))
    check_pair(pair, scenario, os.environ)
    return pair


def _means(
    args: argparse.Namespace,
    scenario: Scenario,
    servers: Mapping[Side, SideServer],
    fleet: Fleet | None,
) -> Means:
    from vllm_bench.experiments.turns import Means
    from vllm_bench.run.session import Session

    say_once = notes_once(say)

    def session(**of_visit: Any) -> Session:
        return Session(
            **of_visit,
            interrupts=INTERRUPTS,
            say=say_once,
            screen=sys.stderr,
            plain=args.plain,
            wait_s=args.wait_s,
            give_up_s=GIVE_UP_S,
            fleet=fleet,
        )

    return Means(
        results=args.results_dir,
        scenario=scenario,
        servers=servers,
        session=session,
        environ=os.environ,
        wait_s=args.wait_s,
        say=say,
        measured=_say_verdict,
    )


def _say_verdict(rows: Path) -> None:
    """Read a run back from its files, and print its verdict."""
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.summary.summary import summarize
    from vllm_bench.verdict.verdict import headline

    say(f"  {headline(summarize(load_run(rows)).verdict)}")


# ---- one look: all visits, and what they say ----


def _looked(
    args: argparse.Namespace, means: Means, how: How, *, turn: int, repeats: str | None = None
) -> tuple[State, Comparison]:
    """Make the visits that are left, and print what all of them say."""
    from vllm_bench.experiments.ab import to_replace
    from vllm_bench.experiments.state import write_state
    from vllm_bench.experiments.turns import Turns

    turns = Turns(means, _state(args, means, turn, repeats))
    found = _made(turns, how)
    most = 2 * turns.state.visits
    while (thrown := to_replace(turns.state, found)) and turns.state.visits + 2 * thrown <= most:
        say(f"pairs were thrown away: {2 * thrown} visits more, in their place")
        turns.add(2 * thrown)
        found = _made(turns, how)
    state = turns.state.looked_at()
    write_state(means.results, state)
    _print(found)
    if len(state.looks) > LOOKS:
        say(f"note: look {len(state.looks)} at these visits: each one adds to the false alarms")
    return state, found


def _made(turns: Turns, how: How) -> Comparison:
    """Make the visits that are left, and compare; where a server gives up, what is there is told.

    Raises what ends the experiment.
    """
    from vllm_bench.experiments.turns import VisitFailedError
    from vllm_bench.machines.fleet.fleet import MachineMissedError

    for line in turns.plan_lines():
        say(line)
    try:
        state = turns.make()
    except KeyboardInterrupt:
        whole = f"{len(turns.state.whole)} of {turns.state.visits} visits are whole"
        raise KeyboardInterrupt(f"interrupted: {whole}; to go on: {_again('--resume')}") from None
    except (VisitFailedError, MachineMissedError):
        if turns.state.counted("a") and turns.state.counted("b"):
            _print(_compared(turns.state, turns.means.results, how))
        raise
    return _compared(state, turns.means.results, how)


def _state(args: argparse.Namespace, means: Means, turn: int, repeats: str | None) -> State:
    """Return the experiment to go on with, else a new one."""
    from vllm_bench.experiments.ab import begun, continued, end_left_behind, why_anew
    from vllm_bench.experiments.visits import USUAL_VISITS

    end_left_behind(means.results, say)
    new = begun(means, args.visits or USUAL_VISITS, turn=turn, repeats=repeats)
    if not args.resume and turn == 1:
        return new
    found = continued(means.results, new, args.visits)
    if found is None and args.resume and turn == 1:
        say(f"nothing to go on with, a new experiment: {why_anew(means.results, new)}")
    return found or new


def _compared(state: State, results: Path, how: How) -> Comparison:
    """Return what the runs of whole visits say."""
    from vllm_bench.compare.compare import compare

    a, b = (_runs(state, side, results) for side in ("a", "b"))
    return compare(a, b, how)


def _runs(state: State, side: Any, results: Path) -> Runs:
    """Read the runs of a side. Raises BenchError where one can't be read, which is told."""
    from vllm_bench.compare.pairs import Side as Runs
    from vllm_bench.summary.kept import Kept
    from vllm_bench.summary.summary import sorted_summaries

    paths, kept = [results / f"{run_id}.csv" for run_id in state.counted(side)], Kept()
    found, damaged = each_run(paths, kept.summarized, kept.run)
    if damaged:
        raise BenchError("the experiment's runs aren't all there; compare.py takes what is left")
    return Runs(state.side(side).label, tuple(sorted_summaries(found)))


def _print(found: Comparison) -> None:
    from vllm_bench.tables.terminal import print_comparison, wide_console

    with answering():
        print()
        print_comparison(found, wide_console())


def _say_how_to_go_on(state: State, found: Comparison, scenario: Scenario) -> None:
    """Say which command makes more visits, where they would tell more.

    Two looks are what false alarms were counted with: a third answer needs visits of its own.
    """
    from vllm_bench.experiments.ab import more_visits
    from vllm_bench.experiments.visits import duration

    wanted, why = more_visits(state, found)
    if wanted is None:
        say(f"\n{why}" if why else "")
        return
    anew = len(state.looks) >= LOOKS
    each_s = statistics.fmean(s for of_side in state.seen_s().values() for s in of_side)
    takes = duration((wanted - (0 if anew else state.visits)) * each_s)
    how = "anew, as more looks at these visits mean more false alarms" if anew else "to go on"
    flags = (f"--set=seed={scenario.seed + 1}",) if anew else ("--resume",)
    say(f"\n{why}\n{how} ({takes}): {_again(*flags, '--visits', str(wanted))}")


def _again(*more: str) -> str:
    """Return the command that goes on with this experiment, to be pasted; secrets masked."""
    from vllm_bench.scenario.secrets import masked_words

    given = iter(sys.argv[1:])
    kept = []
    for word in given:
        if word == "--visits":
            next(given, None)
        elif word != "--resume" and not word.startswith("--visits="):
            kept.append(word)
    script = os.path.relpath(ROOT / "bench" / "ab.py")
    return shlex.join(masked_words(["python", script, *kept, *more]))


if __name__ == "__main__":
    sys.exit(run(main, aside=True))  # a run waits for no terminal
