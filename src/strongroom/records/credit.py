"""What a buyer and an issuer of credits say to each other.

Knows: the shapes. Does not know: signatures (`crypto.blind_rsa`), accounts (`services.credits`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

CREDITS_PATH = "/v1/credits"
KEY_PATH = "/v1/credits/key"
MAX_AT_ONCE = 100
"""The most credits of one purchase."""


@dataclass(frozen=True, slots=True)
class CreditKey:
    """The issuer's one public key (SubjectPublicKeyInfo, DER). Everybody must be shown the same."""

    TYPE: ClassVar[str] = "strongroom/credit-key/v1"
    key: bytes


@dataclass(frozen=True, slots=True)
class CreditRequest:
    """Blinded credits to be signed, one unit of the account's balance each."""

    TYPE: ClassVar[str] = "strongroom/credit-request/v1"
    account: str
    blinded: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CreditAnswer:
    """The blind signatures, in the order of the request, and what is `left` of the account's balance."""

    TYPE: ClassVar[str] = "strongroom/credit-answer/v1"
    signed: tuple[bytes, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase under way, as the buyer keeps it until its credits are in the wallet. Secret: it joins both views.

    One `serial`, `prefix`, `inverse` and `blinded` for each credit; `inverse` takes the blinding off.
    """

    TYPE: ClassVar[str] = "strongroom/credit-purchase/v1"
    key: bytes
    account: str
    serials: tuple[bytes, ...]
    prefixes: tuple[bytes, ...]
    inverses: tuple[bytes, ...]
    blinded: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len({len(self.serials), len(self.prefixes), len(self.inverses), len(self.blinded)}) != 1:
            raise ValueError("a purchase whose parts are of different numbers")
