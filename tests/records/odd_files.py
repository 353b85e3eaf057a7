"""A whole run as files, and one edit of a valid file, as people, programs and disks make them."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from vllm_bench.records.beside.token_file import TokenWriter

from tests.machines.made import made_machine, made_sender, of_machines
from tests.support.made_runs import (
    failed_record,
    gpu_row,
    made_info,
    made_record,
    server_row,
    write_gpu_rows,
    write_run,
    write_server_rows,
)

LEAVES: list[Any] = [
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 2**53 + 1, 2**62, 10**30, 1e308, -1e308, 10**400),
    *(float("nan"), float("inf"), "", "x", "NaN", "4096", "2026-13-45", "=cmd|' /C calc'!A0"),
    *("\x1b[31m", "\ud83d", "a\nb", "../../etc/passwd", "x" * 3000),
    *([], [1], ["x"], [None], [[]], [{}], {}, {"a": 1}, {"p95": "x"}, {"": {}}),
]
CELLS = [
    *("", "x", "nan", "inf", "-inf", "1e308", "-1", "0", str(2**62), str(10**30), "9" * 5000),
    *(
        "1.5",
        "1,5",
        '"',
        '""',
        "\0",
        "\x1b[31m",
        "'",
        "'=1",
        "=1+1",
        "\u2028",
        "1.000000",
        "x" * 200_000,
    ),
]


def whole_run(folder: Path, requests: int = 48) -> Path:
    """Write a run with every file that may lie beside it, and return the path of its rows."""
    records = [made_record(i, t_sent_s=i // 4 * 1.0) for i in range(requests)]
    records += [failed_record(requests, t_sent_s=3.0)]
    noted = {"rows": 40, "problems": [{"code": "late", "text": "t"}], "hz": 1.0, "source": "nvml"}
    gap = {"gpu_index": 0, "from_s": 1.0, "to_s": None, "code": "lost"}
    lag = {"ticks": 1200, "p50": 0.1, "p99": 1.5, "max": 2.0}
    names = ("node-a", "node-b")
    records = of_machines(records, names)
    workers = [made_sender(name, streams=2, loop_lag_ms=lag) for name in names]
    info = made_info(
        records,
        scenario={
            "slo": {"ttft_ms": {"p95": 500.0}, "requests_per_s": {"min": 3}, "success_rate": 0.9},
            "slo_tiers": {"batch": {"output_tokens_per_s": {"min": 50.0}, "ttft_ms": {"p9": 1}}},
            **{"gpus": 1, "gpu_hour_price": 2.0, "system_prompt": "You are.", "label": "a"},
            **{"conversations": None, "extra_body": {"n": 1}, "duration_s": None},
        },
        server={"aliases": ["a"], "replied_as": {"m": 48}, "cache_config": {"block_size": "16"}},
        client_health={
            "workers": workers,
            "machines": [made_machine(name) for name in names],
            "loop_lag_ms": lag,
            "lateness_ms": {"ttft": lag, "gaps": lag},
            **{"clock": "kernel", "clock_error_ms": 0.001, "token_events": 960},
            **{"token_reads": 960, "merged_reads": 3, "first_reads": 48, "merged_first_reads": 1},
        },
        observed={
            "gpu": {**noted, "gaps": [gap], "gpus": [{"index": 0, "uuid": "GPU-0", "name": "H"}]},
            "server_metrics": {**noted, "rows": 14, "gaps": [], "engines": ["0"]},
        },
        unmeasured={"warmup": 2, "tail": 0, "failed": 0, "prompt_tokens": 0},
        notes=["a note"],
        **{"files": ["tokens/x.npz", "telemetry/x.csv", "server_metrics/x.csv"]},
    )
    path = write_run(folder, records, info)
    tokens = TokenWriter(folder / "tokens", path.stem)
    for record in records[:-1]:
        tokens.write(record.request_index, _reads(record.t_sent_s or 0.0))
    tokens.write(requests, _arrays([], [], []))
    tokens.close()
    write_gpu_rows(path, [gpu_row(0.5 * i) for i in range(40)])
    write_server_rows(path, [server_row(1.0 * i, running=4.0, ttft_count=2) for i in range(14)])
    return path


def _reads(sent_s: float) -> Any:
    first_ns = round(1e9 * (sent_s + 0.1))
    return _arrays([first_ns + round(k * 900e6 / 19) for k in range(20)], [1] * 20, [1] * 20)


def _arrays(stamps: list[int], events: list[int], tokens: list[int]) -> Any:
    from array import array

    return array("q", stamps), array("H", events), array("H", tokens)


def places(found: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in a document."""
    yield at
    parts = (
        found.items()
        if isinstance(found, dict)
        else enumerate(found)
        if isinstance(found, list)
        else ()
    )
    for key, part in parts:
        yield from places(part, (*at, key))


