"""Why nobody answered, in a few words for the person who asked.

Knows: what operating systems and TLS say when a connection fails, below what an HTTP library makes of it. Does not know: who was asked.
The words are this machine's own, never a peer's, and hold no address.
"""

from __future__ import annotations

import os
import socket
import ssl

import httpx2

DEEPEST = 8
"""How many causes are looked at."""


def why(error: BaseException) -> str:
    """What kept `error`'s request from its answer; the name of its class where nothing better is known."""
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    cause: BaseException | None = error
    for _ in range(DEEPEST):
        match cause:
            case None:
                break
            case ssl.SSLCertVerificationError():
                return "nobody whom this machine trusts vouches for its TLS certificate"
            case ssl.SSLError():
                return "TLS failed; is it http there?"
            case socket.gaierror():
                return "there is no such name"
            case OSError() if cause.errno:
                return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
