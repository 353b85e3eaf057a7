#!/usr/bin/env python3
"""Put load on a vLLM server, scenario by scenario, and write down what happened.

    python bench/bench.py                              every scenario of bench/scenarios.yaml
    python bench/bench.py --name short_chat            one of them (may be given several times)
    python bench/bench.py --name rag --dry-run         what would be sent; sends nothing
    python bench/bench.py --base-url http://gpu7:8000/v1 --model Qwen/Qwen3-8B
    python bench/bench.py --label seqs64               the same, after a change of the server
    python bench/bench.py --concurrency 32 --prefill-tokens 256 --slo ttft_ms.p99=500
                                                       without a file: the flags are the scenario
    python bench/bench.py --concurrency 32 --quick     the smallest run that can be VALID

Each scenario runs at each of its levels: a number of streams held open (concurrencies), requests
per second (request_rates), or recorded traffic (trace): docs/LOAD.md. Classes of users share a
level; --alone adds runs of each class without the others, to see who pays for whom. Settings,
prompts, the server and the results folder are checked before the first request.

Writes results/<run_id>.csv, one row per request; results/<run_id>.json, what the run was;
results/server_metrics/<run_id>.csv, all that the server's own /metrics says, about once per second;
of questions (quality) results/answers/<run_id>.csv, which were answered right, with --texts also
what was said; and with --telemetry results/telemetry/<run_id>.csv, the GPUs of this machine. The
GPUs of a server on another machine are sampled there
(--telemetry-command 'ssh gpu7 python vllm-bench/bench/observe_gpu.py') or read from a DCGM exporter
(--dcgm-url http://gpu7:9400/metrics); both flags switch telemetry on.
Every run ends with a verdict: VALID, SUSPECT or INVALID, with reasons. --profile and --traceparent
let the server tell more of itself: its profiler's files, and spans under the trace ids of the rows.

On a terminal a live view shows the last ten seconds of the run. Elsewhere, or with --plain, a line
is printed every ten seconds.

Ctrl-C stops new requests and waits 5 s for those under way; a second one cuts them off. SIGTERM and
SIGHUP do the same. Every row is kept, and --resume runs what is missing: a complete run with a
success, the same plan and settings, on a server that reports the same of itself, is not repeated.
What machines (--senders, --ray) still keep of runs that were killed is fetched before.
Requests never go through a proxy (HTTP_PROXY): docs/LOAD.md. Keys (HF_TOKEN, and the one that
api_key_env names) come from the environment or .env.

A server that doesn't answer yet is waited for (--wait-s). What waiting won't change is told at
once: a host or a key that is wrong, TLS on one side alone, another service on that port.

Exit codes: 0 done; 1 no server, no prompts, or a run that broke off; 2 wrong usage, a mistake in
the scenario file, a missing file that it names, a wrong address or key, or a model that isn't
served; 3 an objective (slo) was missed; 4 a run is INVALID, even if it met its objectives;
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.interrupts import INTERRUPTED, INTERRUPTS, end_at_once, set_handlers

if __name__ == "__main__":
    set_handlers(end_at_once)  # until `run` answers them

import argparse
import gc
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vllm_bench.errors import BenchError, UsageError
from vllm_bench.flags import (
    add_load,
    add_machines,
    add_sending,
    machines_of,
    number,
    some_seconds,
    whole,
)
from vllm_bench.script import RESULTS, ROOT, SCENARIOS, add_results, parser_of, read_env, run, say

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.machines.fleet.fleet import Fleet
    from vllm_bench.run.session import Session
    from vllm_bench.scenario.scenario import Scenario
    from vllm_bench.summary.summary import RunSummary


def main() -> int:
    """Check everything, run everything, say how it ended."""
    # Modules and rows stay: looking through them for garbage takes a tenth of the start's time.
    gc.set_threshold(100_000)
    args = _parse()
    where = args.results_dir
    try:
        return _bench(args)
    except KeyboardInterrupt:
        kept = f"what had been measured by then is in {where}"
        said = f"interrupted; {kept if where.exists() else 'nothing was measured'}"
        raise KeyboardInterrupt(said) from None
    except OSError as e:  # a broken pipe too: the caller must see that it failed
        if args.dry_run:
            raise
        raise BenchError(f"{e.filename or where}: {e.strerror or e}") from e


def _bench(args: argparse.Namespace) -> int:
    from vllm_bench.machines.asked import Asked, check, fleet_asked, say_dry

    read_env()  # what is set already wins
    asked = Asked(**machines_of(args), workers=args.workers)
    check(asked, say)
    scenarios = _chosen(args)
    if args.alone and not any(len(scenario.by_class) > 1 for scenario in scenarios):
        raise UsageError("--alone: none of the scenarios has several classes (the key classes)")
    asked = asked.without_keys_of(*scenarios)
    if args.dry_run:
        say_dry(asked, say)
        for scenario in scenarios:
            print(*_session(args, None).dry_run(scenario), "", sep="\n")
        _say_how_to_keep(args, scenarios)
        return 0
    with fleet_asked(asked, say, args.wait_s) as fleet:
        return _run_all(args, _session(args, fleet), scenarios)


def _session(args: argparse.Namespace, fleet: Fleet | None) -> Session:
    from vllm_bench.run.session import Session

    return Session(
        environ=os.environ,
        interrupts=INTERRUPTS,
        say=say,
        screen=sys.stderr,
        plain=args.plain,
        folder=args.results_dir,
        resume=args.resume,
        wait_s=args.wait_s,
        give_up_s=args.give_up_s,
        workers=args.workers,
        tokens=args.tokens,
        texts=args.texts,
        server_metrics=args.server_metrics,
        telemetry_command=args.telemetry_command,
        dcgm_url=args.dcgm_url,
        profile_s=args.profile,
        traced=args.traceparent,
        each_alone=args.alone,
        fleet=fleet,
    )


def _run_all(args: argparse.Namespace, session: Session, scenarios: Sequence[Scenario]) -> int:
    done: list[RunSummary] = []
    status = "complete"
    for rows, ended in session.runs(scenarios):
        done = _judged(done, rows)
        status = ended
    _say_how_to_keep(args, scenarios)
    return _ended(done, status, args.results_dir)


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.allow_abbrev = False  # `make all` looks for --results-dir, spelled out
    add = parser.add_argument
    add_to_load = add_load(parser)
    add_to_load("--trace", metavar="F", help="recorded traffic: docs/LOAD.md")
    add_to_load("--num-requests", type=whole(), metavar="N", help="requests of each level")
    add_to_load("--duration-s", type=number(), metavar="S", help="seconds of each level")
    add_to_load("--quick", action="store_true", help="the smallest run that can be VALID")
    add_machines(parser)
    scenarios = "scenario file (default: bench/scenarios.yaml)"
    add("--scenarios", type=Path, default=SCENARIOS, metavar="F", help=scenarios)
    add("--name", action="append", metavar="S", help="run this scenario; repeatable (default: all)")
    add("--telemetry", action="store_true", help="sample this machine's GPUs during the run")
    elsewhere = parser.add_mutually_exclusive_group()
    command = "command that prints the server's GPU rows: observe_gpu.py, run there"
    elsewhere.add_argument("--telemetry-command", type=_command, metavar="CMD", help=command)
    elsewhere.add_argument("--dcgm-url", type=_page, metavar="U", help="its DCGM exporter's page")
    add("--no-server-metrics", dest="server_metrics", action="store_false", help="no /metrics")
    add_results(parser)
    add_sending(parser)
    add("--no-tokens", dest="tokens", action="store_false", help="no tokens/<run_id>.npz")
    texts = "keep what answers to questions say, in answers/<run_id>.jsonl (quality)"
    add("--texts", action="store_true", help=texts)
    profile = "let the server profile itself for N seconds in the middle of each run"
    add("--profile", type=some_seconds, metavar="N", help=profile)
    trace = "send a traceparent with each request, and keep the trace ids in the rows"
    add("--traceparent", action="store_true", help=trace)
    alone = "after each run of classes one of each class without the others"
    add("--alone", action="store_true", help=alone)
    add("--resume", action="store_true", help="leave out the runs that are complete in D already")
    add("--dry-run", action="store_true", help="show what would be sent, and stop")
    return parser.parse_args()


def _command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"not a command: {e}") from e
    if not words:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _page(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise argparse.ArgumentTypeError(
            "must be http://HOST:PORT/metrics, with no user or key in it"
        )
    return text


def _chosen(args: argparse.Namespace) -> list[Scenario]:
    """Return the scenarios to run, in the file's order. Raises ScenarioError, UsageError."""
    from vllm_bench.scenario.by_flags import ALONE, check_named, usual
    from vllm_bench.scenario.scenario import load_scenarios

    given = _given(args)
    if _without_a_file(args, given):
        return list(load_scenarios(args.scenarios, given, {ALONE: usual(given)}).values())
    found = load_scenarios(args.scenarios, given)
    for name in args.name or ():
        check_named("--name", name, found, args.scenarios)
    return [s for name, s in found.items() if not args.name or name in args.name]


