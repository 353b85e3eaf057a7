"""The errors of the HTTP interface, with vLLM's bodies and messages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
BUSY = (
    "The engine is currently busy and cannot accept new requests."
    " Please try again later or on a different instance."
)
# vLLM's `error.type` for each status; for others it is the HTTP phrase.
TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    500: "InternalServerError",
}


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, message: str, param: str | None = None, kind: str | None = None
    ) -> None:
        """`param` is the wrong field, `kind` the type if the status doesn't give it."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.kind = kind or TYPES.get(status) or HTTPStatus(status).phrase

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer; for a missing API key `error` is only a string."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"error": self.message}
        names = ("message", "type", "param", "code")
        values = (self.message, self.kind, self.param, self.status)
        return {"error": dict(zip(names, values, strict=True))}


def bad_value(name: str, value: object, why: str) -> ApiError:
    """Return the 400 of a field with a wrong value."""
    return ApiError(400, f"{why} (parameter={name}, value={value})", name)


def invalid(kind: str, where: str, message: str, given: str, extra: str = "") -> ApiError:
    """Return the 400 of a body that fails the schema, with the validator's message."""
    detail = f"{{'type': '{kind}', 'loc': '{where}', 'msg': '{message}', 'input': {given}{extra}}}"
    return ApiError(400, f"1 validation error:\n  {detail}", where, "Bad Request")


def error_event(error: ApiError) -> bytes:
    """Return the event of an error in mid-stream; vLLM's spaces differ from its other events."""
    text = orjson.dumps(error.message).decode()
    return (
        f'data: {{"error": {{"message": {text}, "type": "{error.kind}", '
        f'"param": null, "code": {error.status}}}}}\n\n'
    ).encode()
