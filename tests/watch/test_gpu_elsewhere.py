"""GPU rows from another machine: the lines, and the command that brings them."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.beside.samples import GpuRow
from vllm_bench.records.row import columns
from vllm_bench.watch.gpu_elsewhere import (
    ALIVE,
    HEADER,
    CommandSampler,
    StreamError,
    StreamSink,
    take_line,
)
from vllm_bench.watch.recording import GpuFacts, GpuRecording, Problem, UnavailableError

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.shimmed import TWO_GPUS, Collected, environment

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "observe_gpu.py"

micro = st.integers(0, 10**12).map(lambda n: n / 1e6)
maybe_int = st.none() | st.integers(0, 2**31)
maybe_micro = st.none() | micro
gpu_rows = st.builds(
    GpuRow,
    t_s=micro,
    wall_s=micro,
    gpu_index=st.integers(0, 64),
    gpu_uuid=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
    utilization_percent=maybe_int,
    memory_used_mb=maybe_micro,
    temperature_c=maybe_int,
    power_w=maybe_micro,
    energy_j=maybe_micro,
    sm_clock_mhz=maybe_int,
    memory_clock_mhz=maybe_int,
    throttle_reasons=st.none() | st.sampled_from(["none", "gpu_idle", "hw_slowdown|sync_boost"]),
    pcie_tx_kb_s=maybe_int,
    pcie_rx_kb_s=maybe_int,
)


def through_lines(tell: Callable[[StreamSink], None], zero_s: float = 0.0) -> Collected:
    lines: list[str] = []
    tell(StreamSink(lines.append, zero_s))
    found = Collected()
    header, *rest = "".join(lines).splitlines(keepends=True)
    assert header == HEADER + "\n"
    for line in rest:
        take_line(line, found)
    return found


@given(row=gpu_rows)
def test_a_row_comes_through_whole_and_placed_by_its_wall_clock(row: GpuRow) -> None:
    (found,) = through_lines(lambda sink: sink.rows([row])).taken
    assert found.t_s == found.wall_s
    for name in columns(GpuRow)[1:]:
        assert getattr(found, name) == pytest.approx(getattr(row, name), abs=1e-6), name


def test_notes_come_through() -> None:
    facts = [GpuFacts(0, "GPU-aaaa", "NVIDIA H100", ("energy_j",)), GpuFacts(1, "GPU-bbbb", None)]
    lost = Problem("gpu_lost", "GPU 1 stopped answering", 1)
    wide = Problem("stuck", "the driver hangs")

    def tell(sink: StreamSink) -> None:
        sink.gpus(facts, 12.5)
        sink.missed(1, "gpu_lost")
        sink.problem(lost)
        sink.problem(wide)

    found = through_lines(tell)
    assert (list(found.found), found.hz) == (facts, 12.5)
    assert found.lost == [(1, "gpu_lost")]
    assert found.problems == [lost, wide]


def test_a_sign_of_life_says_nothing() -> None:
    found = Collected()
    assert take_line(ALIVE, found) is None
    assert not found.taken


@pytest.mark.parametrize(
    "line",
    [
        "hello\n",
        "1,2,3\n",
        "0.1,1763985600.0,0,GPU-a" + "," * 9 + "\n",  # a cell short
        "0.1,,0,GPU-a" + "," * 10 + "\n",  # no wall clock
        "0.1,1.0,zero,GPU-a" + "," * 10 + "\n",
        "# not JSON\n",
        "# []x\n",
        '# {"gpus": 3}\n',
        '# {"gpus": [{"index": 1}], "hz": 10}\n',
        '# {"gpus": [], "hz": "x"}\n',
        '# {"missed": "x", "code": "y"}\n',
        '# {"problem": "x"}\n',
        "# []\n",
        "# 3\n",
        "# " + "[" * 60_000 + "\n",
        '# {"gpus": [], "hz": 0}\n',
        '# {"gpus": [], "hz": NaN}\n',
        '# {"gpus": [{"index": true, "uuid": "a", "name": "b", "absent": []}], "hz": 1}\n',
        '# {"missed": -1, "code": "y"}\n',
        "0.1,nan,0,GPU-a" + "," * 10 + "\n",
        "0.1,inf,0,GPU-a" + "," * 10 + "\n",
        "0.1,-1.0,0,GPU-a" + "," * 10 + "\n",
        "0.1,1.0,-1,GPU-a" + "," * 10 + "\n",
        "0.1,1.0,99999,GPU-a" + "," * 10 + "\n",
        f"0.1,1.0,0,GPU-a,{10**30}" + "," * 9 + "\n",
        "0.1,1.0,0,GPU-a,,,,1e308" + "," * 6 + "\n",
        f"0.1,1.0,{'9' * 5000},GPU-a" + "," * 10 + "\n",
        '"' + "\n",
        "\x00\n",
    ],
)
def test_a_line_that_is_not_the_samplers_is_refused(line: str) -> None:
    with pytest.raises(StreamError, match="not a sampler's line"):
        take_line(line, Collected())


def test_a_row_of_another_day_has_no_place_in_a_run() -> None:
    line, found = "0.1,1800000000.0,0,GPU-a" + "," * 10 + "\n", Collected()
    assert take_line(line, found, 1.8e9 + 7200) is not None  # clocks that differ are told
    for now_s in (1.8e9 + 90_000, 1.8e9 - 90_000):
        with pytest.raises(StreamError):
            take_line(line, found, now_s)
    assert len(found.taken) == 1


def recording(folder: Path) -> GpuRecording:
    return GpuRecording(folder / "telemetry" / "x.csv", "command")


def command(folder: Path, script: str, *words: str) -> str:
    """The sampler's command, on a machine of the script's GPUs."""
    variables = [f"{name}={value}" for name, value in environment(folder, script).items()]
    return shlex.join(["env", *variables, sys.executable, str(SCRIPT), *words])


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_rows_of_another_machine_are_on_the_clock_of_the_run(tmp_path: Path) -> None:
    record = recording(tmp_path)
    sampler = CommandSampler(command(tmp_path, TWO_GPUS + "1 3 all=!15\n", "--hz", "50"), record)
    sampler.start()
    start_s = time.time()
    record.anchor(time.perf_counter_ns(), start_s)
    wait_until(lambda: record.problems)
    sampler.stop()
    facts = record.facts()
    rows = pd.read_csv(tmp_path / "telemetry" / "x.csv")
    assert tuple(rows.columns) == columns(GpuRow)
    assert len(rows.query("gpu_index == 1")) == 3
    assert len(rows.query("gpu_index == 0")) > 3
    assert (rows["wall_s"] - rows["t_s"]).to_numpy() == pytest.approx(start_s, abs=1e-5)
    assert rows["t_s"].iloc[0] < 0
    assert facts["hz"] == 50
    assert [gpu["name"] for gpu in facts["gpus"]] == ["NVIDIA H100 80GB HBM3"] * 2
    assert {"code": "gpu_lost", "gpu_index": 1}.items() <= facts["problems"][0].items()
    (gap,) = facts["gaps"]
    assert (gap["gpu_index"], gap["to_s"], gap["code"]) == (1, None, "gpu_lost")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("no-such-program-at-all --out -", "No such file"),
        ("'unbalanced", "No closing quotation"),
        ("", "it is empty"),
        (python("import sys; sys.exit('ssh: gpu7: no route to host')"), "no route to host"),
        (python("print('welcome to gpu7')"), "not a sampler's line: 'welcome to gpu7'"),
        (python("pass"), "it printed nothing"),
    ],
)
def test_a_command_that_gives_no_rows_is_told_in_its_own_words(
    tmp_path: Path, words: str, why: str
) -> None:
    with pytest.raises(UnavailableError, match=why) as failed:
        CommandSampler(words, recording(tmp_path)).start()
    assert failed.value.code == "command"


def test_another_machine_without_a_gpu_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="Driver Not Loaded"):
        CommandSampler(command(tmp_path, "init 9\n"), recording(tmp_path)).start()


PRINT_ROWS = """
import time

