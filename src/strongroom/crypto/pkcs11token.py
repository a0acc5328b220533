"""Tokens that speak PKCS #11 v2.40: which one an address means, what lies in it, and how a PIN gets there.

Needs the extra `pkcs11`; addresses are `pkcs11uri`'s. Knows: slots, objects, PINs on their way into a session. Does not know: what
keys are for. Safety: a PIN comes from a file, a variable of the environment or a person, goes to the token and nowhere else; no
error repeats it, nor what the token's module says. Not covered: PIN pads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from strongroom.crypto.pkcs11uri import PinSource, TokenUri
from strongroom.errors import FileUnreadable, TokenUnavailable, UsageError

if TYPE_CHECKING:
    import pkcs11

MAX_PIN = 256

AskPin: TypeAlias = Callable[[], str]
"""Asks a person for a PIN."""


def read_pin(source: PinSource | None, ask: AskPin, environment: Mapping[str, str] = os.environ) -> str:
    """The PIN. Raises `FileUnreadable`, or `UsageError` for one that is missing, empty or too long."""
    if source is None:
        pin = ask()
    elif source.variable is not None:
        pin = environment.get(source.variable, "")
    else:
        try:
            with Path(source.file or "").open("rb") as file:
                data = file.read(MAX_PIN + 3)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise FileUnreadable(f"the file of the PIN cannot be read: {reason}") from None
        try:
            pin = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise FileUnreadable("the file of the PIN is not text") from None
    if not 1 <= len(pin) <= MAX_PIN or not pin.isprintable():
        raise UsageError(
            "there is no PIN where it should be", remedy="Look at the pin-source in the address of the key."
        )
    return pin


def find_token(uri: TokenUri) -> pkcs11.Token:
    """The one token of the address. Raises `TokenUnavailable`."""
    import pkcs11

    found = []
    for slot in pkcs11.lib(uri.module).get_slots(token_present=True):
        if uri.slot is not None and slot.slot_id != uri.slot:
            continue
        token = slot.get_token()
        label, serial = token.label.rstrip(), token.serial.decode("utf-8", "replace").rstrip(" \0")
        if uri.token in {None, label} and uri.serial in {None, serial}:
            found.append(token)
    if len(found) != 1:
        raise TokenUnavailable(f"{len(found) or 'no'} tokens have the label, serial number and slot of the address")
    return found[0]


def find_object(session: pkcs11.Session, kind: pkcs11.ObjectClass, uri: TokenUri) -> pkcs11.Object:
    """The one object of the address and of `kind`. Raises `TokenUnavailable`."""
    found = find_objects(session, kind, uri)
    if len(found) != 1:
        what = kind.name.lower().replace("_", " ")
        raise TokenUnavailable(
            f"{len(found) or 'no'} objects of the kind {what} have the label and id of the address",
            remedy="List what the token holds (pkcs11-tool -O); name the object by label, id or both.",
        )
    return found[0]


def find_objects(session: pkcs11.Session, kind: pkcs11.ObjectClass, uri: TokenUri) -> list[pkcs11.Object]:
    """All objects of the address and of `kind`."""
    import pkcs11

    wanted = {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.LABEL: uri.label, pkcs11.Attribute.ID: uri.id}
    return list(session.get_objects({name: value for name, value in wanted.items() if value is not None}))


@contextmanager
def token_errors() -> Iterator[None]:
    """Turn what the token's module raises into `TokenUnavailable`, which names the kind of error and nothing else."""
    try:
        yield
    except (RuntimeError, OSError) as error:  # PKCS11Error is a RuntimeError
        raise TokenUnavailable(f"the token or its module says {type(error).__name__}") from None
