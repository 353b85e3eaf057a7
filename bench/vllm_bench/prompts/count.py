"""How many tokens a prompt has: by the server, else by a local tokenizer, else estimated.

Only the server knows the chat template that it puts around a prompt, so only its count is the
length that a run sends. Each counter has notes on how exact its counts are.
"""

from __future__ import annotations

import hashlib
import json
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import BenchError
from .prompt import CountedBy, Prompt, PromptError, user_prompt

Tokenize = Callable[[Prompt], "int | None"]  # asks a server; None: it refuses the prompt

SERVER_CALLS_AT_ONCE = 8
MODEL_ALIASES = {"gpt-oss-20": "openai/gpt-oss-20b"}  # the same as in server/serve.py
# Of 178 English prompts of 20 tokens or more, with the o200k vocabulary: the sum of the
# estimates is right within 5 %, nine in ten are wrong by less than 30 %. Code has more tokens.
BYTES_PER_TOKEN = 4.5

# Scripts, digits, code and an emoji: tokenizers with equal counts here are probably equal.
PROBE = user_prompt(
    "probe",
    "The 1,024 zebras' café — наука, 数据, データ 🙂: for (int i = 0; i < n; ++i) x[i] += 3.14;",
)


class TokenCounter(Protocol):
    """Counts prompts in one of three ways; `notes` is what people should know about the counts."""

    method: CountedBy
    notes: tuple[str, ...]

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        """Return the tokens of each prompt; None: the server refuses it as too long."""


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
        """Count one text, and drop cached counts that don't agree with it. Raises CannotCount."""
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
        """Count, from the cache if possible. Raises PromptError if the server stops answering."""
        keys = [prompt.content_sha256 for prompt in prompts]
        known = {key: self._cache.get(key) for key in keys} if self._cache else {}
        unknown = {key: p for key, p in zip(keys, prompts, strict=True) if known.get(key) is None}
        asked = dict(zip(unknown, self._ask(list(unknown.values())), strict=True))
        if self._cache:
            # A refusal isn't cached: a server with a longer context may accept the prompt.
            self._cache.add({key: n for key, n in asked.items() if n is not None})
        return [asked[key] if key in asked else known[key] for key in keys]

    def _ask(self, prompts: Sequence[Prompt]) -> list[int | None]:
        if not prompts:
            return []
        try:
            return _at_once(self._tokenize, prompts)
        except BenchError as e:
            # No fallback to another counter: a set counted in two ways could not be repeated.
            raise PromptError(f"the server stopped counting tokens: {e}") from e


def _at_once(ask: Tokenize, prompts: Sequence[Prompt]) -> list[int | None]:
    """Return what `ask` returns for each prompt, several at once. Raises what it raises.

    The threads are daemons: at Ctrl-C those of a pool would be waited for, half a minute each.
    """
    left, taking, over = iter(enumerate(prompts)), threading.Lock(), threading.Event()
    done: queue.SimpleQueue[tuple[int, Future[int | None]]] = queue.SimpleQueue()

    def run() -> None:
        while not over.is_set():
            with taking:
                found = next(left, None)
            if found is None:
                return
            answer: Future[int | None] = Future()
            try:
                answer.set_result(ask(found[1]))
            except BenchError as e:
                answer.set_exception(e)
            finally:
                done.put((found[0], answer))

    for _ in range(min(SERVER_CALLS_AT_ONCE, len(prompts))):
        threading.Thread(target=run, daemon=True).start()
    counts: dict[int, int | None] = {}
    try:
        while len(counts) < len(prompts):
            index, answer = done.get()
            counts[index] = answer.result(timeout=0)
    finally:
        over.set()
    return [counts[index] for index in range(len(prompts))]


class TokenizerCounter:
    """Counts by a local tokenizer.json: the text alone, without the chat template."""

    method: CountedBy = "tokenizer"

    def __init__(self, path: Path, notes: Sequence[str]) -> None:
        """Load the tokenizer. Raises CannotCount."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as e:  # the library raises no narrower type
            raise CannotCount(f"{path}: not a tokenizer: {e}") from e
        # A tokenizer file may truncate at the length that it was trained with.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.notes = (
            *notes,
            f"tokens are counted by {path}, without chat template and system prompt",
        )

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        # One by one: encode_batch starts threads, and the library then warns at each fork.
        return [len(self._tokenizer.encode(prompt.text).ids) for prompt in prompts]


class EstimateCounter:
    """Estimates from the text's length, at least 1."""

    method: CountedBy = "estimate"

    def __init__(self, notes: Sequence[str] = ()) -> None:
        self.notes = (*notes, "token counts are estimated from the length of the text")

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        return [max(1, round(len(p.text.encode()) / BYTES_PER_TOKEN)) for p in prompts]


def best_counter(
    *,
    tokenize: Tokenize | None = None,
    models: Sequence[str] = (),
    cache_dir: Path | None = None,
    scope: Sequence[str] = (),
) -> TokenCounter:
    """Return the best counter that works here: server, local tokenizer, estimate.

    `models` are names under which to look for a local tokenizer; `scope` is everything that changes
    the server's counts (model, endpoint, system prompt), so that cached counts aren't mixed.
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
            return TokenizerCounter(path, notes)
        except CannotCount as e:
            notes.append(str(e))
    return EstimateCounter(notes)


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
        return None  # a path, or a name that isn't possible on the hub
    return Path(found) if isinstance(found, str) else None


class TokenCountCache:
    """Counts by content, kept in memory and appended to a file."""

    def __init__(self, folder: Path, scope: Sequence[str]) -> None:
        """Open the cached counts of one `scope`: everything that changes the counts."""
        digest = hashlib.sha256(json.dumps(list(scope)).encode()).hexdigest()[:16]
        label = re.sub(r"[^A-Za-z0-9.-]+", "-", scope[0] if scope else "")[-60:].strip("-.")
        self._path = folder / f"{label}-{digest}.jsonl"
        self._counts = _read(self._path)

    def get(self, content_sha256: str) -> int | None:
        return self._counts.get(content_sha256)

    def add(self, counts: Mapping[str, int]) -> None:
        """Keep counts. If they can't be written to disk, they are kept only in memory."""
        new = {key: n for key, n in counts.items() if key not in self._counts}
        self._counts.update(new)
        # The line break comes first: it ends a line that a kill cut off.
        lines = "".join(f'\n{{"sha256":"{key}","tokens":{n}}}' for key, n in new.items())
        if not lines:
            return
        with suppress(OSError):  # a cache only saves time; a run goes on without it
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                # In one write, so that the batches of several processes don't mix.
                file.write(lines.encode() + b"\n")

    def forget(self) -> None:
        """Drop all counts: the server counts differently now."""
        self._counts.clear()
        with suppress(OSError):  # a read-only cache: the next run checks again
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
            continue  # cut off, or empty: that text is counted again
    return counts
