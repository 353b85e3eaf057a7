"""What a server says of its models: the list of /v1/models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..reply.said.event import counted


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of /v1/models; `problem` says what of it could not be read."""

    id: str
    root: str | None
    max_model_len: int | None
    problem: str | None = None
    parent: str | None = None  # the model that an adapter belongs to


def models_in(found: Any) -> list[Model] | None:
    """Return the models of a list, without entries that have no id; None: it is no such list."""
    cards = found.get("data") if isinstance(found, dict) else None
    models = [_model(card) for card in cards if _names(card)] if isinstance(cards, list) else []
    return models if models or cards == [] else None


def _names(card: object) -> bool:
    return isinstance(card, dict) and isinstance(card.get("id"), str) and bool(card["id"])


def _model(card: dict[str, Any]) -> Model:
    root, length = card.get("root"), card.get("max_model_len")
    problem = None
    try:
        length = None if length is None else counted(float(length))
    except (TypeError, ValueError, OverflowError):
        problem, length = f"max_model_len {str(length)[:40]!r} is no number of tokens", None
    parent = card.get("parent")
    return Model(
        card["id"],
        root if isinstance(root, str) else None,
        length or None,
        problem,
        parent if isinstance(parent, str) else None,
    )
