"""Fetched data sets on disk: JSON lines that anybody can read, and a small JSON that vouches.

    <cache>/prompts/dolly.json              which file holds the set, its sha256, count, revision
    <cache>/prompts/dolly-3f2a9c1b7d04.jsonl  {"id": "dolly:0", "prompt": "When did …"}

The lines' file is named after its content and the small JSON is renamed into place last, so a
reader sees the old set or the new one, whatever happens meanwhile. No secret is written.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from .hub import Fetched, HubSet
from .prompt import Prompt, PromptError, PromptSource, user_prompt

FORMAT = 1  # goes up when a row filter changes: sets of an older format are fetched again


@dataclass(frozen=True, slots=True)
class CachedSet:
    """What the small JSON says."""

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


def find_cached(folder: Path, hub_set: HubSet) -> CachedSet | None:
    """Return what is cached of the set; None: nothing, or of an older version of its filter.

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
        raise PromptError(_damaged(path, "not what was written", hub_set)) from e


def read_cached(folder: Path, hub_set: HubSet, cached: CachedSet) -> PromptSource:
    """Read the cached set, once its checksum was verified. Raises PromptError."""
    path = lines_path(folder, cached)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise PromptError(_damaged(path, e.strerror or "can't be read", hub_set)) from e
    if hashlib.sha256(data).hexdigest() != cached.sha256:
        raise PromptError(_damaged(path, "its sha256 is not the recorded one", hub_set))
    rows = [orjson.loads(line) for line in data.splitlines()]
    prompts = tuple(user_prompt(row["id"], row["prompt"]) for row in rows)
    return PromptSource(cached.dataset, prompts, tuple(cached.notes))


def write_cached(folder: Path, hub_set: HubSet, fetched: Fetched) -> CachedSet:
    """Write a fetched set, and drop the file of the one that it replaces. Raises PromptError."""
    data = b"".join(_line(prompt) for prompt in fetched.source.prompts)
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
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / cached.file, data)
        _write_whole(
            _facts_path(folder, hub_set), orjson.dumps(asdict(cached), option=orjson.OPT_INDENT_2)
        )
        _drop_older(folder, hub_set, cached)
    except OSError as e:
        raise PromptError(f"{folder}: can't be written: {e.strerror}") from e
    return cached


def lines_path(folder: Path, cached: CachedSet) -> Path:
    """Return where the prompts lie."""
    return folder / Path(cached.file).name  # a damaged fact can't point out of the folder


def _facts_path(folder: Path, hub_set: HubSet) -> Path:
    return folder / f"{hub_set.name}.json"


def _line(prompt: Prompt) -> bytes:
    return orjson.dumps({"id": prompt.id, "prompt": prompt.text}) + b"\n"


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside and rename; two processes don't share the name beside."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _drop_older(folder: Path, hub_set: HubSet, kept: CachedSet) -> None:
    for path in folder.glob(f"{hub_set.name}-{'?' * 12}.jsonl"):
        if path.name != kept.file:
            path.unlink(missing_ok=True)


def _damaged(path: Path, why: str, hub_set: HubSet) -> str:
    again = f"python bench/load_real_prompts.py {hub_set.name} --refresh"
    return f"{path}: damaged ({why}): fetch the set again with {again}"
