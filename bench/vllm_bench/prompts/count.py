"""How many tokens a prompt has: by the server, else by a local tokenizer, else estimated.

Only the server knows the chat template and the system prompt that it puts around a prompt,
so only its count is the length that a run sends; each counter says what its counts are worth.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import BenchError
from .prompt import CountedBy, Prompt, PromptError, user_prompt

Tokenize = Callable[[Prompt], "int | None"]  # asks a server; None: it refuses the prompt

SERVER_CALLS_AT_ONCE = 8
MODEL_ALIASES = {"gpt-oss-20": "openai/gpt-oss-20b"}  # as the server's launcher has it
# Of 178 English prompts of 20 tokens or more, with the o200k vocabulary: the sum of the guesses
# is right within 5 %, nine in ten are off by less than 30 %. Code has more tokens than this.
BYTES_PER_TOKEN = 4.5

# Scripts, digits, code and an emoji: two tokenizers that agree on this agree on much.
PROBE = user_prompt(
    "probe",
    "The 1,024 zebras' café — наука, 数据, データ 🙂: for (int i = 0; i < n; ++i) x[i] += 3.14;",
)


class TokenCounter(Protocol):
    """Something that counts the tokens of prompts."""

    @property
    def method(self) -> CountedBy: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of these counts."""

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        """Return tokens of each prompt; None: the server refuses it, too long for one."""


class CannotCount(Exception):  # noqa: N818 - not an error: the next counter takes over
    """This counter doesn't work here; the text says why."""


class ServerCounter:
    """Counts by the server: exactly what it will see."""

    method: CountedBy = "server"
    notes: tuple[str, ...] = ()

    def __init__(self, tokenize: Tokenize, *, cache: TokenCountCache | None = None) -> None:
        """Count with `tokenize`, called from several threads; None from it: a refused prompt."""
        self._tokenize = tokenize
        self._cache = cache

    def check(self) -> None:
        """Count one text for real, and drop cached counts that don't agree with it.

        Raises CannotCount.
        """
        try:
            counted = self._tokenize(PROBE)
        except BenchError as e:
            raise CannotCount(str(e)) from e
        if counted is None:
            raise CannotCount("it refuses a prompt of one line")
        if self._cache is not None:
            if self._cache.get(PROBE.content_sha256) not in (None, counted):
                # The same name, but another tokenizer or chat template.
                self._cache.forget()
            self._cache.add({PROBE.content_sha256: counted})

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        """Count, from the cache where it can. Raises PromptError where the server stopped."""
        keys = [prompt.content_sha256 for prompt in prompts]
        known = {key: self._cache.get(key) for key in keys} if self._cache else {}
        unknown = {key: p for key, p in zip(keys, prompts, strict=True) if known.get(key) is None}
        asked = dict(zip(unknown, self._ask(list(unknown.values())), strict=True))
        if self._cache:
            # A refusal isn't kept: a server with a longer context may take the prompt.
            self._cache.add({key: n for key, n in asked.items() if n is not None})
        return [asked[key] if key in asked else known[key] for key in keys]

    def _ask(self, prompts: Sequence[Prompt]) -> list[int | None]:
        if not prompts:
            return []
        pool = ThreadPoolExecutor(min(SERVER_CALLS_AT_ONCE, len(prompts)))
        try:
            return list(pool.map(self._tokenize, prompts))
        except BenchError as e:
            # Not the next counter's turn: half a set counted otherwise could not be repeated.
            raise PromptError(f"the server stopped counting tokens: {e}") from e
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # Ctrl-C doesn't wait for the rest


class TokenizerCounter:
    """Counts by a local tokenizer.json: the text alone, without the chat template."""

    method: CountedBy = "tokenizer"

    def __init__(self, path: Path, *, notes: tuple[str, ...] = ()) -> None:
        """Load the tokenizer. Raises CannotCount."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as e:  # the library raises nothing narrower
            raise CannotCount(f"{path}: not a tokenizer: {e}") from e
        # A tokenizer may come with the length that it was trained at.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.notes = (
            *notes,
            f"tokens are counted by {path}, without chat template and system prompt",
        )

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        # One by one: encode_batch starts threads, after which the library warns of each fork.
        return [len(self._tokenizer.encode(prompt.text).ids) for prompt in prompts]


class EstimateCounter:
    """Guesses by the text's length."""

    method: CountedBy = "estimate"

    def __init__(self, *, notes: tuple[str, ...] = ()) -> None:
        self.notes = (*notes, "token counts are estimated from the length of the text")

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        return [estimate_tokens(prompt.text) for prompt in prompts]


