"""The data sets that a scenario may name. A new one needs an entry here and in REAL_PROMPTS.md.

Above each entry is one row of the set, as the hub has it. prompts/hub.py fetches the sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# Kinds of rows: texts in columns that are joined; a message of an OpenAssistant tree; a ShareGPT
# conversation. Rows of the last two kinds are left out unless they begin with a person's prompt.
Shape = Literal["texts", "tree message", "conversation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSet:
    """One data set on the Hugging Face hub."""

    name: str
    repo: str
    licence: str
    columns: tuple[str, ...]  # the columns that are read; others aren't decoded
    shape: Shape = "texts"
    only: Mapping[str, str] = field(default_factory=dict)  # only rows with these values
    noise: Mapping[str, str] = field(default_factory=dict)  # by column, a pattern to remove
    split: str = "train"
    data_file: str | None = None  # the file to read if the repository has several
    config: str | None = None  # which of the repository's sets, if it has several
    warning: str | None = None  # what people must know before they use it

    @property
    def url(self) -> str:
        return f"https://huggingface.co/datasets/{self.repo}"


_ALL = (
    # {"instruction": "When did Virgin Australia start operating?",
    #  "context": "Virgin Australia … commenced services on 31 August 2000 …[3]",
    #  "response": "…", "category": "closed_qa"}
    HubSet(
        name="dolly",
        repo="databricks/databricks-dolly-15k",
        licence="CC BY-SA 3.0",
        columns=("instruction", "context"),
        noise={"context": r"\[\d+\]"},  # copied from Wikipedia, with footnote marks
    ),
    # {"instruction": "Identify the odd one out.", "input": "Twitter, Instagram, Telegram",
    #  "output": "Telegram", "text": "Below is an instruction …"}
    HubSet(
        name="alpaca",
        repo="tatsu-lab/alpaca",
        licence="CC BY-NC 4.0 (non-commercial)",
        columns=("instruction", "input"),
        warning="Alpaca is CC BY-NC 4.0: not for commercial use; a model wrote its instructions",
    ),
    # {"message_id": "6ab24d72-…", "parent_id": None, "role": "prompter", "lang": "en",
    #  "text": "Can you write a short introduction …", "deleted": False, "synthetic": False, …}
    HubSet(
        name="openassistant",
        repo="OpenAssistant/oasst1",
        licence="Apache-2.0",
        columns=("parent_id", "text", "role", "lang", "deleted", "synthetic"),
        shape="tree message",
        only={"lang": "en"},
        split="train+validation",
    ),
    # {"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "Summarize the main ideas
    #  of …"}, {"from": "gpt", "value": "Here are some …"}]}
    HubSet(
        name="sharegpt-v3",
        repo="anon8231489123/ShareGPT_Vicuna_unfiltered",
        licence="unclear: read its page before use",
        columns=("conversations",),
        shape="conversation",
        data_file="ShareGPT_V3_unfiltered_cleaned_split.json",
        warning="ShareGPT is what unknown people typed: expect personal data, an unclear licence",
    ),
)

# {"question": "A robe takes 2 bolts of blue fiber and half …", "answer": "It takes … #### 3"}
# Questions with answers, for `quality`: its answers must not be sent, so it is no data set.
GSM8K = HubSet(
    name="gsm8k",
    repo="openai/gsm8k",
    licence="MIT",
    columns=("question", "answer"),
    config="main",
    split="test",
)

ALIASES = {"sharegpt": "alpaca"}  # the seed's name for the Alpaca instructions
HUB_SETS: dict[str, HubSet] = {s.name: s for s in _ALL}
HUB_SETS.update({alias: HUB_SETS[name] for alias, name in ALIASES.items()})
SAMPLE = "sample"  # bundled: needs no hub
DATASETS = (*HUB_SETS, SAMPLE)


def own_file(name: str) -> Path | None:
    """Return the file of a set that is the user's own, file:PATH."""
    path = name.removeprefix("file:")
    return Path(path) if path and path != name else None
