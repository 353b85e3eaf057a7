"""What every script says of a wrong flag: one line, what was given, what is allowed.

argparse's own words are for programmers, and its usage lines push the mistake off the screen.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from .errors import UsageError

T = TypeVar("T")

WAIT_S = 300.0  # a large model loads for minutes
GIVE_UP_S = 60.0  # most restarts are over by then
MOST_OWN_NODES = 16  # Ray's, on one machine: 0.2 GB each
# The flags of other load generators, and what they are called here.
ELSEWHERE = {
    # vllm bench serve
    "--max-concurrency": "--concurrency",
    "--num-prompts": "--num-requests",
    "--random-input-len": "--prefill-tokens",
    "--input-len": "--prefill-tokens",
    "--random-output-len": "--max-new-tokens",
    "--output-len": "--max-new-tokens",
    "--dataset-name": "--dataset",
    "--dataset-path": "--dataset file:PATH",
    "--result-dir": "--results-dir",
    "--goodput": "--slo",
    "--burstiness": "--set arrival=gamma --set cv=2",
    "--temperature": "--set temperature=0.7",
    "--ignore-eos": "--set ignore_eos=true",
    "--seed": "--set seed=7",
    "--endpoint": "--set endpoint=completions",
    "--host": "--base-url http://HOST:PORT/v1",
    "--port": "--base-url http://HOST:PORT/v1",
    # GuideLLM
    "--target": "--base-url",
    "--max-requests": "--num-requests",
    "--max-seconds": "--duration-s",
    "--rate": "--request-rate",
    "--rate-type": "--concurrency or --request-rate",
    "--profile": "--concurrency or --request-rate",
    "--data": "--dataset",
    # AIPerf
    "--url": "--base-url",
    "--request-count": "--num-requests",
    "--benchmark-duration": "--duration-s",
    "--isl": "--prefill-tokens",
    "--osl": "--max-new-tokens",
    "--synthetic-input-tokens-mean": "--prefill-tokens",
    "--output-tokens-mean": "--max-new-tokens",
    "--warmup-request-count": "--set warmup_requests=8",
    "--streaming": "--set stream=true",
}
KINDS = {"int": "a whole number", "float": "a number"}
PLAIN = (  # of argparse's messages
    (r"argument (\S+): expected (?:one|at least one) argument", r"\1: needs a value"),
    (r"argument (\S+): ignored explicit argument '?(.*?)'?", r"\1: takes no value (given: \2)"),
    (r"argument (\S+): not allowed with argument (\S+)", r"\1 doesn't go with \2"),
    (r"the following arguments are required: (.*)", r"\1: missing"),
    (r"one of the arguments (.*) is required", r"one of \1 is needed"),
    (r"ambiguous option: (\S+) could match (.*)", r"\1 could be \2: write it out"),
    (r"argument (\S+): (.*)", r"\1: \2"),
)
CHOICE = re.compile(r"argument (\S+): invalid choice: (.*?) \(choose from (.*)\)")
VALUE = re.compile(r"argument (\S+): invalid (\w+) value: (.*)")


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes told on one line."""

    def error(self, message: str) -> NoReturn:
        """Complain without the secret of a flag that isn't there: `--api-key sk-…`."""
        from .scenario.secrets import masked_words

        words = " ".join(masked_words(plain(message).split(" ")))
        self.exit(2, f"{self.prog}: {words}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return found

    def _unknown(self, words: Sequence[str]) -> str:
        """Say which flag there isn't; only the first: the others may be its values."""
        known = [flag for action in self._actions for flag in action.option_strings]
        word = next((word for word in words if word.startswith("-")), "")
        if not word:
            shown = (
                f"did you mean --name {words[0]}?" if "--name" in known else "--help shows what is"
            )
            return f"{words[0]}: not expected here; {shown}"
        flag = word.partition("=")[0]
        return f"{flag}: no such flag{_meant(flag, known)}"


def plain(message: str) -> str:
    """Return one of argparse's messages in plain words."""
    if found := CHOICE.fullmatch(message):
        flag, given, known = (part.replace("'", "") for part in found.groups())
        near = difflib.get_close_matches(given, known.split(", "), n=1)
        return f"{flag}: {given}: must be one of {known}" + _hint(near)
    if found := VALUE.fullmatch(message):
        kind = KINDS.get(found[2], f"a {found[2]}")
        return f"{found[1]}: {found[3].strip(chr(39))}: must be {kind}"
    for pattern, words in PLAIN:
        if re.fullmatch(pattern, message, re.DOTALL):
            return re.sub(pattern, words, message, flags=re.DOTALL)
    return message


def _meant(flag: str, known: Sequence[str]) -> str:
    here = ELSEWHERE.get(flag, "")
    if here:
        return _hint([here]) if here.split()[0] in known else f"; bench.py has {here} for it"
    near = difflib.get_close_matches(flag, known, n=1)
    return _hint(near) or "; --help shows all"


def _hint(near: Sequence[str]) -> str:
    return f"; did you mean {near[0]}?" if near else ""


# ---- what a value must be, for add_argument(type=...); what reads it raises ArgumentTypeError ----


def whole(least: int = 0, most: float = math.inf) -> Callable[[str], int]:
    """Return what reads a whole number of these bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,99}", text) or not least <= int(text) <= most:
            raise _refused(text, "a whole number", least, most)
        return int(text)

    return read


def number(
    least: float = -math.inf, most: float = math.inf, *, of: str = "", above: bool = False
) -> Callable[[str], float]:
    """Return what reads a finite number of these bounds, `of` seconds say; or `above` the least."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (math.isfinite(found) and least <= found <= most) or (above and found == least):
            raise _refused(text, f"a number of {of}" if of else "a number", least, most, above)
        return found

    return read


def _refused(
    text: str, kind: str, least: float, most: float, above: bool = False
) -> argparse.ArgumentTypeError:
    if above:
        bounds = f", more than {least:.10g}" + (
            f" and at most {most:.10g}" if most < math.inf else ""
        )
    elif most < math.inf:
        bounds = f" from {least:.10g} to {most:.10g}"
    else:
        bounds = f", {least:.10g} or more" if least > -math.inf else ""
    return argparse.ArgumentTypeError(f"{text}: must be {kind}{bounds}")


def several(read: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Return what reads values with commas between them."""
    return lambda text: [read(part) for part in text.split(",")]


seconds = number(0, of="seconds")
some_seconds = number(0, of="seconds", above=True)
count = whole(1, 16384)  # of streams, or of runs
counts = several(count)


def workers(text: str) -> int | None:
    """Return how many sending processes; None: auto."""
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to 256, or auto")
    return int(text)


def add_load(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Add flags that are a scenario by themselves, and change those of a file; return what adds."""
    add = parser.add_argument_group("the load, in place of the file's").add_argument
    add("--concurrency", type=counts, metavar="N,…", dest="concurrencies", help="streams held open")
    rates = "requests per second, whether or not earlier ones have ended"
    add("--request-rate", type=several(number()), metavar="R,…", dest="request_rates", help=rates)
    add("--dataset", metavar="D", help="the prompts: sample, dolly, file:PATH, …")
    add("--prefill-tokens", type=whole(), metavar="N", help="tokens of a prompt")
    add("--max-new-tokens", type=whole(), metavar="N", help="most tokens of a reply")
    slo = "an objective: ttft_ms.p99=500, success_rate=0.999, requests_per_s.min=20; repeatable"
    add("--slo", action="append", metavar="M.pQ=MS", help=slo)
    any_key = "any other key of a scenario: seed=7, extra_body.top_p=0.9; repeatable"
    add("--set", action="append", metavar="KEY=VALUE", help=any_key)
    return add


def add_sending(parser: argparse.ArgumentParser) -> None:
    """Add flags that say which server is sent to, and how."""
    add = parser.add_argument
    add("--base-url", metavar="U", help="the server, in place of the file's (ending in /v1)")
    add("--model", metavar="M", help="the model, in place of the file's")
    add("--label", metavar="WORD", help="names the runs: runs of other labels aren't their repeats")
    wait = f"wait this long for the server, and for machines (default: {WAIT_S:g})"
    add("--wait-s", type=seconds, default=WAIT_S, metavar="S", help=wait)
    gone = f"end a run whose server turned every request away for so long (default: {GIVE_UP_S:g})"
    add("--give-up-s", type=seconds, default=GIVE_UP_S, metavar="S", help=gone)
    add("--workers", type=workers, metavar="N", help="sending processes (default: auto)")
    add("--plain", action="store_true", help="lines instead of the live view, on a terminal too")


def add_machines(parser: argparse.ArgumentParser) -> None:
    """Add what asks for several machines: docs/MACHINES.md."""
    add = parser.add_argument_group("load from several machines: docs/MACHINES.md").add_argument
    start = "starts sender.py on a machine (ssh, srun), with HOST:PORT at its end; repeatable"
    add("--senders", action="append", default=[], metavar="CMD", help=start)
    nodes = "nodes of a Ray cluster that have the resource sender; local:N: N nodes of its own here"
    add("--ray", type=_ray, metavar="HOST:PORT|auto|local:N", help=nodes)
    many = "how many machines send (default: as many as --senders, or nodes of Ray)"
    add("--machines", type=whole(1, 1024), metavar="N", help=many)
    add("--listen", metavar="HOST[:PORT]", help="where they dial this one (default: its address)")
    add("--key-file", type=Path, metavar="F", help="the key that they know (default: a fresh one)")
    stay = "rows stay on the machines during a run, and are fetched after it"
    add("--keep-rows-remote", action="store_true", help=stay)


def machines_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what these flags ask for, as `machines.asked.Asked` takes it."""
    names = ("senders", "ray", "machines", "listen", "key_file", "keep_rows_remote")
    return {"environ": os.environ, **{name: getattr(args, name) for name in names}}


def refuse_rows_remote(args: argparse.Namespace) -> None:
    """Refuse that rows stay on machines, for a search, which looks at them. Raises UsageError."""
    if args.keep_rows_remote:
        raise UsageError(
            "--keep-rows-remote: a search for the capacity ends its runs by the rows that they "
            "have so far: leave it out"
        )


def _ray(text: str) -> str:
    """Return where a Ray cluster is; without an address Ray would join whatever runs there."""
    if text.startswith("ray://"):
        raise argparse.ArgumentTypeError(
            f"{text}: through Ray Client nodes can't dial this machine: run this on a node of the "
            "cluster, with HOST:PORT of its head (6379) or auto"
        )
    host, _, port = text.rpartition(":")
    if host == "local":
        return f"local:{_of_nodes(port)}"
    if text != "auto" and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text}: must be HOST:PORT, auto, or local:N")
    return text


def _of_nodes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_OWN_NODES:
        raise argparse.ArgumentTypeError(
            f"local:{text}: must be a whole number of nodes from 1 to {MOST_OWN_NODES}"
        )
    return int(text)
