"""The data sets that come from the Hugging Face hub: where from, whose licence, which rows.

Each `…_prompt` function starts with one row as the hub has it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .prompt import Prompt, PromptError, PromptSource, user_prompt, without_repeats
from .rows import RowError, first_human_turn, root_human_prompt

Row = Mapping[str, Any]

CITATION_MARK = re.compile(r"\[\d+\]")  # Dolly's contexts are cut from Wikipedia, footnotes too


def dolly_prompt(row: Row) -> str | None:
    """Return the instruction, and the text that it is about where there is one.

    {"instruction": "When did Virgin Australia start operating?",
     "context": "Virgin Australia … commenced services on 31 August 2000 …[3]",
     "response": "…", "category": "closed_qa"}
    """
    context = CITATION_MARK.sub("", row["context"] or "")
    return _joined(row["instruction"], context)


def alpaca_prompt(row: Row) -> str | None:
    """Return the instruction, and its input where there is one.

    {"instruction": "Identify the odd one out.", "input": "Twitter, Instagram, Telegram",
     "output": "Telegram", "text": "Below is an instruction …"}
    """
    return _joined(row["instruction"], row["input"])


def openassistant_prompt(row: Row) -> str | None:
    """Return the text that a person began an English conversation with, else None.

    {"message_id": "6ab24d72-…", "parent_id": None, "role": "prompter", "lang": "en",
     "text": "Can you write a short introduction …", "deleted": False, "synthetic": False, …}
    """
    return root_human_prompt(row) if row["lang"] == "en" else None


def sharegpt_v3_prompt(row: Row) -> str | None:
    """Return the first thing that the person said, else None.

    {"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "Summarize the main ideas
     of …"}, {"from": "gpt", "value": "Here are some …"}]}
    """
    try:
        return first_human_turn(row)
    except RowError:
        return None  # one odd conversation in ninety thousand is no reason to have none


def _joined(instruction: str | None, about: str | None) -> str:
    parts = ((instruction or "").strip(), (about or "").strip())
    return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class HubSet:
    """One data set on the hub."""

    name: str
    repo: str
    licence: str
    split: str
    columns: tuple[str, ...]  # all that `prompt_of` reads; the rest isn't decoded
    prompt_of: Callable[[Row], str | None]  # None: a row without a human prompt
    data_file: str | None = None  # the file to read where the repository holds several
    warning: str | None = None  # what a person must know before using it

    @property
    def url(self) -> str:
        """The data set's page."""
        return f"https://huggingface.co/datasets/{self.repo}"


_ALL = (
    HubSet(
        name="dolly",
        repo="databricks/databricks-dolly-15k",
        licence="CC BY-SA 3.0",
        split="train",
        columns=("instruction", "context"),
        prompt_of=dolly_prompt,
    ),
    HubSet(
        name="alpaca",
        repo="tatsu-lab/alpaca",
        licence="CC BY-NC 4.0 (non-commercial)",
        split="train",
        columns=("instruction", "input"),
        prompt_of=alpaca_prompt,
        warning="Alpaca is CC BY-NC 4.0: not for commercial use; a model wrote its instructions",
    ),
    HubSet(
        name="openassistant",
        repo="OpenAssistant/oasst1",
        licence="Apache-2.0",
        split="train+validation",
        columns=("parent_id", "text", "role", "lang", "deleted", "synthetic"),
        prompt_of=openassistant_prompt,
    ),
    HubSet(
        name="sharegpt-v3",
        repo="anon8231489123/ShareGPT_Vicuna_unfiltered",
        licence="unclear: read its page before use",
        split="train",
        columns=("conversations",),
        prompt_of=sharegpt_v3_prompt,
        data_file="ShareGPT_V3_unfiltered_cleaned_split.json",
        warning="ShareGPT holds what strangers typed: expect personal data, and an unclear licence",
    ),
)

ALIASES = {"sharegpt": "alpaca"}  # the seed's name for the Alpaca instructions
HUB_SETS: dict[str, HubSet] = {s.name: s for s in _ALL}
HUB_SETS.update({alias: HUB_SETS[name] for alias, name in ALIASES.items()})


# One request tells whether the hub answers. Without it, `datasets` tries six times and more
# before it gives up, which takes minutes where packets are dropped.
PROBE_TIMEOUT_S = 10.0
OUR_DISK = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A data set fresh from the hub."""

    source: PromptSource
    revision: str | None  # the commit that it was read at; None: the hub wasn't asked
    row_count: int


def fetch(hub_set: HubSet, token: str | None) -> Fetched:
    """Download the set and take its prompts. Raises PromptError; never returns another set."""
    revision = _resolve_revision(hub_set, token)
    try:
        rows = _load(hub_set, token, revision)
    except Exception as e:  # whatever the library, the network or the disk comes up with
        raise PromptError(_explain(hub_set, e, token)) from e
    missing = [c for c in hub_set.columns if c not in rows.column_names]
    if missing:
        raise PromptError(
            f"{hub_set.name}: {hub_set.url} has no column {', '.join(missing)} any more"
            f" (it has {', '.join(rows.column_names)})"
        )
    texts = [hub_set.prompt_of(row) for row in rows.select_columns(list(hub_set.columns))]
    source = without_repeats(
        hub_set.name, _numbered(hub_set.name, texts), skipped=texts.count(None)
    )
    return Fetched(source, revision, len(texts))


def _numbered(name: str, texts: list[str | None]) -> Iterator[Prompt]:
    for row_number, text in enumerate(texts):
        if text is not None:
            yield user_prompt(f"{name}:{row_number}", text)


def _resolve_revision(hub_set: HubSet, token: str | None) -> str | None:
    """Return the commit that the hub has now; None in the hub library's own offline mode."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = HfApi(token=token).dataset_info(hub_set.repo, timeout=PROBE_TIMEOUT_S)
    except OfflineModeIsEnabled:
        return None  # HF_HUB_OFFLINE=1: the library's own cache may still have the set
    except Exception as e:  # httpx, requests or the hub's own, by the library's version
        raise PromptError(_explain(hub_set, e, token)) from e
    return info.sha


def _load(hub_set: HubSet, token: str | None, revision: str | None) -> Any:
    """Return the set's rows, without the bars and warnings that the libraries print."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return datasets.load_dataset(
        hub_set.repo,
        data_files=hub_set.data_file,
        split=hub_set.split,
        revision=revision,
        token=token,
    )


def _explain(hub_set: HubSet, error: Exception, token: str | None) -> str:
    what = f"{hub_set.name} ({hub_set.repo})"
    reason = _reason(error, token)
    if isinstance(error, OSError) and error.errno in OUR_DISK:
        return f"{what}: can't be stored: {reason}"
    if _status(error) in (401, 403):
        told = "was refused" if token else "is not set"
        return (
            f"{what}: the hub denies access and HF_TOKEN {told}: put a valid token with read"
            f" access into .env, and accept the terms at {hub_set.url} if it has any"
        )
    return (
        f"{what}: not fetched from the hub: {reason}: use the dataset sample (bundled) or"
        " file:PATH (your own prompts)"
    )


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status behind the error, which may be wrapped several times."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__ or error.__context__
    return None


def _reason(error: Exception, token: str | None) -> str:
    line = " ".join(str(error).split())[:200] or type(error).__name__
    return line.replace(token, "***") if token else line
