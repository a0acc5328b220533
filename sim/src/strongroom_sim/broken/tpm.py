"""TPM quotes that are wrong in one way each: for every check the one that fails it, and fails nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from strongroom.crypto.signatures import SigningKey, generate_p256
from strongroom.records import codec
from strongroom.records.evidence import TpmCollateral
from strongroom.records.tpm import TpmQuote
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.tpm import enrol
from strongroom.tee.tpm.collect import Collector
from strongroom.tee.tpm.parse import ENDORSEMENT, RESTRICTED, parse_key
from strongroom.tee.tpm.verify import GENERATED
from strongroom_sim.tpm import AK_ATTRIBUTES, Tpm, TpmMaker, public_area, signature
from strongroom_sim.tpm_wire import Wire

QUALIFYING = bytes(range(32))
BOOT = (0, 2, 4, 7)
RESETTABLE = 16
NO_DA = 1 << 10
HOUR, DAY = 3_600, 86_400


class Broken(NamedTuple):
    """A quote, what vouches for its key, and the time at which it is judged."""

    quote: bytes
    collateral: TpmCollateral
    now: int


def broken(maker: TpmMaker, verifier: SigningKey, now: int) -> Mapping[str, Broken]:
    """Check -> what fails exactly this check under the root of `maker` and the enrolments of `verifier`."""
    tpm = Tpm(maker, now)
    tpm.boot(b"image")
    good, word = _quote(tpm), tpm.ak_collateral(now)
    return {
        **_of_trust(tpm, good, verifier, now),
        **{check: Broken(codec.encode(quote), word, now) for check, quote in _of_quote(tpm, good).items()},
    }


def enrolled(tpm: Tpm, verifier: SigningKey, at: int, *, life: int = DAY) -> TpmCollateral:
    """The note of an enrolment of this TPM's AK, live over its commands, at the time `at`, good for `life` seconds."""
    collector = Collector(connect=lambda: Wire(tpm))
    _, ek, ak = collector.keys()
    anchor = installation_anchor("tpm", tpm.maker.root_pem)
    waiting = enrol.challenge(
        enrol.check_endorsement(parse_key(ek), tpm.ek_collateral(at), [anchor], at), parse_key(ak)
    )
    note = enrol.finish(waiting, collector.activate(waiting.credential), verifier, now=at, life=life)
    return TpmCollateral("", (), note.to_bytes())


def _of_trust(tpm: Tpm, good: TpmQuote, verifier: SigningKey, now: int) -> dict[str, Broken]:
    """Certificates and enrolments that do not hold, and keys that are no attestation keys."""
    maker, key = tpm.maker, tpm.ak.public_key()
    foreign = TpmMaker.generate(now=now)
    ours = maker.certify_ak(key, now)
    forged = maker.collateral(foreign.certify_ak(key, now), now)
    revoked = maker.collateral(ours, now, revoked=[ours.serial_number])
    other_purpose = maker.collateral(maker.certify_ak(key, now, purpose=None), now)
    quote = codec.encode(good)
    unrestricted = _of_key(tpm, public_area(key, attributes=AK_ATTRIBUTES & ~RESTRICTED))
    weak_name = _of_key(tpm, public_area(key, name_hash="sha1"))
    word = maker.collateral(ours, now)
    return {
        "tpm.anchor": Broken(quote, foreign.collateral(foreign.certify_ak(key, now), now), now),
        "tpm.ak.chain": Broken(quote, forged, now),
        "tpm.ak.crl": Broken(quote, revoked, now),
        "tpm.ak.certificate": Broken(quote, other_purpose, now),
        "tpm.ak.enrolment": Broken(quote, enrolled(tpm, verifier, now - DAY // 2, life=HOUR), now),
        "tpm.ak": Broken(quote, replace(word, enrolment=enrolled(tpm, verifier, now).enrolment), now),
        "tpm.ak.attributes": Broken(codec.encode(unrestricted), word, now),
        "tpm.ak.scheme": Broken(codec.encode(weak_name), word, now),
    }


def _of_quote(tpm: Tpm, good: TpmQuote) -> dict[str, TpmQuote]:
    """Quotes that the AK signed, or did not, over something else than is shown."""
    shown = dict(good.pcrs["sha256"])
    confused = _quote(tpm, registers=(0, 2, 7, RESETTABLE))
    values = dict(confused.pcrs["sha256"])
    values["4"] = values.pop(str(RESETTABLE))
    return {
        "tpm.quote.scheme": replace(good, signature=signature(tpm.ak, good.attest, name_of="sha384")),
        "tpm.quote.signature": replace(good, signature=signature(generate_p256(), good.attest)),
        "tpm.quote.magic": _quote(tpm, magic=0x12345678),
        "tpm.quote.signer": replace(good, ak=public_area(tpm.ak.public_key(), attributes=AK_ATTRIBUTES | NO_DA)),
        "tpm.pcrs.bank": _quote(tpm, banks=("sha1",)),
        "tpm.pcrs.selection": replace(confused, pcrs={"sha256": values}),
        "tpm.pcrs.digest": replace(good, pcrs={"sha256": {**shown, "4": "ff" * 32}}),
    }


def _quote(
    tpm: Tpm, registers: Sequence[int] = BOOT, banks: Sequence[str] = ("sha256",), magic: int = GENERATED
) -> TpmQuote:
    return codec.decode(TpmQuote, tpm.quote(QUALIFYING, registers, banks=banks, magic=magic))


def _of_key(tpm: Tpm, public: bytes) -> TpmQuote:
    """A quote of a key with another public part, which the TPM names as its signer."""
    signer = parse_key(public).qualified_name(ENDORSEMENT)
    quote = codec.decode(TpmQuote, tpm.quote(QUALIFYING, BOOT, signer=signer))
    return replace(quote, ak=public)
