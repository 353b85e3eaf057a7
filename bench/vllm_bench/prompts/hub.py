"""Data sets of the Hugging Face hub: their rows, fetched, as prompts."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..scenario.datasets import HubSet
from .own.rows import NOBODY, RowError, first_human_turn, root_human_prompt
from .prompt import PromptError, PromptSource, user_prompt, without_repeats

# One request shows whether the hub answers. Without it, `datasets` tries at least six times
# before it gives up, which takes minutes where packets are dropped.
PROBE_TIMEOUT_S = 10.0
NO_NAMES = re.compile("Name or service not known|name resolution|nodename nor servname")
OUR_DISK = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A data set fresh from the hub."""

    source: PromptSource
    revision: str | None  # the commit that it was read at; None: the hub wasn't asked
    row_count: int


def fetch(hub_set: HubSet, token: str | None) -> Fetched:
    """Download the set and take its prompts. Raises PromptError; never returns another set."""
    rows, revision = fetch_rows(hub_set, token)
    texts = [_prompt_text(hub_set, row) for row in rows]
    prompts = [
        user_prompt(f"{hub_set.name}:{row_number}", text)
        for row_number, text in enumerate(texts)
        if text is not None
    ]
    source = without_repeats(hub_set.name, prompts, {NOBODY: texts.count(None)})
    return Fetched(source, revision, len(texts))


def fetch_rows(hub_set: HubSet, token: str | None) -> tuple[Any, str | None]:
    """Download the set; return its rows, each with the set's columns, and its revision.

    Raises PromptError.
    """
    revision = _resolve_revision(hub_set, token)
    try:
        rows = _load(hub_set, token, revision)
    except Exception as e:  # any error of the library, the network or the disk
        raise PromptError(_explain(hub_set, e, token)) from e
    missing = [c for c in hub_set.columns if c not in rows.column_names]
    if missing:
        raise PromptError(
            f"{hub_set.name}: {hub_set.url} has no column {', '.join(missing)} any more"
            f" (it has {', '.join(rows.column_names)})"
        )
    return rows.select_columns(list(hub_set.columns)), revision


def _prompt_text(hub_set: HubSet, row: Mapping[str, Any]) -> str | None:
    """Return the prompt in a row of the set; None: a person wrote no prompt in it."""
    if any(row[column] != value for column, value in hub_set.only.items()):
        return None
    if hub_set.shape == "tree message":
        return root_human_prompt(row)
    if hub_set.shape == "conversation":
        try:
            return first_human_turn(row)
        except RowError:
            return None  # a few odd conversations in ninety thousand don't make the set unusable
    noise = hub_set.noise
    parts = (re.sub(noise.get(c, "(?!)"), "", row[c] or "").strip() for c in hub_set.columns)
    return "\n\n".join(part for part in parts if part)


def _resolve_revision(hub_set: HubSet, token: str | None) -> str | None:
    """Return the commit that the hub has now; None in the offline mode of the hub's library."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = HfApi(token=token).dataset_info(hub_set.repo, timeout=PROBE_TIMEOUT_S)
    except OfflineModeIsEnabled:
        return None  # HF_HUB_OFFLINE=1: the library's cache may still have the set
    except Exception as e:  # of httpx, requests or the hub's library, depending on its version
        raise PromptError(_explain(hub_set, e, token)) from e
    return info.sha


def _load(hub_set: HubSet, token: str | None, revision: str | None) -> Any:
    """Return the set's rows; the libraries' progress bars and warnings are switched off."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return datasets.load_dataset(
        hub_set.repo,
        name=hub_set.config,
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
    if NO_NAMES.search(line):
        return "the name of its host can't be looked up: is there a network?"
    return line.replace(token, "***") if token else line
