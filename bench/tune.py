#!/usr/bin/env python3
"""Find the server's settings that suit a load: start each, measure, and hold the best two together.

    python bench/tune.py experiments.yaml             what the file asks: docs/jobs/SETTINGS.md
    python bench/tune.py experiments.yaml --dry-run   its configurations, and how long it takes
    python bench/tune.py --name rag --axis MAX_NUM_SEQS=32,64 --axis KV_CACHE_DTYPE=auto,fp8
                                                      the same without a file
    python bench/tune.py examples/tune.yaml           some minutes against the simulator, to try it

Each configuration is started with server/run_server.sh on a port of its own, checked to be what
was asked, warmed up by a run that is thrown away, and measured. First one short level each; then
the better half at every level of the scenario (--full: all). The two best are started by turns,
A B B A, and only these runs say which is better, and by how much, or that it can't be told.
A configuration whose server doesn't start is a row with its last log lines.

Aims: throughput (most output tokens/s by GPU, of a level whose objectives aren't missed), ttft
(least TTFT p95 at the highest level) and capacity (most load that meets the scenario's slo).

Writes results/tune/<id>/: tune.csv, after each start; tune.md, with the trade-offs as measured;
pareto.png, tokens/s of a GPU against those of a user; best.env, the settings to start with,
without secrets; tune.json; logs/, of each server; and runs/, for summarize.py and the others.

Ctrl-C (SIGTERM and SIGHUP too) stops the server and keeps what was measured; --resume goes on in
the newest folder of the same experiments.

Exit codes: 0 an answer, also "cannot tell between"; 1 no server started, or one could not be
stopped; 2 wrong usage, a mistake in a file, or a value that the launcher refuses; 3 every
configuration missed the objectives; 4 nothing could be judged; 130 interrupted.
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
from typing import TYPE_CHECKING, Any

from vllm_bench.errors import BenchError, UsageError
from vllm_bench.flags import add_machines, machines_of, number, refuse_rows_remote, whole
from vllm_bench.script import (
    SCENARIOS,
    add_results,
    answering,
    notes_once,
    parser_of,
    read_env,
    run,
    say,
    writing_to,
)

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.machines.fleet.fleet import Fleet
    from vllm_bench.run.session import Session
    from vllm_bench.scenario.scenario import Scenario
    from vllm_bench.tuning.configurations import Experiments
    from vllm_bench.tuning.course import Course, Tune
    from vllm_bench.tuning.searched import Wanted
    from vllm_bench.tuning.trials import Tuning

READY_S = 1800.0  # a large model is fetched and compiled for long
SCREEN_S = 14.0  # the least that can be believed: a window of 10 s
MINUTES = 15.0
UP_S = 30.0  # for a server that is up by then
UP_TO_A_DAY = number(1, 86_400, of="seconds")
UP_TO_A_DAY_OF_IT = number(0, 1440, of="minutes", above=True)
AIMS = ("throughput", "capacity", "ttft")


def main() -> int:
    """Read, check, start, measure, tell."""
    args = _parse()
    kept = f"what had been measured by then is in {args.results_dir / 'tune'}"
    with writing_to(args.results_dir, f"{kept}: --resume goes on with it"):
        return _tune(args)


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="experiments.yaml")
    axis = "a variable of the launcher and its values; repeatable, each with each"
    add("--axis", action="append", metavar="NAME=V,…", help=axis)
    add("--base", metavar="F", help="env file below all configurations (default: .env)")
    add("--name", metavar="S", help="the scenario, in place of the file's")
    add("--scenarios", type=Path, metavar="F", help="its file (default: bench/scenarios.yaml)")
    add("--aim", choices=AIMS, help="what is to be best, in place of the file's")
    add("--dataset", metavar="D", help="the prompts, in place of the scenario's: sample, …")
    add("--set", action="append", metavar="KEY=VALUE", help="any other key of the scenario")
    add("--full", action="store_true", help="measure all in full, without screening")
    screen = f"seconds of a screening level (default: {SCREEN_S:g})"
    add("--screen-s", type=UP_TO_A_DAY, default=SCREEN_S, metavar="S", help=screen)
    of = "of the aim capacity: what is raised (default: rate; of conversations: sessions)"
    add("--of", choices=("rate", "concurrency", "sessions"), help=of)
    minutes = f"of the aim capacity: the most for each search (default: {MINUTES:g})"
    add("--minutes", type=UP_TO_A_DAY_OF_IT, default=MINUTES, metavar="M", help=minutes)
    pairs = "pairs of turns of the two best, 0 for none (default: 4, the fewest that give a word)"
    add("--pairs", type=whole(0, 100), default=4, metavar="N", help=pairs)
    ready = f"wait so long for a server to be ready, and for machines (default: {READY_S:g})"
    add("--ready-s", type=UP_TO_A_DAY, default=READY_S, metavar="S", help=ready)
    add_results(parser)
    add("--plain", action="store_true", help="lines instead of the live view, on a terminal too")
    add("--resume", action="store_true", help="go on where the same experiments were broken off")
    add("--dry-run", action="store_true", help="show configurations and time, and stop")
    add_machines(parser)
    return parser.parse_args()


def _tune(args: argparse.Namespace) -> int:
    from vllm_bench.machines.asked import Asked, check, fleet_asked, say_dry
    from vllm_bench.tuning.configurations import configurations, of_launcher
    from vllm_bench.tuning.course import Course
    from vllm_bench.tuning.words import plan_lines

    read_env()  # what is set already wins
    machines = Asked(**machines_of(args))
    check(machines, say)
    asked = _asked(args)
    if asked.aim == "capacity":
        refuse_rows_remote(args)
    base, scenario = _base(args, asked), _scenario(args, asked)
    course = Course(
        configurations=configurations(asked, {**of_launcher(os.environ), **base}),
        scenario=scenario,
        aim=asked.aim,
        full=args.full,
        pairs=args.pairs,
        screen_s=args.screen_s,
        wanted=_wanted(args, asked, scenario),
    )
    _check(course, base)
    for line in plan_lines(course, base):
        (print if args.dry_run else say)(line)
    machines = machines.without_keys_of(scenario)
    if args.dry_run:
        say_dry(machines, say)
        return 0
    _check_commands(course, base)
    with fleet_asked(machines, say, args.ready_s) as fleet:
        return _made(args, asked, course, base, fleet)


def _asked(args: argparse.Namespace) -> Experiments:
    """Return what the file and the flags ask. Raises UsageError."""
    from vllm_bench.tuning.configurations import experiments_of, read_raw

    raw: dict[str, Any] = read_raw(args.file) if args.file else {}
    where = str(args.file) if args.file else "the flags"
    if not args.file and not args.axis:
        raise UsageError("nothing to try: name a file of experiments, or give --axis and --name")
    for key, value in (("scenario", args.name), ("aim", args.aim), ("base", args.base)):
        if value is not None:
            raw[key] = value
    if not args.file and not args.name:
        raise UsageError("--name: which scenario is the load? (bench/scenarios.yaml has them)")
    if args.axis:
        raw["axes"] = {**(raw.get("axes") or {}), **dict(map(_axis, args.axis))}
    return experiments_of(raw, where)


def _axis(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--axis {name}: must be NAME=VALUE,VALUE")
    return name.strip(), [value.strip() for value in values.split(",")]


def _scenario(args: argparse.Namespace, asked: Experiments) -> Scenario:
    """Return the scenario that is sent. Raises UsageError."""
    from vllm_bench.scenario.by_flags import check_named, with_assigned
    from vllm_bench.scenario.scenario import KNOWN_KEYS, load_scenarios

    path = args.scenarios or _beside(args, asked.scenarios) or SCENARIOS
    given = {"dataset": args.dataset} if args.dataset else {}
    given = with_assigned(given, args.set, KNOWN_KEYS)
    found = load_scenarios(path, given)
    name = asked.scenario
    check_named("scenario", name, found, path)
    scenario = found[name]
    if asked.aim == "ttft" and not scenario.stream:
        raise UsageError(f"aim ttft: scenario {name} doesn't stream, so there is no first token")
    return scenario


def _wanted(args: argparse.Namespace, asked: Experiments, scenario: Scenario) -> Wanted | None:
    """Return how capacities are looked for; None: that isn't the aim. Raises UsageError."""
    from vllm_bench.tuning.searched import Wanted

    if asked.aim != "capacity":
        return None
    wanted = Wanted(args.of, args.minutes)
    wanted.check(scenario)
    return wanted


