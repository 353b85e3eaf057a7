"""What machines still keep of a folder's runs, fetched: the process that asked for it was killed.

Or a machine was lost to it and lived on. A machine forgets a run once its rows are written here.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..crew.worker import RunError
from ..machines.clocks.timeline import moved
from ..machines.fleet.machine import Machine
from ..machines.kept.fetching import kept_by
from ..machines.messages import AllFetched, Fetch, Forget, FromDisk
from ..records.beside.more_rows import MoreRows
from ..records.request_record import RecordsError, count_rows, read_rows
from ..records.run_files import RUN_ID
from ..records.run_info import RunInfo, read_run_info, write_run_info
from ..records.safe_file import unlocked
from ..records.text import printable

MOST_NAMED = 3

Say = Callable[[str], None]


def fetch_kept(folder: Path, machines: Sequence[Machine], say: Say) -> None:
    """Append to the runs of a folder what these machines keep of them; `say` notes.

    Raises OSError where a file can't be written.
    """
    keeps = {run_id: None for machine in machines for run_id in machine.facts.runs_kept}
    here = [run_id for run_id in keeps if _is_here(folder, run_id)]
    _say_elsewhere(machines, here, say)
    for run_id in here:
        rows = folder / f"{run_id}.csv"
        with unlocked(rows) as free:
            if not free:
                say(f"{run_id} is still going on: what machines keep of it stays there")
                continue
            try:
                _fetch(rows, [m for m in machines if run_id in m.facts.runs_kept], say)
            except RecordsError as e:
                say(f"{e}: what machines keep of it stays there")


def _is_here(folder: Path, run_id: str) -> bool:
    """Whether a run's rows lie in a folder; its name comes from another machine."""
    if not RUN_ID.fullmatch(run_id) or "/" in run_id:
        return False
    return all(os.path.lexists(folder / f"{run_id}{end}") for end in (".csv", ".json"))


def _say_elsewhere(machines: Sequence[Machine], here: Sequence[str], say: Say) -> None:
    """Say what is kept of other folders' runs, once of foremen that keep in one folder."""
    keep: dict[tuple[str, ...], list[Machine]] = {}
    for machine in machines:
        facts = machine.facts
        if other := [run_id for run_id in facts.runs_kept if run_id not in here]:
            keep.setdefault((str(facts.kept_in), *other), []).append(machine)
    for (kept_in, *other), these in keep.items():
        named = ", ".join([*other[:MOST_NAMED], *(["…"] if len(other) > MOST_NAMED else [])])
        many = f"{len(other)} runs of other results folders"
        runs = many if len(other) > 1 else "1 run of another results folder"
        who = ", ".join(machine.name for machine in these)
        say(f"rows of {runs} are kept on {who}, in {kept_in} there: {named}")


def _fetch(rows: Path, machines: Sequence[Machine], say: Say) -> None:
    """Append what machines keep of one run, say it in its JSON, and let them forget it.

    Raises RecordsError where its files can't be appended to, OSError.
    """
    info = read_run_info(rows.with_suffix(".json"))
    found: Counter[str] = Counter()  # rows by the machine that sent them
    done: list[tuple[Machine, set[str]]] = []
    more = MoreRows(rows)
    try:
        for machine in machines:
            sent_by: set[str] = set()
            for told in _kept_by(machine, Fetch(rows.stem, info.session or ""), say):
                if isinstance(told, FromDisk):
                    found[told.machine] += more.write(_by_our_clock(told))
                    sent_by.add(told.machine)
                elif not told.problems:
                    done.append((machine, sent_by))
                else:
                    say(f"{machine.name}: {'; '.join(told.problems)}")
    finally:
        more.close()
    if not found:
        return  # what is kept is another session's, which called its run by the same name
    write_run_info(rows.with_suffix(".json"), _with_fetched(info, found, rows))
    if found.total():
        say(f"{rows.stem}: fetched {_in_words(found)}")
    for machine, sent_by in done:
        machine.order(Forget(rows.stem, info.session or "", tuple(sent_by)))


def _kept_by(machine: Machine, order: Fetch, say: Say) -> Iterator[FromDisk | AllFetched]:
    """Yield what comes; a machine that is lost meanwhile keeps what it has."""
    try:
        yield from kept_by(machine, order)
    except RunError as e:
        machine.lose(str(e))
        say(f"{machine.name} {e}: it keeps what it has")


def _by_our_clock(batch: FromDisk) -> list[tuple[Any, Any, Any]]:
    found = [one for one in batch.ended if one.role == "measured"]
    if batch.correction:
        found = [moved(one, batch.correction.later_ns) for one in found]
    return [(one.record, one.reads, one.answer) for one in found]


def _with_fetched(info: RunInfo, found: Counter[str], rows: Path) -> RunInfo:
    """Return a run's JSON with what was fetched for it."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    note = [f"fetched after its end, at {at}: {_in_words(found)}"] if found.total() else []
    there = Counter(map(str, read_rows(rows)["machine"].tolist()))
    entries = [_more(entry, found, there) for entry in info.client_health.get("machines", ())]
    return dataclasses.replace(
        info,
        num_requests=max(info.num_requests, there.total()),  # by time: not known before
        client_health={**info.client_health, **({"machines": entries} if entries else {})},
        notes=[*info.notes, *note],
    )


def _in_words(found: Counter[str]) -> str:
    """Return how many rows came, of which machines."""
    rows = "1 row" if found.total() == 1 else f"{found.total()} rows"
    counts = ", ".join(f"{count} of {name}" for name, count in found.items())
    return printable(f"{rows} that it lacked ({counts})", 500)


def _more(entry: dict[str, Any], found: Counter[str], there: Counter[str]) -> dict[str, Any]:
    """Return what the JSON says of a machine, with the rows that have come of it.

    By those that are there, where it said how many there were: a kill may have come before it.
    """
    name = str(entry.get("machine"))
    if name not in found:
        return entry
    new = there[name] - entry["rows"] if "rows" in entry else found[name]
    told = {"rows": there[name]} if "rows" in entry else {}
    return {**entry, **told, "fetched": (entry.get("fetched") or 0) + new}


def say_unasked(folder: Path, machines: Sequence[Machine], say: Say) -> None:
    """Say which runs may have rows on machines that aren't here."""
    asked = {machine.facts.host for machine in machines}
    for path in sorted(folder.glob("*.json")):
        try:
            info = read_run_info(path)
        except RecordsError:
            continue  # told where it matters
        may_keep = _may_keep(info, path.with_suffix(".csv"))
        unasked = [name for name, host in may_keep if host not in asked]
        if unasked:
            named = ", ".join(unasked)
            where = f"rows of it may lie on machines that weren't asked ({named})"
            say(f"{info.run_id}: {where}: --resume with these fetches them")


def _may_keep(info: RunInfo, rows: Path) -> Iterator[tuple[str, str | None]]:
    """Yield the machines, and their hosts, from which rows may not have come."""
    killed = info.status != "running" and info.clock_end is None and _began(info, rows)
    for entry in info.client_health.get("machines", ()):
        if entry.get("fetched") is None and (killed or entry.get("lost")):
            yield str(entry.get("machine")), entry.get("host")


def _began(info: RunInfo, rows: Path) -> bool:
    """Whether requests may have been sent: of a run that failed its rows tell."""
    try:
        return info.status != "failed" or count_rows(rows) > 0
    except RecordsError:
        return False
