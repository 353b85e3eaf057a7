"""From recorded sessions to what a part of a run sends of them: which, when, and which prompts."""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...prompts.prompt import Prompt, PromptSet
from ...scenario.load import LoadLevel
from ...scenario.scenario import Scenario, ScenarioError
from ...sessions.session import Session, Sessions, Turn
from ..share import NS_PER_S
from .hits import Cache, PlayedHits, hits_by_the_clock, played_hits
from .recorded import by_starts, by_streams, deeper, primed, scripts_of, starts_of
from .script import Plays

# Makes the prompts of all turns, session by session: whole ones, or what each turn adds.
Texts = Callable[[Sessions], PromptSet]


@dataclass(frozen=True, slots=True)
class Played:
    """What a part sends of recorded sessions."""

    prompts: PromptSet  # of all turns, session by session
    plays: Plays
    output_tokens: tuple[int | None, ...]  # of all turns
    primes: tuple[Prompt, ...] = ()
    prime_plays: tuple[int, ...] = ()  # for which play each is sent
    times_s: array[float] = dataclasses.field(default_factory=lambda: array("d"))  # of plays
    about_s: array[float] = dataclasses.field(default_factory=lambda: array("d"))  # of their turns
    possible: PlayedHits | None = None  # None: it isn't known what prompts have in common


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run asks for of recorded sessions."""

    scenario: Scenario
    level: LoadLevel
    seed: int
    texts: Texts
    max_model_len: int | None  # the longest prompt and answer together, in tokens
    cache: Cache = dataclasses.field(default_factory=Cache)


def played(sessions: Sessions, wish: Wish) -> Played:
    """Return what a run sends of these sessions.

    Raises ScenarioError where nothing is left of them, or the level doesn't suit them.
    """
    scenario, times_s = wish.scenario, array("d")
    fitting = _within(sessions, wish.max_model_len, scenario.name)
    if wish.level.speed is not None:
        fitting, times_s = _by_the_clock(fitting, scenario, wish.level.speed)
    chosen = _with_histories(fitting) if scenario.lives else fitting
    plays = _plays(chosen.sessions, wish)
    prompts = wish.texts(chosen)
    # Under `cold` nothing is found again.
    primes = [] if scenario.cache == "cold" else primed(plays)
    return Played(
        replace(prompts, notes=(*prompts.notes, *chosen.notes, *_notes(chosen, plays, scenario))),
        plays,
        tuple(turn.output_tokens for session in chosen.sessions for turn in session.turns),
        tuple(prompts.prompts[plays.position(*at)] for at in primes),
        tuple(play for play, _ in primes),
        times_s,
        array("d", sorted(_about(chosen.sessions, plays, times_s))),
        _possible(chosen, plays, primes, wish),
    )


def _possible(
    sessions: Sessions, plays: Plays, primes: Sequence[tuple[int, int]], wish: Wish
) -> PlayedHits | None:
    """Return what of the prompts can be found again.

    None where answers of this server or texts are in them, and under `cold`, where nothing is.
    """
    turns = (turn for session in sessions.sessions for turn in session.turns)
    if plays.live or wish.scenario.cache == "cold" or any(turn.new_messages for turn in turns):
        return None
    if wish.level.speed is not None:
        return hits_by_the_clock(sessions, wish.cache)
    return played_hits(sessions, plays, primes, wish.cache)


def _about(sessions: Sequence[Session], plays: Plays, times_s: Sequence[float]) -> Iterator[float]:
    """Yield about when the turns go of sessions that start at these times."""
    for time_s, session, script in zip(times_s, sessions, plays.scripts, strict=False):
        outputs = [turn.output_tokens or 0 for turn in session.turns]
        yield from (time_s + start_s for start_s in starts_of(script.steps, outputs))


def _plays(sessions: Sequence[Session], wish: Wish) -> Plays:
    scenario, streams = wish.scenario, wish.level.concurrency
    scripts = scripts_of(sessions, scenario.longest_gap_s)
    if streams is None:
        return Plays(scripts, array("I", range(len(scripts))), len(scripts), live=scenario.lives)
    plays = replace(by_streams(scripts, streams, wish.seed), live=scenario.lives)
    if scenario.depth != "first" and not scenario.lives:
        plays = deeper(plays, sessions, streams, wish.seed)
    if scenario.num_requests is None:
        return plays
    return replace(plays, wanted=max(streams, plays.until(scenario.num_requests)))


def _within(sessions: Sessions, max_model_len: int | None, name: str) -> Sessions:
    """Return the sessions that a server of this context can hold, each of their turns."""
    if max_model_len is None:
        return sessions
    kept = [s for s in sessions.sessions if all(_tokens(t) <= max_model_len for t in s.turns)]
    left_out = len(sessions.sessions) - len(kept)
    if not kept:
        raise ScenarioError(
            f"scenario {name}: trace: none of {left_out} sessions fits the server's max_model_len "
            f"of {max_model_len}"
        )
    if not left_out:
        return sessions
    why = f"longer than the server's {max_model_len} tokens"
    note = f"{sessions.kind}: {left_out} of {len(sessions.sessions)} sessions left out: {why}"
    return replace(sessions, sessions=tuple(kept), notes=(*sessions.notes, note))


def _tokens(turn: Turn) -> int:
    return (turn.prompt_tokens or 0) + (turn.output_tokens or 0)


def _by_the_clock(
    sessions: Sessions, scenario: Scenario, speed: float
) -> tuple[Sessions, array[float]]:
    """Return the sessions that start by the clock, and when: as many as the scenario asks for."""
    times_s = by_starts(sessions.sessions, speed)
    where = f"scenario {scenario.name}: trace: {sessions.kind}"
    if times_s is None:
        raise ScenarioError(
            f"{where} doesn't know when its sessions started: give concurrencies: [N], for N of "
            "them at once"
        )
    if scenario.max_in_flight is not None:
        raise ScenarioError(f"{where} has sessions, whose turns wait: without max_in_flight")
    wanted = scenario.num_requests or sessions.turns
    sent = itertools.accumulate((len(s.turns) for s in sessions.sessions), initial=0)
    limit_s = scenario.duration_s
    count = sum(
        before < wanted and (limit_s is None or time_s < limit_s)
        for before, time_s in zip(sent, times_s, strict=False)
    )
    return replace(sessions, sessions=sessions.sessions[:count]), array("d", times_s[:count])


def _with_histories(sessions: Sessions) -> Sessions:
    """Return sessions whose turns add to a history, or begin anew where the recorded one broke."""
    return replace(sessions, sessions=tuple(map(_live, sessions.sessions)))


def _live(session: Session) -> Session:
    return replace(session, turns=tuple(_adding(turn, session.turns) for turn in session.turns))


def _adding(turn: Turn, turns: Sequence[Turn]) -> Turn:
    """Return a turn with the tokens that it adds; those of the whole prompt where it goes on."""
    if turn.history is None or turn.new_messages is not None or turn.prompt_tokens is None:
        return turn
    before = turns[turn.history]
    new = turn.prompt_tokens - _tokens(before)
    if new < 1:  # compacted, or gone back
        return replace(turn, history=None)
    return replace(turn, prompt_tokens=new, block_ids=None)


def _notes(sessions: Sessions, plays: Plays, scenario: Scenario) -> Iterator[str]:
    """Yield how the sessions are played."""
    kind, steps = sessions.kind, [step for script in plays.scripts for step in script.steps]
    cut = [step.cut_ns for step in steps if step.cut_ns]
    yield f"{kind}: {len(plays.scripts)} sessions of {len(steps)} turns, {_history(scenario)}"
    if cut:
        yield (
            f"{kind}: max_gap_s {scenario.longest_gap_s:g} cuts {len(cut)} of {len(steps)} waits, "
            f"by {sum(cut) / NS_PER_S:.0f} s together"
        )
    if plays.wanted > len(plays.order):
        more = plays.wanted - len(plays.order)
        plays_again = f"{more} play{'s' * (more != 1)}"
        yield f"{kind}: {plays_again} of sessions that were played before (name~2, and so on)"
    if any(plays.begins):
        deeper = sum(begin > 0 for begin in plays.begins)
        yield f"{kind}: {deeper} of {len(plays.begins)} streams begin deeper in a session, primed"


def _history(scenario: Scenario) -> str:
    return (
        "with this server's answers in their history"
        if scenario.lives
        else "each prompt and answer as long as recorded"
    )
