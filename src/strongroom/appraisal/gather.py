"""Collateral put together: which of the pieces that people have belong to one piece of evidence.

Knows: what each vendor's evidence needs beside it, and which of several fits. Does not know: how a file is recognised
(`strongroom.appraisal.pile`), or whether any of it is true: the verifier judges what is gathered, and a wrong piece makes
its check fail. Nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from strongroom.appraisal.pile import Pile, Signed
from strongroom.crypto import x509
from strongroom.crypto.signatures import public_from_pem, public_to_der
from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import AmdCollateral, ArmCollateral, AwsCollateral, IntelCollateral, TpmCollateral
from strongroom.records.tpm import TpmEnrolment
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import CERTIFIED_KINDS, TrustAnchor, installation_anchor
from strongroom.tee.cca import platform_anchor
from strongroom.tee.dcap.pck import PckExtension, parse_extension
from strongroom.tee.tpm.enrol import enrolment_anchor


def read_anchors(data: bytes) -> tuple[TrustAnchor, ...]:
    """An installation's own root, for every kind: one PEM certificate; or for CCA a platform's key (PEM or JWK).

    Raises `MalformedEvidence` or `MalformedRecord`.
    """
    if data.lstrip()[:1] in (b"{", b"["):
        pile = Pile()
        pile.add(data)
        return tuple(platform_anchor(key) for key, _, _ in pile.keys)
    if b"-----BEGIN PUBLIC KEY-----" in data:
        return (platform_anchor(public_to_der(public_from_pem(data))),)
    try:
        return tuple(installation_anchor(kind, data) for kind in CERTIFIED_KINDS)
    except MalformedEvidence:
        raise MalformedEvidence(
            "what was given as a root is not one certificate in PEM",
            remedy="Give the installation's root certificate, such as root.pem of a simulated one.",
        ) from None


def read_enroller(pem: bytes) -> TrustAnchor:
    """The public key of a verifier whose notes about TPMs count; of which class each TPM's root is, its note says."""
    return enrolment_anchor(public_from_pem(pem), RootClass.SILICON)


def gather_intel(pile: Pile, pck_chain: str, identifier: str) -> IntelCollateral | None:
    """What belongs to a platform, whole bundles or pieces. `identifier` is TDX or SGX.

    Of several the one that is of this family and holds at the pile's moment. Where none fits, one that does not: the
    verifier then says what is wrong with it.
    """
    whole = [bundle.intel for bundle in pile.bundles if bundle.intel is not None]
    chain = _chain(pck_chain)
    if not chain and (leaf := _named(pile, "Intel SGX PCK Certificate")) is not None:
        chain = [leaf, *pile.path_from(leaf)]
    extension = _extension(chain)
    if extension is not None and (pile.tcb_infos or pile.identities or pile.crls):
        whole.append(_assemble(pile, chain, extension, identifier, alone=not pck_chain))
    rank: Callable[[IntelCollateral], tuple[bool, bool, str]] = lambda found: _rank(  # noqa: E731 (one word for it)
        found.tcb_info, pile.now, extension.fmspc.hex() if extension else "", identifier
    )
    return max(whole, key=rank, default=None)


def _assemble(
    pile: Pile, chain: Sequence[Certificate], extension: PckExtension, identifier: str, *, alone: bool
) -> IntelCollateral:
    """Intel's documents one by one; `alone` where the evidence does not bring the platform's chain itself."""
    signer = _named(pile, "Intel SGX TCB Signing")
    signing = [signer, *pile.path_from(signer)] if signer is not None else []
    wanted = {"TDX": "TD_QE", "SGX": "QE"}[identifier]
    family = extension.fmspc.hex()
    info = _best(pile.tcb_infos, lambda text: _rank(text, pile.now, family, identifier))
    identity = _best(pile.identities, lambda text: _rank(text, pile.now, "", wanted))
    return IntelCollateral(
        tcb_info=info.text,
        tcb_info_signature=info.signature,
        tcb_info_chain=_pem(signing),
        qe_identity=identity.text,
        qe_identity_signature=identity.signature,
        qe_identity_chain=_pem(signing),
        root_ca_crl=pile.crl_of(chain[-1]),
        pck_crl=pile.crl_of(chain[1]) if len(chain) > 1 else b"",
        pck_crl_chain=_pem(chain[1:]),
        pck_chain=_pem(chain) if alone else "",
    )


