"""Questions with answers: the bundled tasks, GSM8K from the hub (once), or a file.

A file has a question a line: `{"question": "…", "answer": "…"}`. An answer ends with `#### 18`, as
GSM8K's do, or is the answer itself, a number or a text. GSM8K is kept as such a file,
`<cache>/questions/gsm8k.jsonl`: where no hub can be reached, put its `test.jsonl` there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from ..prompts.hub import fetch_rows
from ..prompts.prompt import Prompt, PromptError, PromptSource, user_prompt, without_repeats
from ..records.safe_file import read_regular, write_atomically
from ..records.text import printable
from ..scenario.datasets import GSM8K, own_file
from .arithmetic import tasks
from .score import number_of

MOST_BYTES = 1 << 28
MOST_ANSWER = 1000  # characters: no text longer than that can be compared to the letter
ASKS_FOR = "End with a line `#### <{}>`."  # as InferenceX asks
MARK = "####"


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The questions as prompts, and the answer of each, by the prompt's id."""

    source: PromptSource
    answers: Mapping[str, str]


def read_questions(name: str, *, cache_dir: Path, hf_token: str | None = None) -> QuestionSet:
    """Return a set by its name: arithmetic, gsm8k or file:PATH. Raises PromptError."""
    if name == "arithmetic":
        return _as_set(name, ((text, str(answer)) for text, answer in tasks()))
    if own := own_file(name):
        return _as_set(name, _rows_in(own.expanduser()))
    kept = cache_dir / "questions" / f"{GSM8K.name}.jsonl"
    if not kept.exists():
        _fetch(kept, hf_token)
    return _as_set(name, _rows_in(kept))


def _as_set(name: str, rows: Iterator[tuple[str, str]]) -> QuestionSet:
    prompts, answers = list[Prompt](), dict[str, str]()
    short = name.rpartition("/")[2].removeprefix("file:")
    for number, (question, answer) in enumerate(rows):
        prompt = user_prompt(f"{short}:{number}", f"{question.strip()}\n{_asked(answer)}")
        prompts.append(prompt)
        answers[prompt.id] = answer
    return QuestionSet(without_repeats(name, prompts), answers)


def _asked(answer: str) -> str:
    """Return what a prompt says on how to end."""
    return ASKS_FOR.format("answer" if number_of(answer) is None else "number")


def _rows_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the questions and answers of a file. Raises PromptError."""
    try:
        lines = read_regular(path, MOST_BYTES).splitlines()
    except OSError as e:
        raise PromptError(f"{printable(path)}: can't be read: {e.strerror}") from e
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _row(orjson.loads(line))
        except (ValueError, TypeError, KeyError) as e:
            raise PromptError(
                f"{printable(path)}: line {number}: {_why(e)}: a line is "
                '{"question": "…", "answer": "…"}'
            ) from e


def _why(error: Exception) -> str:
    if isinstance(error, orjson.JSONDecodeError):
        return "not JSON"
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _row(row: object) -> tuple[str, str]:
    """Return question and answer. Raises KeyError, TypeError, ValueError."""
    if not isinstance(row, dict):
        raise TypeError("not an object")
    question, answer = row["question"], row["answer"]
    if not isinstance(question, str) or not question.strip():
        raise ValueError("question isn't a text")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise TypeError("answer is neither a text nor a number")
    wanted = str(answer).rpartition(MARK)[2].strip()
    if not wanted or len(wanted) > MOST_ANSWER:
        raise ValueError(f"answer has {'no' if not wanted else f'over {MOST_ANSWER}'} characters")
    return question, wanted


def _fetch(path: Path, token: str | None) -> None:
    """Fetch GSM8K and keep it. Raises PromptError."""
    try:
        rows, _ = fetch_rows(GSM8K, token or None)
    except PromptError as e:
        raise PromptError(f"{e}; or put its test.jsonl there yourself: {path}") from e
    lines = [orjson.dumps({key: row[key] for key in GSM8K.columns}) + b"\n" for row in rows]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"".join(lines))
    except OSError as e:
        raise PromptError(f"{path}: can't be written: {e.strerror}") from e
