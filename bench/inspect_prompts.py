#!/usr/bin/env python3
"""Show what a benchmark would send: the prompts, how long they are, and how many fit.

    python inspect_prompts.py --show 10                            Dolly, 50 to 500 tokens
    python inspect_prompts.py --dataset sample --min-tokens 100    another set, other lengths
    python inspect_prompts.py --dataset file:mine.csv              a file of your own, as it is
    python inspect_prompts.py --save-text results/prompts.txt      all 500, to read
    python inspect_prompts.py --save-jsonl mine.jsonl              all 500, for file:mine.jsonl
    python inspect_prompts.py --scenario rag --show 2              what a run of that scenario sends

Without --scenario, up to 500 different prompts between --min-tokens and --max-tokens are drawn
in the order of --seed; from a file of your own prompts of any length, unless one of these says
which. With it, data set, lengths, number, order and seed are the scenario's, and the prompts are
those that the run sends, in that order. What is left out of a file is counted, with the reason.

Tokens are counted by a local tokenizer of the model where there is one, else estimated, and the
output says which. A run asks its server; with --base-url this script does so too, and shows the
same prompts as the run.

Control characters are spelled out in the text that is shown; --save-jsonl keeps them. Files are
written before anything is shown, so that they are whole whoever reads the output (head, say).

Exit codes: 0 done; 1 no prompts; 2 wrong usage, an unknown data set, a missing file, or a
scenario file with a mistake; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.errors import UsageError
from vllm_bench.flags import whole
from vllm_bench.scenario.datasets import DATASETS, own_file
from vllm_bench.script import SCENARIOS, parser_of, read_env, run

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.prompts.prompt import Prompt, PromptSet
    from vllm_bench.scenario.scenario import Scenario

CONSIDERED = 500  # prompts drawn when no scenario says how many
OWN_SELECTION = {"dataset": "dolly", "min_tokens": 50, "max_tokens": 500, "seed": 0}
DEVICES = Path("/dev")  # /dev/stdout may be a file, and would be replaced itself
OWN_FILE = {"min_tokens": 0, "max_tokens": sys.maxsize}  # its prompts are sent as they are


def main() -> int:
    """Choose, save, show."""
    args = _parse()
    chosen = _scenario_set(args) if args.scenario else _own_set(args)
    saved = _save(chosen, args)  # first: the reader of what is shown may leave
    if args.scenario and chosen.counted_by not in ("server", "nobody"):
        print("The run counts with its server and may draw other prompts: see --base-url.\n")
    _print_summary(chosen)
    _print_prompts(chosen.prompts[: args.show])
    for path in saved:
        print(f"Wrote {len(chosen.prompts)} prompts to {path}")
    return 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--show", type=whole(), default=5, metavar="N", help="prompts to show (default: 5)")
    add("--dataset", metavar="D", help="dolly (default), sharegpt, openassistant, …, file:PATH")
    add("--min-tokens", type=whole(), metavar="N", help="shortest (default: 50; of a file: any)")
    add("--max-tokens", type=whole(), metavar="N", help="longest (default: 500; of a file: any)")
    add("--seed", type=whole(), metavar="N", help="order of drawing (default: 0)")
    add("--scenario", metavar="NAME", help="show what this scenario sends")
    add("--scenarios", type=Path, metavar="F", help="its file (default: bench/scenarios.yaml)")
    add("--base-url", metavar="U", help="count with the server at U (ending in /v1)")
    add("--save-text", type=Path, metavar="F", help="write all chosen prompts as text for people")
    lines = "write all chosen prompts as JSON lines, for file:F"
    add("--save-jsonl", type=Path, metavar="F", help=lines)
    args = parser.parse_args()
    if problem := _contradiction(args):
        parser.error(problem)
    return args


def _contradiction(args: argparse.Namespace) -> str | None:
    """Return what is wrong with the options together; fill in the defaults of the others."""
    of_own_file = OWN_FILE if own_file(args.dataset or "") else {}
    for key, default in {**OWN_SELECTION, **of_own_file}.items():
        if getattr(args, key) is None:
            setattr(args, key, default)
        elif args.scenario:
            return f"--{key.replace('_', '-')} can't be used with --scenario, which sets it itself"
    for key in ("scenarios", "base_url"):
        if getattr(args, key) is not None and not args.scenario:
            return f"--{key.replace('_', '-')} needs --scenario"
    if args.min_tokens > args.max_tokens:
        return f"--min-tokens {args.min_tokens} is over --max-tokens {args.max_tokens}"
    return _wrong_files(args)


def _wrong_files(args: argparse.Namespace) -> str | None:
    """Return what is wrong with the files to write."""
    for key in ("save_text", "save_jsonl"):
        path = getattr(args, key)
        if path is not None and path.is_dir():
            return f"--{key.replace('_', '-')} {path}: is a folder; name a file"
        if path is not None and path.exists() and not (path.is_file() and path.parent != DEVICES):
            return f"--{key.replace('_', '-')} {path}: isn't a file, and would be replaced by one"
    if args.save_text and args.save_text == args.save_jsonl:
        return "--save-text and --save-jsonl name the same file"
    return None


def _check_dataset(dataset: str) -> None:
    """Raise UsageError for a data set that nobody knows, and for a missing file."""
    own = own_file(dataset)
    if own is None and dataset not in DATASETS:
        from vllm_bench.scenario.mistakes import nearest  # with a heavy library

        known = f"known are {', '.join(DATASETS)}, file:PATH"
        raise UsageError(f"--dataset {dataset}: {known}{nearest(dataset, DATASETS)}")
    if own is not None and not own.expanduser().exists():
        raise UsageError(f"--dataset {dataset}: no such file")


def _own_set(args: argparse.Namespace) -> PromptSet:
    """Draw different prompts of the lengths asked for. Raises UsageError, PromptError."""
    from vllm_bench.prompts.count import best_counter
    from vllm_bench.prompts.fit import Draw, TokenRange, choose_natural
    from vllm_bench.prompts.order import derive_seed
    from vllm_bench.prompts.source import default_cache_dir, load_source

    _check_dataset(args.dataset)
    read_env()
    cache_dir = default_cache_dir(os.environ)
    source = load_source(args.dataset, cache_dir=cache_dir, hf_token=os.environ.get("HF_TOKEN"))
    counter = best_counter(models=[os.environ.get("MODEL") or "gpt-oss-20"])
    seed = derive_seed(args.seed, "prompts")
    wanted = TokenRange(args.min_tokens, args.max_tokens)
    # Each is shown once, while a run sends them several times where they are too few.
    return choose_natural(Draw(source, CONSIDERED, seed, counter), wanted, again=False)


def _scenario_set(args: argparse.Namespace) -> PromptSet:
    """Return what the first run of the scenario's first level sends.

    Raises PromptError, ControlError, ScenarioError.
    """
    from vllm_bench.run.prepare import plans_for, server_of

    read_env()
    scenario = _scenario(args)
    server = server_of(scenario, os.environ) if args.base_url else None
    return plans_for(scenario, server, os.environ)[0].drawn[0].prompts


def _scenario(args: argparse.Namespace) -> Scenario:
    from vllm_bench.scenario.by_flags import check_named
    from vllm_bench.scenario.scenario import load_scenarios

    path = args.scenarios or SCENARIOS
    overrides = {"base_url": args.base_url} if args.base_url else {}
    scenarios = load_scenarios(path, overrides)
    check_named("--scenario", args.scenario, scenarios, path)
    return scenarios[args.scenario]


def _print_summary(chosen: PromptSet) -> None:
    from vllm_bench.prompts.listing import histogram, length_summary
    from vllm_bench.records.text import escaped

    lengths = [prompt.tokens for prompt in chosen.prompts if prompt.tokens is not None]
    print(
        f"{escaped(chosen.dataset)}: {len(chosen.prompts)} prompts, {chosen.distinct} different,"
        f" of {chosen.source_count:,} in the set"
    )
    print(f"sha256 {chosen.sha256}")
    if lengths:
        print(f"Tokens by {chosen.counted_by}: {length_summary(lengths)}")
        print(*histogram(lengths), sep="\n")
    for note in chosen.notes:
        print(f"Note: {escaped(note)}")
    print()


def _print_prompts(prompts: Sequence[Prompt]) -> None:
    from vllm_bench.prompts.listing import listing

    for line in listing(prompts):
        print(line)


def _save(chosen: PromptSet, args: argparse.Namespace) -> list[Path]:
    """Write the files that were asked for, and return them. Raises OSError, UsageError."""
    from vllm_bench.prompts.listing import json_lines, listing
    from vllm_bench.records.safe_file import write_atomically

    to_write: dict[Path, bytes] = {}
    if args.save_text:
        to_write[args.save_text] = "\n".join(listing(chosen.prompts)).encode()
    if args.save_jsonl:
        to_write[args.save_jsonl] = json_lines(chosen.prompts)
    own = own_file(chosen.dataset)
    for path in to_write:
        if own is not None and path.exists() and path.samefile(own.expanduser()):
            raise UsageError(f"{path}: the prompts come from this file: write to another one")
    for path, data in to_write.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        except OSError as e:  # it may name the temporary file, which the user didn't name
            raise OSError(e.errno, e.strerror, str(path)) from e
    return list(to_write)


if __name__ == "__main__":
    sys.exit(run(main))
