"""A server with a cache of other blocks, to its end: beginnings that are found, and a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.e2e.conftest import COMMANDS, Served, start
from tests.e2e.scripts import bench_words, only, rows, start_bench
from tests.e2e.test_load import moved, run
from tests.support.beside.waiting import LIMIT_S, wait_until

pytestmark = [pytest.mark.vllm, pytest.mark.process]


@pytest.fixture(scope="module", params=COMMANDS)
def blocks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server with blocks of 32 tokens, which the last test kills."""
    folder = tmp_path_factory.mktemp(request.param)
    served = start(request.param, folder, "--block-size", "32", "--enable-prompt-tokens-details")
    yield served
    served.kill()


def test_groups_that_begin_alike_are_found_to_the_token(
    tmp_path: Path, blocks: Served, dataset: str
) -> None:
    """4 groups of 8 begin with 100 of 150 tokens: three blocks of 32, for all but the first."""
    info, found = run(
        *(tmp_path, blocks, dataset),
        endpoint="completions",
        prefill_tokens=150,
        prefix={"groups": 4, "tokens": 100},
        num_requests=32,
        max_new_tokens=8,
    )
    assert info.plan["prefix"]["block_size"] == 32
    assert set(found["prompt_tokens"]) == {150}
    assert found["cached_tokens"].fillna(0).sum() == 2688  # of 4,800
    assert (found["cached_tokens"].fillna(0) == found["possible_cached_tokens"]).all()
    assert moved(info, "prefix_cache_hits") == {"prefix_cache_hits": 2688}


def test_a_server_killed_in_the_middle_leaves_every_row_and_no_success(
    tmp_path: Path, blocks: Served, dataset: str
) -> None:
    long = {"num_requests": 2000, "max_new_tokens": 256, "ignore_eos": True}
    words = bench_words(tmp_path, blocks, dataset, **long)
    process = start_bench(tmp_path, [*words, "--give-up-s", "2"])
    before = blocks.generated()  # replies end together: wait until the next ones are under way
    wait_until(lambda: blocks.generated() >= before + 20)
    blocks.kill()
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, err
    assert "INVALID" in out
    found = rows(tmp_path)
    assert sorted(found["request_index"]) == list(range(len(found)))
    assert set(found["error_kind"].dropna()) == {"truncated", "connect"}
    assert found["error"].isna().sum() >= 6
    assert read_run_info(only(tmp_path, "*.json")).status == "failed"
