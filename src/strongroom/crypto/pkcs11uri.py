"""Addresses of keys in tokens: PKCS #11 URIs.

Specification: RFC 7512. Read are the attributes that name a token (`token`, `serial`, `slot-id`) and an object in it (`object`,
`id`, `type`), and the queries `module-path` and `pin-source`.

Knows: the text. Does not know: tokens. Safety: `pin-value` is refused, because everybody on a machine can read the
arguments of its programs; no error repeats a URI. A `pin-source` names a file, or (our own `env:`) an environment
variable; a command is refused. Not covered: `module-name` (say where the module lies), all other attributes (refused).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes

from strongroom.errors import UsageError

SCHEME = "pkcs11:"
MAX_URI = 4096

_PATH = frozenset({"token", "serial", "slot-id", "object", "id", "type"})
_QUERY = frozenset({"module-path", "pin-source"})
_TYPES = frozenset({None, "private", "public", "cert"})
# RFC 7512 section 2.3: unreserved and some reserved characters, everything else percent-encoded.
_PATH_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&]|%[0-9A-Fa-f]{2})+")
_QUERY_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{2})+")
_SLOT = re.compile(r"[0-9]{1,9}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class PinSource:
    """Where a PIN is read: the `file` at an absolute path, or the environment `variable` of a name; one of the two."""

    file: str | None = None
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Which token (by label, serial number, slot), and which object in it (by label, id); where its module and PIN are."""

    token: str | None
    serial: str | None
    slot: int | None
    label: str | None
    id: bytes | None
    module: str
    pin: PinSource | None


def is_uri(text: str) -> bool:
    """Whether a text claims to be such a URI."""
    return text.startswith(SCHEME)


def parse(uri: str) -> TokenUri:
    """Raises `UsageError` for what is not such a URI, or names no token, no object or no module."""
    if not is_uri(uri) or len(uri) > MAX_URI:
        raise _bad(f"it does not begin with {SCHEME}, or is longer than {MAX_URI} characters")
    path, mark, query = uri.removeprefix(SCHEME).partition("?")
    named = _read(path, ";", _PATH, _PATH_VALUE)
    asked = _read(query, "&", _QUERY, _QUERY_VALUE) if mark else {}
    texts = {name: _text(value) for name, value in (named | asked).items() if name != "id"}
    slot = texts.get("slot-id")
    if texts.get("type") not in _TYPES or (slot is not None and not _SLOT.fullmatch(slot)):
        raise _bad("its type is no kind of key or certificate, or its slot-id no number")
    if not {"token", "serial", "slot-id"} & named.keys() or not {"object", "id"} & named.keys():
        raise _bad("it names no token, or no object in it")
    module = texts.get("module-path", "")
    if not PurePosixPath(module).is_absolute():
        raise _bad("it does not say at which absolute path its module lies")
    pin = None if "pin-source" not in texts else _pin_source(texts["pin-source"])
    number = None if slot is None else int(slot)
    return TokenUri(texts.get("token"), texts.get("serial"), number, texts.get("object"), named.get("id"), module, pin)


def _read(text: str, separator: str, known: Collection[str], value_form: re.Pattern[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator):
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise UsageError(
                "a PIN in the command line can be read by everybody on this machine",
                remedy="Change that PIN; then name its file: pin-source=file:/PATH, or a variable: pin-source=env:NAME.",
            )
        if name not in known or not equals or name in found or not value_form.fullmatch(value):
            raise _bad("an attribute is unknown, or occurs twice, or has no value, or one that is not percent-encoded")
        found[name] = unquote_to_bytes(value)
    return found


def _text(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("an attribute is not UTF-8") from None
    if not text.isprintable():
        raise _bad("an attribute holds what cannot be printed")
    return text


def _pin_source(text: str) -> PinSource:
    kind, colon, rest = text.partition(":")
    if colon and kind == "env" and _VARIABLE.fullmatch(rest):
        return PinSource(variable=rest)
    place = rest.removeprefix("//") if colon and kind == "file" else text
    if PurePosixPath(place).is_absolute():
        return PinSource(file=place)
    raise _bad("its pin-source is neither file: with an absolute path nor env: with the name of a variable")


def _bad(why: str) -> UsageError:
    return UsageError(
        f"this is not the address of a key in a token: {why}",
        remedy="Write pkcs11:token=LABEL;object=LABEL?module-path=/PATH/OF/MODULE.so&pin-source=file:/PATH.",
    )
