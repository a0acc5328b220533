"""The two documents that Intel signs as JSON, TCB info and QE identity: signer, signature, form, time, family.

Knows: the four steps that both have, and that TCB info must speak of the platform at hand. Does not know: kinds; each
names its documents by prefix and parser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.crypto import x509
from strongroom.records.verdict import Check
from strongroom.tee import cache
from strongroom.tee.dcap import signatures
from strongroom.tee.dcap.documents import QeIdentity, TcbInfo
from strongroom.tee.dcap.pck import PckExtension
from strongroom.tee.dcap.platform import Platform
from strongroom.tee.steps import Outcome, Steps, require

TCB_SIGNER = {"Intel SGX TCB Signing"}

D = TypeVar("D", TcbInfo, QeIdentity)


@dataclass(frozen=True, slots=True)
class Signed(Generic[D]):
    """One signed document as it came: the exact text, 64 bytes of signature, the signer's chain (PEM).

    `name` is the prefix of its checks, and so says whose it is and which parser reads it.
    """

    name: str
    text: str
    signature: bytes
    chain: str
    parse: Callable[[bytes], D] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Document(Generic[D]):
    """A document's last step, and when all that its steps judged holds (only once they passed)."""

    outcome: Outcome[D]
    window: cache.Window
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class _Signer:
    """A signer of collateral whose path and role hold in `window`, and who was not revoked."""

    key: ec.EllipticCurvePublicKey
    window: cache.Window


_DOCUMENTS: cache.Verified[Document[Any]] = cache.Verified()
_SIGNERS: cache.Verified[_Signer] = cache.Verified()


def verify_document(steps: Steps, signed: Signed[D], given: Outcome[bool], platform: Platform, now: int) -> Document[D]:
    """The four steps of a document: its signer's path and role, its signature, its form, its time."""
    usable = platform.anchor.holds and platform.root_crl.holds
    key = (signed, platform.anchor.value.fingerprint, platform.root_ca_crl) if usable else None
    known = _DOCUMENTS.get(key, now) if usable else None
    if known is not None:
        steps.adopt(known.checks)
        return known
    name, mine = signed.name, Steps()

    def hold() -> bytes:
        data = signed.text.encode("utf-8", "surrogatepass")
        signatures.check(signer.value.key, signed.signature, data, name)
        return data

    def fresh() -> D:
        document = content.value
        until = document.next_update
        require(document.issued <= now <= until, f"issued {document.issued}, next {until}")
        return document

    signer: Outcome[_Signer] = mine.run(
        f"{name}.signer", lambda: _signer(signed.chain, platform, now), given, platform.anchor, platform.root_crl
    )
    signature = mine.run(f"{name}.signature", hold, signer)
    content: Outcome[D] = mine.run(f"{name}.content", lambda: signed.parse(signature.value), signature)
    outcome = mine.run(f"{name}.fresh", fresh, content, describe=lambda it: f"evaluation {it.evaluation_number}")
    steps.adopt(mine.checks)
    if not outcome.holds:
        return Document(outcome, cache.ALWAYS, mine.checks)
    window = cache.Window(outcome.value.issued, outcome.value.next_update).within(signer.value.window)
    document = Document(outcome, window, mine.checks)
    _DOCUMENTS.put(key, document, window)
    return document


def verify_family(
    steps: Steps, prefix: str, tcb_info: Outcome[TcbInfo], extension: Outcome[PckExtension]
) -> Outcome[TcbInfo]:
    """TCB info that speaks of this platform's family and provisioning enclave."""

    def fmspc() -> TcbInfo:
        require(tcb_info.value.fmspc == extension.value.fmspc, f"it is of family {tcb_info.value.fmspc.hex()}")
        return tcb_info.value

    def pceid() -> TcbInfo:
        require(tcb_info.value.pceid == extension.value.pceid, f"it is of PCE {tcb_info.value.pceid.hex()}")
        return tcb_info.value

    same_family = steps.run(f"{prefix}.tcb_info.fmspc", fmspc, tcb_info, extension)
    return steps.run(f"{prefix}.tcb_info.pceid", pceid, same_family)


def forget() -> None:
    """Forget all verified documents and signers."""
    _DOCUMENTS.clear()
    _SIGNERS.clear()


def _signer(pem: str, platform: Platform, now: int) -> _Signer:
    """Whoever signs with this chain, once its path ends at the platform's own root. Raises a `StrongroomError`."""
    root = platform.anchor.value.fingerprint
    key = (pem, root, platform.root_ca_crl)
    known = _SIGNERS.get(key, now)
    if known is not None:
        return known
    chain = x509.load_chain(pem)
    leaf = x509.check_path(chain, root=root, roles=(TCB_SIGNER,), now=now)
    x509.check_not_revoked(leaf, platform.root_crl.value, issuer=chain[-1])
    window = cache.of_certificates(chain).within(cache.of_crl(platform.root_crl.value))
    signer = _Signer(x509.public_key(leaf), window)
    _SIGNERS.put(key, signer, window)
    return signer
