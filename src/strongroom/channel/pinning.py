"""TLS without certificate authorities: a worker's own key, and clients that know it from verified evidence.

A worker makes an EC P-256 key and a certificate over it, which nobody else signs; the SHA-256 of the key's SubjectPublicKeyInfo
stands in the keyset (`tls`), hence in its evidence. A client's `context` shows the key of each new connection to its caller, when the
handshake has proved that the other end holds it and before a byte of a request is sent. Only TLS 1.3.

Safety: the names, dates and signers in the certificate say nothing and are not looked at. The private key reaches OpenSSL through a
file in memory, since `ssl` reads keys from files only; the file is gone before the first connection.

Knows: TLS contexts. Does not know: sockets, HTTP libraries; whatever takes an `SSLContext` can pin.
Not covered: client certificates, resumed sessions (Python resumes none unless told to).
"""

from __future__ import annotations

import datetime as dt
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from strongroom.crypto.schemes import UNPARSABLE
from strongroom.errors import TlsKeyMismatch
from strongroom.records.digest import Digest, digest_bytes

_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "strongroom worker")])


@dataclass(frozen=True, slots=True, eq=False)
class TlsKey:
    """A worker's TLS key and the certificate over it (DER)."""

    _private: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)

    @classmethod
    def generate(cls, *, now: int, not_after: int) -> TlsKey:
        """A fresh key; both times in Unix seconds."""
        private = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_NAME)
            .issuer_name(_NAME)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime.fromtimestamp(now, dt.UTC))
            .not_valid_after(dt.datetime.fromtimestamp(not_after, dt.UTC))
            .sign(private, SHA256())
        )
        return cls(private, certificate.public_bytes(serialization.Encoding.DER))

    @property
    def digest(self) -> Digest:
        """The SHA-256 of its SubjectPublicKeyInfo, as keysets carry it."""
        return spki_digest(self.certificate)

    def server_context(self) -> ssl.SSLContext:
        """What a server speaks TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        key = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = os.memfd_create("strongroom-tls", os.MFD_CLOEXEC)
        try:
            os.write(file, key + ssl.DER_cert_to_PEM_cert(self.certificate).encode())
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context


def spki_digest(certificate: bytes) -> Digest:
    """The SHA-256 of the key in a certificate (DER). Raises `TlsKeyMismatch` for what is no certificate."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (*UNPARSABLE, AttributeError) as error:
        raise TlsKeyMismatch("a certificate without a key that anybody could have vouched for") from error
    return digest_bytes(encoded)


def only(wanted: Digest) -> Callable[[Digest], None]:
    """A judge for `context` that takes one key. Raises `TlsKeyMismatch` for any other."""

    def judge(shown: Digest) -> None:
        if shown != wanted:
            raise TlsKeyMismatch("the TLS key at this address is not the one in the verified evidence")

    return judge


def context(judge: Callable[[Digest], None]) -> ssl.SSLContext:
    """A client's context: `judge` is told the key of each connection after its handshake; what it raises ends the connection."""

    class Socket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 (ssl's own signature)
            super().do_handshake(block)
            try:
                _judge(self)
            except BaseException:
                self.close()
                raise

    class Object(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            _judge(self)

    def _judge(connection: Any) -> None:
        certificate = connection.getpeercert(binary_form=True)
        if not certificate:
            raise TlsKeyMismatch("the other end shows no TLS key")
        judge(spki_digest(certificate))

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE  # no authority vouches for this key: `judge` does
    made.sslsocket_class = Socket
    made.sslobject_class = Object
    return made