def _rank(text: str, now: int | None, family: str, identifier: str) -> tuple[bool, bool, str]:
    """How well a document fits: of this family and kind, holds now, newest."""
    try:
        content = codec.parse_json(text)
    except MalformedRecord:
        content = None
    if not isinstance(content, dict):
        return False, False, ""
    fits = str(content.get("fmspc", "")).lower() == family
    # documents of the older format do not say what they are of, and there are none of TDX
    fits = fits and content.get("id", "QE" if identifier == "QE" else "SGX") == identifier
    issued, until = str(content.get("issueDate", "")), str(content.get("nextUpdate", ""))
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if now is not None else until
    return fits, issued <= moment <= until, issued


def _best(found: Sequence[Signed], rank: Callable[[str], tuple[bool, bool, str]]) -> Signed:
    return max(found, key=lambda signed: rank(signed.text), default=Signed("", b""))


def gather_amd(pile: Pile, leaf: str, fits: Callable[[Certificate], bool] = lambda _: True) -> AmdCollateral | None:
    """The chip's certificate (`leaf` is its common name: SEV-VCEK or SEV-VLEK), what stands above it, the ARK's list.

    `fits` says of a certificate whether it is of the chip and firmware in question.
    """
    whole = pile.known("amd")
    if isinstance(whole, AmdCollateral):
        return whole
    named = [certificate for certificate in pile.certificates if x509.common_name(certificate) == leaf]
    found = max(named, key=lambda one: (fits(one), one.not_valid_before_utc), default=None)
    if found is None:
        return None
    above = pile.path_from(found)
    crl = pile.crl_of(above[-1]) if above else b""
    return AmdCollateral(found.public_bytes(Encoding.DER), _pem(above), crl)


def gather_aws(pile: Pile) -> AwsCollateral:
    """All the revocation lists there are."""
    whole = pile.known("aws")
    if isinstance(whole, AwsCollateral):
        return whole
    return AwsCollateral(tuple(crl.public_bytes(Encoding.DER) for crl in pile.crls))


def gather_arm(pile: Pile, implementation_id: bytes, instance_id: bytes) -> ArmCollateral | None:
    """The key that endorses this platform; one that names no platform is taken for it, and must be an anchor anyway."""
    whole = pile.known("arm")
    if isinstance(whole, ArmCollateral):
        return whole
    for key, implementation, instance in pile.keys:
        if implementation in (b"", implementation_id) and instance in (b"", instance_id):
            return ArmCollateral(key, implementation_id, instance_id)
    return None


def gather_tpm(pile: Pile, leaf: Certificate | None, ak_name: str) -> TpmCollateral | None:
    """Who vouches for an AK: the note of its enrolment; else its certificate, the path above, the lists of issuers in it."""
    whole = pile.known("tpm")
    if isinstance(whole, TpmCollateral):
        return whole
    for note in pile.enrolments:
        if _enrolled(note) == ak_name:
            return TpmCollateral("", (), note)
    if leaf is None:
        return None
    path = [leaf, *pile.path_from(leaf)]
    lists = tuple(crl for above in path[1:] if (crl := pile.crl_of(above)))
    return TpmCollateral(_pem(path), lists)


def _enrolled(note: bytes) -> str:
    """The name of the AK that a note speaks of; empty for what is no note."""
    try:
        return codec.decode(TpmEnrolment, Envelope.from_bytes(note).payload).ak_name
    except MalformedRecord:
        return ""


def _chain(pem: str) -> list[Certificate]:
    try:
        return x509.load_chain(pem) if pem else []
    except MalformedEvidence:
        return []


def _extension(chain: Sequence[Certificate]) -> PckExtension | None:
    try:
        return parse_extension(chain[0]) if chain else None
    except MalformedEvidence:
        return None


def _named(pile: Pile, name: str) -> Certificate | None:
    found = [certificate for certificate in pile.certificates if x509.common_name(certificate) == name]
    return max(found, key=lambda certificate: certificate.not_valid_before_utc, default=None)


def _pem(chain: Sequence[Certificate]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in chain)