def _beside(args: argparse.Namespace, named: str | None) -> Path | None:
    """Return a file that experiments.yaml names, from its own folder on."""
    if named is None:
        return None
    path = Path(named).expanduser()
    own = args.file.parent / path if args.file else path
    return own if own.exists() or not path.exists() else path


def _base(args: argparse.Namespace, asked: Experiments) -> dict[str, str]:
    """Return the variables below all configurations, without what the script chooses."""
    from vllm_bench.launch.env import read_env
    from vllm_bench.tuning.configurations import ADDED, CHOSEN

    # A configuration's own arguments are added to these, even if they come from the environment.
    arguments = {ADDED: os.environ[ADDED]} if os.environ.get(ADDED) else {}
    if not isinstance(asked.base, str):
        return {**arguments, **(asked.base or {})}
    path = Path(args.base) if args.base else _beside(args, asked.base) or Path(asked.base)
    values = {**arguments, **read_env(path).values}
    return {name: value for name, value in values.items() if name not in CHOSEN}


def _check(course: Course, base: dict[str, str]) -> None:
    """Look at prompts and at each configuration, as the launcher does, before anything starts.

    Raises UsageError, PromptError.
    """
    from vllm_bench.experiments.sides import refuse_questions
    from vllm_bench.run.prepare import api_key_of, plans_for
    from vllm_bench.tuning.one_start import refused

    refuse_questions(course.scenario)
    environ = {**os.environ, **base}
    api_key_of(course.scenario, environ)
    plans_for(course.scenario, None, environ)
    for one in course.configurations:
        if why := refused(one, base, os.environ):
            raise UsageError(f"configuration {one.name}: {why}")


