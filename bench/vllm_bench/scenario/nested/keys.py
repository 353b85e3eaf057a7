"""What all keys of a scenario have in common."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LONGEST_S = 1e7  # months: a larger number is a mistake, and clocks would overflow
Time = Annotated[float, Field(gt=0, le=LONGEST_S)]  # in seconds
Pause = Annotated[float, Field(ge=0, le=LONGEST_S)]  # the same, or none
Count = Annotated[int, Field(ge=1)]


def setting(text: str, example: Any, default: Any = ..., **limits: Any) -> Any:
    """Return a key's field: its meaning, an example, its default (none: the key is required)."""
    return Field(default, description=text, examples=[example], **limits)


optional = partial(setting, default=None)  # of a key that may be left out


def refuse(problems: Iterable[str]) -> None:
    """Raise ValueError with all that is wrong, where something is."""
    if wrong := "; ".join(problems):
        raise ValueError(wrong)


def _is_number(annotation: Any) -> bool:
    return annotation in (int, float) or any(map(_is_number, get_args(annotation)))


class Keys(BaseModel):
    """Keys of a scenario: no others are allowed, and numbers must be finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_or_no(cls, value: object, info: ValidationInfo) -> object:
        # YAML reads yes and no as booleans, and pydantic those as 1 and 0.
        given = value if isinstance(value, list) else [value]
        if any(isinstance(v, bool) for v in given):
            assert info.field_name is not None
            if _is_number(cls.model_fields[info.field_name].annotation):
                raise ValueError("must be a number, not yes or no")
        return value
