"""Prompts by the name of their data set: from the hub, once, from a file, or from the bundle.

Nothing here ever stands in for what was asked: a set that can't be had is a PromptError.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from .cache import find_cached, lines_path, read_cached, write_cached
from .files import read_prompt_file
from .hub import HUB_SETS, fetch
from .order import derive_seed
from .prompt import (
    Message,
    Prompt,
    PromptError,
    PromptSet,
    PromptSource,
    user_prompt,
    without_repeats,
)

__all__ = [
    "SAMPLE_FILE",
    "Message",
    "Prompt",
    "PromptError",
    "PromptSet",
    "PromptSource",
    "dataset_notes",
    "default_cache_dir",
    "derive_seed",
    "fetch_to_cache",
    "known_datasets",
    "load_prompts",
    "load_source",
    "locate",
    "prompts_folder",
]

SAMPLE_FILE = Path(__file__).resolve().parents[2] / "data" / "sample_prompts.jsonl"
SAMPLE_NOTE = "sample: written for this project, for trying things out; not human data"


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder that keeps data sets and token counts between runs.

    VLLM_BENCH_CACHE, else XDG_CACHE_HOME/vllm-bench, else ~/.cache/vllm-bench.
    """
    own = environ.get("VLLM_BENCH_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    base = Path(environ.get("XDG_CACHE_HOME") or "")
    # The XDG specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "vllm-bench"


def known_datasets() -> tuple[str, ...]:
    """Return the names that a scenario may give; file:PATH comes beside them."""
    return (*HUB_SETS, "sample")


def load_prompts(dataset: str, *, cache_dir: Path, hf_token: str | None = None) -> list[Prompt]:
    """Return every prompt of a data set, in its own order. Raises PromptError."""
    return list(load_source(dataset, cache_dir=cache_dir, hf_token=hf_token).prompts)


def load_source(dataset: str, *, cache_dir: Path, hf_token: str | None = None) -> PromptSource:
    """Return a data set with what a person should know of how it was read.

    A hub set is fetched the first time; later neither the hub nor `datasets` is needed.
    Raises PromptError.
    """
    if dataset.startswith("file:"):
        return read_prompt_file(Path(dataset.removeprefix("file:")))
    if dataset == "sample":
        return _read_sample()
    _check_known(dataset)
    folder = prompts_folder(cache_dir)
    cached = find_cached(folder, HUB_SETS[dataset])
    if cached is None:
        return fetch_to_cache(dataset, cache_dir=cache_dir, hf_token=hf_token)
    return read_cached(folder, HUB_SETS[dataset], cached)


def fetch_to_cache(dataset: str, *, cache_dir: Path, hf_token: str | None = None) -> PromptSource:
    """Fetch a hub set now, whatever is cached, and cache it. Raises PromptError."""
    _check_known(dataset)
    fetched = fetch(HUB_SETS[dataset], hf_token or None)
    write_cached(prompts_folder(cache_dir), HUB_SETS[dataset], fetched)
    return fetched.source


def locate(dataset: str, cache_dir: Path) -> Path | None:
    """Return the file that holds the set; None where it isn't cached. Raises PromptError."""
    if dataset.startswith("file:"):
        return Path(dataset.removeprefix("file:")).expanduser()
    if dataset == "sample":
        return SAMPLE_FILE
    _check_known(dataset)
    folder = prompts_folder(cache_dir)
    cached = find_cached(folder, HUB_SETS[dataset])
    return lines_path(folder, cached) if cached else None


def prompts_folder(cache_dir: Path) -> Path:
    """Return where the fetched sets lie."""
    return cache_dir / "prompts"


def dataset_notes(dataset: str) -> tuple[str, ...]:
    """Return what a person must know of a set before believing or publishing figures from it."""
    if dataset == "sample":
        return (SAMPLE_NOTE,)
    warning = HUB_SETS[dataset].warning if dataset in HUB_SETS else None
    return (f"{dataset}: {warning}",) if warning else ()


def _check_known(dataset: str) -> None:
    if dataset not in HUB_SETS:
        known = ", ".join(known_datasets())
        raise PromptError(f"{dataset}: no such dataset: known are {known}, file:PATH")


def _read_sample() -> PromptSource:
    try:
        rows = [orjson.loads(line) for line in SAMPLE_FILE.read_bytes().splitlines()]
        prompts = [user_prompt(row["id"], row["prompt"]) for row in rows]
    except OSError as e:
        raise PromptError(f"{SAMPLE_FILE}: the bundled set can't be read: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise PromptError(f"{SAMPLE_FILE}: the bundled set is damaged: {e}") from e
    return without_repeats("sample", prompts)
