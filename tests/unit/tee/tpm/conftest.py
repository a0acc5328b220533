"""Real evidence, and a simulated TPM with its maker to derive bad evidence from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.crypto.signatures import SigningKey, generate_p256
from strongroom.records import codec
from strongroom.records.evidence import TpmCollateral
from strongroom.records.tpm import TpmQuote
from strongroom.records.verdict import RootClass, Status
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.tpm import AkTrust, parse_quote, verify
from strongroom.tee.tpm.enrol import enrolment_anchor
from strongroom_sim.tpm import Tpm, TpmMaker

NOW = 1_790_000_000
QUALIFYING = bytes(range(32))


@pytest.fixture(scope="session")
def vectors(vectors: Path) -> Path:
    """The TPM part of the real evidence."""
    return vectors / "tpm"


@dataclass
class Place:
    """A maker, one of its TPMs, the verifier that enrols keys, and the anchors for both."""

    maker: TpmMaker
    tpm: Tpm
    verifier: SigningKey
    anchors: Sequence[TrustAnchor]
    collateral: TpmCollateral
    now: int = NOW

    @property
    def good(self) -> TpmQuote:
        """A fresh quote over all registers."""
        return codec.decode(TpmQuote, self.tpm.quote(QUALIFYING))

    def judge(
        self,
        quote: TpmQuote | bytes,
        collateral: TpmCollateral | None = None,
        *,
        vouched: AkTrust | None = None,
        now: int = NOW,
    ) -> Genuine:
        data = quote if isinstance(quote, bytes) else codec.encode(quote)
        given = None if vouched is not None else collateral or self.collateral
        return verify(parse_quote(data), given, self.anchors, now, vouched=vouched)


def failed(genuine: Genuine) -> set[str]:
    return {check.id for check in genuine.checks if check.status is Status.FAIL}


def make_place() -> Place:
    maker, verifier = TpmMaker.generate(now=NOW), generate_p256()
    anchors = (
        installation_anchor("tpm", maker.root_pem),
        enrolment_anchor(verifier.public_key(), RootClass.INSTALLATION),
    )
    tpm = Tpm(maker, NOW)
    tpm.boot(b"image")
    return Place(maker, tpm, verifier, anchors, tpm.ak_collateral(NOW))


@pytest.fixture(scope="session")
def place() -> Place:
    return make_place()


@pytest.fixture(scope="session")
def other_place() -> Place:
    return make_place()
