"""What a server said, as rows of `ServerRow`: one per engine and reading, and one for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..row import Rows, columns
from .families import HISTOGRAMS, NOW, SPELLINGS, TOTALS, VALUES, most_of, plain
from .said_file import Said
from .samples import ALL, ServerRow, by_number, engine_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Table = NDArray[np.float64]  # a row per reading, a column per engine; NaN where there is none
    Times = Mapping[str, tuple[Table, ...]]  # of each histogram seconds and count

KV_CACHE = NOW["kv_cache_usage"]


def server_rows(said: Said) -> Rows:
    """Return the view, in the order of time; of each reading the engines, then all together."""
    import numpy as np

    by_name = _by_name(said)
    engines = sorted({engine for found in by_name.values() for engine in found}, key=by_number)
    empty = np.full((len(said.t_s), len(engines)), np.nan)
    tables = {name: _table(name, found, engines, empty) for name, found in by_name.items()}
    values = {column: tables.get(name, empty) for column, name in VALUES.items()}
    spent = {name: _spent(tables, family, empty) for name, family in HISTOGRAMS.items()}
    there = np.zeros(empty.shape, dtype=bool)
    for table in (*values.values(), *(count for _, count in spent.values())):
        there |= ~np.isnan(table)
    whole = {column: _with_all(table, column) for column, table in values.items()}
    times = {name: tuple(_with_all(t, name) for t in pair) for name, pair in spent.items()}
    return _flat(said, engines, there, {**whole, **_means(said, there, whole, times)})


def _spent(tables: Mapping[str, Table], family: str, empty: Table) -> tuple[Table, Table]:
    """Return a histogram's sums (seconds) and counts, each where both are known."""
    import numpy as np

    seconds, count = (tables.get(f"{family}_{part}", empty) for part in ("sum", "count"))
    known = ~np.isnan(seconds) & ~np.isnan(count)
    return np.where(known, seconds, np.nan), np.where(known, count, np.nan)


def _by_name(said: Said) -> dict[str, dict[str, list[Floats]]]:
    """Return the series by their name of now and by engine, each over all readings.

    A page with two spellings of one name is read by the newer.
    """
    import numpy as np

    found: dict[str, list[tuple[int, str, Floats]]] = {}
    for one in said.series:
        if (spelled := SPELLINGS.get(plain(one.name))) is None:
            continue
        name, rank = spelled
        values = one.over(len(said.t_s))
        values = np.where((values >= 0) & (values <= most_of(name)), values, np.nan)
        engine = engine_name({"engine": one.engine or ""})
        found.setdefault(name, []).append((rank, engine, values))
    by_name: dict[str, dict[str, list[Floats]]] = {}
    for name, ranked in found.items():
        ranks = np.array([np.where(np.isnan(v), np.inf, rank) for rank, _, v in ranked])
        first = ranks.min(axis=0)
        for rank, engine, values in ranked:
            own = np.where(first == rank, values, np.nan)
            if not np.isnan(own).all():
                by_name.setdefault(name, {}).setdefault(engine, []).append(own)
    return by_name


def _table(name: str, found: dict[str, list[Floats]], engines: list[str], empty: Table) -> Table:
    """Return a value per reading and engine: over an engine's models the sum, or the mean."""
    import numpy as np

    table: Table = empty.copy()
    for engine, values in found.items():
        table[:, engines.index(engine)] = _merged(np.array(values).T, name == KV_CACHE)
    return table


def _merged(values: Table, share: bool) -> Floats:
    """Return the sum of each row, or for a share the mean; NaN where there is nothing."""
    import numpy as np

    there = ~np.isnan(values)
    total, count = np.where(there, values, 0).sum(axis=1), there.sum(axis=1)
    of = np.maximum(count, 1) if share else 1
    found: Floats = np.where(count > 0, total / of, np.nan)
    return found


def _with_all(table: Table, column: str) -> Table:
    """Return the table with a column for all engines together."""
    import numpy as np

    together = _merged(table, VALUES.get(column) == KV_CACHE)
    found: Table = np.column_stack([table, together])
    return found


def _means(
    said: Said, there: NDArray[np.bool_], whole: Mapping[str, Table], times: Times
) -> dict[str, Table]:
    """Return mean and count of what ended since the same server's reading before.

    There are none where a counter has shrunk (it began anew), and none of all engines where one
    came or went: the sum changed by more than what happened.
    """
    import numpy as np

    known, last = _before(said.server)
    same = np.column_stack([there & there[last], (there == there[last]).all(axis=1)])
    usable = same & known[:, np.newaxis]
    for counter in (*(whole[column] for column in TOTALS), *(count for _, count in times.values())):
        usable &= ~(counter < counter[last])
    found: dict[str, Table] = {}
    for name, (seconds, count) in times.items():
        ended = np.where(usable, count - count[last], np.nan)
        some = np.where(ended > 0, ended, np.nan)
        found[f"{name}_mean_ms"] = (seconds - seconds[last]) / some * 1e3
        found[f"{name}_count"] = np.rint(ended)
    return found


def _before(server: Floats) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return whether each reading's server was read before, and in which reading last."""
    import numpy as np

    last = np.full(len(server), -1, dtype=np.int64)
    for one in np.unique(server):
        own = np.flatnonzero(server == one)
        last[own[1:]] = own[:-1]
    return last >= 0, np.maximum(last, 0)


def _flat(
    said: Said, engines: list[str], there: NDArray[np.bool_], whole: Mapping[str, Table]
) -> Rows:
    """Return the tables' rows one below the other, without engines that aren't on a page."""
    import numpy as np

    shown = np.column_stack([there, np.ones(len(there), dtype=bool)])
    each = {"t_s": said.t_s, "wall_s": said.wall_s, "fetch_ms": said.fetch_ms}
    clocks = {n: np.broadcast_to(v[:, np.newaxis], shown.shape) for n, v in each.items()}
    names = np.broadcast_to(np.array([*engines, ALL], dtype=object), shown.shape)
    found = {**clocks, "engine": names, **whole}
    return Rows({name: found[name][shown] for name in columns(ServerRow)})