def _given(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings that flags give, by key. Raises UsageError."""
    from vllm_bench.scenario.by_flags import given_by
    from vllm_bench.scenario.scenario import KNOWN_KEYS

    telemetry = bool(args.telemetry or args.telemetry_command or args.dcgm_url) or None
    return given_by(vars(args), KNOWN_KEYS, telemetry=telemetry)


def _without_a_file(args: argparse.Namespace, given: dict[str, object]) -> bool:
    from vllm_bench.scenario.by_flags import makes_a_scenario

    return makes_a_scenario(given) and not args.name


def _say_how_to_keep(args: argparse.Namespace, scenarios: Sequence[Scenario]) -> None:
    """Print the scenario that flags made, if they did, as a file would have it."""
    from vllm_bench.summary.again import scenario_yaml

    if _without_a_file(args, _given(args)):
        (made,) = scenarios
        given = {k: v for k, v in made.masked().items() if k in made.model_fields_set}
        say(f"\n# as a file (--scenarios FILE), to keep:\n{scenario_yaml(given).rstrip()}")


def _judged(done: Sequence[RunSummary], rows: Path) -> list[RunSummary]:
    """Read a run back from its files, print its verdict, and return it behind those before it."""
    from vllm_bench.answers.together import with_answers_judged
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.summary.summary import summarize
    from vllm_bench.verdict.verdict import headline

    found = with_answers_judged([*done, summarize(load_run(rows))])
    say(f"  {headline(found[-1].verdict)}")
    return found


def _ended(done: Sequence[RunSummary], status: str, folder: Path) -> int:
    """Print the table of all runs, and return the exit code."""
    from vllm_bench.tables.level_lines import exit_code
    from vllm_bench.tables.terminal import print_summary, wide_console

    print()
    print_summary(done, wide_console())
    print("\nRead on: " + "\n         ".join(_read_on(folder)))
    if status == "interrupted":
        return INTERRUPTED
    if status == "failed":
        return 1
    return exit_code(done)


def _read_on(folder: Path) -> list[str]:
    """Return the commands that read the runs, to be pasted."""
    words = ["--last", *([] if folder.resolve() == RESULTS else ["--results-dir", str(folder)])]
    scripts = (ROOT / "bench" / name for name in ("summarize.py", "plot.py", "report.py"))
    return [shlex.join(["python", os.path.relpath(script), *words]) for script in scripts]


if __name__ == "__main__":
    sys.exit(run(main, aside=True))  # a run waits for no terminal
