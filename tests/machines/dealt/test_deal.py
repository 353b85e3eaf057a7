"""A load over machines is the load of one: each request once, the same bytes, C streams."""

from __future__ import annotations

import itertools
import pickle
import ssl
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.crew.started import workers_for
from vllm_bench.machines.deal import as_told, dealt, turns
from vllm_bench.plan.part import Part
from vllm_bench.plan.plan import Plan
from vllm_bench.plan.share import PlannedRequest, Share
from vllm_bench.plan.times import nanoseconds

from tests.plan.test_classes import CLOSED, HYBRID, OPEN, OWN, SHARED
from tests.plan.test_classes import plans as plans_of_classes
from tests.plan.test_recorded import part as recorded
from tests.plan.test_requests import repeating
from tests.plan.test_sessions import THREE
from tests.plan.test_sessions import part_of as playing
from tests.support.made_plans import made_part, plan_of
from tests.traces.test_groups import part_of as in_groups
from tools import order_price

Made = Callable[[], Plan]
SOME = 40  # requests, or plays, of a machine that are looked at where a loop goes by time


def only(part: Part) -> Plan:
    return plan_of(replace(part, name=None))


def _by_time(count: int, different: int, streams: int, **more: Any) -> Part:
    return repeating(
        count,
        different,
        **{"concurrencies": [streams], "num_requests": None, "duration_s": 5.0, **more},
    )


def _by_the_clock(count: int, different: int, tail: int, **more: Any) -> Part:
    times_s = array("d", (0.13 * n for n in range(count + tail)))
    rated = {"concurrencies": [], "request_rates": [1.0], "times_s": times_s}
    return repeating(count, different, **{**rated, **more})


KINDS: dict[str, Made] = {
    "by number": lambda: only(repeating(23, 23, concurrencies=[9], warmups=7)),
    "a small set": lambda: only(repeating(23, 5, concurrencies=[7], cache="natural")),
    "by time": lambda: only(_by_time(12, 12, 9, warmups=9)),
    "by time, a small set": lambda: only(_by_time(10, 4, 6, warmups=2)),
    "by time, cold, at least": lambda: only(_by_time(7, 7, 8, cache="cold", num_requests=33)),
    "fewer requests than streams": lambda: only(repeating(3, 3, concurrencies=[8])),
    "by the clock": lambda: only(_by_the_clock(20, 20, 9, warmups=5)),
    "by the clock, a small set": lambda: only(_by_the_clock(11, 4, 25)),
    "by the clock, capped": lambda: only(_by_the_clock(20, 20, 7, max_in_flight=10)),
    "conversations": lambda: only(
        made_part(28, 3, concurrencies=[8], num_requests=28, conversations={"turns": 3})
    ),
    "conversations by time": lambda: only(
        _by_time(12, 4, 8, conversations={"turns": 2, "tool_calls": {"share": 0.5}})
    ),
    "sessions": lambda: only(playing(THREE, concurrencies=[8], depth="drawn")),
    "sessions by number": lambda: only(playing(THREE, concurrencies=[6], num_requests=40)),
    "sessions by time": lambda: only(playing(THREE, concurrencies=[7], duration_s=9.0)),
    "live sessions": lambda: only(
        playing(THREE, concurrencies=[7], history="live", num_requests=40)
    ),
    "sessions by the clock": lambda: only(recorded("bailian.jsonl", concurrencies=[], speed=[2])),
    "sessions from a file": lambda: only(recorded("weka", concurrencies=[6], depth="drawn")),
    "in groups": lambda: only(
        in_groups(prefix={"groups": 3, "tokens": 47, "share": 0.6, "primed": True}, duration_s=5)
    ),
    "in groups, by number": lambda: only(
        in_groups(prefix={"groups": 5, "tokens": 31, "zipf": 1.5}, concurrencies=[6])
    ),
    "classes by the clock": lambda: plans_of_classes(**{**OPEN, "classes": SHARED})[0],
    "classes in streams": lambda: plans_of_classes(**{**CLOSED, "classes": SHARED})[0],
    "a mix": lambda: plans_of_classes(**{**OPEN, "classes": HYBRID, "max_in_flight": 7})[0],
    "streams of their own": lambda: plans_of_classes(
        **{**OWN, "classes": {"a": {"streams": 1}, "b": {"streams": 8}}}
    )[0],
    "more warm-ups than streams": lambda: plans_of_classes(
        **{**OWN, "warmup_requests": 7, "classes": {"a": {"streams": 1}, "b": {"streams": 4}}}
    )[0],
    "more warm-ups than places": lambda: plans_of_classes(
        **{**OPEN, "warmup_requests": 5, "max_in_flight": 2, "classes": HYBRID}
    )[0],
}
MADE: dict[str, Plan] = {}


