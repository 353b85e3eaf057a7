"""Scenario files that may be anything: a scenario, or one line that says where and what."""

from __future__ import annotations

import copy
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.env_file import EnvFileError, load_env_file
from vllm_bench.scenario.scenario import KNOWN_KEYS, Scenario, ScenarioError, load_scenarios
from vllm_bench.scenario.yaml_file import MOST_BYTES

from tests.support.beside.waiting import LIMIT_S
from tests.support.running import BENCH
from tests.support.scenario_files import WHOLE, file_of, refusal

HEAD = "scenarios:\n  a:\n    model: m\n    max_new_tokens: 1\n    concurrencies: [1]\n"
ONE = HEAD + "    num_requests: 2\n"


def laughs(levels: int, each: int) -> str:
    lines = ["      l0: &l0 lol"]
    for n in range(1, levels):
        aliases = ", ".join([f"*l{n - 1}"] * each)
        lines.append(f"      l{n}: &l{n} [{aliases}]")
    return "\n".join(lines) + "\n"


WILD = {
    "laughs in extra_body": ONE + "    extra_body:\n" + laughs(10, 10),
    "laughs in defaults": "defaults:\n  extra_body:\n" + laughs(10, 10) + ONE,
    "laughs in an unknown place": "x:\n  y:\n" + laughs(10, 10) + ONE,
    "laughs that merge": ONE
    + "    extra_body:\n      a: &a {k: 1}\n"
    + "".join(f"      b{n}: &b{n} {{<<: [{', '.join(['*a'] * 99)}]}}\n" for n in range(999)),
    "a long text many times": ONE
    + f"    extra_body:\n      a: &a {'x' * 500_000}\n      b: [{', '.join(['*a'] * 2000)}]\n",
    "a chain of aliases": ONE
    + "    extra_body:\n      a0: &a0 [1]\n"
    + "".join(f"      a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 1500)),
    "an impossible date": ONE + "    description: 2026-13-45\n",
    "an impossible date as a key": ONE + "    headers: {2026-13-45: x}\n",
    "an int that is none": ONE + "    seed: !!int abc\n",
    "an empty int": ONE + "    seed: !!int ''\n",
    "a float that is none": ONE + "    temperature: !!float abc\n",
    "a bool that is none": ONE + "    stream: !!bool abc\n",
    "a timestamp that is none": ONE + "    description: !!timestamp abc\n",
    "an object": ONE + "    seed: !!python/object:os.system {}\n",
    "a call": ONE + "    seed: !!python/object/apply:os.getcwd []\n",
    "bytes": ONE + "    model_: !!binary abc\n",
    "bytes in the body": ONE + "    extra_body: {a: !!binary aGVsbG8=}\n",
    "bytes as a text": ONE + "    description: !!binary aGVsbG8=\n",
    "a set": ONE + "    extra_body: {a: !!set {x, y}}\n",
    "pairs": ONE + "    extra_body: !!pairs [a: 1]\n",
    "an omap of no map": ONE + "    extra_body: !!omap 3\n",
    "many digits": ONE + "    seed: " + "9" * 10_000 + "\n",
    "many hex digits": ONE + "    seed: 0x" + "f" * 10_000 + "\n",
    "many digits in the body": ONE + "    extra_body: {a: " + "9" * 10_000 + "}\n",
    "many digits as a key": ONE + "    headers: {0x" + "9" * 10_000 + ": x}\n",
    "inf": ONE + "    temperature: .inf\n",
    "nan": ONE + "    temperature: .nan\n",
    "inf in the body": ONE + "    extra_body: {a: {b: [.inf]}}\n",
    "1e999 in the body": ONE + "    extra_body: {a: {b: [1.0e+999]}}\n",
    "deep flow": ONE + "    extra_body: {a: " + "[" * 1000 + "]" * 1000 + "}\n",
    "deep and open": "[" * 100_000,
    "deep mappings": "{a: " * 1000,
    "deep blocks": "".join(" " * n + "a:\n" for n in range(1000)),
    "many values": ONE + "    extra_body: {a: [" + "1," * 200_000 + "]}\n",
    "many scenarios": "scenarios:\n" + "".join(f"  a{n}: {{}}\n" for n in range(2000)),
    "equal keys": ONE + "    seed: 1\n    seed: 2\n",
    "equal keys in other words": ONE + "    headers: {yes: a, on: b}\n",
    "equal numbers": ONE + "    extra_body: {a: {1: x, 0x1: y}}\n",
    "a merge of a text": ONE + "    extra_body: {<<: text}\n",
    "a merge of itself": ONE + "    extra_body: &a {<<: *a, b: 1}\n",
    "an anchor to itself": ONE + "    extra_body: &a {b: *a}\n",
    "an anchor in its list": ONE + "    extra_body: {a: &a [1, *a]}\n",
    "an unknown alias": ONE + "    extra_body: {a: *nobody}\n",
    "a tab": "scenarios:\n\ta: {}\n",
    "NUL": ONE + "    description: a\0b\n",
    "NUL in quotes": ONE + '    model_: "a\\0b"\n',
    "half a surrogate": ONE + '    extra_body: {a: "\\ud83d"}\n',
    "null as a key": ONE + "    null: 1\n",
    "a number as a key": ONE + "    1: 1\n",
    "true as a key": ONE + "    true: 1\n",
    "a list as a key": ONE + "    ? [a]\n    : 1\n",
    "a mapping as a key": ONE + "    ? {a: 1}\n    : 1\n",
    "null as a name": "scenarios:\n  null: {}\n",
    "a number as a name": "scenarios:\n  1: {}\n",
    "yes as a name": "scenarios:\n  yes: {}\n",
    "null as a header": ONE + "    headers: {null: x}\n",
    "yes as a header's value": ONE + "    headers: {a: yes}\n",
    "yes as a number": ONE + "    seed: yes\n",
    "on as a text": ONE + "    description: on\n",
    "numbers as keys of the body": ONE + "    extra_body: {a: {1: 2}}\n",
    "a long unknown key": ONE + "    " + "k" * 900 + ": 1\n",
    "two documents": ONE + "---\n" + ONE,
    "a file that is too long": "#" * (MOST_BYTES + 1),
    "nothing": "",
    "a text": "hello",
}


@pytest.mark.parametrize("name", WILD)
def test_wild_yaml_is_one_line_with_its_place(tmp_path: Path, name: str) -> None:
    text = refusal(file_of(tmp_path, WILD[name]))
    assert len(text) < 3000
    in_yaml = {"an int that is none", "an impossible date", "NUL", "deep flow", "equal numbers"}
    assert ("line " in text) or name not in in_yaml


@pytest.mark.parametrize("data", [b"a: \xff", ONE.encode("utf-16"), b"\x80", b"\0\0\0\0"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s.yaml").write_bytes(data)
    assert "line 1" in refusal(tmp_path / "s.yaml")


def test_a_byte_order_mark_and_crlf_are_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbf" + ONE.replace("\n", "\r\n").encode())
    assert load_scenarios(tmp_path / "s.yaml")["a"].model == "m"


def test_aliases_in_measure_are_written_out(tmp_path: Path) -> None:
    found = load_scenarios(file_of(tmp_path, ONE + "    extra_body:\n" + laughs(4, 3)))
    assert orjson.dumps(found["a"].extra_body).count(b"lol") == 1 + 3 + 9 + 27


def big(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [big, pipe, folder, device])
def test_what_is_no_file_of_settings_is_refused_at_once(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "s.yaml"
    make(path)
    tracemalloc.start()
    refusal(path)
    with pytest.raises(EnvFileError, match=str(path)):
        load_env_file(path, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * MOST_BYTES


@pytest.mark.process
@pytest.mark.parametrize("name", ["laughs in extra_body", "laughs that merge", "deep and open"])
def test_wild_yaml_ends_the_script_in_bounded_memory(tmp_path: Path, name: str) -> None:
    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    path = file_of(tmp_path, WILD[name])
    words = [sys.executable, str(BENCH), "--scenarios", str(path), "--dry-run"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=LIMIT_S, preexec_fn=bounded
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


# Leaf edits of a valid file: each leaf, key and branch may become anything.

VALID: dict[str, Any] = {
    "defaults": {"base_url": "http://h:1/v1", "model": "m", "headers": {"X-A": "b"}},
    "scenarios": {
        "one": {**WHOLE, "extra_body": {"a": [1, {"b": None}]}, "slo": {"ttft_ms": {"p99": 5}}},
        "two": {
            **{"request_rates": [1.5], "duration_s": 3, "arrival": "gamma", "cv": 2},
            "max_new_tokens": 4,
        },
        "three": {"trace": "t.csv", "speed": [1, 2], "max_new_tokens": 4, "conversations": None},
    },
}
NUMBERS = st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64, 10**30, 0.1, 1e308, -1e-320])
ODD = st.sampled_from([float("inf"), float("nan"), None, True, False, "", "0", "yes", "1e5", b"b"])
TEXTS = st.text(max_size=12) | st.sampled_from(["\0", "\ud83d", "é" * 300, "x" * 5000, "a\nb"])
LEAVES = NUMBERS | ODD | TEXTS | st.dates()
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(LEAVES | st.sampled_from(KNOWN_KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


PLACES = list(places(VALID))


def edited(place: tuple[Any, ...], value: Any, key: Any) -> Any:
    whole = copy.deepcopy(VALID)
    if not place:
        return value
    inside = whole
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    if isinstance(inside, dict) and key is not None:
        inside[key] = value
    return whole


def checked(path: Path) -> None:
    complaint, found = "", dict[str, Scenario]()
    try:
        found = load_scenarios(path)
    except ScenarioError as e:
        complaint = str(e)
    assert found or complaint.startswith(f"{path}: ")
    assert "\n" not in complaint
    for scenario in found.values():
        assert len(orjson.dumps(scenario.extra_body)) < 1 << 23
        orjson.dumps(scenario.masked())


@pytest.fixture(scope="module")
def place_of_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "s.yaml"


def written(value: Any) -> bytes:
    return yaml.dump(value, allow_unicode=True).encode(errors="surrogatepass")


@pytest.mark.fuzz
@given(st.sampled_from(PLACES), ANYTHING, st.none() | LEAVES)
def test_any_leaf_of_a_file_may_be_anything(
    place_of_file: Path, place: tuple[Any, ...], value: Any, key: Any
) -> None:
    place_of_file.write_bytes(written(edited(place, value, key)))
    checked(place_of_file)


SIGNS = [b"&a ", b"*a", b"!!int ", b"<<: ", b"? ", b"- ", b"{", b"[", b"\t", b"|\n", b"%", b"'"]


@pytest.mark.fuzz
@given(st.data())
def test_any_bytes_of_a_file_may_be_others(place_of_file: Path, data: st.DataObject) -> None:
    whole = bytearray(written(VALID))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        length = data.draw(st.integers(0, 12))
        new = data.draw(st.binary(max_size=6) | st.sampled_from(SIGNS))
        whole[at : at + length] = new
    place_of_file.write_bytes(whole)
    checked(place_of_file)


BITS = ["A=", "'", '"', "#", "$", "\\", "\r", "\n", " ", "\0", "é", "=", "x", "export ", "\ufeff"]


@pytest.mark.fuzz
@given(st.lists(st.sampled_from(BITS) | st.text(max_size=4), max_size=12).map("".join))
def test_any_env_file_is_read_or_one_line(place_of_file: Path, text: str) -> None:
    place_of_file.write_bytes(text.encode(errors="surrogatepass"))
    complaint, environ = "", dict[str, str]()
    try:
        load_env_file(place_of_file, environ)
    except EnvFileError as e:
        complaint = str(e)
    assert "\n" not in complaint
    assert not any("\0" in name + value for name, value in environ.items())
