"""Which runs A and B are. Each word of a side must be one thing: a label, a folder, or runs."""

from __future__ import annotations

import dataclasses
import difflib
import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..records.find_runs import Asked, choose, find_runs, head_of, label_of
from ..records.text import listed, printable
from .theirs import is_vllm

LABEL = "label:"  # before a word that is meant as one


@dataclass(frozen=True, slots=True)
class Named:
    """A side as it was named, and what it has: runs, or files of `vllm bench serve`."""

    name: str
    runs: tuple[Path, ...] = ()  # of their rows
    files: tuple[Path, ...] = ()
    left_out: tuple[Path, ...] = ()  # older runs that lie there too
    problems: tuple[str, ...] = ()  # a line for each that wasn't found, or whose label isn't known


@dataclass(frozen=True, slots=True)
class _Asked:
    """A side as it is asked for, and where to look."""

    name: str  # A, B
    folder: Path
    labels: Sequence[str]  # in the folder
    every: bool = False  # older runs of a label or a folder, too


def sides(a: str, b: str, results_dir: Path) -> tuple[Named, Named]:
    """Find the runs of both sides. Raises UsageError: nothing of a name, two things, one run twice.

    Of a label or a folder it is of each level the newest session, in which all visits of an
    experiment are one; what is named by id, file or glob is meant, however old.
    """
    labels = _labels_in(results_dir)
    one, other = (_side(t, _Asked(n, results_dir, labels)) for n, t in (("A", a), ("B", b)))
    _refuse_shared(one, other)
    return one, other


def history(nights: str, candidate: str, results_dir: Path) -> tuple[Named, Named]:
    """Find all runs of a history, older ones too, and those of a candidate, which are no history.

    Raises UsageError as `sides` does.
    """
    labels = _labels_in(results_dir)
    found = _side(candidate, _Asked("candidate", results_dir, labels))
    lying = _side(nights, _Asked("--history", results_dir, labels, every=True))
    for side in (lying, found):
        if side.files:
            wrong = printable(side.files[0])
            raise UsageError(f"--history takes runs of bench.py: {wrong} is none")
    own = {_identity(path) for path in found.runs}
    kept = tuple(path for path in lying.runs if _identity(path) not in own)
    return dataclasses.replace(lying, runs=kept), found


def _labels_in(folder: Path) -> list[str]:
    runs = find_runs([], folder).paths
    return sorted({label_of(head_of(path)) for path in runs} - {""})


