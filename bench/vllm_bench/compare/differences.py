"""What differs between two sides: facts about server, GPUs, client and settings, by their values.

Seeds and prompts are told only where the sides share none: a pair has the same of both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from ..records.same_run import settings_that_count
from ..records.text import ABSENT, printable
from ..scenario.secrets import MASK, masked_settings, masked_words
from ..summary.environment import environment
from ..summary.levels import hit_rate
from ..summary.summary import RunSummary
from .comparison import Difference
from .pairs import Side

MOST_VALUES = 3  # of one side that are shown; the others are counted
LONGEST = 120  # characters of a value
CLOCKS_APART = 0.01  # of the mean clock: less comes and goes with the temperature
HITS_APART = 0.005  # of the prompt tokens
TOLD_ELSEWHERE = ("server kind", "server cache", "prompts")  # by settings, or key by key
TOLD_BESIDE = ("version", "model", "served_model_name", "max_model_len", "told_by")  # settings
TOLD_BY_SERVER = ("label", "base_url", "model")  # of the settings
DRAWN_ANEW = ("prompts sha256", "seeds")  # by each repeat
UNKNOWN = "not known"
SETTING = "server setting "
LASTING = (  # should be one on each side
    *("label", "server kind", "server version", "server model", "server weights"),
    *("server max_model_len", "GPUs", "client python", "client platform", "client CPUs"),
    "client machines",
)
THROTTLED = "GPUs throttled by"

Values = dict[str, None]  # in place of a set, since it keeps its order
Facts = dict[str, Values]


def differences(a: Side, b: Side) -> tuple[Difference, ...]:
    """Return the facts in which the sides differ, over the levels that both have.

    Secrets are masked, and texts escaped. A number that is measured (clock, hit rate) is told where
    it is apart by more than it moves by itself.
    """
    ours, theirs = _at_common_levels(a.runs, b.runs), _at_common_levels(b.runs, a.runs)
    one, other = _facts(ours), _facts(theirs)
    told = [_difference(w, one.get(w, {}), other.get(w, {})) for w in _in_order(one, other)]
    measured = (_clocks(ours, theirs), _hits(ours, theirs))
    return tuple(found for found in (*told, *measured) if found is not None)


def _at_common_levels(
    runs: Sequence[RunSummary], others: Sequence[RunSummary]
) -> Sequence[RunSummary]:
    """Return the runs whose level the others have; all of them where there is none."""
    there = {(run.scenario, run.load) for run in others}
    return [run for run in runs if (run.scenario, run.load) in there] or runs


def _in_order(one: Facts, other: Facts) -> list[str]:
    """Return what is known of either side; settings of the server only where both tell them."""
    every = list(dict.fromkeys([*one, *other]))
    silent = [not any(what.startswith(SETTING) for what in of) for of in (one, other)]
    if silent[0] == silent[1]:
        return every
    return [what for what in every if not what.startswith(SETTING)]


def _difference(what: str, a: Values, b: Values) -> Difference | None:
    if a.keys() == b.keys() or (what in DRAWN_ANEW and a.keys() & b.keys()):
        return None
    return Difference(what, _words(a), _words(b))


def _words(values: Values) -> str:
    shown = [printable(_short_hashes(value), LONGEST) for value in values][:MOST_VALUES]
    more = [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return ", ".join([*shown, *more]) or ABSENT


def _short_hashes(text: str) -> str:
    """Return the text with the first ten digits of each hash, a commit's say."""
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30,54}\b", r"\1", text)


def mixed(runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return the facts in which the runs of one side differ among themselves, with the values."""
    found = _facts(runs)
    return [(what, _words(values)) for what, values in found.items() if _is_mixed(what, values)]


def _is_mixed(what: str, values: Values) -> bool:
    return len(values) > 1 and (what in LASTING or what.startswith(SETTING))


# ---- the facts of runs ----


def _facts(runs: Sequence[RunSummary]) -> Facts:
    """Return the values that each fact has in these runs, in the order of the runs."""
    found: Facts = {}
    for run in runs:
        for what, value in _of_run(run):
            if value is not None and str(value) != "":
                found.setdefault(what, {})[str(value)] = None
    return found


def _of_run(run: RunSummary) -> Iterator[tuple[str, object]]:
    if run.info is None:
        return
    yield "label", run.setting("label")
    yield "server kind", "simulator" if run.simulated else "vLLM"
    for what, value in environment([run]):
        if what not in TOLD_ELSEWHERE:
            yield what, _text(value)
    settings = _without(run.server("settings"), TOLD_BESIDE)
    yield from _flat(SETTING, settings)
    yield from _flat("server cache ", _without(run.server("cache_config"), settings))
    yield "GPUs", _gpus(run)
    yield THROTTLED, run.gpu_side.throttled_by
    yield "client machine", run.info.client.get("machine")
    asked = _without(settings_that_count(run.info.scenario), TOLD_BY_SERVER)
    yield from _flat("scenario ", asked)


def _without(found: object, keys: Collection[str]) -> dict[str, object]:
    """Return a mapping without some of its keys; empty where it is none."""
    parts = found if isinstance(found, Mapping) else {}
    return {key: value for key, value in parts.items() if key not in keys}


def _flat(prefix: str, found: object) -> Iterator[tuple[str, str]]:
    """Yield settings with their names in full, what looks secret in them masked."""
    parts = masked_settings(found) if isinstance(found, Mapping) else {}
    for key, value in parts.items():
        name = f"{prefix}{printable(key, LONGEST)}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        elif value is not None and value != MASK:
            yield name, _text(value)


def _text(value: object) -> str:
    words = map(str, value) if isinstance(value, list) else str(value).split(" ")
    return " ".join(masked_words(words))


def _gpus(run: RunSummary) -> str | None:
    """Return `2 x NVIDIA A100`; None where none was sampled."""
    names = Counter(gpu.name or "unnamed" for gpu in run.gpu_side.gpus)
    return ", ".join(f"{many} x {name}" for name, many in sorted(names.items())) or None


# ---- what is measured, and so never quite equal ----


def _clocks(a: Sequence[RunSummary], b: Sequence[RunSummary]) -> Difference | None:
    one, other = (_mean([r.gpu_side.sm_clock_mean_mhz for r in side]) for side in (a, b))
    if one is None or other is None or abs(one - other) <= CLOCKS_APART * max(one, other):
        return None
    return Difference("GPU clock, mean", f"{one:.0f} MHz", f"{other:.0f} MHz")


def _hits(a: Sequence[RunSummary], b: Sequence[RunSummary]) -> Difference | None:
    one, other = (_mean([hit_rate(run) for run in side]) for side in (a, b))
    if one is None and other is None:
        return None
    if one is not None and other is not None and abs(one - other) <= HITS_APART:
        return None
    told = [UNKNOWN if of is None else f"{100 * of:.1f} %" for of in (one, other)]
    return Difference("prefix cache hits", *told)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
