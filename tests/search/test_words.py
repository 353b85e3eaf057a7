"""What is said of a search: figures and loads, never more than was shown."""

from __future__ import annotations

from dataclasses import replace

from vllm_bench.search.steps import Space
from vllm_bench.search.words import answer_lines, load_words, probe_words

from tests.search.made import knee, made_late, made_probe, searched
from tests.search.test_kept import SPACE, made_search


def said(**changes: object) -> str:
    return "\n".join(answer_lines(made_search(**changes)))


def test_the_answer_has_load_bound_and_what_broke_first() -> None:
    limited = [replace(p, limits=("KV cache full",)) for p in searched(SPACE, knee(5.0))]
    text = said(probes=tuple(limited))
    (found,) = made_search(probes=tuple(limited)).found
    assert found.load is not None
    assert found.sure is not None
    for part in (f"{found.load:.4g} requests/s", "3 times", f"{found.sure:.3g}", "TTFT p99 600 ms"):
        assert part in text
    assert "KV cache full" in text


def test_short_runs_say_that_they_are() -> None:
    probes = [replace(p, counted=200) for p in searched(SPACE, knee(5.0))]
    assert "600 requests" in said(probes=tuple(probes))
    assert "4,500" not in said()


def test_an_answer_that_nothing_confirmed_says_so() -> None:
    unsure = said(probes=(made_probe(4), made_probe(8, 60)), status="out of time", why="no time")
    assert "not confirmed" in unsure
    assert "100 %" in unsure
    assert "95 %" not in unsure


def test_nothing_and_too_little_and_all() -> None:
    assert "nothing" in said(probes=())
    assert "even at 1 request/s" in said(probes=tuple(searched(SPACE, knee(0.5))))
    space = Space(low=1, high=4)
    probes = tuple(searched(space, knee(9.0)))
    assert "--high" in said(space=space, probes=probes)
    assert "--high" in said(space=space, probes=probes[:-1], status="out of time")
    early = said(space=space, probes=probes[:2], status="out of time")
    assert "the highest that was tried" in early
    assert "--high" not in early


def test_where_each_run_was_within_and_none_sure_it_isnt_said_to_miss() -> None:
    space = Space(low=4, high=5)
    below = [
        made_probe(4, 2, 280, purpose="find"),
        made_probe(5, 60, 280, purpose="find"),
        *[made_probe(4, 14, 1500, purpose="confirm") for _ in range(6)],
    ]
    above = searched(space, lambda load: {"": 0.001 if load <= 4 else 0.0095})
    for probes, code in ((below, 4), (above, 0)):
        search = made_search(space=space, probes=tuple(probes))
        text = "\n".join(answer_lines(search))
        assert search.exit_code == code
        assert "doesn't" not in text
        assert "400 ms of 500" not in text
        assert "0.933 % late or failed of 1 %" in text
        assert "6 runs" in text


def test_runs_that_are_invalid_for_what_lies_on_the_way_are_counted() -> None:
    probes = searched(SPACE, knee(5.0))
    assert "INVALID" not in said(probes=tuple(probes))
    bad = [replace(p, verdict="INVALID" if p.number == len(probes) else "VALID") for p in probes]
    assert "1 of its 4 runs" in said(probes=tuple(bad))


def test_each_tier_is_named() -> None:
    space = replace(SPACE, tiers=("fast", "batch"))
    late = {"fast": (made_late(60, 700),), "batch": (made_late(0, 700),)}
    lines = list(probe_words(made_probe(late=late), space))
    assert [line.split(":")[0] for line in lines] == ["fast", "batch"]
    assert [*probe_words(made_probe(late=late, spoilt="INVALID (x)"), space)] == [
        "answers nothing: INVALID (x)"
    ]


def test_loads_have_their_unit() -> None:
    assert load_words("rate", 22.63) == "22.63 requests/s"
    assert load_words("sessions", 1) == "1 session"
