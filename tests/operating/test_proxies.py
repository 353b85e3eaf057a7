"""A proxy of the environment is never used, and that is said where other programs would use it."""

from __future__ import annotations

import pytest
from vllm_bench.run.prepare import proxy_note

from tests.plan.test_request import scenario

HERE, THERE = "http://127.0.0.1:8000/v1", "https://gpu7.lan/v1"
PROXY = "http://user:secret@proxy:3128"


@pytest.mark.parametrize(
    ("base_url", "environ", "named"),
    [
        (HERE, {}, None),
        (HERE, {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        (HERE, {"http_proxy": PROXY, "HTTP_PROXY": PROXY}, "http_proxy"),
        (HERE, {"https_proxy": PROXY, "HTTP_PROXY": ""}, None),
        (HERE, {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        (HERE, {"HTTP_PROXY": PROXY, "NO_PROXY": "localhost,127.0.0.1"}, None),
        (HERE, {"HTTP_PROXY": PROXY, "no_proxy": "*"}, None),
        (THERE, {"HTTP_PROXY": PROXY}, None),
        (THERE, {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        (THERE, {"HTTPS_PROXY": PROXY, "NO_PROXY": "other.lan"}, "HTTPS_PROXY"),
        (THERE, {"HTTPS_PROXY": PROXY, "NO_PROXY": ".lan"}, None),
    ],
)
def test_a_proxy_that_would_have_applied_is_named(
    base_url: str, environ: dict[str, str], named: str | None
) -> None:
    note = proxy_note(scenario(base_url=base_url), environ)
    if named is None:
        assert note is None
    else:
        assert note is not None
        assert note.startswith(f"{named} ")
        assert "secret" not in note
