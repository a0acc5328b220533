"""The collateral that came with evidence, brought up to date with newer documents that a verifier has itself.

Whoever proves himself brings collateral of his choice, and would bring the last one that speaks for him, as long as it
holds. So a verifier that has newer word of the same vendor on the same thing judges by that.

Knows: which documents are on the same thing, and which is newer: of Intel's (PCS API v4) the greater
`tcbEvaluationDataNumber`, then the later `issueDate`; of revocation lists (RFC 5280) of one issuer the later
`thisUpdate`. A document of the future is never newer. Does not know: whether any of it is true; the verifier judges what
comes out. Not covered: certificates, notes of enrolment, keys of CCA platforms.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, CertificateRevocationList

from strongroom.appraisal.pile import Pile
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.evidence import AmdCollateral, AwsCollateral, Collateral, IntelCollateral, TpmCollateral

SIGNER = "Intel SGX TCB Signing"


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A document of Intel's, its signature, and its signer's chain (PEM), empty where only the document is there."""

    text: str
    signature: bytes
    chain: str


def newest(collateral: Collateral, pile: Pile, *, now: int) -> Collateral:
    """`collateral` with every document replaced that `pile` has a newer one of, as of `now` (Unix seconds)."""
    lists = Lists(pile, now)
    return dataclasses.replace(
        collateral,
        intel=None if collateral.intel is None else _intel(collateral.intel, pile, lists, now),
        amd=None if collateral.amd is None else _amd(collateral.amd, lists),
        aws=None if collateral.aws is None else AwsCollateral(lists.over(collateral.aws.crls)),
        tpm=None if collateral.tpm is None else _tpm(collateral.tpm, lists),
    )


class Lists:
    """The revocation lists of a pile, loose ones and those in its bundles."""

    def __init__(self, pile: Pile, now: int) -> None:
        self._now = now
        self._known = [*pile.crls, *_loaded(der for bundle in pile.bundles for der in _crls(bundle))]

    def newer(self, der: bytes, issuer: Certificate | None) -> bytes:
        """The newest list of the issuer of `der`, or where that is empty of `issuer`; `der` itself if it is that."""
        before = next(iter(_loaded([der])), None)
        if before is None and issuer is None:
            return der
        name = before.issuer if before is not None else issuer.subject if issuer is not None else None
        found = [crl for crl in self._known if crl.issuer == name and crl.last_update_utc.timestamp() <= self._now]
        best = max(found, key=lambda crl: crl.last_update_utc, default=None)
        if best is None or (before is not None and best.last_update_utc <= before.last_update_utc):
            return der
        return best.public_bytes(Encoding.DER)

    def over(self, ders: Sequence[bytes], issuers: Sequence[Certificate] = ()) -> tuple[bytes, ...]:
        """Each of `ders`, or a newer one; and lists of `issuers` of whom there was none."""
        had = {crl.issuer for crl in _loaded(ders)}
        missing = [self.newer(b"", issuer) for issuer in issuers if issuer.subject not in had]
        return (*(self.newer(der, None) for der in ders), *(der for der in missing if der))


def _intel(intel: IntelCollateral, pile: Pile, lists: Lists, now: int) -> IntelCollateral:
    whole = [bundle.intel for bundle in pile.bundles if bundle.intel is not None]
    signing = _signing(pile)
    infos = [Document(x.tcb_info, x.tcb_info_signature, x.tcb_info_chain) for x in whole]
    infos += [Document(x.text, x.signature, signing) for x in pile.tcb_infos]
    identities = [Document(x.qe_identity, x.qe_identity_signature, x.qe_identity_chain) for x in whole]
    identities += [Document(x.text, x.signature, signing) for x in pile.identities]
    info = _best(Document(intel.tcb_info, intel.tcb_info_signature, intel.tcb_info_chain), infos, now)
    identity = _best(Document(intel.qe_identity, intel.qe_identity_signature, intel.qe_identity_chain), identities, now)
    chain = _chain(intel.pck_crl_chain)
    return dataclasses.replace(
        intel,
        tcb_info=info.text,
        tcb_info_signature=info.signature,
        tcb_info_chain=info.chain,
        qe_identity=identity.text,
        qe_identity_signature=identity.signature,
        qe_identity_chain=identity.chain,
        root_ca_crl=lists.newer(intel.root_ca_crl, chain[-1] if chain else None),
        pck_crl=lists.newer(intel.pck_crl, chain[0] if chain else None),
    )


def _amd(amd: AmdCollateral, lists: Lists) -> AmdCollateral:
    chain = _chain(amd.chain)
    return dataclasses.replace(amd, crl=lists.newer(amd.crl, chain[-1] if chain else None))


def _tpm(tpm: TpmCollateral, lists: Lists) -> TpmCollateral:
    return dataclasses.replace(tpm, crls=lists.over(tpm.crls, _chain(tpm.chain)[1:]))


def _best(before: Document, found: Sequence[Document], now: int) -> Document:
    """The newest on what `before` is on; a bare document takes its chain from there if nothing else is known."""
    about, rank = _read(before.text)
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    best = before
    for document in found:
        its, its_rank = _read(document.text)
        if its == about and its_rank > rank and its_rank[1] <= moment:
            best, rank = document, its_rank
    return dataclasses.replace(best, chain=best.chain or before.chain)


@functools.lru_cache(maxsize=64)
def _read(text: str) -> tuple[tuple[str, str], tuple[int, str]]:
    """What a document is on, and how new it is; one that does not parse is on nothing."""
    try:
        content = codec.parse_json(text)
    except MalformedRecord:
        content = None
    number = content.get("tcbEvaluationDataNumber") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(number, int):
        return ("", text), (0, "")
    about = str(content.get("id", "")), str(content.get("fmspc", "")).lower()
    return about, (number, str(content.get("issueDate", "")))


def _signing(pile: Pile) -> str:
    named = [found for found in pile.certificates if x509.common_name(found) == SIGNER]
    signer = max(named, key=lambda found: found.not_valid_before_utc, default=None)
    chain = [signer, *pile.path_from(signer)] if signer is not None else []
    return "".join(found.public_bytes(Encoding.PEM).decode("ascii") for found in chain)


def _crls(collateral: Collateral) -> Iterator[bytes]:
    if collateral.intel is not None:
        yield from (collateral.intel.root_ca_crl, collateral.intel.pck_crl)
    if collateral.amd is not None:
        yield collateral.amd.crl
    yield from collateral.aws.crls if collateral.aws is not None else ()
    yield from collateral.tpm.crls if collateral.tpm is not None else ()


def _loaded(ders: Iterable[bytes]) -> Iterator[CertificateRevocationList]:
    """Those that are lists; what is none changes nothing here, and fails where it is judged."""
    for der in ders:
        try:
            yield x509.load_crl(der)
        except MalformedEvidence:
            continue


def _chain(pem: str) -> list[Certificate]:
    try:
        return x509.load_chain(pem) if pem else []
    except MalformedEvidence:
        return []
