"""Each way to fail, once through a real server: its name in the row, and what it had measured."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from vllm_bench.records.request_record import ErrorKind

from tests.sim.simulated import Simulated
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import LAST_CHUNK, SSE_HEAD, Step, TinyVllm, chunk, delta, event, usage
from tests.support.running import info, rows, run_bench, start_bench, tiny_scenario, write_scenario

pytestmark = pytest.mark.process

EXACT = ("--exact", "--ttft-ms", "5", "--itl-ms", "3", "--model", "exact")
TOKENS = 12
PATIENCE_S, TOTAL_S = 1.0, 2.5
SETTINGS = {"model": "exact", "max_new_tokens": TOKENS, "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class Case:
    """A fault that strikes one request, and what its row must say."""

    fault: str  # as the simulator takes it, but for the request's number
    kind: ErrorKind
    words: str  # in the row's error
    events: int | None  # tokens that were seen before; None: that depends on the moment
    status: int = 200

    def strike(self, number: int) -> str:
        """Return the fault for the request of this number, from 1."""
        kind, mark, more = self.fault.partition("@" if "@" in self.fault else "=")
        return f"{kind}:#{number}{mark}{more}"


CASES = [
    Case("http_400", "http_4xx", "HTTP 400: temperature must be", 0, 400),
    Case("http_401", "http_4xx", "HTTP 401: Unauthorized", 0, 401),
    Case("http_404", "http_4xx", "HTTP 404: The model does not exist", 0, 404),
    Case("http_429", "http_429", "HTTP 429: Too many requests", 0, 429),
    Case("http_500", "http_5xx", "HTTP 500: EngineCore", 0, 500),
    Case("http_503", "http_5xx", "HTTP 503", 0, 503),
    Case("error_event@3", "error_event", "EngineCore", 3),
    Case("error_event@0", "error_event", "EngineCore", 0),
    Case("busy_event@0", "error_event", "error 503: The engine is currently busy", 0),
    Case("busy_event@3", "error_event", "error 503: The engine is currently busy", 3),
    Case("cut@3", "truncated", "closed in mid-reply", 3),
    Case("reset@3", "truncated", "closed in mid-reply", None),  # what was not yet read is lost
    Case("no_done@3", "truncated", "without a finish_reason", 3),
    Case("malformed@3", "protocol", "malformed JSON", TOKENS - 1),  # the reply goes on after it
    Case("no_usage", "protocol", "no usage", TOKENS),
    Case("silent", "timeout_first_token", "no token within 1 s", 0),
    Case("stall@3=60s", "timeout_stall", "no token for 1 s", 3),
    Case("long=9000", "timeout_total", "not complete after 2.5 s", None),
]
ELSEWHERE = {
    "connect",
    "cancelled",
    "empty",
    "content_filter",
    "bad_finish",
    "oversized",
    "overlong",
}  # in tests of their own below


each_case = pytest.mark.parametrize(
    ("place", "case"), list(enumerate(CASES)), ids=[case.fault for case in CASES]
)


def test_every_error_kind_has_its_test_here() -> None:
    assert {case.kind for case in CASES} | ELSEWHERE == set(get_args(ErrorKind))


@dataclass(frozen=True, slots=True)
class Mixed:
    """A run in which one stream meets each fault in turn, after a sound request each."""

    frame: pd.DataFrame  # by request_index
    start_ns: int
    truth: dict[str, Any]  # the server's lines by request id
    status: int
    output: str


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    folder = tmp_path_factory.mktemp("mixed")
    faults = ", ".join(case.strike(2 * place + 2) for place, case in enumerate(CASES))
    with Simulated(*EXACT, "--faults", faults) as server:
        scenario = write_scenario(
            folder,
            **SETTINGS,
            base_url=f"{server.url}/v1",
            concurrencies=[1],  # so that the server numbers requests as the plan does
            num_requests=2 * len(CASES) + 1,
            timeout_first_token_s=PATIENCE_S,
            timeout_stall_s=PATIENCE_S,
            timeout_total_s=TOTAL_S,
        )
        done = run_bench(folder, scenario)
        truth = {line["request_id"]: line for line in server.truth()}
    frame = rows(folder).set_index("request_index").sort_index()
    start_ns = info(folder).clock_start.monotonic_ns
    return Mixed(frame, start_ns, truth, done.returncode, done.stdout)


def test_failures_neither_end_a_run_nor_drop_a_row_and_make_it_invalid(mixed: Mixed) -> None:
    assert list(mixed.frame.index) == list(range(2 * len(CASES) + 1))
    assert set(mixed.frame["request_id"]) == set(mixed.truth)
    assert mixed.status == 4
    assert "INVALID" in mixed.output


def test_the_request_after_a_failure_is_sound(mixed: Mixed) -> None:
    sound = mixed.frame.iloc[::2]
    assert sound["error"].isna().all()
    assert (sound["token_events"] == TOKENS).all()
    assert (sound["completion_tokens"] == TOKENS).all()


@each_case
def test_a_fault_has_its_kind_and_the_servers_words_in_the_row(
    mixed: Mixed, place: int, case: Case
) -> None:
    row = mixed.frame.loc[2 * place + 1]
    assert row["error_kind"] == case.kind
    assert case.words in row["error"]
    assert row["http_status"] == case.status


@each_case
def test_what_a_failed_request_had_measured_is_kept(mixed: Mixed, place: int, case: Case) -> None:
    row = mixed.frame.loc[2 * place + 1]
    seen, true = row["token_events"], mixed.truth[row["request_id"]]
    assert case.events in (None, seen)
    assert seen <= len(true["t_sent_ns"])
    assert row["latency_ms"] > 0
    assert pd.notna(row["ttft_ms"]) == (seen > 0)
    assert pd.notna(row["max_gap_ms"]) == (row["token_reads"] > 1)
    if seen:
        first_ns = mixed.start_ns + row["t_sent_s"] * 1e9 + row["ttft_ms"] * 1e6
        assert first_ns >= true["t_sent_ns"][0] - 1_000  # t_sent_s is rounded to a microsecond
        assert row["latency_ms"] >= row["ttft_ms"]


def row_of(mixed: Mixed, kind: ErrorKind) -> Any:
    (place,) = [place for place, case in enumerate(CASES) if case.kind == kind]
    return mixed.frame.loc[2 * place + 1]


def test_a_timeout_waits_as_long_as_it_says_and_the_server_sees_the_client_leave(
    mixed: Mixed,
) -> None:
    first, stall, total = (
        row_of(mixed, kind) for kind in ("timeout_first_token", "timeout_stall", "timeout_total")
    )
    assert first["latency_ms"] >= PATIENCE_S * 1e3
    assert stall["latency_ms"] - stall["ttft_ms"] >= PATIENCE_S * 1e3
    assert total["latency_ms"] >= TOTAL_S * 1e3
    for row in (first, stall, total):
        assert mixed.truth[row["request_id"]]["outcome"] == "client_gone"


def test_counts_that_the_server_gave_are_kept_and_others_stay_empty(mixed: Mixed) -> None:
    by_fault = {case.fault: mixed.frame.loc[2 * n + 1] for n, case in enumerate(CASES)}
    assert by_fault["malformed@3"]["completion_tokens"] == TOKENS
    for fault in ("no_usage", "cut@3", "stall@3=60s", "http_500"):
        assert pd.isna(by_fault[fault]["completion_tokens"])
        assert pd.isna(by_fault[fault]["tpot_ms"])


def test_a_server_that_dies_cuts_what_is_under_way_and_refuses_the_rest(tmp_path: Path) -> None:
    streams, requests = 3, 200
    with Simulated(*EXACT, "--faults", "crash:#5@3") as server:
        scenario = write_scenario(
            tmp_path,
            **SETTINGS,
            base_url=f"{server.url}/v1",
            concurrencies=[streams],
            num_requests=requests,
        )
        done = run_bench(tmp_path, scenario, "--give-up-s", "2")
        truth = server.truth()
    assert server.process.returncode == 1
    assert done.returncode == 1, done.stderr
    assert "INVALID" in done.stdout
    found = rows(tmp_path)
    assert sorted(found["request_index"]) == list(range(len(found)))
    assert (found["waited_ms"] > 0).any()
    kinds = found["error_kind"].fillna("success").value_counts()
    assert set(kinds.index) <= {"success", "truncated", "connect"}
    (crashed,) = [line["request_id"] for line in truth if line["outcome"] == "crash"]
    assert found.set_index("request_id").loc[crashed, "error_kind"] == "truncated"
    # A dying server may have accepted connections that it never read: those are cut, too.
    assert (found["error"].str.contains("mid-reply").sum()) <= streams
    refused = found[found["error_kind"] == "connect"]
    assert len(refused) > 0
    for column in ("t_sent_s", "ttft_ms", "latency_ms", "http_status"):
        assert refused[column].isna().all()  # nothing was sent
    assert info(tmp_path).status == "failed"


def test_what_ctrl_c_cuts_off_is_cancelled_and_keeps_its_tokens(tmp_path: Path) -> None:
    streams = 3
    with Simulated(*EXACT, "--faults", "stall@3=60s") as server:
        scenario = write_scenario(
            tmp_path,
            **SETTINGS,
            base_url=f"{server.url}/v1",
            concurrencies=[streams],
            num_requests=20,
        )
        process = start_bench(tmp_path, scenario)
        generated = "vllm:generation_tokens_total"
        wait_until(lambda: counter(server, generated) == streams * TOKENS)  # made, and held back
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None  # Python merges signals that come at once
        assert any("stopping: " in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
        truth = server.truth()
    assert process.returncode == 130, err
    assert "interrupted" in out
    found = rows(tmp_path)
    assert list(found["error_kind"]) == ["cancelled"] * streams
    assert (found["token_events"] == 3).all()
    assert found["ttft_ms"].notna().all()
    assert [line["outcome"] for line in truth] == ["client_gone"] * streams
    assert info(tmp_path).status == "interrupted"


def counter(server: Simulated, name: str) -> float:
    """Return a counter of /metrics, summed over its labels."""
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


NO_TOKEN: list[Step] = [
    SSE_HEAD,
    *map(chunk, (delta("", "stop"), usage(5, 0), event("[DONE]"))),
    LAST_CHUNK,
]


SOUND = ("without_done", "lone_cr", "crlf", "heartbeats", "comments", "split_bytes", "merge=4")


def test_a_server_of_another_dialect_is_measured_alike(tmp_path: Path) -> None:
    faults = ", ".join(f"{kind}:#{place}{rest}" for place, (kind, rest) in enumerate(_split(), 1))
    with Simulated(*EXACT, "--faults", faults) as server:
        scenario = write_scenario(
            tmp_path,
            **SETTINGS,
            base_url=f"{server.url}/v1",
            concurrencies=[1],
            num_requests=len(SOUND),
        )
        done = run_bench(tmp_path, scenario)
        truth = [line["outcome"] for line in server.truth()]
    assert truth == [kind for kind, _ in _split()], done.stderr
    found = rows(tmp_path)
    assert found["error"].isna().all(), done.stdout
    assert (found["token_events"] == TOKENS).all()
    assert (found["completion_tokens"] == TOKENS).all()


def _split() -> list[tuple[str, str]]:
    return [(kind, mark + value) for kind, mark, value in (one.partition("=") for one in SOUND)]


PAST_ALL_BOUNDS: list[Step] = [
    SSE_HEAD,
    *[chunk(delta("a") * 100)] * 20,
    *map(chunk, (delta("", "stop"), usage(5, 2000), event("[DONE]"))),
    LAST_CHUNK,
]
TOO_LARGE: list[Step] = [SSE_HEAD, *[chunk(b"x" * (1 << 20))] * 17, LAST_CHUNK]


def test_a_reply_that_breaks_a_bound_is_no_success(tmp_path: Path, tiny_vllm: TinyVllm) -> None:
    broken = {2: PAST_ALL_BOUNDS, 4: TOO_LARGE}
    tiny_vllm.misbehave = broken.get
    scenario = tiny_scenario(tmp_path, tiny_vllm.base_url, concurrencies=[1], num_requests=5)
    assert run_bench(tmp_path, scenario).returncode == 4
    kinds = rows(tmp_path).set_index("request_index")["error_kind"].fillna("success")
    wanted = ["success", "overlong", "success", "oversized", "success"]
    assert list(kinds.sort_index()) == wanted


def test_a_reply_without_a_token_is_no_success(tmp_path: Path, tiny_vllm: TinyVllm) -> None:
    # Not by the simulator: like vLLM, it has at least one token for whoever asks well.
    tiny_vllm.misbehave = lambda number: NO_TOKEN if number == 2 else None
    scenario = tiny_scenario(tmp_path, tiny_vllm.base_url, concurrencies=[1], num_requests=3)
    assert run_bench(tmp_path, scenario).returncode == 4
    found = rows(tmp_path).set_index("request_index")
    assert list(found["error_kind"].fillna("success")) == ["success", "empty", "success"]
    row = found.loc[1]
    assert (row["completion_tokens"], row["token_events"], row["finish_reason"]) == (0, 0, "stop")
    assert pd.isna(row["ttft_ms"])
    assert row["latency_ms"] > 0


def test_a_reply_that_was_ended_for_it_is_no_success(tmp_path: Path, tiny_vllm: TinyVllm) -> None:
    # As vLLM ends its streams when it is told to stop: with usage and [DONE], as if all were well.
    ends = {2: "abort", 3: "content_filter", 4: "tool_calls"}

    def ended(number: int) -> list[Step] | None:
        if number not in ends:
            return None
        said = (delta("a"), delta("", ends[number]), usage(5, 1), event("[DONE]"))
        return [SSE_HEAD, *map(chunk, said), LAST_CHUNK]

    tiny_vllm.misbehave = ended
    scenario = tiny_scenario(tmp_path, tiny_vllm.base_url, concurrencies=[1], num_requests=4)
    assert run_bench(tmp_path, scenario).returncode == 4
    kinds = rows(tmp_path).set_index("request_index")["error_kind"].fillna("success")
    assert list(kinds.sort_index()) == ["success", "bad_finish", "content_filter", "success"]
