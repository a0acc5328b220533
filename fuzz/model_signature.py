"""Model signatures: bundles, what they sign, the certificates in them; and addresses of keys in tokens."""

from contextlib import suppress
from datetime import UTC, datetime

from harness import instrumented, run

with instrumented():
    import samples
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    from strongroom.crypto import pkcs11uri
    from strongroom.errors import StrongroomError
    from strongroom.sealed.signing import (
        CertifiedSigner,
        KeySigner,
        SignedFiles,
        TrustedRoots,
        sign_files,
        verify_files,
    )
    from strongroom.sealed.signing.statement import read_statement, write_statement

FILES = SignedFiles("model", "sha256", {"a/file": "11" * 32}, ignored=(".git",))
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Anna")])
USAGE = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
    key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
CERTIFICATE = (
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(samples.P256.public_key())
    .serial_number(1)
    .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    .add_extension(USAGE, critical=True)
    .sign(samples.P256, hashes.SHA256())
)
TRUST = (samples.P256.public_key(), TrustedRoots((CERTIFICATE,), "Anna", samples.NOW))


def one(data: bytes) -> None:
    for trust in TRUST:
        with suppress(StrongroomError):
            verify_files(data, trust)
    with suppress(StrongroomError):
        files = read_statement(data)
        if files.shard_bytes is None and read_statement(write_statement(files)) != files:
            raise AssertionError
    with suppress(StrongroomError):
        pkcs11uri.parse(data.decode("utf-8", "replace"))


def seeds() -> list[bytes]:
    certified = CertifiedSigner(KeySigner(samples.P256), [CERTIFICATE])
    shards = SignedFiles("model", "sha256", {"a/file": "11" * 32})
    by_shards = write_statement(shards).replace(b'"method":"files"', b'"method":"shards","shard_size":9.0')
    by_shards = by_shards.replace(b'"algorithm":"sha256"', b'"algorithm":"sha256-sharded-9"').replace(
        b"a/file", b"a/file:0:9"
    )
    return [
        sign_files(FILES, samples.P256),
        sign_files(FILES, certified),
        write_statement(FILES),
        by_shards,
        b"pkcs11:token=t;object=o;id=%01?module-path=/lib.so&pin-source=file:/pin",
    ]


if __name__ == "__main__":
    run(one, seeds)
