"""Who vouches for an attestation key (AK): its own certificate, an enrolment, or another verifier.

Knows: certificate paths of TPMs (TCG EK Credential Profile 2.6; TCG TPM 2.0 Keys for Device Identity and Attestation)
and their revocation lists, for keys that sign (AK) and keys that decrypt (EK). Does not know: quotes (`verify`), how an
enrolment comes about (`enrol`). A certificate vouches for a key only, not for the attributes that evidence shows beside it;
so only certificates that say they are of an attestation key are taken: by their purpose, or, under a cloud's root, by
the extension about the machine that it puts into AK certificates. Certificate policies are not judged: the root's pin is
the policy. Not covered: OCSP; certificates that the X.509 parser refuses, Nuvoton's among them (a name that is not DER).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtensionOID

from strongroom.crypto import x509
from strongroom.crypto.schemes import Scheme
from strongroom.crypto.x509 import Hierarchy
from strongroom.records.digest import Digest
from strongroom.records.evidence import TpmCollateral
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.steps import Doubt, require
from strongroom.tee.tpm.instance import instance_of
from strongroom.tee.tpm.parse import Public, PublicKey

KIND = "tpm"
MAX_CRLS = 8
EK_PURPOSE = certificates.ObjectIdentifier("2.23.133.8.1")
AK_PURPOSE = certificates.ObjectIdentifier("2.23.133.8.3")
TPM_FIELDS = {f"2.23.133.2.{number}" for number in (1, 2, 3)}
"""tcg-at-tpmManufacturer, tcg-at-tpmModel, tcg-at-tpmVersion."""

_SCHEMES = frozenset({Scheme.ECDSA_P256_SHA256, Scheme.ECDSA_P384_SHA384, Scheme.RSA_SHA256, Scheme.RSA_SHA384})
_CRITICAL = frozenset(
    oid.dotted_string
    for oid in (
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_DIRECTORY_ATTRIBUTES,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.EXTENDED_KEY_USAGE,
    )
)
AK_HIERARCHY = Hierarchy(_SCHEMES, leaf_curve=None, critical=_CRITICAL)
EK_HIERARCHY = Hierarchy(_SCHEMES, leaf_curve=None, critical=_CRITICAL, leaf_signs=False)

Chain = list[certificates.Certificate]
E = TypeVar("E", bound=certificates.ExtensionType)


@dataclass(frozen=True, slots=True)
class AkTrust:
    """Somebody vouches that an AK is held by a TPM, under a root of `root_class`.

    `ak_name` is the key's name (`Public.name`). `source` says who vouches, in a word that policies use: `certificate`,
    `enrolment`, or the verifier that gave it. `endorsement` is the SHA-256 of the certificate that it rests on, if any.
    `restricted`: a bare key has no attributes to look at, so its voucher must vouch for these too. `facts` become claims.
    """

    ak_name: str
    root_class: RootClass
    source: str
    endorsement: str = ""
    restricted: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)


def anchor_of(chain: Chain, anchors: Sequence[TrustAnchor]) -> TrustAnchor:
    """The anchor at which `chain` ends; one that only claims to end there fails in `check_path`. Raises `Doubt`."""
    candidates = [anchor for anchor in anchors if anchor.kind == KIND]
    require(candidates, "no trust anchor for TPMs was given")
    root = x509.certificate_digest(chain[-1])
    found = [anchor for anchor in candidates if anchor.fingerprint == root]
    require(found, f"the chain's root {root} is not among the trust anchors")
    return found[0]


def check_path(chain: Chain, anchor: TrustAnchor, now: int, hierarchy: Hierarchy) -> Chain:
    """The chain, once every link from the root down holds at `now`. Raises `SignatureInvalid` or `Doubt`."""
    require(len(chain) > 1, "a root is no certificate of a key")
    roles: list[x509.Role] = [lambda _: True, *([_may_issue] * (len(chain) - 2))]
    x509.check_path(chain, root=anchor.fingerprint, roles=roles, now=now, hierarchy=hierarchy)
    return chain


def check_lists(chain: Chain, lists: Sequence[bytes], now: int) -> bool:
    """Look for every certificate in its issuer's current list.

    One that names no list need not be found in one, but at least one certificate must. Raises `SignatureInvalid`,
    `MalformedEvidence` or `Doubt`.
    """
    require(len(lists) <= MAX_CRLS, f"{len(lists)} revocation lists")
    crls = [x509.load_crl(der) for der in lists]
    looked_up = 0
    for certificate, issuer in pairwise(chain):
        own = [crl for crl in crls if crl.issuer == certificate.issuer]
        require(own or not _names_list(certificate), f"no list of {x509.common_name(issuer)!r} was given")
        for crl in own:
            x509.check_crl(crl, issuer=issuer, now=now, hierarchy=AK_HIERARCHY)
            x509.check_not_revoked(certificate, crl)
            looked_up += 1
    require(looked_up, "none of the revocation lists is of an issuer in this chain")
    return True


def check_ak_certificate(chain: Chain, anchor: TrustAnchor, ak: Public) -> AkTrust:
    """What an AK's certificate, whose path holds, says of `ak`. Raises `Doubt` or `MalformedEvidence`."""
    leaf = chain[0]
    require(same_key(x509.any_key(leaf), ak.key), "the certificate is of another key")
    facts = instance_of(leaf)
    by_cloud = bool(facts) and anchor.root_class is not RootClass.SILICON
    require(
        AK_PURPOSE in (_purposes(leaf) or ()) or by_cloud,
        "the certificate does not say that it is of an attestation key",
    )
    require(facts.get("gce_production") != "0", "the certificate is of a machine that is not for production")
    return AkTrust(
        ak_name=ak.name,
        root_class=anchor.root_class,
        source="certificate",
        endorsement=x509.certificate_digest(leaf),
        restricted=True,
        facts=facts,
    )