def plan(kind: str) -> Plan:
    """Return a plan with a name, made once."""
    if kind not in MADE:
        MADE[kind] = replace(KINDS[kind](), time_utc="NOW", traced=True)
    return MADE[kind]


def over(whole: Plan, weights: Sequence[int]) -> list[Plan]:
    """Return the plans of as many machines."""
    return dealt(whole, [f"m{n}" for n in range(len(weights))], weights)


@dataclass
class _Sent:
    """What the processes of all machines do of one part."""

    part: Part  # of the whole plan
    requests: list[tuple[PlannedRequest, int | None]]  # and when each is due (ns)
    warmup: list[PlannedRequest]
    plays: list[int]
    lanes: list[int]  # of the run, with some that are opened later
    streams: int = 0
    cap: int = 0
    begins: dict[int, float] | None = None


def of_share(share: Share, own: Part, first: bool) -> Iterator[tuple[PlannedRequest, int | None]]:
    """Yield what a process sends by the clock; of a machine's tickets the first process has all."""
    if share.due_ns is not None and share.plays is None:
        yield from zip(share.requests, share.due_ns, strict=True)
    elif share.due_ns is None and share.plays is None and first:
        for ticket in range(min(own.most_tickets, SOME)):
            yield share.requests[ticket], None


def plays_of(share: Share, own: Part, first: bool) -> Iterator[int]:
    if share.plays is None:
        return
    if share.due_ns is not None:
        yield from (share.play_numbers.number(place) for place in range(len(share.due_ns)))
    elif first:
        count = min(own.most_tickets, SOME)
        yield from (share.play_numbers.number(ticket) for ticket in range(count))


def sent(whole: Plan, machines: Sequence[Plan], workers: int) -> list[_Sent]:
    """Return what is sent of each part, as each machine has it after its way over the network."""
    found = [_Sent(part, [], [], [], []) for part in whole.parts]
    for machine in machines:
        there = pickle.loads(pickle.dumps(as_told(machine)))
        for number in range(workers):
            shares = pickle.loads(pickle.dumps(there.shares(number, workers)))
            for each, share, own in zip(found, shares, there.parts, strict=True):
                _add(each, share, own, first=number == 0)
    return found


