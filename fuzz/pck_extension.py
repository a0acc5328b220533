"""The SGX extension of a PCK certificate (DER)."""

from contextlib import suppress

from cryptography.x509 import Certificate, UnrecognizedExtension
from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.crypto.x509 import load_chain
    from strongroom.errors import StrongroomError
    from strongroom.tee.dcap.pck import SGX_EXTENSION, parse_extension


class Bearer:
    """As much of a certificate as the parser asks for, with any bytes in its extension."""

    def __init__(self, data: bytes) -> None:
        self.value, self.extensions = UnrecognizedExtension(SGX_EXTENSION, data), self

    def get_extension_for_oid(self, _: object) -> "Bearer":
        return self


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        parse_extension(Bearer(data))  # type: ignore[arg-type]


def seeds() -> list[bytes]:
    leaf: Certificate = load_chain(samples.installation().pck_chain.rstrip(b"\0"))[0]
    extension = leaf.extensions.get_extension_for_oid(SGX_EXTENSION).value
    return [extension.value] if isinstance(extension, UnrecognizedExtension) else []


if __name__ == "__main__":
    run(one, seeds)