def check_ek_certificate(leaf: certificates.Certificate, ek: Public) -> Digest:
    """The SHA-256 of an EK's certificate, whose path holds, once it has the form of one and is of the key `ek`.

    TCG EK Credential Profile 2.6, section 3: usage, purpose, and the TPM's manufacturer, model and version as the
    alternative name, critical where the subject is empty. Raises `Doubt`.
    """
    require(same_key(x509.any_key(leaf), ek.key), "the certificate is of another key")
    usage = _extension(leaf, certificates.KeyUsage)
    if usage is None:
        raise Doubt("the certificate does not say what its key is for")
    decrypts = usage.key_encipherment if isinstance(ek.key, rsa.RSAPublicKey) else usage.key_agreement
    require(decrypts, "the certificate's key is not one that decrypts")
    require(not usage.digital_signature and not usage.key_cert_sign, "an endorsement key does not sign")
    require(EK_PURPOSE in (_purposes(leaf) or ()), "the certificate does not say that it is of an endorsement key")
    require(_names_tpm(leaf), "the certificate does not name its TPM")
    return x509.certificate_digest(leaf)


def load(collateral: TpmCollateral) -> Chain:
    """The chain of a TPM's collateral. Raises `MalformedEvidence`."""
    return x509.load_chain(collateral.chain)


def same_key(one: object, other: PublicKey) -> bool:
    """Whether two public keys are the same key."""
    return isinstance(one, type(other)) and one.public_numbers() == other.public_numbers()


def _may_issue(certificate: certificates.Certificate) -> bool:
    """A CA between root and leaf: if it names purposes, then those of TPM keys are among them."""
    purposes = _purposes(certificate)
    return purposes is None or bool(purposes & {EK_PURPOSE, AK_PURPOSE})


def _purposes(certificate: certificates.Certificate) -> set[certificates.ObjectIdentifier] | None:
    found = _extension(certificate, certificates.ExtendedKeyUsage)
    return None if found is None else set(found)


def _names_list(certificate: certificates.Certificate) -> bool:
    return _extension(certificate, certificates.CRLDistributionPoints) is not None


def _names_tpm(leaf: certificates.Certificate) -> bool:
    try:
        extension = leaf.extensions.get_extension_for_class(certificates.SubjectAlternativeName)
    except certificates.ExtensionNotFound:
        return False
    names = extension.value.get_values_for_type(certificates.DirectoryName)
    fields = {attribute.oid.dotted_string for name in names for attribute in name}
    return fields >= TPM_FIELDS and (extension.critical or bool(list(leaf.subject)))


def _extension(certificate: certificates.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except certificates.ExtensionNotFound:
        return None
