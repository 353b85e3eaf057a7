"""Whether a server is what was asked for: what it says is in force, against its env file.

A fingerprint that is equal proves nothing: vLLM's leaves out the memory share, the prefix cache
and more. So each setting is looked up, and one that can't be is told as unchecked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..launcher import OF_COMPOSE, OF_THE_LAUNCHER, SECRETS, SETTINGS, tokens
from ..records.text import masked, printable
from ..scenario.secrets import MASK, is_secret_key
from .env import Settings
from .said import NOT_ABOUT_SPEED, SOURCE

Said = Mapping[str, str | int | float | bool]

# Variables that are no settings of vLLM, or whose flags are looked at one by one.
NO_SETTING = {*SETTINGS, *SECRETS, *OF_COMPOSE, *OF_THE_LAUNCHER, "EXTRA_ARGS"}
SAME = {"fp8": "fp8_e4m3", "half": "float16", "float": "float32"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found; each text is one line, for people."""

    wrong: tuple[str, ...]  # max_num_seqs: 16 was asked, 64 is in force
    unchecked: tuple[str, ...]  # enable_x: asked as True; the server doesn't tell


def checked(settings: Settings, said: Said) -> Checked:
    """Hold what was asked against what a server says."""
    wrong, unchecked = list[str](), list[str]()
    for name, asked in settings.asked.items():
        if NOT_ABOUT_SPEED.match(name) or is_secret_key(name):
            continue
        told = said.get(name)
        shown = printable(masked(asked, settings.secrets), 80)
        if told is None or _is_half_told(told):
            unchecked.append(f"{name}={shown}: {_why_not(said)}")
        elif not _same(name, asked, told):
            other = printable(masked(str(told), settings.secrets), 80)
            wrong.append(f"{name}: {shown} was asked, {other} is in force")
    told_so = {"VLLM_SERVER_DEV_MODE"} if said.get(SOURCE) == "server_info" else set()
    others = sorted(name for name, value in settings.values.items() if value)
    others = [n for n in others if n not in NO_SETTING and not is_secret_key(n)]
    unchecked += [f"{n} (of the environment): not told" for n in others if n not in told_so]
    return Checked(tuple(wrong), tuple(unchecked))


def _is_half_told(told: str | float | bool) -> bool:
    """Whether a value was cut, or a secret in it masked."""
    return isinstance(told, str) and (told.endswith("…") or MASK in told)


def _why_not(said: Said) -> str:
    if said.get(SOURCE) == "log":
        return "not in its log, where vLLM's own default isn't told"
    return "the server doesn't tell"


def _same(name: str, asked: str, told: str | float | bool) -> bool:
    """Whether a flag's text means what is told; `auto` is whatever the server chose."""
    if asked.lower() in ("auto", "-1", str(told).lower()):
        return True
    if isinstance(told, int | float):
        return not isinstance(told, bool) and _number(asked) == told
    if name == "model":
        return _same_model(asked, told)
    if name == "served_model_name":
        return told in asked.split()
    return _plain(asked) == _plain(told)


def _number(text: str) -> float | None:
    for kind in (tokens, float):
        try:
            return kind(text)
        except (ValueError, OverflowError):
            continue
    return None


def _same_model(asked: str, told: str) -> bool:
    """Whether two names are of one model: offline vLLM tells the folder of the hub's download."""
    return asked.rstrip("/") == told.rstrip("/") or f"models--{asked.replace('/', '--')}/" in told


def _plain(text: str) -> object:
    """Return what JSON means, and of two names of one type the longer."""
    try:
        return json.loads(text) if text.startswith("{") else SAME.get(text, text)
    except (ValueError, RecursionError):
        return text
