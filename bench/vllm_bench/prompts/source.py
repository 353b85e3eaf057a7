"""Prompts by the name of their data set: from the hub (once), a file, or the bundled sample.

There is no replacement for a data set that can't be loaded: that is a PromptError. A fetched set is
kept as readable JSON lines, with a small JSON that has their checksum:

    <cache>/prompts/dolly.json              which file has the set, its sha256, count, revision
    <cache>/prompts/dolly-3f2a9c1b7d04.jsonl  {"id": "dolly:0", "prompt": "When did …"}

The file of lines is named after its content, and the small JSON is renamed into place last. So a
reader always sees either the old set or the new one. No secret is written.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from ..records.safe_file import write_atomically
from ..scenario.datasets import DATASETS, HUB_SETS, SAMPLE, HubSet, own_file
from .count import TokenCounter
from .hub import Fetched, fetch
from .own.files import read_prompt_file
from .prompt import (
    Prompt,
    PromptError,
    PromptSet,
    PromptSource,
    checksum,
    user_prompt,
    without_repeats,
)

SAMPLE_FILE = Path(__file__).resolve().parents[2] / "data" / "sample_prompts.jsonl"
# Of a fetched set; raise it when a filter of rows changes, so that sets are fetched again.
FORMAT = 1
SAMPLE_NOTE = "sample: written for this project, for trying things out; not human data"


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder that keeps data sets and token counts between runs.

    VLLM_BENCH_CACHE, else XDG_CACHE_HOME/vllm-bench, else ~/.cache/vllm-bench. Raises PromptError.
    """
    own = environ.get("VLLM_BENCH_CACHE")
    base = Path(environ.get("XDG_CACHE_HOME") or "")
    try:
        if own:
            return Path(own).expanduser().absolute()
        # The XDG specification says to ignore relative paths.
        return (base if base.is_absolute() else Path.home() / ".cache") / "vllm-bench"
    except RuntimeError as e:  # a container's user without a home, or nobody's home
        why = "there is no home folder for data sets and token counts: set VLLM_BENCH_CACHE"
        raise PromptError(f"{own}: no such home" if own else why) from e