print({header!r})
for i in range({count}):
    print(f"0.0,{{time.time() + {ahead_s}}},0,GPU-a" + "," * 10, flush=True)
{then}
"""


def printer(count: int, ahead_s: float = 0.0, then: str = "") -> str:
    return python(PRINT_ROWS.format(header=HEADER, count=count, ahead_s=ahead_s, then=then))


def test_a_command_that_dies_in_the_run_is_told(tmp_path: Path) -> None:
    record = recording(tmp_path)
    sampler = CommandSampler(printer(2, then="raise SystemExit('connection lost')"), record)
    sampler.start()
    assert sampler._process is not None
    sampler._process.wait(LIMIT_S)
    sampler.stop()
    problem = record.problems[0]  # on a slow machine its rows are late, too
    assert problem.code == "command"
    assert "status 1: " in problem.text
    assert "connection lost" in problem.text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("cat /dev/zero", "a line of over 65536 characters"),
        (python("while True: print('x' * 100)"), "10 lines that aren't a sampler's"),
        (python("import sys\nwhile True: sys.stderr.write('e' * 9999)"), "gave no row"),
        (python("print('# ' + '[' * 9999)"), "not a sampler's line"),
        (python("while True: print('# {}')"), "over 0 lines per second"),
    ],
    ids=["a line without end", "garbage", "messages without end", "nesting", "notes without end"],
)
def test_output_without_end_ends_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, why: str
) -> None:
    # A slow machine reads no 2000 in a second.
    monkeypatch.setattr("vllm_bench.watch.gpu_elsewhere.MOST_LINES_S", 0)
    if why == "gave no row":
        monkeypatch.setattr("vllm_bench.watch.gpu_elsewhere.START_LIMIT_S", 0.5)
    with pytest.raises(UnavailableError, match=why):
        CommandSampler(words, recording(tmp_path)).start()


FLOOD = "while True: print('0.0,%r,0,GPU-a' % time.time() + ',' * 10)"


@pytest.mark.parametrize(
    ("then", "why"),
    [
        (FLOOD, "over 0 lines per second"),
        ("sys.stdout.write('0' * 10**6)", "a line of over 65536 characters"),
        ("[print('x') for _ in range(20)]", "10 lines that aren't a sampler's"),
        (
            "then = time.time()\n[print('0.0,%r,0,GPU-a' % then + ',' * 10) for _ in range(20)]",
            "a reading that came before",
        ),
    ],
    ids=["rows", "a long line", "garbage", "one row for ever"],
)
def test_output_without_end_ends_in_the_run_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, why: str
) -> None:
    monkeypatch.setattr("vllm_bench.watch.gpu_elsewhere.MOST_AT_ONCE", 500)
    monkeypatch.setattr("vllm_bench.watch.gpu_elsewhere.MOST_LINES_S", 0)
    record = recording(tmp_path)
    sampler = CommandSampler(printer(2, then=f"import sys; sys.stdout.flush()\n{then}"), record)
    sampler.start()
    for thread in sampler._threads:
        thread.join(LIMIT_S)
    sampler.stop()
    assert record.problems[0].code == "command"
    assert why in record.problems[0].text


def test_ctrl_c_before_the_first_row_leaves_no_process(tmp_path: Path) -> None:
    is_deaf = tmp_path / "deaf"
    deaf = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(is_deaf)!r}).touch(); time.sleep(600)"
    )
    sampler = CommandSampler(python(deaf), recording(tmp_path))
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_until(lambda: is_deaf.exists() and len(sampler._threads) == 2)
        signal.pthread_kill(main, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        sampler.start()
    interrupting.join()
    assert sampler._process is not None
    assert sampler._process.poll() == -signal.SIGKILL


def test_what_a_stream_tells_is_kept_in_bounds(tmp_path: Path) -> None:
    record = recording(tmp_path)
    for number in range(1200):
        take_line(f'# {{"problem": "p{number}", "text": "{"x" * 9000}", "gpu_index": 1}}\n', record)
        take_line(f"0.1,{1e9 + 9 * number},0,GPU-a" + "," * 10 + "\n", record)
    record.anchor(0, 0.0)
    facts = record.facts()
    assert (len(facts["problems"]), len(facts["gaps"])) == (100, 1001)
    assert max(len(p["text"]) for p in facts["problems"]) <= 500


def test_clocks_that_differ_are_told(tmp_path: Path) -> None:
    record = recording(tmp_path)
    sampler = CommandSampler(printer(2, ahead_s=3600, then="time.sleep(60)"), record)
    sampler.start()
    sampler.stop()
    (problem,) = record.problems
    assert problem.code == "clock_offset"
    assert re.search(r"\b3[56]\d\d\.\d\d s before", problem.text)


def test_a_command_that_ignores_its_end_is_killed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vllm_bench.watch.gpu_elsewhere.STOP_LIMIT_S", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)\n"
    sampler = CommandSampler(
        python(deaf + PRINT_ROWS.format(header=HEADER, count=1, ahead_s=0, then="time.sleep(600)")),
        recording(tmp_path),
    )
    sampler.start()
    sampler.stop()
    assert sampler._process is not None
    assert sampler._process.poll() is not None