def _add(each: _Sent, share: Share, own: Part, *, first: bool) -> None:
    assert share.lanes or not (share.warmup or share.due_ns)  # who would send them?
    each.requests += of_share(share, own, first)
    each.warmup += share.warmup
    numbers = list(plays_of(share, own, first))
    each.plays += numbers
    for play in numbers:
        _check_play(each.part, share, play)
        begin = own.plays.first(play) if own.plays else 0
        count = own.plays.size(play) if own.plays else 0
        due = share.due_ns[numbers.index(play)] if share.due_ns is not None else None
        each.requests += [(share.requests[begin + at], due) for at in range(count)]
    room = 5 if share.lane_numbers.places else 0
    each.lanes += [share.lane_numbers.number(at) for at in range(share.lanes + room)]
    each.streams += share.lanes
    each.cap += share.most_in_flight or 0
    if share.begins:
        mine = (share.lane_numbers.number(at) // own.of for at in range(share.lanes))
        each.begins = {**(each.begins or {}), **dict(zip(mine, share.begins, strict=True))}


def _check_play(part: Part, share: Share, play: int) -> None:
    """A machine plays what one alone plays: the same steps, and texts of turns."""
    assert part.plays is not None
    assert share.plays is not None
    assert share.plays.script(play) == part.plays.script(play)
    assert share.plays.begin(play) == part.plays.begin(play)
    assert share.plays.first(play) == part.plays.first(play)
    if part.talk is not None:
        assert share.talk is not None
        assert share.talk.opening == part.talk.opening
        for place in range(len(part.plays.script(play).steps)):
            position = part.plays.position(play, place)
            assert share.talk.adds(position) == part.talk.adds(position)


machines_and_workers = st.tuples(
    st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 3)
)


