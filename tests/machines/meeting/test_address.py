"""HOST:PORT in all its forms, and names that machines have."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.errors import UsageError
from vllm_bench.machines.asked import MOST_NAME, _listen_at, safe_name
from vllm_bench.machines.meeting.address import Address, address_of


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:5000", "127.0.0.1", 5000),
        ("gpu7:1", "gpu7", 1),
        ("node-c.example.org:65535", "node-c.example.org", 65535),
        ("[::1]:5000", "::1", 5000),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
    ],
)
def test_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert address_of(text, "it") == Address(host, port)
    assert str(Address(host, port)) == text


def test_any_address_may_stand_in_brackets() -> None:
    """A manifest can't know which kind a pod will have."""
    assert address_of("[10.1.2.3]:5000", "--listen") == Address("10.1.2.3", 5000)


@pytest.mark.parametrize("text", ["gpu7", "::1", "[::1]", "2001:db8::1"])
def test_a_port_may_be_left_out_where_there_is_a_usual_one(text: str) -> None:
    assert address_of(text, "it", port=7) == Address(text.strip("[]"), 7)
    with pytest.raises(UsageError):
        address_of(text, "it")


def test_a_complaint_asks_for_what_is_allowed_here() -> None:
    with pytest.raises(UsageError) as without:
        address_of(":5000", "it")
    with pytest.raises(UsageError) as usual:
        address_of(":5000", "it", port=0)
    assert "HOST or HOST:PORT" not in str(without.value)
    assert "HOST or HOST:PORT" in str(usual.value)


NONE = (
    *("", ":", ":5000", "a:", "a:0", "a:65536", "a:-1", "a:x", "a:¹", "a b:5"),
    *("[::1", "[::1]5000", "[]:5", "[::1]:", "a\n:5", "ä:5"),
)


@pytest.mark.parametrize("text", NONE)
def test_what_is_none_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        address_of(text, "it")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_each_address_is_read_as_it_is_written(host: object, port: int) -> None:
    there = Address(str(host), port)
    assert address_of(str(there), "it") == there
    assert address_of(str(host), "it", port=port) == there


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    with contextlib.suppress(UsageError):
        found = address_of(text, "it", port=1)
        assert address_of(str(found), "it") == found


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "0", "0x0", "00.0.0.0", "::", "::0", "0::", "::ffff:0.0.0.0", "*"]
)
def test_it_listens_at_one_address_not_at_all(host: str) -> None:
    with pytest.raises(UsageError):
        _listen_at(f"[{host}]:5000" if ":" in host else f"{host}:5000", None)


def test_an_engine_knows_where_the_head_is_reached_unless_that_is_said() -> None:
    assert _listen_at(None, "10.0.0.9") == Address("10.0.0.9", 0)
    assert _listen_at("gpu7", "10.0.0.9") == Address("gpu7", 0)


@given(st.text())
def test_a_name_is_safe_in_cells_and_on_screens(host: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+", safe_name(host))
    assert len(safe_name(host)) <= MOST_NAME
    assert safe_name("node-c.example.org") == "node-c.example.org"
