"""The server's counters (`control`), read from real text and from what isn't metrics at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.records.beside.families import COUNTERS, STARTED
from vllm_bench.vllm import server as control
from vllm_bench.vllm.page import PageError, samples, summed, vllm_samples
from vllm_bench.vllm.server import Server

from tests.support.far_end import CLOSE, FarEnd, Step, TinyVllm

PROMPT = "vllm:prompt_tokens_total"
GENERATED = "vllm:generation_tokens_total"
SUCCESS = "vllm:request_success_total"
REAL = {
    "metrics_before": {PROMPT: 0.0, GENERATED: 0.0, SUCCESS: 0.0},
    "metrics_under_load": {PROMPT: 12559.0, GENERATED: 12275.0, SUCCESS: 34.0},
    "metrics_after_load": {PROMPT: 86272.0, GENERATED: 43136.0, SUCCESS: 337.0},
}


def ok(text: str) -> list[Step]:
    data = text.encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(data)}\r\n\r\n"
    return [head.encode() + data]


@pytest.fixture
def server(far_end: FarEnd) -> Iterator[Server]:
    found = Server(far_end.base_url, None, {})
    yield found
    found.close()


def test_counters_are_summed_over_engines_models_and_finish_reasons() -> None:
    text = (
        f'# TYPE vllm:prompt_tokens counter\n{PROMPT}{{engine="0",model_name="a"}} 3\n'
        f'{PROMPT}{{engine="1",model_name="a"}} 4\n{PROMPT}{{engine="0",model_name="b"}} 5\n'
        f'{SUCCESS}{{finished_reason="stop"}} 1\n{SUCCESS}{{finished_reason="length"}} 2\n'
        'vllm:iteration_tokens_total_sum{engine="0"} 99\nvllm:prompt_tokens_created 1.7e9\n'
    )
    assert summed(samples(text, COUNTERS)) == {PROMPT: 12.0, SUCCESS: 3.0}


@pytest.mark.parametrize("name", REAL)
def test_counters_of_a_real_server_are_read(
    far_end: FarEnd, server: Server, shared: Path, name: str
) -> None:
    far_end.scripts = [[(shared / "wire" / f"{name}.txt").read_bytes()]]
    found = server.counters()
    assert found is not None
    assert set(found) == {*COUNTERS, STARTED}
    assert REAL[name].items() <= found.items()


def test_the_cache_of_a_real_server_is_told_by_its_labels(
    far_end: FarEnd, server: Server, shared: Path
) -> None:
    far_end.scripts = [[(shared / "wire" / "metrics_before.txt").read_bytes()]]
    found = server.cache_config() or {}
    assert (found["block_size"], found["cache_dtype"]) == ("128", "auto")
    assert found["enable_prefix_caching"] == "True"


@pytest.mark.parametrize(
    "reply",
    [
        ok(""),
        ok("<!doctype html><title>Gateway</title>"),
        ok("x 1\n{"),
        ok("other_total 3\n"),
        [b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n"],
        [CLOSE],
    ],
    ids=["empty", "a web page", "torn", "of another server", "not found", "hung up"],
)
def test_counters_that_cannot_be_read_are_none(
    far_end: FarEnd, server: Server, reply: list[Step]
) -> None:
    far_end.scripts = [reply]
    assert server.counters() is None
    assert server.cache_config() is None


def test_a_stranger_is_named_and_why_there_are_no_counters(far_end: FarEnd, server: Server) -> None:
    for text, why in (
        (
            'sglang:num_running_reqs{engine_type="unified"} 3\n',
            "it has SGLang's metrics, not vLLM's",
        ),
        ("tgi_queue_size 3\n", "it has TGI's metrics, not vLLM's"),
        ("other_total 3\n", "it has none of vLLM's counters"),
    ):
        far_end.scripts = [ok(text)]
        assert server.counters() is None
        assert server.unread == why


NAMES = [
    ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits_total"),
    ("vllm:gpu_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"),
    ("vllm:gpu_prefix_cache_hits", "vllm:prefix_cache_hits_total"),
    ("vllm:gpu_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"),
    ("vllm:prompt_tokens", PROMPT),
    ("vllm_prompt_tokens_total", PROMPT),
    ("ray_vllm_prompt_tokens_total", PROMPT),
    ("ray_vllm_num_requests_running", "vllm:num_requests_running"),
    ("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
    ("vllm:time_per_output_token_seconds_sum", "vllm:inter_token_latency_seconds_sum"),
    ("vllm:iteration_tokens_total", None),
    ("vllm:prompt_tokens_created", None),
    ("vllm:request_prompt_tokens_sum", None),
]


@pytest.mark.parametrize(("spelled", "name"), NAMES)
def test_each_spelling_of_a_name_is_read_as_that_of_now(spelled: str, name: str | None) -> None:
    text = f'{spelled}{{engine="0"}} 0.5\n'
    assert [s.name for s in vllm_samples(text)] == ([name] if name else [])


def test_of_two_spellings_on_a_page_the_newer_counts() -> None:
    text = "vllm:gpu_prefix_cache_hits_total 90\nvllm:prefix_cache_hits_total 9\n"
    assert summed(vllm_samples(text)) == {"vllm:prefix_cache_hits_total": 9.0}


@pytest.mark.parametrize(
    "line",
    [
        f"{PROMPT} NaN",
        f"{PROMPT} +Inf",
        f"{PROMPT} -3",
        f"{PROMPT} 1e308",
        f"{PROMPT} {10**30}",
        f"{PROMPT} many",
        f"{PROMPT}",
        f"{PROMPT}{{engine=0}} 3",
        f'{PROMPT}{{engine="0" 3',
        f'{PROMPT}{{engine="0"}} 5',  # a second time
        f"{PROMPT}{{" + 'a="b",' * 9000 + "} 3",
        "vllm:kv_cache_usage_perc 43",
    ],
)
def test_an_odd_line_is_left_out_and_told_and_the_others_count(line: str) -> None:
    odd: list[str] = []
    good = f'{PROMPT}{{engine="0"}} 4\n{GENERATED} 7 1700000000\n'
    assert summed(vllm_samples(f"{good}{line}\n", odd)) == {PROMPT: 4.0, GENERATED: 7.0}
    assert len(odd) == 1


def test_a_value_may_have_a_time_labels_an_exemplar_and_odd_texts() -> None:
    text = (
        f'{PROMPT}{{a="}} 9",b="\\"\\n\\\\",}}   3e0 1700000000 # {{trace="x"}} 1 1.0\r\n'
        f"{GENERATED} 5\n"
    )
    first, second = vllm_samples(text)
    assert (first.value, dict(first.labels)) == (3.0, {"a": "} 9", "b": '"\n\\'})
    assert (second.value, dict(second.labels)) == (5.0, {})


def test_a_page_of_too_many_lines_is_refused() -> None:
    with pytest.raises(PageError, match="over 20,000 lines"):
        vllm_samples("".join(f'{PROMPT}{{a="{n}"}} 1\n' for n in range(20_001)))


SAMPLE = f'# HELP a b\n# TYPE a counter\n{PROMPT}{{engine="0",model_name="a\\"b"}} 3.0 1700000000\n'


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.builds(
        lambda cut, middle: SAMPLE[:cut] + middle + SAMPLE[cut:],
        st.integers(0, len(SAMPLE)),
        st.text('{}="#\\ \n,aE1', max_size=6),
    )
)
def test_whatever_the_text_is_reading_it_ends_no_run(text: str) -> None:
    with contextlib.suppress(PageError):
        assert set(summed(samples(text, COUNTERS))) <= set(COUNTERS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the module's clock by one that only sleeping moves."""
    now_s = [1000.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    monkeypatch.setattr(control, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep))
    return now_s