@pytest.mark.parametrize("kind", KINDS)
@given(machines_and_workers)
@settings(max_examples=8)
def test_each_request_is_sent_once_as_one_machine_sends_it(
    kind: str, asked: tuple[list[int], int]
) -> None:
    weights, workers = asked
    whole = plan(kind)
    machines = over(whole, weights)
    for each in sent(whole, machines, workers):
        part, timed = each.part, each.part.requests.timed
        due = nanoseconds(part.times_s)
        for request, at_ns in each.requests:
            number = request.index // part.of
            assert request == part.requests[number]
            assert at_ns is None or part.plays or at_ns == due[number]
        _check_whole(each)
        warm = part.requests[timed:]
        assert sorted(each.warmup, key=lambda r: r.index) == list(warm)
        assert max(Counter(each.lanes).values(), default=0) <= 1
        if part.level.concurrency is not None:
            assert each.streams == part.level.concurrency
            assert {lane // part.of for lane in each.lanes} >= set(range(each.streams))
            assert tuple(dict(sorted((each.begins or {}).items())).values()) == part.begins
        else:
            assert each.cap == (part.scenario.max_in_flight or 0)


@pytest.mark.parametrize("kind", KINDS)
@given(machines_and_workers)
@settings(max_examples=8)
def test_no_sending_process_is_started_that_has_nothing_to_send(
    kind: str, asked: tuple[list[int], int]
) -> None:
    for machine in over(plan(kind), asked[0]):
        workers = workers_for(machine, 4 * asked[1])
        for number in range(workers) if workers > 1 else ():  # a machine may have nothing
            shares = machine.shares(number, workers)
            assert any(s.lanes if s.due_ns is None else s.due_ns for s in shares)


def _check_whole(each: _Sent) -> None:
    """Whatever is to be sent is sent once: by time what is sent first."""
    part = each.part
    found = sorted(request.index // part.of for request, _ in each.requests)
    assert len(set(found)) == len(found)
    if part.duration_s is not None:
        assert found[:SOME] == list(range(min(SOME, len(found))))
    else:
        assert found == list(range(part.measured if part.plays else part.requests.timed))


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
@settings(max_examples=8)
def test_the_plan_of_all_machines_is_the_whole_plan(kind: str, weights: list[int]) -> None:
    whole = plan(kind)
    machines = over(whole, weights)
    assert {machine.sha256 for machine in machines} == {whole.sha256}
    there = [as_told(machine) for machine in machines]
    assert {machine.request_rate for machine in there} == {whole.request_rate}
    assert {machine.run_id for machine in there} == {whole.run_id}
    assert [machine.measured for machine in there] == [whole.measured] * len(there)
    for place, part in enumerate(whole.parts):
        mine = [machine.parts[place] for machine in there]
        assert sum(one.due(0) for one in mine) == part.due(0)
        for requests in (0, 1, part.measured // 2, part.measured):
            assert sum(one.own_among(requests) for one in mine) == requests
        if part.level.concurrency is not None:
            shares = [one.share(0, 1) for one in mine]
            assert sum(share.fewest for share in shares) == part.share(0, 1).fewest
            assert part.duration_s or sum(o.most_tickets for o in mine) == part.most_tickets


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.data())
@settings(max_examples=6)
def test_a_machine_knows_of_a_request_what_one_alone_knows(
    kind: str, weights: list[int], data: st.DataObject
) -> None:
    whole = plan(kind)
    machines = over(whole, weights)
    for machine in machines:
        there = pickle.loads(pickle.dumps(as_told(machine)))
        for part, own in zip(whole.parts, there.parts, strict=True):
            for number in _some_of(own, data):
                index = number * part.of + part.place
                expected = replace(whole.expectation(index, 5), machine=machine.machine)
                assert there.expectation(index, 5) == expected
                assert there.role(index) == whole.role(index)


def _some_of(own: Part, data: st.DataObject) -> list[int]:
    """Return some requests of a machine: measured, of the tail, of the warm-up."""
    requests, plays = own.requests, own.plays
    end = own.measured if own.duration_s is None else 30
    found = [] if plays else list(own.own.upto(requests.timed if own.times_s else end))
    if plays is not None:
        mine = own.own.upto(plays.until(end))
        found = [n for play in mine for n in range(plays.first(play), plays.first(play + 1))]
    found += [requests.timed + at for at in own.own.upto(len(own.warmup) + len(own.primes))]
    return data.draw(st.lists(st.sampled_from(found), max_size=5)) if found else []


@pytest.mark.parametrize("kind", ["by number", "by time", "conversations", "sessions"])
def test_a_request_is_of_the_machine_of_its_stream(kind: str) -> None:
    whole = plan(kind)
    streams = whole.level.concurrency
    assert streams is not None
    for machine in dealt(whole, ["a", "b", "c"], [1, 2, 4]):
        (part,) = machine.parts
        share = part.share(0, 1)
        mine = {share.lane_numbers.number(at) for at in range(share.lanes)}
        assert len(mine) == machine.streams
        some = range(min(SOME, part.most_tickets))
        taken = [share.play_numbers.number(ticket) for ticket in some]
        if part.plays is None:
            assert [share.requests[ticket].index for ticket in some] == taken
        assert {number % streams for number in taken} <= mine


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 200))
def test_turns_are_taken_as_often_as_weights_say_and_evenly(weights: list[int], count: int) -> None:
    found = turns(weights, count)
    for end in range(0, count + 1, 7):
        for machine, weight in enumerate(weights):
            wanted = end * weight / sum(weights)
            assert abs(found[:end].count(machine) - wanted) < len(weights)
    if count >= len(weights):
        assert set(found) == set(range(len(weights)))
    a_round = sum(weights)
    assert turns(weights, a_round * 2)[a_round:] == turns(weights, a_round)
    assert Counter(turns(weights, a_round)) == Counter(dict(enumerate(weights)))


@pytest.mark.parametrize("load", [{"concurrencies": [3]}, {"max_in_flight": 3}], ids=str)
@pytest.mark.parametrize("machines", [2, 3, 5])
def test_where_streams_are_fewer_than_machines_the_last_have_nothing(
    load: dict[str, Any], machines: int
) -> None:
    streams = "concurrencies" in load
    made = repeating(20, 20, **load) if streams else _by_the_clock(20, 20, 3, **load)
    found = dealt(only(made), "abcde"[:machines], [1] * machines)
    assert [bool(machine.drawn[0].own.places) for machine in found] == [
        number < 3 for number in range(machines)
    ]
    for idle in found[3:]:
        share = idle.parts[0].share(0, 1)
        assert (share.lanes, list(share.warmup)) == (0, [])
        assert streams or not share.requests


