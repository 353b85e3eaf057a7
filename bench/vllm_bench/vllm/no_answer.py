"""Why a call got no answer: in plain words, and whether waiting may change it.

The HTTP library tells all of it as connection and protocol errors, in words for programmers.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from ..errors import BenchError

PROBE_S = 2.0  # for each step of a connection that asks which protocol is spoken
NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
CERTIFICATE = "name its authority with tls_ca, or set tls_verify: false"


class NoAnswerError(BenchError):
    """No whole reply came; the text says why, in a few words. Later one may come."""


class HungUpError(NoAnswerError):
    """The far end hung up or kept silent, as one does to which TLS is spoken, or isn't."""


class FinalError(NoAnswerError):
    """No reply will come, however long one waits."""


class WrongAddressError(FinalError):
    """No reply will come from this address: it has to be corrected."""

    exit_code = 2


class NotHttpError(HungUpError, WrongAddressError):
    """Something answered, but not in HTTP."""


def no_answer(failure: Exception) -> NoAnswerError:
    """Return what a failure of the HTTP library means."""
    chain = _chain(failure)
    root = next((e for e in reversed(chain) if isinstance(e, (OSError, UnicodeError))), chain[-1])
    if isinstance(root, ssl.SSLError):
        return _of_tls(root)
    if isinstance(root, socket.gaierror):
        if root.errno in NO_SUCH_NAME:
            return WrongAddressError("there is no host of this name")
        return NoAnswerError("the name of its host can't be looked up now")
    if isinstance(root, UnicodeError):
        return WrongAddressError("that is no name of a host")
    if isinstance(root, OSError):
        return _of_system(root)
    return _of_http(str(root))


def _chain(failure: BaseException) -> list[BaseException]:
    found = [failure]
    while (cause := found[-1].__cause__ or found[-1].__context__) and len(found) < 8:
        found.append(cause)
    return found


def _of_tls(root: ssl.SSLError) -> NoAnswerError:
    if isinstance(root, ssl.SSLCertVerificationError):
        why = root.verify_message.rstrip(".")
        return FinalError(f"its certificate can't be verified ({why}): {CERTIFICATE}")
    if isinstance(root, ssl.SSLEOFError):
        return HungUpError("it hung up during the TLS handshake: it isn't up yet, or refuses")
    reason = (root.reason or "").lower().replace("_", " ")
    if "alert" in reason or "unsupported" in reason:
        return FinalError(f"it refuses TLS with this client ({reason})")
    return WrongAddressError("it speaks no TLS; over plain HTTP its address begins with http://")


def _of_system(root: OSError) -> NoAnswerError:
    words = os.strerror(root.errno) if root.errno else str(root) or "the connection broke"
    hung_up = isinstance(root, (ConnectionResetError, BrokenPipeError))
    return (HungUpError if hung_up else NoAnswerError)(words[:1].lower() + words[1:])


def _of_http(words: str) -> NoAnswerError:
    if "disconnected" in words:
        return HungUpError("it disconnected without an answer")
    if "closed connection" in words:
        return NoAnswerError("it hung up in the middle of its answer")
    if "illegal status line" in words or "illegal request line" in words:
        return NotHttpError("what answers there doesn't speak HTTP")
    return FinalError("its answer is no HTTP that anybody could read")


def other_protocol(url: str) -> str | None:
    """Return what to do where an http:// address speaks TLS, or an https:// one doesn't.

    Nothing of a request is sent, no key above all. None: it isn't so, or can't be told.
    """
    parts = urlsplit(url)
    with suppress(OSError, UnicodeError):
        if parts.scheme == "http" and _shakes_hands(parts):
            return "it speaks TLS: its address begins with https://"
        if parts.scheme == "https" and _speaks_http(parts):
            return "it speaks no TLS: its address begins with http://"
    return None


def _connected(parts: SplitResult) -> socket.socket:
    usual = 443 if parts.scheme == "https" else 80
    return socket.create_connection((parts.hostname or "", parts.port or usual), PROBE_S)


def _shakes_hands(parts: SplitResult) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with _connected(parts) as sock, context.wrap_socket(sock, server_hostname=parts.hostname):
        return True


def _speaks_http(parts: SplitResult) -> bool:
    with _connected(parts) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        return sock.recv(5) == b"HTTP/"
