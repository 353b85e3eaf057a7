"""What --ray can't do is told in one line, before anything is sent."""

from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm_bench.errors import UsageError
from vllm_bench.machines.engines import at_node, ray_engine
from vllm_bench.machines.engines.at_node import SENDER, Overseer
from vllm_bench.machines.engines.by_ray import NEEDED, _nodes, _our_code
from vllm_bench.machines.engines.engine import MachinesError
from vllm_bench.machines.engines.ray_engine import ByRay
from vllm_bench.machines.facts import code_digest

from tests.machines.ray.placing import Place
from tests.support.beside.ports import free_port
from tests.support.beside.waiting import LIMIT_S
from tests.support.running import BENCH, environment


def bench(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), "--results-dir", str(folder / "results"), *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment(folder, **env),
    )


@pytest.mark.process
@pytest.mark.parametrize(
    "address",
    ["ray://10.0.0.1:10001", "local", "local:0", "local:99", "local:two", "gpu7", "gpu7:0", ""],
)
def test_an_address_that_cant_be_meant_is_wrong_usage(tmp_path: Path, address: str) -> None:
    done = bench(tmp_path, "--ray", address)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--ray" in done.stderr


@pytest.mark.process
def test_a_cluster_that_refuses_is_told_in_a_line(somebodys: Place, tmp_path: Path) -> None:
    """A wrong token, more machines than there are, and a port that isn't Ray's; all at once."""
    own, wrong = somebodys.environ, {**somebodys.environ, "RAY_AUTH_TOKEN": "f" * 32}
    words = ("--concurrency", "8", "--quick", "--ray")
    with socket.create_server(("127.0.0.1", 0)) as nobodys, ThreadPoolExecutor() as all_of:
        token = all_of.submit(bench, tmp_path, *words, somebodys.address, **wrong)
        many = all_of.submit(bench, tmp_path, *words, somebodys.address, "--machines", "4", **own)
        there = f"127.0.0.1:{nobodys.getsockname()[1]}"
        unanswered = all_of.submit(bench, tmp_path, *words, there, **own)
    assert token.result().returncode == 1
    assert "RAY_AUTH_TOKEN" in token.result().stderr
    assert wrong["RAY_AUTH_TOKEN"] not in token.result().stderr
    assert unanswered.result().returncode == 1
    assert f"--ray {there}: no Ray there answers" in unanswered.result().stderr
    assert many.result().returncode == 2
    assert "--machines 4" in many.result().stderr
    assert not (tmp_path / "results").exists()


def found(monkeypatch: pytest.MonkeyPatch, origin: str | None) -> None:
    spec = SimpleNamespace(origin=origin)
    monkeypatch.setattr(ray_engine, "find_spec", lambda _: spec)


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, "ray/__init__.py")
    port = free_port()
    engine = ByRay(f"127.0.0.1:{port}", None, {})
    with pytest.raises(MachinesError, match=str(port)):
        engine.attach()
    engine.stop()


@pytest.mark.parametrize(("address", "hinted"), [("auto", True), ("127.0.0.1:6379", False)])
def test_where_no_ray_answers_it_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, address: str, hinted: bool
) -> None:
    found(monkeypatch, "ray/__init__.py")
    engine = ByRay(address, None, {})
    said = ["W: Failed to connect to GCS at address 10.0.0.1:6379"]
    engine._note(said)
    assert engine.ended() is None  # a busy one may have taken it after all
    engine._note([*said, "W: Failed to connect to the observability pubsub at address"])
    assert ("loopback" in str(engine.ended())) is hinted


def test_without_ray_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, None)  # a folder called ray, perhaps
    with pytest.raises(UsageError, match="make install-ray"):
        ByRay("local:2", None, {})


def test_ray_client_by_a_variable_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, "ray/__init__.py")
    with pytest.raises(UsageError, match="RAY_ADDRESS"):
        ByRay("auto", None, {"RAY_ADDRESS": "ray://gpu7:10001"})


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": f"id of {name}",
        "Alive": alive,
        "NodeManagerHostname": name,
        "NodeManagerAddress": "10.0.0.1",
        "Resources": {"CPU": 4.0, **resources},
    }


def there_are(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any]) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: list(nodes)))


def test_nodes_that_are_to_send_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = node("dead", alive=False, sender=1.0)
    there_are(monkeypatch, node("b", sender=1.0), node("gpu7"), dead, node("a", sender=2.0))
    assert list(_nodes(None)) == ["id of a", "id of b"]
    assert list(_nodes(1)) == ["id of a"]
    with pytest.raises(UsageError, match="--machines 3"):
        _nodes(3)


def test_where_none_is_to_send_the_nodes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there_are(monkeypatch, node("gpu7"), node("gpu8", sender=0.0))
    with pytest.raises(MachinesError, match=r"gpu7.*gpu8.*ray start"):
        _nodes(None)


@pytest.mark.process
def test_what_travels_is_our_code_alone(tmp_path: Path) -> None:
    where = Path(_our_code(tmp_path / "code"))
    files = {str(p.relative_to(where)) for p in where.rglob("*") if p.is_file()}
    assert {name for name in files if not name.endswith(".py")} == set()
    assert {name for name in files if not name.startswith("vllm_bench/")} == {SENDER.name}
    assert sum((where / name).stat().st_size for name in files) < 5 << 20
    assert code_digest() == code_digest_of(where)


def code_digest_of(where: Path) -> str:
    """Return the digest that the code there gives of itself."""
    ask = "from vllm_bench.machines.facts import code_digest; print(code_digest())"
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=where, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.process
def test_a_foreman_begins_where_no_folder_can_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of nodes on one machine the Ray of each makes that folder anew, under those that are up."""
    where = tmp_path / "code"
    where.mkdir()
    monkeypatch.chdir(where)
    where.rmdir()
    where.mkdir()
    sender = where / "sender.py"
    sender.write_text("import os, sys; sys.exit(os.getcwd())")
    monkeypatch.setattr(at_node, "SENDER", sender)
    assert Overseer().serve("127.0.0.1:9", b"key") == (1, "/")


def test_a_node_tells_which_libraries_it_lacks() -> None:
    assert Overseer().lacks(NEEDED) == []
    assert Overseer().lacks(["json", "no_such_library"]) == ["no_such_library"]
