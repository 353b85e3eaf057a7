"""The data sets that come from the Hugging Face hub: where from, whose licence, which rows.

Each `…_prompt` function starts with one row as the hub has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
