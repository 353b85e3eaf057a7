"""Both servers, checked before one is started: what would else show after minutes of measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import UsageError
from ..launch.env import Settings, read_env
from ..launch.refused import missing_program, refused
from ..records.text import printable
from ..run.prepare import api_key_of, plans_for
from ..scenario.mistakes import short_word, usable_url
from ..scenario.scenario import Scenario
from .servers import SideServer, Standing, Started
from .visits import Side, thrown_away

Pair = Mapping[Side, SideServer]
Labels = tuple[str | None, str | None]  # as given; None: by the file, or the address


def started_pair(
    files: tuple[Path, Path], given: Labels, environ: Mapping[str, str], *, keep_model: bool
) -> Pair:
    """Return two servers by their env files, each as the launcher would take it.

    Raises EnvFileError, UsageError.
    """
    settings = [read_env(path, environ) for path in files]
    labels = _labels(
        given, [one.name for one in settings], [path.resolve().parent.name for path in files]
    )
    for one in settings:
        refuse_what_cannot_start(one)
    a, b = (Started(lb, one, keep_model) for lb, one in zip(labels, settings, strict=True))
    return {"a": a, "b": b}


def standing_pair(urls: tuple[str, str], given: Labels) -> Pair:
    """Return two servers by their addresses. Raises UsageError."""
    for flag, url in zip(("--base-url-a", "--base-url-b"), urls, strict=True):
        try:
            usable_url(url)
        except ValueError as e:
            raise UsageError(f"{flag} {printable(url, 100)}: {e}") from e
    if urls[0].rstrip("/") == urls[1].rstrip("/"):
        raise UsageError(f"--base-url-a, --base-url-b: both are {urls[0]}, one server")
    places = [urlsplit(url).netloc.replace(":", "-") for url in urls]
    a, b = (Standing(lb, url) for lb, url in zip(_labels(given, places, places), urls, strict=True))
    return {"a": a, "b": b}


def _labels(given: Labels, names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Return a label for each side: as given, else by its name, with its folder or A or B.

    Raises UsageError.
    """
    by_folder = [f"{folder}-{name}" for folder, name in zip(folders, names, strict=True)]
    by_side = [f"{name}-{side}" for name, side in zip(names, "ab", strict=True)]
    tried = [
        [one or other for one, other in zip(given, others, strict=True)]
        for others in (names, by_folder, by_side)
    ]
    found = next((two for two in tried if not _problem(two)), tried[0])
    if problem := _problem(found):
        raise UsageError(problem)
    return found


def _problem(labels: Sequence[str]) -> str | None:
    """Return why two labels can't be; None: they can."""
    for flag, label in zip(("--label-a", "--label-b"), labels, strict=True):
        try:
            short_word(label)
        except ValueError as e:
            return f"{flag} {printable(label, 60)}: {e}"
    if labels[0] == labels[1]:
        return f"--label-a, --label-b: both are {labels[0]}: they must differ"
    return None


def refuse_what_cannot_start(settings: Settings) -> None:
    """Let the launcher look at the settings, and look for the program. Raises UsageError."""
    if why := refused(settings):
        raise UsageError(f"{settings.path}: {why}")
    if program := missing_program(settings.environ):
        raise UsageError(
            f"{settings.path}: there is no program {program}: pip install vllm, or set VLLM_COMMAND"
        )


def refuse_questions(scenario: Scenario) -> None:
    """Refuse a scenario of questions: each run would need its own pass alone. Raises UsageError."""
    if scenario.quality is not None:
        raise UsageError(
            f"scenario {scenario.name}: quality goes with bench.py alone: leave it out here, and "
            "ask the questions of each server with bench.py"
        )


def check_pair(pair: Pair, scenario: Scenario, environ: Mapping[str, str]) -> None:
    """Refuse what would show only after a server's start. Raises UsageError, BenchError."""
    refuse_questions(scenario)
    models = [server.scenario(scenario).model for server in pair.values()]
    if models[0] != models[1]:
        shown = " and ".join(printable(model, 100) for model in models)
        raise UsageError(
            f"A and B serve other models, {shown}, and requests name their model: give both one "
            "name, EXTRA_ARGS=--served-model-name NAME in both env files"
        )
    for server in pair.values():
        ours = server.scenario(scenario)
        where = server.environ(environ)
        api_key_of(ours, where)
        plans_for(thrown_away(ours), None, where)


def equal_settings(pair: Pair) -> bool:
    """Whether both are asked the same, so that chance alone can tell them apart."""
    return pair["a"].asked.sha256 == pair["b"].asked.sha256
