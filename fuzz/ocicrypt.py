"""What stands around layers of ocicrypt: manifests, JWE under an EC and an RSA key, options, recipients' keys as PEM."""

import base64
import secrets
from contextlib import suppress

from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from harness import instrumented, run

with instrumented():
    from strongroom.errors import StrongroomError
    from strongroom.records.digest import digest_bytes
    from strongroom.sealed.ocicrypt import jwe, keys, options
    from strongroom.sealed.ocicrypt.artifact import ENCRYPTED, Artifact, Layer
    from strongroom.sealed.registries.port import Descriptor

EC, RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
PLACE = options.Place(bytes(16), 1, 1, "model.gguf")
PRIVATE = options.PrivateOptions(bytes(32), bytes(16), digest_bytes(b"plain"), PLACE)
PAYLOAD = PRIVATE.to_bytes()


def one(data: bytes) -> None:
    for key in (EC, RSA):
        with suppress(StrongroomError):
            if jwe.decrypt(data, key) != PAYLOAD:
                raise AssertionError
    with suppress(StrongroomError):
        found = options.PrivateOptions.from_bytes(data)
        if options.PrivateOptions.from_bytes(found.to_bytes()) != found:
            raise AssertionError
    with suppress(StrongroomError):
        artifact = Artifact.encrypted(data)
        if Artifact.encrypted(artifact.to_bytes()) != artifact:
            raise AssertionError
        for layer in artifact.layers[:4]:
            for read in (lambda found: options.unwrap(found, EC), options.mac_of):
                with suppress(StrongroomError):
                    read(layer.annotations)
    for text in (data.decode("latin-1"), base64.b64encode(data).decode()):
        with suppress(StrongroomError):
            options.mac_of({options.PUBLIC: text})
    for read in (keys.private_from_pem, keys.recipient_from_pem):
        with suppress(StrongroomError):
            read(data)


def seeds() -> list[bytes]:
    several = jwe.encrypt(PAYLOAD, [RSA.public_key(), EC.public_key()], random=secrets.token_bytes)
    single = jwe.encrypt(PAYLOAD, [EC.public_key()], random=secrets.token_bytes)
    layer = Layer(Descriptor.of("x/y" + ENCRYPTED, b"layer"), options.notes(bytes(32), several))
    manifest = Artifact(Descriptor.of("x/z", b"{}"), (layer,), "x/a", {"a": "b"}).to_bytes()
    pem = EC.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    public = EC.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    return [several, single, PAYLOAD, options.public_bytes(bytes(32)), manifest, pem, public]


if __name__ == "__main__":
    run(one, seeds)