def with_leaf(document: Any, at: tuple[Any, ...], leaf: Any) -> Any:
    """Return the document with another value at one place; `DROPPED` takes it away."""
    if not at:
        return leaf
    made = copy.deepcopy(document)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    if leaf is DROPPED:
        del inner[at[-1]]
    else:
        inner[at[-1]] = leaf
    return made


DROPPED = object()


@st.composite
def edited_json(draw: st.DrawFn, document: Any) -> bytes:
    """One leaf of another type or size, a key less, a key more, deep nesting, or odd bytes."""
    at = draw(st.sampled_from(list(places(document))[1:]))
    how = draw(st.sampled_from(["leaf", "leaf", "leaf", "leaf", "less", "more", "deep", "bytes"]))
    if how == "bytes":
        return draw(edited_bytes(json.dumps(document).encode()))
    if how == "deep":
        text = json.dumps(with_leaf(document, at, "DEEP"))
        levels = draw(st.sampled_from([20, 40, 990, 5000]))
        return text.replace('"DEEP"', "[" * levels + "]" * levels).encode()
    if how == "more":
        document = {**document, draw(st.text(max_size=5)): draw(st.sampled_from(LEAVES))}
    else:
        leaf = DROPPED if how == "less" else draw(st.sampled_from(LEAVES))
        document = with_leaf(document, at, leaf)
    return json.dumps(document, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


@st.composite
def edited_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """A byte changed, a piece cut out, doubled, or the end cut off."""
    at = draw(st.integers(0, len(data)))
    length = draw(st.integers(0, 50))
    how = draw(st.sampled_from(["put", "cut", "double", "end"]))
    if how == "put":
        return data[:at] + draw(st.binary(max_size=20)) + data[at + length :]
    if how == "cut":
        return data[:at] + data[at + length :]
    return data[: at + length] + data[at:] if how == "double" else data[:at]


@st.composite
def edited_lines(draw: st.DrawFn, text: bytes) -> bytes:
    """A cell or a line changed, lines doubled or dropped, or as a spreadsheet would save it."""
    lines = text.split(b"\n")
    how = draw(st.sampled_from(["cell", "cell", "cell", "cell", "line", "saved", "bytes"]))
    if how == "bytes":
        return draw(edited_bytes(text))
    line = draw(st.integers(0, min(len(lines) - 2, 50)))
    if how == "cell":
        cells = lines[line].split(b",")
        place = draw(st.integers(0, len(cells) - 1))
        cells[place] = draw(st.sampled_from(CELLS)).encode()
        lines[line] = b",".join(cells)
    elif how == "line":
        lines[line : line + 1] = draw(st.sampled_from([[], [lines[line]] * 2, [b""], [b"," * 33]]))
    else:
        return saved_elsewhere(text)[draw(st.sampled_from(sorted(saved_elsewhere(text))))]
    return b"\n".join(lines)


def saved_elsewhere(text: bytes) -> dict[str, bytes]:
    """Return rows as other programs save them."""
    lines = text.split(b"\n")
    return {
        "semicolons": text.replace(b",", b";"),
        "tabs": text.replace(b",", b"\t"),
        "byte order mark": b"\xef\xbb\xbf" + text,
        "line ends": text.replace(b"\n", b"\r\n"),
        "quoted": b"\n".join(
            b",".join(b'"%s"' % c for c in li.split(b",")) if li else b"" for li in lines
        ),
        "first column dropped": b"\n".join(li.partition(b",")[2] for li in lines),
        "rounded": text.replace(b"000,", b",", 1),
        "UTF-16": text.decode().encode("utf-16"),
        "old Macintosh": text.replace(b"\n", b"\r"),
    }


@st.composite
def edited_zip(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes changed, or an array of another type, shape or size, or a size that lies."""
    if draw(st.booleans()):
        return draw(edited_bytes(data))
    with np.load(io.BytesIO(data)) as found:
        arrays: dict[str, Any] = {name: found[name] for name in found.files}
    name = draw(st.sampled_from(sorted(arrays)))
    old = arrays[name]
    arrays[name] = draw(
        st.sampled_from(
            [
                old.astype(np.float64),
                *(old.reshape(1, -1), old[:-1], old[:0], np.array(5), old[::-1]),
                *(np.append(old, old[-1:]), old.astype(object), old - 1, old.astype(">i8")),
                np.full_like(old, np.iinfo(old.dtype).max),
            ]
        )
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=True)
    return out.getvalue()
