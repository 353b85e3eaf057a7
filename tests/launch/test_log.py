"""A server's log: no secret reaches the disk, and the line that tells what failed comes first."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.launch import log as log_module
from vllm_bench.launch.log import MaskedLog, last_lines, telling_line, without_secrets

SECRET = "s3cret-of-nobody"
NO_MEMORY = "ValueError: No available memory for the cache blocks."
FAILED = [
    "(EngineCore pid=12) ERROR 11-28 13:36:22 [core.py:900] Traceback (most recent call last):",
    '(EngineCore pid=12) ERROR 11-28 13:36:22 [core.py:900]   File "core.py", line 1, in run',
    "(EngineCore pid=12) ERROR 11-28 13:36:22 [core.py:900]     raise ValueError(",
    f"(EngineCore pid=12) ERROR 11-28 13:36:22 [core.py:900] {NO_MEMORY}",
    "(APIServer pid=1) Traceback (most recent call last):",
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
    "/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: leaked semaphore",
]


def written(path: Path, data: bytes, *secrets: str) -> bytes:
    log = MaskedLog(path, secrets)
    log.follow(io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type]
    log.close()
    return path.read_bytes()


def test_a_log_is_written_as_it_came_but_for_secrets(tmp_path: Path) -> None:
    data = f"one\n'api_key': ['{SECRET}'], key {SECRET}\n\xff last without an end".encode()
    found = written(tmp_path / "log", data, SECRET).decode()
    assert found.splitlines()[0] == "one"
    assert found.endswith("last without an end")
    assert SECRET not in found


def test_a_log_has_its_most_bytes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MOST_BYTES", 100)
    found = written(tmp_path / "log", b"a line of text\n" * 100)
    assert len(found) < 200
    assert b"most bytes" in found.splitlines()[-1]


def test_a_full_disk_does_not_stop_the_reading() -> None:
    pipe = io.BufferedReader(io.BytesIO(b"words\n" * 10_000))  # type: ignore[arg-type]
    log = MaskedLog(Path("/dev/full"), ())
    log.follow(pipe)
    log.close()
    assert pipe.closed


@pytest.mark.parametrize(
    "line",
    [
        f"args: Namespace(api_key=['{SECRET}'], seed=1)",
        f"non-default args: {{'hf_token': '{SECRET}', 'seed': 1}}",
        f'{{"api_key": "{SECRET}"}}',
        f"password: {SECRET} seed=1",
        f"API_KEY={SECRET}",
    ],
)
def test_a_secret_that_nobody_knew_is_masked_by_its_name(line: str) -> None:
    assert SECRET not in without_secrets(line, ())


@pytest.mark.parametrize(
    "line",
    [
        "KeyError: 'layers.0.weight'",
        "GPU KV cache size: 262,144 tokens, Maximum concurrency for 2,048 tokens per request: 1x",
        "{'api_key': None, 'hf_token': '***', 'max_num_batched_tokens': 8192}",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert without_secrets(line, ()) == line


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_break_it_and_no_secret_survives(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes
) -> None:
    folder = tmp_path_factory.mktemp("log")
    found = written(folder / "log", before + SECRET.encode() + after, SECRET)
    assert SECRET.encode() not in found
    for line in last_lines(folder / "log", (SECRET,)):
        assert line.isprintable()
        assert SECRET not in line


def test_the_root_cause_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("\n".join(FAILED))
    lines = last_lines(path)
    assert lines[0] == NO_MEMORY
    assert lines[-1].endswith("leaked semaphore")


@pytest.mark.parametrize(
    ("lines", "telling"),
    [
        (FAILED, NO_MEMORY),
        (FAILED[4:6], "RuntimeError: Engine core initialization failed. See root cause above."),
        (["usage: vllm", "vllm serve: error: argument --x: no"],
         "vllm serve: error: argument --x: no"),
        (["torch.OutOfMemoryError: CUDA out of memory.", "bye"],
         "torch.OutOfMemoryError: CUDA out of memory."),
        (["run_server.sh: VLLM_COMMAND=/x: there is no such program"],
         "run_server.sh: VLLM_COMMAND=/x: there is no such program"),
        (["INFO 11-28 13:36:22 [a.py:1] on", "(APIServer pid=1) INFO 11-28 13:36:23 [a.py:1] off"],
         "off"),
        (["x.ValidationError: 1 validation error for SchedulerConfig",
          "  Value error, max_num_seqs (64) is too many. [type=value_error, input_value=...]",
          "    For further information visit https://errors.pydantic.dev/2.12/v/value_error"],
         "x.ValidationError: 1 validation error for SchedulerConfig: Value error, max_num_seqs (64)"
         " is too many."),
        ([], ""),
    ],
)  # fmt: skip
def test_which_line_tells(lines: list[str], telling: str) -> None:
    assert telling_line(lines) == telling


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none") == []


def test_long_lines_take_no_long_time() -> None:
    for text in ("a" * 20_000, "password" * 2_500, "[" * 20_000, "api_key=[" * 2_000, " " * 20_000):
        without_secrets(text, (SECRET,))
        telling_line([text])