def test_counters_are_read_again_until_they_have_arrived(
    far_end: FarEnd, server: Server, clock: list[float]
) -> None:
    far_end.scripts = [ok(f"{GENERATED} {count}\n") for count in (5, 7, 12, 99)]
    found = server.settled_counters(lambda counters: counters[GENERATED] >= 12)
    assert found == {GENERATED: 12.0}
    assert clock[0] == pytest.approx(1000.2)


def test_counters_that_never_arrive_are_taken_as_they_are(
    far_end: FarEnd, server: Server, clock: list[float]
) -> None:
    far_end.scripts = [ok(f"{GENERATED} 5\n")]
    found = server.settled_counters(lambda counters: counters[GENERATED] >= 12, limit_s=1.0)
    assert found == {GENERATED: 5.0}
    assert 1001.0 <= clock[0] < 1001.2


def test_counters_that_are_not_there_are_not_waited_for(
    far_end: FarEnd, server: Server, clock: list[float]
) -> None:
    far_end.scripts = [[CLOSE]]
    assert server.settled_counters(lambda _: False) is None
    assert clock == [1000.0]


def test_the_tiny_servers_counters_are_the_ledgers(tiny_vllm: TinyVllm) -> None:
    server = Server(tiny_vllm.base_url, None, {})
    assert server.counters() == {PROMPT: 0.0, GENERATED: 0.0, SUCCESS: 0.0}
    server.close()
