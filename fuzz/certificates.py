"""Certificate chains (PEM), certificates and revocation lists (DER), and the PCK extension inside them."""

from contextlib import suppress

from cryptography.hazmat.primitives.serialization import Encoding
from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.crypto import x509
    from strongroom.errors import StrongroomError
    from strongroom.tee.dcap.pck import parse_extension


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        x509.load_crl(data)
    with suppress(StrongroomError):
        certificate = x509.load_certificate(data)
        x509.common_name(certificate)
        parse_extension(certificate)
    with suppress(StrongroomError):
        chain = x509.load_chain(data)
        x509.check_path(
            chain, root=x509.certificate_digest(chain[-1]), roles=[{"any"}] * (len(chain) - 1), now=samples.NOW
        )


def seeds() -> list[bytes]:
    found = samples.collateral()
    chain = found.tcb_info_chain.encode()
    der = [c.public_bytes(Encoding.DER) for c in x509.load_chain(samples.installation().pck_chain.rstrip(b"\0"))]
    return [chain, found.pck_crl, found.root_ca_crl, *der]


if __name__ == "__main__":
    run(one, seeds)