def _side(text: str, asked: _Asked) -> Named:
    words = [text] if os.path.lexists(text) else [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(f"{asked.name} {printable(text)!r}: name a label, a folder, or runs")
    parts = [_part(word, asked) for word in words]
    runs = dict.fromkeys(path for part in parts for path in part.runs)
    files = dict.fromkeys(path for part in parts for path in part.files)
    if runs and files:
        one = f"{asked.name}: {printable(next(iter(files)))}"
        raise UsageError(f"{one} is of `vllm bench serve`, others are runs: name one kind")
    left_out = (path for part in parts for path in part.left_out)
    problems = dict.fromkeys(line for part in parts for line in part.problems)
    shown = text.removeprefix(LABEL) or "no label"
    return Named(shown, tuple(runs), tuple(files), tuple(left_out), tuple(problems))


def _part(word: str, asked: _Asked) -> Named:
    """Return what one word of a side means. Raises UsageError: nothing, or two things."""
    if word.startswith(LABEL):
        return _labelled(word.removeprefix(LABEL), asked)
    there = _lying(word, asked)
    is_there = there.runs or there.files
    if word in asked.labels and is_there:
        path = "a folder with runs" if Path(word).is_dir() else "a run"
        remedy = f"write {LABEL}{word}, or ./{word} for the {path.split()[1]}"
        raise UsageError(f"{asked.name} {word}: a label in {asked.folder}, and {path}: {remedy}")
    if word in asked.labels:
        return _labelled(word, asked)
    if not is_there:
        problem = there.problems[0] if Path(word).is_dir() else _no_such(word, asked)
        raise UsageError(f"{asked.name} {problem}")
    return there


def _labelled(label: str, asked: _Asked) -> Named:
    """Return the runs of a label; those without a JSON, whose label isn't known, are problems."""
    chosen = choose(Asked(label=label, every=asked.every), asked.folder)
    if not chosen.paths:
        raise UsageError(f"{asked.name} {_no_such(f'{LABEL}{label}', asked)}")
    left_out, problems = tuple(chosen.left_out), tuple(chosen.problems)
    return Named(label, tuple(chosen.paths), (), left_out, problems)


def _lying(word: str, asked: _Asked) -> Named:
    """Return the runs, else the files of `vllm bench serve`, that a path, id or glob names."""
    foreign = tuple(path for path in _json_files(word) if is_vllm(path))
    if foreign == (Path(word),):
        return Named(word, files=foreign)
    chosen = choose(Asked(names=[word], every=asked.every), asked.folder)
    if not chosen.paths:
        return Named(word, files=foreign, problems=() if foreign else tuple(chosen.problems))
    paths = _of_all_classes(chosen.paths) if Path(word).is_dir() else chosen.paths
    if Path(word).is_dir() and not asked.every:  # nights may have a commit's label each
        _refuse_mixed(word, asked.name, paths)
    return Named(word, tuple(paths), (), tuple(chosen.left_out), tuple(chosen.problems))


def _of_all_classes(paths: Sequence[Path]) -> Sequence[Path]:
    """Return a folder's runs without those of one class alone, which belong to the mix.

    All of them where there is nothing else: they are then what is meant.
    """
    heads = {path: head_of(path) for path in paths}
    return [p for p, info in heads.items() if not (info and info.plan.get("alone"))] or paths


def _json_files(word: str) -> list[Path]:
    if Path(word).is_dir():
        return sorted(Path(word).glob("*.json"))
    if glob.has_magic(word) and not os.path.lexists(word):
        return [Path(found) for found in sorted(glob.glob(word))]  # noqa: PTH207
    return [Path(word)]


def _refuse_mixed(word: str, name: str, paths: Sequence[Path]) -> None:
    """Refuse a folder of several labels. Raises UsageError."""
    labels = sorted({label_of(head_of(path)) for path in paths})
    if len(labels) > 1:
        there = ", ".join(printable(label, 40) or "none" for label in labels)
        remedy = f"name one: {printable(labels[-1], 40)} with --results-dir {printable(word)}"
        raise UsageError(
            f"{name} {printable(word)}: has runs of several labels ({there}): {remedy}"
        )


def _identity(path: Path) -> object:
    """Return what tells a run, or another file, from others; a copy of it is the same run."""
    info = head_of(path)
    return (path.stem, info.clock_start) if info else os.path.realpath(path)


def _refuse_shared(a: Named, b: Named) -> None:
    """Refuse what is on both sides: it would be compared with itself. Raises UsageError."""
    of_a = {_identity(path) for path in (*a.runs, *a.files)}
    shared = [path for path in (*b.runs, *b.files) if _identity(path) in of_a]
    if not shared:
        return
    named = listed([printable(path.stem) for path in shared])
    raise UsageError(f"A and B have the same runs ({named}): each must be on one side")


def _no_such(word: str, asked: _Asked) -> str:
    """Return that there is nothing of a name, and what there is."""
    shown = printable(word)
    if not asked.folder.is_dir():
        return f"{shown}: nothing here, and no folder {asked.folder}: make bench makes runs"
    near = difflib.get_close_matches(word.removeprefix(LABEL), asked.labels, n=1)
    meant = f"; did you mean {printable(near[0])}?" if near else ""
    there = ", ".join(map(printable, asked.labels)) or "none"
    what = "no run has this label" if word.startswith(LABEL) else "no label, folder, run or file"
    what = "each run has a label" if word == LABEL else what
    return f"{shown}: {what}; labels in {asked.folder}: {there}{meant}"
