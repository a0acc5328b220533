"""OpenSSF Model Signing v1.0: what is signed, who signs it, and whose word counts.

`statement` says of a set of files what they are, `bundle` carries it with its signature, `signers` make signatures with a
key, under a certificate or (`token`) inside a PKCS#11 token, `trust` judges whose key a bundle was signed with, and
`folder` compares a plain folder with what was signed of it.
"""

from strongroom.sealed.signing.bundle import BUNDLE_TYPE, MAX_BUNDLE_BYTES, key_hint, sign_files, verify_files
from strongroom.sealed.signing.signers import CertifiedSigner, KeySigner, Signer
from strongroom.sealed.signing.statement import GIT_PLACES, SignedFiles, about_files
from strongroom.sealed.signing.trust import Material, Trust, TrustedKey, TrustedRoots, load_certificates

__all__ = [
    "BUNDLE_TYPE",
    "GIT_PLACES",
    "MAX_BUNDLE_BYTES",
    "CertifiedSigner",
    "KeySigner",
    "Material",
    "SignedFiles",
    "Signer",
    "Trust",
    "TrustedKey",
    "TrustedRoots",
    "about_files",
    "key_hint",
    "load_certificates",
    "sign_files",
    "verify_files",
]
