"""What a run says of its surroundings, and what it leaves open."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from vllm_bench.run.info import MOST_ALIASES, PACKAGES, client_facts, server_facts
from vllm_bench.vllm.models import Model
from vllm_bench.vllm.server import Server

from tests.support.far_end import TinyVllm

pytestmark = pytest.mark.process


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_checkout_is_told_by_its_commit(checkout: Path) -> None:
    (checkout / "results.csv").write_text("untracked files change no measurement")
    found = client_facts(checkout)
    assert (found["git_commit"], found["git_dirty"]) == (git(checkout, "rev-parse", "HEAD"), False)


def test_changes_to_the_checkout_are_told(checkout: Path) -> None:
    (checkout / "file").write_text("two")
    assert client_facts(checkout)["git_dirty"] is True


def test_the_checkout_is_read_and_nothing_of_it_written(checkout: Path) -> None:
    """`git status` writes the index anew where times have changed, and a kill leaves its lock."""
    os.utime(checkout / "file", (1, 1))
    index = checkout / ".git" / "index"
    before = index.read_bytes()
    assert client_facts(checkout)["git_dirty"] is False
    assert index.read_bytes() == before


def test_outside_a_checkout_neither_commit_nor_cleanness_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = client_facts(tmp_path)
    assert (found["git_commit"], found["git_dirty"]) == (None, None)


def test_without_git_nothing_is_claimed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert client_facts(checkout)["git_commit"] is None


def test_versions_and_the_machines_size_are_there(tmp_path: Path) -> None:
    found = client_facts(tmp_path)
    assert set(found["packages"]) == set(PACKAGES)
    assert all(found["packages"].values())
    assert found["cpu_count"] >= 1


def test_the_servers_word_is_taken_down(tiny_vllm: TinyVllm) -> None:
    server = Server(tiny_vllm.base_url, None, {})
    found = server_facts(server, server.models(), "tiny")
    assert (found["version"], found["max_model_len"], found["model_root"]) == (
        "0.0.0-test",
        2048,
        "r",
    )
    assert found["on_client_machine"] is True
    assert found["simulator"] is False
    assert found["cache_config"] is None
    assert found["settings"] is None
    other = server_facts(server, server.models(), "another")
    assert (other["max_model_len"], other["model_root"], other["aliases"]) == (None, None, [])
    server.close()


def aliases(asked: str, *served: tuple[str, str | None]) -> list[str]:
    server = Server("http://127.0.0.1:1/v1", None, {})  # nobody is there
    found = server_facts(server, [Model(name, root, None) for name, root in served], asked)
    server.close()
    return list(found["aliases"])


def test_aliases_are_what_has_the_same_root_and_adapters_are_none() -> None:
    served = [("gpt", "org/m"), ("small", "org/m"), ("red", "/adapters/red"), ("bare", None)]
    assert aliases("gpt", *served) == ["org/m", "small"]
    assert aliases("small", *served) == ["org/m", "gpt"]
    assert aliases("red", *served) == ["/adapters/red"]
    assert aliases("bare", *served) == []
    assert aliases("org/m", ("org/m", "org/m")) == []
    assert len(aliases("m0", *((f"m{i}", "r") for i in range(500)))) == MOST_ALIASES
