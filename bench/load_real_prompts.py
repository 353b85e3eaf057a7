#!/usr/bin/env python3
"""Fetch data sets of prompts once and cache them, so that a benchmark needs no hub.

    python bench/load_real_prompts.py                        the default set, dolly
    python bench/load_real_prompts.py dolly openassistant    several
    python bench/load_real_prompts.py dolly --refresh        again, even if it is cached
    python bench/load_real_prompts.py --list                 every set: licence, and what is cached

A data set is dolly, sharegpt (the Alpaca instructions; also named alpaca), openassistant,
sharegpt-v3, sample (bundled) or file:PATH (which is read and checked). REAL_PROMPTS.md describes
each. HF_TOKEN, from the environment or .env, is needed for gated sets only.

Writes <cache>/prompts/<set>-<checksum>.jsonl and <set>.json; the cache is VLLM_BENCH_CACHE,
else XDG_CACHE_HOME/vllm-bench, else ~/.cache/vllm-bench. It can be copied to another machine.

Exit codes: 0 done; 1 a set could not be fetched (the others still are); 2 wrong usage;
130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.prompts.prompt import PromptError
from vllm_bench.scenario.datasets import DATASETS, HUB_SETS, own_file
from vllm_bench.script import complain, parser_of, read_env, run, say

DEFAULT = "dolly"


def main() -> int:
    """Fetch or list, one line per set."""
    args = _parse()
    from vllm_bench.prompts.source import default_cache_dir

    read_env()
    cache_dir = default_cache_dir(os.environ)
    if args.list:
        return _each(DATASETS, lambda name: _listed(name, cache_dir))
    return _each(args.datasets, lambda name: _fetched(name, cache_dir, refresh=args.refresh))


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=f"default: {DEFAULT}")
    parser.add_argument("--refresh", action="store_true", help="fetch even what is cached")
    parser.add_argument("--list", action="store_true", help="show every set and stop")
    args = parser.parse_args()
    if args.list and (args.datasets or args.refresh):
        parser.error("--list takes no other argument: it shows every set")
    for name in args.datasets:
        if name not in DATASETS and own_file(name) is None:
            from vllm_bench.scenario.mistakes import nearest  # with a heavy library

            hint = nearest(name, DATASETS)
            parser.error(f"{name}: known are {', '.join(DATASETS)}, file:PATH{hint}")
        if args.refresh and name not in HUB_SETS:
            parser.error(f"--refresh: {name} doesn't come from the hub")
    args.datasets = args.datasets or [DEFAULT]
    return args


def _each(names: Iterable[str], report: Callable[[str], str]) -> int:
    """Print a line on each set; if one can't be fetched, the others still are."""
    from vllm_bench.records.text import printable

    failed = 0
    for name in names:
        try:
            print(printable(report(name), 1000), flush=True)
        except PromptError as e:
            failed = complain(e)
    return failed


def _fetched(name: str, cache_dir: Path, *, refresh: bool) -> str:
    """Make sure that the set is there, and say what it is. Raises PromptError."""
    from vllm_bench.prompts.source import fetch_to_cache, locate

    if refresh or locate(name, cache_dir) is None:
        say(f"{name}: fetching {HUB_SETS[name].url}")
        fetch_to_cache(name, cache_dir=cache_dir, hf_token=os.environ.get("HF_TOKEN"))
    return _listed(name, cache_dir)


def _listed(name: str, cache_dir: Path) -> str:
    """Say what the set is, and whether it is there. Raises PromptError: a damaged one."""
    from vllm_bench.prompts.source import dataset_notes, load_source, locate

    licence = f"licence {HUB_SETS[name].licence}" if name in HUB_SETS else None
    path = locate(name, cache_dir)
    if path is None:
        return f"{name}: not fetched; {licence}; {HUB_SETS[name].url}"
    source = load_source(name, cache_dir=cache_dir)  # verifies the checksum of a fetched one
    notes = [
        note.removeprefix(f"{source.dataset}: ").removeprefix(f"{name}: ")
        for note in (*source.notes, *dataset_notes(name))
    ]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    parts = (f"{name}: {len(source.prompts):,} prompts", f"sha256 {sha256}", str(path), licence)
    return "; ".join(part for part in (*parts, *notes) if part)


if __name__ == "__main__":
    sys.exit(run(main))
