"""A machine's plan, less what the machine doesn't send: this is what travels to it. Pure.

Texts of others' prompts, others' times and sessions stay behind. What is sent is the same to the
byte: what decides a salt, how often a content was sent before, was counted over all prompts and
travels along.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...traces.possible import Possible
from ..part import Part
from ..plan import Plan
from ..sessions.script import Course, Plays, Script, Step
from .held import Held, only
from .own import ALL, Own

if TYPE_CHECKING:  # of prompts in groups
    from ...traces.group_prompts import Grouped


def trimmed(plan: Plan) -> Plan:
    """Return a machine's plan with what it needs to send its portion, and to judge the replies."""
    return dataclasses.replace(plan, drawn=tuple(map(_trimmed, plan.drawn)))


def _trimmed(part: Part) -> Part:
    if part.own == ALL:
        return part
    plays = part.plays and _played(part.plays, _own_plays(part))
    places = _places(part)
    prompts = only(part.prompts.prompts, places)
    ids = {prompt.id for prompt in prompts.items}
    warming, count = part.own.upto(len(part.warmup) + len(part.primes)), len(part.warmup)
    first_prime = bisect_left(warming, count)
    found = dataclasses.replace(
        part,
        prompts=dataclasses.replace(part.prompts, prompts=prompts),
        warmup=only(part.warmup, warming[:first_prime]),
        primes=only(part.primes, [number - count for number in warming[first_prime:]]),
        times_s=only(part.times_s, part.own.upto(len(part.times_s))),
        output_tokens=only(part.output_tokens, places) if part.output_tokens else (),
        plays=plays,
        about_s=array("d"),  # for rates, which were told
        answers={key: text for key, text in part.answers.items() if key in ids},
    )
    return found if part.plays is not None else _without_plays(found, places)


def _without_plays(part: Part, places: Sequence[int]) -> Part:
    """Return a part whose facts about each prompt are those at these places."""
    known, uses = part.possible, part.known_uses
    if isinstance(known, Possible):
        cut = functools.partial(only, places=places)
        again = tuple(map(cut, known.again))
        known = dataclasses.replace(
            known, first=cut(known.first), again=again, renewed=cut(known.renewed)
        )
    if uses is not None:
        uses = dataclasses.replace(
            uses, before=only(uses.before, places), a_round=only(uses.a_round, places)
        )
    found = dataclasses.replace(part, possible=known, known_uses=uses)
    return found if part.grouped is None else _in_groups(found, part.grouped, places)


def _in_groups(part: Part, grouped: Grouped, places: Sequence[int]) -> Part:
    """Return a part with what of its groups decides the words of prompts; the rest is its own."""
    assert isinstance(part.possible, Possible)
    less = dataclasses.replace(
        grouped,
        prompts=part.prompts,
        unmeasured=(),
        primers=Held(len(grouped.primers), (), ()),
        own=only(grouped.own, places),
        possible=part.possible,
    )
    return dataclasses.replace(part, grouped=less)


def _places(part: Part) -> Sequence[int]:
    """Return which prompts a machine sends, of all of a part's, ascending."""
    count, own = len(part.prompts.prompts), part.own
    if part.plays is not None:
        return _turns(part.plays, _own_plays(part))
    if part.duration_s is not None:
        return _round(own, count)
    if not part.times_s:
        return own.upto(count)
    again = own.upto(len(part.times_s))  # the tail uses them again
    tail = again[bisect_left(again, count) :]
    if not tail:
        return own.upto(count)
    return sorted({*own.upto(count), *(number % count for number in tail)})


def _round(own: Own, size: int) -> Sequence[int]:
    """Return at which places one's own numbers fall, where all go round and round so many."""
    common = math.gcd(own.period, size)
    return Own(common, sorted({place % common for place in own.places})).upto(size)


def _own_plays(part: Part) -> Sequence[int]:
    """Return which plays of a round, ascending, a machine plays."""
    plays = part.plays
    assert plays is not None
    size = len(plays.order)
    if part.duration_s is not None:
        return _round(part.own, size)
    count = len(part.times_s) or plays.wanted
    return sorted({number % size for number in part.own.upto(count)})


def _turns(plays: Plays, own: Sequence[int]) -> Sequence[int]:
    """Return the places of the turns of these plays in a list of those of all scripts."""
    turns = ((plays.position(play, 0), len(plays.script(play).steps)) for play in own)
    return sorted({place for begin, count in turns for place in range(begin, begin + count)})


def _played(plays: Plays, own: Sequence[int]) -> Plays:
    """Return plays that know of others' sessions how many turns they have, by which turns count."""
    mine = {plays.order[play] for play in own}
    scripts = (
        script if number in mine else _unknown(len(script.steps))
        for number, script in enumerate(plays.scripts)
    )
    return dataclasses.replace(plays, scripts=tuple(scripts))


@functools.lru_cache(maxsize=4096)
def _unknown(turns: int) -> Script:
    """Return a session of so many turns, each after the one before."""
    return Script("", Course(tuple(Step((n - 1,) if n else ()) for n in range(turns))))
