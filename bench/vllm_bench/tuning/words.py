"""What tune.py says before and after, and the files that it leaves."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..charts.capacity.pareto import configurations_chart
from ..charts.chart import Heading
from ..figures.digits import counted
from ..records.safe_file import write_atomically
from ..records.text import printable
from ..scenario.load import levels_of
from .answer import Answer
from .best_env import best_env, setting_words
from .configurations import CHOSEN, Configuration
from .course import FEW, Course, Tune, time_for
from .ranking import Placed
from .tables import table, to_csv, to_markdown
from .trials import Tried

STAND_IN = "These servers were the simulator: no GPU, no model. "


def plan_lines(course: Course, base: Mapping[str, str]) -> Iterator[str]:
    """Yield what will be done, and how long it takes."""
    many = len(course.configurations)
    load = ", ".join(level.words for level in levels_of(course.scenario))
    if course.wanted is not None:
        load += f"; at most {course.wanted.minutes:g} min of search each"
    yield f"{counted(many, 'configuration')} for {course.aim}, with {course.scenario.name}: {load}"
    width = max(len(printable(one.name)) for one in course.configurations)
    for one in course.configurations:
        settings = setting_words(one.settings) or "as the base"
        yield f"  {printable(one.name):{width}}  {printable(settings)}"
    if base:
        yield f"  base: {printable(setting_words(base), 500)}"
    steps = course.to_come()
    turns, full = (sum(step.stage == stage for step in steps) for stage in ("again", "full"))
    screened = f"{many} screened for {course.screen_s:g} s, " if course.screened else ""
    yield f"{screened}{full} in full, {turns} starts of the two best by turns"
    guess = time_for(course, steps, (), base)
    beside = "a guess of each start's time until one is seen"
    yield f"{guess.words}, with {beside}: {len(steps)} starts"


def keep_csv(folder: Path, tried: Sequence[Tried]) -> None:
    """Write tune.csv. Raises OSError."""
    write_atomically(folder / "tune.csv", to_csv(tried))


def ended(tune: Tune, found: Sequence[Placed], answer: Answer | None) -> Iterator[str]:
    """Write what came out, and yield it for people. Raises OSError."""
    course, base, folder = tune.course, tune.starts.base, tune.starts.folder
    tried, words = tune.all_tried(), in_words(found, answer)
    keep_csv(folder, tried)
    shown = [*(one.tried for one in found), *_not_in_full(found, tried)]
    simulated = any(run.simulated for one in shown for run in one.runs)
    title = f"{counted(len(course.configurations), 'configuration')} for {course.aim}"
    page = to_markdown(title, words, shown, simulated)
    write_atomically(folder / "tune.md", page.encode(errors="backslashreplace"))
    yield from aligned(table(shown))
    yield ""
    if simulated:
        yield STAND_IN.strip()
    yield words
    best = _best(course, found, answer)
    if best is not None:
        started = best.started_with(base)
        values = {name: value for name, value in started.items() if name not in CHOSEN}
        write_atomically(folder / "best.env", best_env(values, words).encode())
        yield f"Start with it: cat {shlex.quote(str(folder / 'best.env'))} >> .env; make server"
    drawn = _draw(folder / "pareto.png", (title, STAND_IN * simulated + words), shown)
    names = ("tune.csv", "tune.md", *["pareto.png"] * drawn, *["best.env"] * bool(best))
    yield f"Wrote to {folder}: {', '.join(names)}; {tune.took}"


def in_words(found: Sequence[Placed], answer: Answer | None) -> str:
    """Return the answer as a sentence or two."""
    scored = [one for one in found if one.score is not None]
    if not scored:
        return "nothing could be judged: " + "; ".join(f"{one.name}: {one.why}" for one in found)
    missed = " Each configuration missed the objectives." if _all_missed(scored) else ""
    if answer is not None:
        return f"{answer.words}.{_searched(scored)}{missed}"
    first = scored[0]
    assert first.score is not None
    if len(scored) < FEW:
        return f"only {first.name} has a figure: {first.score.words}.{missed}"
    return (
        f"{first.name} came first, measured once: {first.score.words}. Without turns of the two "
        f"best (--pairs) that may be chance.{missed}"
    )


def _searched(scored: Sequence[Placed]) -> str:
    """Return what the searches of the two best found; nothing where they weren't searched."""
    highest = [(one.name, one.tried.trial.capacity) for one in scored[:FEW]]
    found = [
        f"{name} {most.value:.4g} {most.unit}" for name, most in highest if most and most.value
    ]
    return f" The searches found: {', '.join(found)}." if found else ""


def exit_code(found: Sequence[Placed], answer: Answer | None) -> int:
    """Return 0; 1 where no server started, 3 where all missed, 4 where nothing could be judged."""
    scored = [one for one in found if one.score is not None]
    if not scored:
        up = [one.tried.trial for one in found if one.tried.trial.ready_s is not None]
        below = [trial for trial in up if trial.capacity and trial.capacity.below]
        return 1 if not up else 3 if len(below) == len(up) else 4
    if _all_missed(scored):
        return 3
    return 4 if answer is not None and answer.outcome == "nothing" else 0


def _all_missed(scored: Sequence[Placed]) -> bool:
    return all(one.score is not None and one.score.missed for one in scored)


def _not_in_full(found: Sequence[Placed], tried: Sequence[Tried]) -> list[Tried]:
    """Return the configurations that were only screened, in the order of their scores."""
    there = {one.tried.trial.label for one in found}
    return [one for one in tried if one.trial.stage == "screen" and one.trial.label not in there]


def _draw(path: Path, heading: tuple[str, str], shown: Sequence[Tried]) -> bool:
    """Draw tokens/s of a GPU against those of a user; False: no one has both. Raises OSError."""
    from ..charts.pen_matplotlib import draw, save

    chart = configurations_chart({one.trial.configuration: one.runs for one in shown})
    if chart is None:
        return False
    title, words = heading
    save(draw(chart, Heading(title, words, "")), path)
    return True


def _best(course: Course, found: Sequence[Placed], answer: Answer | None) -> Configuration | None:
    """Return the one to start with; None: no one has a figure."""
    scored = [one for one in found if one.score is not None]
    if not scored:
        return None
    wanted = answer.best if answer else scored[0].name
    return next(one for one in course.configurations if one.name == wanted)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table's lines for a terminal; its first row is the headings."""
    cells = [[printable(cell, 60) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for place, row in enumerate(cells):
        padded = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()
        if place == 0:
            yield "  ".join("-" * width for width in widths)
