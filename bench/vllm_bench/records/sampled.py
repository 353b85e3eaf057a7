"""Reads what was sampled beside a run: CSVs of numbers on the run's clock."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from vllm_bench.records.request_record import RecordsError

if TYPE_CHECKING:
    import pandas as pd


def read_samples(path: Path, what: str, dtypes: Mapping[str, str]) -> pd.DataFrame | None:
    """Read rows with these columns, by rising `t_s`; None where there is no such file.

    A last line that a kill tore off is left out; columns that nobody asks for are, too. Raises
    RecordsError where the header lacks a column, or a row is damaged.
    """
    if not path.exists():
        return None
    try:
        return _parsed(path.read_bytes(), dtypes)
    except (OSError, ValueError, TypeError, OverflowError) as e:
        raise RecordsError(f"{path}: not {what}: {e}") from e


def _parsed(text: bytes, dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of a file. Raises ValueError, TypeError, OverflowError."""
    import pandas as pd

    whole = text[: text.rfind(b"\n") + 1]
    _check(whole)
    rows: pd.DataFrame = pd.read_csv(
        io.BytesIO(whole),
        usecols=list(dtypes),
        dtype=dict(dtypes),
        keep_default_na=False,
        na_values=[""],
    )
    if not np.isfinite(rows["t_s"]).all():
        raise ValueError("a row has no t_s")
    ordered: pd.DataFrame = rows.sort_values("t_s", kind="stable", ignore_index=True)
    return ordered


def _check(whole: bytes) -> None:
    """Refuse a row with too few or too many cells: pandas would fill it up, or shift all rows.

    Raises ValueError.
    """
    lines = whole.split(b"\n")[:-1]
    wanted = _cells(lines[0]) if lines else 0
    for number, line in enumerate(lines[1:], start=2):
        if _cells(line) != wanted:
            raise ValueError(f"line {number} has {_cells(line)} cells, not {wanted}")


def _cells(line: bytes) -> int:
    outside_quotes = line.split(b'"')[::2]
    return 1 + sum(part.count(b",") for part in outside_quotes)
