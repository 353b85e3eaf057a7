"""Doubts about the machines: GPUs not sampled or throttled, client and server on one machine."""

from __future__ import annotations

from typing import Any

from ..figures.absent import observed, why_no_rows
from ..figures.facts import Facts
from ..figures.machines.machine import machines_of
from ..records.text import listed
from ..serverside.gpu import reasons_slowed
from ..serverside.over_time import GPU_GAP_S, between
from .finding import Doubt, check

ENDINGS = ("command", "reading_failed", "stuck", "exporter", "not_written")  # of a sampler


@check("what was asked for is missing; requests aren't affected", suspect="any", about=("GPUs",))
def not_sampled(facts: Facts) -> Doubt | None:
    """GPUs were to be sampled, and there is no reading of any."""
    rows = facts.gpu_rows
    if not facts.setting("telemetry") or (rows is not None and len(rows)):
        return None
    why = observed(facts.info, "gpu").problem() or why_no_rows(facts.info, "gpu", "GPUs")
    return Doubt(
        f"telemetry was asked for, and no GPU was read: {why}",
        "there are no GPU figures and no energy of this run: remove the cause, or leave "
        "--telemetry out",
    )


@check(
    "means, peaks and energy over a gap in the samples are invented; requests aren't affected",
    suspect=f"> {GPU_GAP_S:g} s without readings",
    about=("GPUs",),
)
def gpu_gap(facts: Facts) -> Doubt | None:
    """A GPU wasn't read for a while, so a part is missing in means, peaks and energy."""
    sampler = observed(facts.info, "gpu")
    gaps = [gap for gap in sampler.parts("gaps") if _is_long(gap)]
    if not gaps:
        return None
    gpus = sorted({str(gap.get("gpu_index")) for gap in gaps})
    codes = sorted({str(gap.get("code")) for gap in gaps})
    why = sampler.problem(*ENDINGS)
    return Doubt(
        f"no readings for over {GPU_GAP_S:g} s of GPU {', '.join(gpus)} ({', '.join(codes)})"
        + (f": {why}" if why else ""),
        "don't use GPU figures and energy of this run; look into the driver's log (dmesg, Xid) "
        "where a GPU was lost",
    )


def _is_long(gap: dict[str, Any]) -> bool:
    begin, end = gap.get("from_s"), gap.get("to_s")
    # Without one of them it never came, or never came back.
    return begin is None or end is None or end - begin > GPU_GAP_S


@check(
    "the same GPU in a cooler room, or under a higher limit, gives other figures",
    suspect="any in the window",
)
def gpu_throttled(facts: Facts) -> Doubt | None:
    """A GPU's clocks were throttled inside the window."""
    rows = facts.gpu_rows
    if rows is None or facts.window is None:
        return None
    inside = between(rows, facts.window)
    slowed = [
        f"GPU {index} by {', '.join(f'{r} in {n}' for r, n in reasons.items())} of {len(own)} "
        "readings"
        for index, own in inside.by("gpu_index")
        if (reasons := reasons_slowed(own["throttle_reasons"]))
    ]
    if not slowed:
        return None
    return Doubt(
        f"clocks were throttled: {'; '.join(slowed)}",
        "look at temperature and power limit (nvidia-smi -q -d PERFORMANCE); the figures are only "
        "true for this cooling and this limit",
    )


@check("how much they slow each other can't be measured from here")
def same_machine(facts: Facts) -> Doubt | None:
    """Client and server ran on one machine."""
    who = _beside_the_server(facts)
    if who is None:
        return None
    return Doubt(
        f"{who} and server ran on one machine (or through a tunnel that looks like it)",
        "they compete for cores; for figures to publish, send from another machine",
    )


def _beside_the_server(facts: Facts) -> str | None:
    """Return who of the client's side was on the server's machine; None: nobody, or not known."""
    machines = machines_of(facts.info)
    here = [machine.shown for machine in machines if machine.server_here]
    if here:
        return f"{len(here)} of {len(machines)} machines that sent ({listed(here)})"
    if not facts.server("on_client_machine"):
        return None
    return "the head, which reads what came," if machines else "client"
