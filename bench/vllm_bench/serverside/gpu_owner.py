"""Whether the GPUs that were sampled are those that the server ran on."""

from __future__ import annotations

from ..figures.facts import Facts
from ..figures.observed import observed
from .gpu import GpuSide, expected_gpus

GIVE_GPUS = "name the server's with telemetry_gpus"


def not_the_servers(facts: Facts, gpus: GpuSide) -> list[str]:
    """Return what says that they aren't, or not they alone; nothing where nothing does."""
    noted = observed(facts.info, "gpu")
    asked, sampled = facts.setting("gpus"), len(expected_gpus(facts))
    busy = [gpu.utilization_peak_percent for gpu in gpus.gpus]
    against = {
        "the run's JSON doesn't say whose GPUs were sampled": facts.gpu_rows is not None
        and not noted.sampled,
        "the server is a simulator, and has no GPU": bool(
            facts.info and facts.info.server.get("simulator")
        ),
        f"the scenario's key gpus is {asked}, and GPUs sampled are {sampled}: {GIVE_GPUS}": (
            isinstance(asked, int) and asked != sampled
        ),
        "no GPU that was sampled did any work, so the server ran on others": bool(busy)
        and all(share == 0 for share in busy),
    }
    split = noted.problem("mig")
    return [*(words for words, holds in against.items() if holds), *([split] if split else [])]
