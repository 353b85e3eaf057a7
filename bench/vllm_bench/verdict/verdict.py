"""Whether a run is worth believing: VALID, SUSPECT or INVALID, and why.

Reason codes: `codes.py`. Limits: `thresholds.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..figures.facts import Facts
from ..figures.in_flight import SEND_LAG_FLOOR_MS
from ..figures.statistics import min_samples
from ..records.run_info import RunInfo
from ..records.text import ABSENT, printable
from ..serverside.over_time import GPU_GAP_S
from . import client_checks, gpu_checks, load_checks, run_checks, server_checks
from . import finding as at
from . import server_checks as ledger_checks
from .finding import Finding, Severity

if TYPE_CHECKING:
    import pandas as pd


NEVER = ABSENT


@dataclass(frozen=True, slots=True)
class Check:
    """A reason code: what looks for it, and when it is how bad."""

    find: Callable[[Facts], Finding | None]
    suspect: str
    invalid: str
    why: str

    @property
    def code(self) -> str:
        """The code itself."""
        return self.find.__name__

    @property
    def meaning(self) -> str:
        """What it says about a run."""
        return (self.find.__doc__ or "").strip()


def _share(find: Callable[[Facts], Finding | None], limit: at.Limit, above: str = "") -> Check:
    """Return a check of a share, whose limits are percentages; `above`: and only then."""
    told = [NEVER if x is None else f"> {100 * x:g} %" for x in (limit.suspect, limit.invalid)]
    return Check(find, told[0] + above, told[1], limit.reason)


def _note(find: Callable[[Facts], Finding | None], why: str) -> Check:
    return Check(find, NEVER, NEVER, why)


CHECKS: tuple[Check, ...] = (
    Check(
        run_checks.no_run_info,
        "always",
        NEVER,
        "without settings, server and clocks most other checks can't be made",
    ),
    Check(
        run_checks.interrupted,
        "any request missing",
        "status failed, or no row at all",
        "what is missing is no random part: the requests cut off are the slow ones",
    ),
    _share(run_checks.errors, at.ERRORS),
    Check(
        run_checks.few_samples,
        "below the percentile's minimum",
        NEVER,
        "below it no 95 % interval for the percentile exists, so anything may be printed",
    ),
    Check(
        load_checks.window_short,
        f"none, < {at.MIN_WINDOW_S:g} s, or < {at.MIN_WINDOW_LATENCIES:g} times the median latency",
        NEVER,
        "fewer than three generations of requests never reach a steady state, and in less than "
        "10 s a hiccup of a second is a tenth of all there is",
    ),
    _share(load_checks.rate_shortfall, at.RATE_SHORTFALL),
    _share(load_checks.cap_bound, at.CAP_BOUND),
    _share(load_checks.not_stationary, at.NOT_STATIONARY),
    _share(load_checks.send_lag, at.SEND_LAG, f", and > {SEND_LAG_FLOOR_MS:g} ms"),
    Check(client_checks.worker_lost, NEVER, "any", "its requests are gone"),
    _share(
        client_checks.loop_lag,
        at.LOOP_LAG,
        f", and > {at.LOOP_LAG_FLOOR_MS:g} ms, over {min_samples(99)} ticks or more",
    ),
    _share(client_checks.client_cpu, at.CLIENT_CPU),
    Check(
        run_checks.clock_drift,
        f"> {at.CLOCK_DRIFT_MS.suspect:g} ms",
        f"> {at.CLOCK_DRIFT_MS.invalid:g} ms",
        at.CLOCK_DRIFT_MS.reason,
    ),
    _share(server_checks.length_mismatch, at.LENGTH_MISMATCH),
    Check(
        server_checks.multi_token_chunks,
        f"> {at.TOKENS_PER_CHUNK.suspect:g} tokens a chunk",
        NEVER,
        at.TOKENS_PER_CHUNK.reason,
    ),
    _share(ledger_checks.ledger_mismatch, at.LEDGER),
    _note(ledger_checks.ledger_unread, "a server without /metrics may still be measured rightly"),
    _share(ledger_checks.cache_hits, at.CACHE_HITS, " under `cache: cold`"),
    _note(ledger_checks.prompt_reuse, "whether it helped depends on the server's cache"),
    _note(ledger_checks.preemptions, "they are the server's answer to this load, and measured"),
    Check(
        gpu_checks.gpu_gap,
        f"> {GPU_GAP_S:g} s without readings",
        NEVER,
        "means, peaks and energy over a hole in the samples are made up; the requests are not",
    ),
    Check(
        gpu_checks.gpu_throttled,
        "any in the window",
        NEVER,
        "the same GPU in a cooler room, or under a higher limit, gives other figures",
    ),
    _note(run_checks.same_machine, "how much they take from each other can't be seen from here"),
)


def codes_table() -> str:
    """Return the codes as a Markdown table, as docs/METHOD.md has it."""
    head = "| code | meaning | SUSPECT | INVALID | why there |\n| --- | --- | --- | --- | --- |"
    rows = (f"| `{c.code}` | {c.meaning} | {c.suspect} | {c.invalid} | {c.why} |" for c in CHECKS)
    return "\n".join([head, *rows])


Level = Literal["VALID", "SUSPECT", "INVALID"]
LEVELS: dict[Severity, Level] = {
    Severity.NOTE: "VALID",
    Severity.SUSPECT: "SUSPECT",
    Severity.INVALID: "INVALID",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about a run, the gravest first."""

    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """VALID where nothing but notes was found."""
        return LEVELS[max((f.severity for f in self.findings), default=Severity.NOTE)]

    @property
    def doubts(self) -> tuple[Finding, ...]:
        """The findings that took VALID away."""
        return tuple(f for f in self.findings if f.severity > Severity.NOTE)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that are only worth knowing."""
        return tuple(f for f in self.findings if f.severity == Severity.NOTE)

    @property
    def reasons(self) -> str:
        """The codes of the doubts, in words for a cell: `errors, window_short`."""
        return ", ".join(f.code for f in self.doubts)


def judge(frame: pd.DataFrame, info: RunInfo | None) -> Verdict:
    """Return the verdict on a run's rows and what is known of it."""
    return judge_facts(Facts(frame, info))


def judge_facts(facts: Facts) -> Verdict:
    """Return the verdict on facts that somebody else needs too."""
    found = [finding for check in CHECKS if (finding := check.find(facts)) is not None]
    return Verdict(tuple(sorted(found, key=lambda f: -f.severity)))


def headline(verdict: Verdict) -> str:
    """Return the verdict in a line: `SUSPECT (window_short)`."""
    return verdict.level + (f" ({verdict.reasons})" if verdict.doubts else "")


def finding_text(finding: Finding) -> str:
    """Return a finding as one plain line."""
    return printable(
        f"{finding.severity.name} {finding.code}: {finding.figures} → {finding.advice}", 800
    )