def estimate_tokens(text: str) -> int:
    """Return a guess at the tokens of a text, at least 1."""
    return max(1, round(len(text.encode()) / BYTES_PER_TOKEN))


def best_counter(
    *,
    tokenize: Tokenize | None = None,
    models: Sequence[str] = (),
    cache_dir: Path | None = None,
    scope: Sequence[str] = (),
) -> TokenCounter:
    """Return the best counter that works here: server, local tokenizer, estimate.

    `models` are the names to look for a local tokenizer under; `scope` is all that changes the
    server's counts (model, endpoint, system prompt), to keep cached counts apart.
    """
    notes: list[str] = []
    if tokenize is not None:
        cache = TokenCountCache(cache_dir / "token_counts", scope) if cache_dir else None
        server = ServerCounter(tokenize, cache=cache)
        try:
            server.check()
        except CannotCount as e:
            notes.append(f"the server can't count tokens: {e}")
        else:
            return server
    path = find_tokenizer(models)
    if path is not None:
        try:
            return TokenizerCounter(path, notes=tuple(notes))
        except CannotCount as e:
            notes.append(str(e))
    return EstimateCounter(notes=tuple(notes))


def find_tokenizer(models: Sequence[str]) -> Path | None:
    """Return the tokenizer.json of a model's folder, or of the hub's local cache; no network."""
    for model in models:
        name = MODEL_ALIASES.get(model, model)
        in_folder = Path(name).expanduser() / "tokenizer.json"
        if in_folder.is_file():
            return in_folder
        cached = _in_hub_cache(name)
        if cached is not None:
            return cached
    return None


def _in_hub_cache(repo: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, "tokenizer.json")
    except HFValidationError:
        return None  # a path, or a name that no model on the hub can have
    return Path(found) if isinstance(found, str) else None


class TokenCountCache:
    """Counts by content, kept in memory and appended to a file."""

    def __init__(self, folder: Path, scope: Sequence[str]) -> None:
        """Open the counts of one way of counting; `scope` is whatever changes the counts."""
        digest = hashlib.sha256(json.dumps(list(scope)).encode()).hexdigest()[:16]
        label = re.sub(r"[^A-Za-z0-9.-]+", "-", scope[0] if scope else "")[-60:].strip("-.")
        self._path = folder / f"{label}-{digest}.jsonl"
        self._counts = _read(self._path)

    def get(self, content_sha256: str) -> int | None:
        return self._counts.get(content_sha256)

    def add(self, counts: Mapping[str, int]) -> None:
        """Keep counts. Where the disk doesn't take them they are kept in memory alone."""
        new = {key: n for key, n in counts.items() if key not in self._counts}
        self._counts.update(new)
        # The line break comes first: it ends a line that a kill tore off.
        lines = "".join(f'\n{{"sha256":"{key}","tokens":{n}}}' for key, n in new.items())
        if lines:
            _append(self._path, lines.encode() + b"\n")

    def forget(self) -> None:
        """Drop all counts: the server counts differently now."""
        self._counts.clear()
        with suppress(OSError):  # a read-only cache: the next run finds out again
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, int]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    counts = {}
    for line in lines:
        try:
            row = json.loads(line)
            counts[str(row["sha256"])] = int(row["tokens"])
        except (ValueError, KeyError, TypeError):
            continue  # torn off, or empty: that text is counted again
    return counts


def _append(path: Path, data: bytes) -> None:
    """Append in one write: whole batches of several processes don't mix."""
    with suppress(OSError):  # a cache saves time; a run doesn't end for want of it
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            file.write(data)
