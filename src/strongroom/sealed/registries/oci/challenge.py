"""What a registry asks for before it answers: the challenges of a WWW-Authenticate header (RFC 9110 section 11.6.1).

Knows: the grammar. Does not know: credentials. Not covered: schemes beyond their name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.errors import ServiceUnavailable

MAX_HEADER_BYTES = 8192
MAX_CHALLENGES = 16

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 (a grammar's token)
_SCHEME = re.compile(rf"({_TOKEN})(?: +|(?=,|$))")
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*(?=,|$)')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to be let in: a scheme in lower case and its parameters, names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(text: str) -> tuple[Challenge, ...]:
    """The challenges of one header, or of several joined by commas.

    Raises `ServiceUnavailable` for what the grammar does not allow, a parameter that comes twice, and too much of it.
    """
    if len(text) > MAX_HEADER_BYTES or not text.isascii() or not text.isprintable():
        raise _malformed()
    found: list[tuple[str, dict[str, str]]] = []
    at = _skip(text, 0)
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter is not None and found:
            _add(found[-1][1], parameter)
            at = _skip(text, parameter.end())
            continue
        scheme = _SCHEME.match(text, at)
        if scheme is None or len(found) == MAX_CHALLENGES:
            raise _malformed()
        found.append((scheme[1].lower(), {}))
        at = scheme.end()
        token = None if _PARAMETER.match(text, at) else _TOKEN68.match(text, at)
        at = _skip(text, token.end() if token is not None else at)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def _add(parameters: dict[str, str], found: re.Match[str]) -> None:
    name = found[1].lower()
    if name in parameters:
        raise _malformed()
    parameters[name] = found[2] if found[2] is not None else re.sub(r"\\(.)", r"\1", found[3])


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _malformed() -> ServiceUnavailable:
    return ServiceUnavailable("a registry asks for credentials in a way that is not HTTP (WWW-Authenticate)")
