"""What a sceptic should know about a comparison, and whether its sides ran on other hardware."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ..figures.absent import observed
from ..figures.digits import counted
from ..figures.machines.machine import machines_in_words
from ..records.text import printable
from ..summary.summary import RunSummary
from .comparison import Pair
from .differences import mixed
from .pairs import Matched, Side

ONE_START = (
    "this is about these server processes: nothing says that each visit had a start of its own, "
    "and starts differ by about 1 %: of identical builds, in three of ten comparisons a measure is "
    "called faster or slower (make ab restarts them)"
)
A_BEFORE_B = (
    "all of A ran before all of B, so what changed meanwhile (heat, other load, the client) looks "
    "like B's doing: under a trend of 5 %, two of three comparisons of equal servers call one "
    "faster or slower; make ab takes turns"
)
NO_TURNS = (
    "A ran first in every pair, so a trend looks like B's doing; make ab takes turns, A B B A"
)
SIMULATED = "these are figures of the simulator, which stands in for a server: no GPU, no model"


def notes(levels: Sequence[Matched], a: Side, b: Side) -> Iterator[str]:
    """Yield what a sceptic should know."""
    pairs = [pair for level in levels for pair in level.pairs]
    runs = [run for pair in pairs for unit in (pair.a, pair.b) for run in unit.runs]
    if len(pairs) > 1:
        yield from _on_turns(pairs)
    if pairs and not all(_restarted(run) for run in runs):
        yield ONE_START
    yield from of_sides(a, b)
    doubted = [run for run in runs if run.verdict.level == "SUSPECT"]
    if doubted:
        codes = dict.fromkeys(f.code for run in doubted for f in run.verdict.doubts)
        yield f"{counted(len(doubted), 'run')} of {len(runs)} SUSPECT: {', '.join(codes)}"
    yield from _left_out(levels, a, b)


def of_sides(a: Side, b: Side) -> Iterator[str]:
    """Yield what is so whatever the runs are held against: simulated, of several servers."""
    if any(run.simulated for run in (*a.runs, *b.runs)):
        yield SIMULATED
    for side, letter in ((a, "A"), (b, "B")):
        for what, values in mixed(side.runs):
            yield f"{letter} is of several: {what} {values}"


def _restarted(run: RunSummary) -> bool:
    return run.info is not None and run.info.experiment.get("restarted") is True


def _on_turns(pairs: Sequence[Pair]) -> Iterator[str]:
    if any(not unit.started_s for pair in pairs for unit in (pair.a, pair.b)):
        return
    if max(p.a.started_s for p in pairs) < min(p.b.started_s for p in pairs):
        yield A_BEFORE_B
    elif max(p.b.started_s for p in pairs) < min(p.a.started_s for p in pairs):
        yield A_BEFORE_B.replace("of A ran before all of B", "of B ran before all of A")
    elif len({p.a.started_s < p.b.started_s for p in pairs}) == 1:
        first = "A" if pairs[0].a.started_s < pairs[0].b.started_s else "B"
        yield NO_TURNS.replace("A ran first", f"{first} ran first")


def _left_out(levels: Sequence[Matched], a: Side, b: Side) -> Iterator[str]:
    """Yield which levels one side alone has, and how many runs have no partner beside pairs."""
    for one, other in ((a, b), (b, a)):
        there = {run.load for run in other.runs} | {told.load for told in other.told}
        alone = sorted({run.load for run in one.runs} - there)
        if alone and there:
            yield f"only {one.name} has {', '.join(load.words for load in alone)}: left out"
    over = sum(len(lv.alone_a) + len(lv.alone_b) for lv in levels if lv.pairs)
    if over:
        yield f"{counted(over, 'run')} without a partner of the same plan and repeat: left out"


# ---- hardware ----


def other_hardware(a: Side, b: Side) -> str | None:
    """Return how the sides' hardware differs, and what to do; None: it doesn't, or isn't known."""
    for what, of in (("servers", _kind), ("GPUs", _gpus), ("client machines", _machine)):
        ours, theirs = ({of(run) for run in side.runs} - {None} for side in (a, b))
        if ours and theirs and ours != theirs:
            one, other = ("; ".join(sorted(filter(None, found))) for found in (ours, theirs))
            return (
                f"other {what}, {one} and {other}: run both on the same, or ask for it with "
                "--other-hardware"
            )
    return None


def _gpus(run: RunSummary) -> str | None:
    """Return the GPUs that were sampled, as `2 x NVIDIA H100`."""
    gpus = observed(run.info, "gpu").parts("gpus")
    names = Counter(printable(gpu.get("name"), 80) for gpu in gpus if gpu.get("name"))
    return ", ".join(f"{number} x {name}" for name, number in sorted(names.items())) or None


def _kind(run: RunSummary) -> str | None:
    return None if run.info is None else "a simulator" if run.simulated else "vLLM"


def _machine(run: RunSummary) -> str | None:
    """Return the client's machine, on which the server may run, too."""
    if run.info is None or not run.info.client.get("machine"):
        return None
    client, several = run.info.client, machines_in_words(run.info)
    words = f"{printable(client.get('machine'), 40)} with {printable(client.get('cpu_count'))} CPUs"
    return words if several is None else f"{several}, for {words}"
