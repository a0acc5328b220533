"""Nitro attestation documents, bare and wrapped; one that parses is verified as well."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.crypto import cbor
    from strongroom.errors import StrongroomError
    from strongroom.tee.anchors import installation_anchor
    from strongroom.tee.nitro import parse_document, unwrap, verify
    from strongroom_sim.nitro import Enclave, NitroCloud

NOW = 1_790_000_000
CLOUD = NitroCloud.create(now=NOW)
ANCHOR = installation_anchor("nitro", CLOUD.root_pem)
ENCLAVE = Enclave(CLOUD, {0: b"\1" * 48, 1: b"\1" * 48, 2: b"\1" * 48})


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        verify(parse_document(unwrap(data) or data), CLOUD.collateral(NOW), [ANCHOR], NOW)


def seeds() -> list[bytes]:
    document = ENCLAVE.quote(bytes(64), nonce=bytes(32), now=NOW)
    length = (len(document) << 2 | 1).to_bytes(2, "little")
    wrapped = b"\x00\x02" + length + document + b"\x04\x04a\x04b" + bytes(64) + b"\x08{}"
    return [document, b"\xd2" + document, wrapped, cbor.encode({"Attestation": {"document": document}})]


if __name__ == "__main__":
    run(one, seeds)