def _check_commands(course: Course, base: dict[str, str]) -> None:
    """Raise BenchError where there is no vLLM to start."""
    from vllm_bench.launch.refused import missing_program

    for one in course.configurations:
        if program := missing_program({**os.environ, **one.over(base)}):
            raise BenchError(
                f"no {program} on the PATH: pip install vllm, let VLLM_COMMAND name it, or try "
                "SIMULATOR in base"
            )


def _made(
    args: argparse.Namespace,
    asked: Experiments,
    course: Course,
    base: dict[str, str],
    fleet: Fleet | None,
) -> int:
    """Do it, write what came out, and return the exit code."""
    from vllm_bench.tuning.words import ended, exit_code

    tune = _prepared(args, asked, course, base, fleet)
    say(f"results: {tune.starts.folder}")
    found, answer = tune.run()
    with answering():
        print(*ended(tune, found, answer), sep="\n")
    return exit_code(found, answer)


def _prepared(
    args: argparse.Namespace,
    asked: Experiments,
    course: Course,
    base: dict[str, str],
    fleet: Fleet | None,
) -> Tune:
    """Return what is to be done, in its folder: a new one, or that which is gone on with."""
    from vllm_bench.tuning.course import Tune
    from vllm_bench.tuning.one_start import HERE, Starts
    from vllm_bench.tuning.trials import FOLDER, Runs
    from vllm_bench.tuning.words import keep_csv

    tuning = _tuning(args, asked, course, base)
    folder = args.results_dir / FOLDER / tuning.id
    folder.mkdir(parents=True, exist_ok=True)
    starts = Starts(
        tuning_id=tuning.id,
        folder=folder,
        base=base,
        environ=os.environ,
        session=_session(args, folder, fleet),
        say=say,
        ready_limit_s=args.ready_s,
        wanted=course.wanted,
        host=fleet.host if fleet else HERE,
    )
    return Tune(
        course=course,
        starts=starts,
        tuning=tuning,
        say=say,
        after_each=lambda tried: keep_csv(folder, tried),
        runs=Runs(folder),
    )


def _tuning(
    args: argparse.Namespace, asked: Experiments, course: Course, base: dict[str, str]
) -> Tuning:
    """Return what was kept of the same experiments, with --resume; else nothing yet."""
    from vllm_bench.launch.left_behind import Process
    from vllm_bench.records.beside.going_on import new_id
    from vllm_bench.tuning.course import asked_sha256
    from vllm_bench.tuning.trials import Tuning, earlier, end_left_behind

    end_left_behind(args.results_dir, say)
    sha256 = asked_sha256(course, base)
    before = earlier(args.results_dir, sha256) if args.resume else None
    if args.resume and before is None:
        say("note: nothing to go on with: these experiments weren't begun here")
    name = asked.name or (args.file.stem if args.file else course.scenario.name)
    begun = before or Tuning(id=f"{name}-{new_id()}", asked_sha256=sha256)
    return begun.model_copy(update={"by": Process.of(os.getpid()), "server": None})


def _session(args: argparse.Namespace, folder: Path, fleet: Fleet | None) -> Session:
    from vllm_bench.run.session import Session

    return Session(
        environ=os.environ,
        interrupts=INTERRUPTS,
        say=notes_once(lambda line: say(f"  {line}")),
        screen=sys.stderr,
        plain=args.plain,
        folder=folder,
        wait_s=UP_S,
        give_up_s=UP_S,
        fleet=fleet,
    )


if __name__ == "__main__":
    sys.exit(run(main, aside=True))  # a run waits for no terminal