def load_source(dataset: str, *, cache_dir: Path, hf_token: str | None = None) -> PromptSource:
    """Return a data set with notes for people on how it was read.

    A hub set is fetched the first time; later neither the hub nor `datasets` is needed.
    Raises PromptError.
    """
    if own := own_file(dataset):
        return read_prompt_file(own)
    if dataset == SAMPLE:
        try:
            return without_repeats(SAMPLE, _prompts_in(SAMPLE_FILE.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise PromptError(f"{SAMPLE_FILE}: can't be read: {e}; git has it whole") from e
    hub_set = _known(dataset)
    cached = _find(_folder(cache_dir), hub_set)
    if cached is None:
        return fetch_to_cache(dataset, cache_dir=cache_dir, hf_token=hf_token)
    return _read(_folder(cache_dir), hub_set, cached)


def fetch_to_cache(dataset: str, *, cache_dir: Path, hf_token: str | None = None) -> PromptSource:
    """Fetch a hub set now, even if it is cached, and cache it. Raises PromptError."""
    hub_set = _known(dataset)
    fetched = fetch(hub_set, hf_token or None)
    _write(_folder(cache_dir), hub_set, fetched)
    return fetched.source


def locate(dataset: str, cache_dir: Path) -> Path | None:
    """Return the file with the set; None where it isn't cached. Raises PromptError."""
    if own := own_file(dataset):
        return own.expanduser()
    if dataset == SAMPLE:
        return SAMPLE_FILE
    cached = _find(_folder(cache_dir), _known(dataset))
    return _lines_path(_folder(cache_dir), cached) if cached else None


def dataset_notes(dataset: str) -> tuple[str, ...]:
    """Return what people must know about a set before they use or publish its figures."""
    if dataset == SAMPLE:
        return (SAMPLE_NOTE,)
    warning = HUB_SETS[dataset].warning if dataset in HUB_SETS else None
    return (f"{dataset}: {warning}",) if warning else ()


def set_of(
    source: PromptSource,
    prompts: Sequence[Prompt],
    counter: TokenCounter,
    notes: Iterable[str],
    content: Callable[[Prompt], str] = lambda prompt: prompt.text,
) -> PromptSet:
    """Return prompts made of a data set as those of a run; of equal content they are one."""
    uses = Counter(map(content, prompts))
    return PromptSet(
        dataset=source.dataset,
        prompts=tuple(prompts),
        sha256=checksum(prompts),
        distinct=len(uses),
        max_uses=max(uses.values(), default=0),
        source_count=len(source.prompts),
        counted_by=counter.method,
        notes=(*source.notes, *dataset_notes(source.dataset), *counter.notes, *notes),
        left_out=source.left_out,
    )


def _folder(cache_dir: Path) -> Path:
    return cache_dir / "prompts"


def _known(dataset: str) -> HubSet:
    if dataset not in HUB_SETS:
        known = ", ".join(DATASETS)
        raise PromptError(f"{dataset}: no such dataset: known are {known}, file:PATH")
    return HUB_SETS[dataset]


def _prompts_in(lines: bytes) -> tuple[Prompt, ...]:
    rows = [orjson.loads(line) for line in lines.splitlines()]
    return tuple(user_prompt(row["id"], row["prompt"]) for row in rows)


@dataclass(frozen=True, slots=True)
class CachedSet:
    """The content of the small JSON."""

    dataset: str
    repo: str
    licence: str
    revision: str | None
    file: str
    sha256: str  # of the file's bytes
    row_count: int  # rows on the hub
    prompt_count: int
    notes: list[str]
    format: int = FORMAT
    left_out: dict[str, int] = field(default_factory=dict)  # rows, by the reason


def _find(folder: Path, hub_set: HubSet) -> CachedSet | None:
    """Return the small JSON of the set; None: not cached, or by an older version of the filter.

    Raises PromptError where the small JSON is damaged.
    """
    path = _facts_path(folder, hub_set)
    try:
        facts = orjson.loads(path.read_bytes())
        if facts["format"] != FORMAT:
            return None
        return CachedSet(**facts)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise PromptError(f"{path}: can't be read: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise PromptError(_damaged(path, "its content is wrong", hub_set)) from e


def _read(folder: Path, hub_set: HubSet, cached: CachedSet) -> PromptSource:
    """Verify the checksum of the cached set and read it. Raises PromptError."""
    path = _lines_path(folder, cached)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise PromptError(_damaged(path, e.strerror or "can't be read", hub_set)) from e
    if hashlib.sha256(data).hexdigest() != cached.sha256:
        raise PromptError(_damaged(path, "its sha256 is not the recorded one", hub_set))
    return PromptSource(cached.dataset, _prompts_in(data), tuple(cached.notes), cached.left_out)


def _write(folder: Path, hub_set: HubSet, fetched: Fetched) -> None:
    """Write a fetched set, and delete the file of the one that it replaces. Raises PromptError."""
    rows = [{"id": prompt.id, "prompt": prompt.text} for prompt in fetched.source.prompts]
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    sha256 = hashlib.sha256(data).hexdigest()
    cached = CachedSet(
        dataset=hub_set.name,
        repo=hub_set.repo,
        licence=hub_set.licence,
        revision=fetched.revision,
        file=f"{hub_set.name}-{sha256[:12]}.jsonl",
        sha256=sha256,
        row_count=fetched.row_count,
        prompt_count=len(fetched.source.prompts),
        notes=list(fetched.source.notes),
        left_out=dict(fetched.source.left_out),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / cached.file, data)
        write_atomically(
            _facts_path(folder, hub_set), orjson.dumps(asdict(cached), option=orjson.OPT_INDENT_2)
        )
        _drop_older(folder, hub_set, cached)
    except OSError as e:
        raise PromptError(f"{folder}: can't be written: {e.strerror}") from e


def _lines_path(folder: Path, cached: CachedSet) -> Path:
    return folder / Path(cached.file).name  # a damaged name can't point out of the folder


def _facts_path(folder: Path, hub_set: HubSet) -> Path:
    return folder / f"{hub_set.name}.json"


def _drop_older(folder: Path, hub_set: HubSet, kept: CachedSet) -> None:
    for path in folder.glob(f"{hub_set.name}-{'?' * 12}.jsonl"):
        if path.name != kept.file:
            path.unlink(missing_ok=True)


def _damaged(path: Path, why: str, hub_set: HubSet) -> str:
    again = f"python bench/load_real_prompts.py {hub_set.name} --refresh"
    return f"{path}: damaged ({why}): fetch the set again with {again}"