def test_under_a_small_cap_a_class_has_requests_where_it_has_places() -> None:
    (mix,) = plans_of_classes(
        **{
            **OPEN,
            "classes": {"chat": {"share": 1.0}, "agents": {"streams": 4}},
            "max_in_flight": 2,
        }
    )
    machines = dealt(mix, list("abcd"), [3, 1, 2, 1])
    for machine in machines:
        for part in machine.parts:
            if part.open_loop:
                share = part.share(0, 1)
                assert bool(share.requests) == bool(share.most_in_flight)
    due = itertools.chain.from_iterable(m.parts[0].share(0, 1).requests for m in machines)
    assert len(list(due)) == len(mix.parts[0].times_s)


def test_streams_of_all_classes_together_are_dealt_by_weights() -> None:
    streams = {"a": {"streams": 3}, "b": {"streams": 3}, "c": {"streams": 6}}
    (mix,) = plans_of_classes(**{**OWN, "classes": streams})
    found = dealt(mix, list("xyz"), [1, 1, 2])
    assert [machine.streams for machine in found] == [3, 3, 6]


def test_more_machines_hold_all_streams_for_less_of_a_run_and_less_by_stream_alone() -> None:
    for streams, machines in order_price.FLEETS:
        one, used, alone = order_price.price(streams, machines)
        assert 0 < one - used < 0.1
        assert used - alone > 0.2
        assert order_price.price(streams, machines, times=1.5)[1] < used
    assert order_price.held([1.0] * 12, [0, 1, 2, 0], (), 1.0) == 1.0
    assert order_price.held([1.0] * 12, [0, 0, 1, 1], {0, 1}, 2.0) == 0.5
    assert order_price.held([1.0, 3.0], [0, 0], (), 1.0) == pytest.approx(1 / 3)


def test_a_machine_has_no_text_of_others() -> None:
    for kind in ("by number", "by time, a small set", "by the clock", "live sessions", "sessions"):
        whole = plan(kind)
        part = whole.parts[0]
        for machine in dealt(whole, ["a", "b", "c"], [1, 1, 2]):
            travelling = pickle.dumps(as_told(machine))
            shares = pickle.dumps(pickle.loads(travelling).shares(0, 1))
            mine = sent(whole, [machine], 1)[0]
            own = {r.prompt_id for r in (*mine.warmup, *(r for r, _ in mine.requests))}
            if part.plays is not None:  # of a session that begins deeper all texts are here
                turns_of = [(p, len(part.plays.script(p).steps)) for p in mine.plays]
                places = [part.plays.position(p, at) for p, n in turns_of for at in range(n)]
                own |= {part.prompts.prompts[place].id for place in places}
            for prompt in part.prompts.prompts:
                text = prompt.text.encode()
                alike = {p.id for p in part.prompts.prompts if p.messages == prompt.messages}
                if not alike & own:
                    assert b"%b\x94" % text not in travelling
                    assert b'"%b"' % text not in shares


def test_a_machine_without_the_file_of_the_authority_trusts_it_all_the_same(
    tmp_path: Path,
) -> None:
    path, authority = tmp_path / "ca.pem", trustme.CA()
    path.write_bytes("# Prüfstelle\n".encode() + authority.cert_pem.bytes())
    made = made_part(4, concurrencies=[2], base_url="https://h/v1", tls_ca=str(path))
    travelling = [pickle.dumps(as_told(machine)) for machine in dealt(only(made), "ab", [1, 1])]
    path.unlink()
    for share in (pickle.loads(plan).shares(0, 1)[0] for plan in travelling):
        context = share.target.tls.context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1


def test_an_authority_that_is_gone_is_told_before_anything_travels(tmp_path: Path) -> None:
    lost = str(tmp_path / "ca.pem")
    made = made_part(4, concurrencies=[2], base_url="https://h/v1", tls_ca=lost)
    with pytest.raises(FileNotFoundError):
        as_told(dealt(only(made), "ab", [1, 1])[0])
