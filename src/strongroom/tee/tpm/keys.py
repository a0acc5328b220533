"""What an attestation key must be, and whether it signed something.

Knows: attributes (TPM 2.0 Part 2, section 8.3), schemes and hashes that count as secure, signatures. Does not know: who
vouches for the key (`trust`), what was signed. Each function raises `Doubt` with the reason.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.tee.steps import Doubt, require
from strongroom.tee.tpm.parse import (
    DECRYPT,
    ECDSA,
    FIXED_PARENT,
    FIXED_TPM,
    RESTRICTED,
    RSAPSS,
    RSASSA,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
    X509_SIGN,
    Public,
    Signature,
)
from strongroom.tee.tpm.trust import AkTrust

NEEDED = {
    "restricted": RESTRICTED,
    "sign": SIGN,
    "fixedTPM": FIXED_TPM,
    "fixedParent": FIXED_PARENT,
    "sensitiveDataOrigin": SENSITIVE_DATA_ORIGIN,
}
FORBIDDEN = {"decrypt": DECRYPT, "x509sign": X509_SIGN}
HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
"""The hashes that count; SHA-1 does not, neither for signatures nor for names and registers."""
SCHEMES = {RSASSA: "RSASSA", RSAPSS: "RSAPSS", ECDSA: "ECDSA"}
MIN_RSA_BITS = 2048


def check_attributes(ak: Public, vouched: AkTrust | None) -> bool:
    """A key that cannot leave its TPM and signs nothing from outside that looks as if the TPM had said it."""
    if ak.attributes is None:
        require(vouched is not None and vouched.restricted, "a bare key, of which nobody says that it is restricted")
        return True
    missing = [name for name, bit in NEEDED.items() if not ak.attributes & bit]
    require(not missing, f"the key is not {', '.join(missing)}")
    wrong = [name for name, bit in FORBIDDEN.items() if ak.attributes & bit]
    require(not wrong, f"the key is {', '.join(wrong)}")
    return True


def check_scheme(ak: Public) -> str:
    """A key that is long enough, and fixes a secure scheme; its scheme in words."""
    if isinstance(ak.key, rsa.RSAPublicKey):
        require(ak.key.key_size >= MIN_RSA_BITS, f"an RSA key of {ak.key.key_size} bits")
    if ak.name_hash is None:  # a bare key fixes nothing; its signature is judged for itself
        return "a bare key"
    require(ak.name_hash in HASHES, f"the key's name is made with {ak.name_hash}")
    if ak.scheme is None:
        raise Doubt("the key fixes no scheme")
    algorithm, name = ak.scheme
    require(algorithm in SCHEMES, f"the key's scheme {algorithm:#06x} signs nothing")
    require(name in HASHES, f"the key signs with {name}")
    elliptic = isinstance(ak.key, ec.EllipticCurvePublicKey)
    require(elliptic == (algorithm == ECDSA), "the key's scheme is not one of its kind")
    return f"{SCHEMES[algorithm]}, {name}"


def check_signature_scheme(ak: Public, signature: Signature) -> str:
    """A signature made as its key says, with a secure hash; in words."""
    require(signature.hash in HASHES, f"the signature is made with {signature.hash}")
    same = ak.scheme is None or ak.scheme == (signature.algorithm, signature.hash)
    require(same, "the signature is made with another scheme than its key's")
    elliptic = isinstance(ak.key, ec.EllipticCurvePublicKey)
    require(elliptic == (signature.algorithm == ECDSA), "the signature is not of its key's kind")
    return f"{SCHEMES[signature.algorithm]}, {signature.hash}"


def check_signature(ak: Public, signature: Signature, data: bytes) -> bool:
    """Whether `signature`, whose scheme `check_signature_scheme` judged, is over `data`."""
    algorithm = HASHES[signature.hash]()
    try:
        if isinstance(ak.key, rsa.RSAPublicKey) and isinstance(signature.value, bytes):
            # A TPM's salt is as long as the key allows, or as the hash (Part 1, annex B.7); any length is as secure.
            pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            ak.key.verify(
                signature.value, data, pss if signature.algorithm == RSAPSS else padding.PKCS1v15(), algorithm
            )
        elif isinstance(ak.key, ec.EllipticCurvePublicKey) and isinstance(signature.value, tuple):
            ak.key.verify(encode_dss_signature(*signature.value), data, ec.ECDSA(algorithm))
        else:
            raise Doubt("the signature is not of its key's kind")
    except (InvalidSignature, ValueError):  # the latter for numbers that no signature of such a key has
        raise Doubt("the signature does not hold") from None
    return True
