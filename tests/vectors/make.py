"""Make the vectors of the sealed format anew: `python tests/vectors/make.py`. See README.md beside it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from strongroom.crypto import segments
from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256, public_to_pem
from strongroom.records.artifact import ArtifactKind
from strongroom.sealed.manifest import Manifest
from strongroom.sealed.open import Opener
from strongroom.sealed.outer import sign_artifact
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.registries.port import IMAGE_MANIFEST
from strongroom.sealed.rotate import rekey
from strongroom.sealed.seal import SealedArtifact, seal
from strongroom.sealed.wrapping import unwrap, wrap_to

HERE = Path(__file__).parent
KEY = bytes(range(32))
AAD = b"strongroom vectors"
SMALL = 128


class Counted:
    """Fixed randomness: SHA-256 of a counter."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0

    def __call__(self, length: int) -> bytes:
        made = b""
        while len(made) < length:
            self._count += 1
            made += hashlib.sha256(f"{self._name} {self._count}".encode()).digest()
        return made[:length]


def stream(name: str, plain: bytes, *, segment_bytes: int = SMALL) -> bytes:
    sink = io.BytesIO()
    random = Counted(name)
    segments.encrypt(io.BytesIO(plain), sink, key=KEY, aad=AAD, segment_bytes=segment_bytes, random=random)
    return sink.getvalue()


def text(length: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(length))


def write_stream(
    name: str,
    data: bytes,
    comment: str,
    *,
    expect: str = "success",
    plain: bytes = b"",
    key: bytes = KEY,
    aad: bytes = AAD,
    segment_bytes: int = SMALL,
) -> None:
    lines = {
        "expect": expect,
        "comment": comment,
        "key": key.hex(),
        "aad": aad.hex(),
        "segment_bytes": str(segment_bytes),
        **({"plaintext": hashlib.sha256(plain).hexdigest()} if expect == "success" else {}),
    }
    head = "".join(f"{key}: {value}\n" for key, value in lines.items())
    (HERE / "streams" / f"{name}.vector").write_text(head + "\n" + base64.encodebytes(data).decode())


FIRST, FULL = SMALL - 56, SMALL - 16
LENGTHS = {
    "empty": 0,
    "one_byte": 1,
    "first_segment_full": FIRST,
    "first_segment_full_and_one": FIRST + 1,
    "two_segments_full": FIRST + FULL,
    "three_segments": FIRST + FULL + 5,
}


def streams() -> None:
    for name, length in LENGTHS.items():
        write_stream(name, stream(name, text(length)), f"{length} bytes of plaintext", plain=text(length))
    big = stream("larger_segments", text(10_000), segment_bytes=4096)
    write_stream("larger_segments", big, "segments of 4096 bytes", plain=text(10_000), segment_bytes=4096)
    good = stream("good", text(300))
    head, parts = good[:SMALL], [good[at : at + SMALL] for at in range(SMALL, len(good), SMALL)]
    other = stream("other", text(300))
    broken: dict[str, tuple[bytes, str]] = {
        "flipped_bit_in_the_first_segment": (good[:60] + bytes([good[60] ^ 1]) + good[61:], "one bit"),
        "flipped_bit_in_the_last_tag": (good[:-1] + bytes([good[-1] ^ 0x80]), "one bit"),
        "flipped_bit_in_the_salt": (good[:1] + bytes([good[1] ^ 1]) + good[2:], "another stream key"),
        "flipped_bit_in_the_prefix": (good[:33] + bytes([good[33] ^ 1]) + good[34:], "another nonce"),
        "segments_swapped": (head + parts[1][:SMALL] + parts[0] + b"".join(parts[2:]), "1 and 2 changed places"),
        "segment_repeated": (head + parts[0] + parts[0] + b"".join(parts[1:]), "1 stands twice"),
        "segment_missing": (head + b"".join(parts[1:]), "without 1"),
        "last_segment_missing": (head + b"".join(parts[:-1]), "cut at a segment's end"),
        "cut_inside_a_segment": (good[:-20], "cut elsewhere"),
        "bytes_behind_the_end": (good + bytes(40), "zeros follow"),
        "segment_of_another_stream": (head + other[SMALL : 2 * SMALL] + b"".join(parts[1:]), "1 of another stream"),
    }
    for name, (data, comment) in broken.items():
        write_stream(name, data, comment, expect="sealed.broken")
    write_stream("another_key", good, "a key that did not seal it", expect="sealed.broken", key=bytes(32))
    write_stream("another_place", good, "associated data of another place", expect="sealed.broken", aad=b"elsewhere")
    write_stream(
        "another_segment_size", good, "not the size it was sealed with", expect="sealed.broken", segment_bytes=256
    )
    write_stream("length_byte_wrong", b"\x29" + good[1:], "the header says another length", expect="sealed.malformed")
    write_stream("shorter_than_a_header", good[:39], "no stream is so short", expect="sealed.malformed")
    write_stream("only_a_header", good[:40], "without any segment", expect="sealed.malformed")
    write_stream(
        "empty_last_segment", good[: 2 * SMALL + 16], "a last segment of a tag only", expect="sealed.malformed"
    )


@dataclass
class Place:
    """A layout in a folder, an owner and a recipient."""

    registry: DirectoryRegistry
    files: dict[str, bytes]

    def __post_init__(self) -> None:
        self.signer, self.recipient = generate_p256(), ReleaseKey.generate()

    def seal(self, **options: object) -> SealedArtifact:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model"
            for path, content in self.files.items():
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                (source / path).write_bytes(content)
            wrap = wrap_to([self.recipient.public])
            return seal(
                source, self.registry, kind=ArtifactKind.MODEL, wrap=wrap, signer=self.signer, segment_bytes=256,
                **options,  # type: ignore[arg-type]
            )  # fmt: skip

    def publish(self, manifest: Manifest, *, signed: bool) -> None:
        config = manifest.config_bytes()
        with self.registry.push_blob() as blob:
            blob.write(config)
            blob.commit()
        self.registry.put_manifest(manifest.to_bytes(), media_type=IMAGE_MANIFEST, tag="latest")
        if signed:
            sign_artifact(self.registry, manifest, self.signer)

    def write(self, name: str, comment: str, *, expect: str = "success", floor: list[object] | None = None) -> None:
        root = self.registry.root
        files = {
            path.relative_to(root).as_posix(): base64.b64encode(path.read_bytes()).decode()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        digests = {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}
        document = {
            "expect": expect,
            "comment": comment,
            "floor": floor,
            "signer": public_to_pem(self.signer.public_key()).decode(),
            "recipient": base64.b64encode(self.recipient.to_bytes()).decode(),
            "plaintext": digests if expect == "success" else {},
            "files": files,
        }
        (HERE / "artifacts" / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")

    def blob(self, digest: str) -> Path:
        return self.registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")


FILES = {"model.bin": text(600), "nested/config.json": b'{"layers": 2}', "nested/empty": b""}


def fresh() -> tuple[Place, SealedArtifact]:
    place = Place(DirectoryRegistry(Path(tempfile.mkdtemp()) / "layout"), dict(FILES))
    return place, place.seal()


def changed(name: str, comment: str, expect: str, change: Callable[[Place, SealedArtifact], None]) -> None:
    place, made = fresh()
    change(place, made)
    place.write(name, comment, expect=expect)


def flip(place: Place, made: SealedArtifact) -> None:
    path = place.blob(made.manifest.layers[1].digest)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)


def missing(place: Place, made: SealedArtifact) -> None:
    place.blob(made.manifest.layers[2].digest).unlink()


def cut(place: Place, made: SealedArtifact) -> None:
    path = place.blob(made.manifest.layers[1].digest)
    path.write_bytes(path.read_bytes()[:256])


def swapped(place: Place, made: SealedArtifact) -> None:
    zero, one, two, three = made.manifest.layers
    place.publish(Manifest(made.manifest.header, (zero, two, one, three)), signed=True)


def unsigned(place: Place, made: SealedArtifact) -> None:
    zero, one, two, three = made.manifest.layers
    place.publish(Manifest(made.manifest.header, (zero, two, one, three)), signed=False)


def other_header(place: Place, made: SealedArtifact) -> None:
    other = place.seal()
    place.publish(Manifest(other.manifest.header, made.manifest.layers), signed=True)


def fewer(place: Place, made: SealedArtifact) -> None:
    place.publish(Manifest(made.manifest.header, made.manifest.layers[:-1]), signed=True)


def lied_edition(place: Place, made: SealedArtifact) -> None:
    header = replace(made.manifest.header, artifact_id=bytes(16), edition=7)
    place.publish(Manifest(header, made.manifest.layers), signed=True)


def foreign(place: Place, _: SealedArtifact) -> None:
    place.signer = generate_p256()


def torn(place: Place, made: SealedArtifact) -> None:
    path = place.blob(made.manifest.digest)
    path.write_bytes(path.read_bytes()[:-1])


def artifacts() -> None:
    place, made = fresh()
    place.write("good", "three files")
    line = made.manifest.header.line.hex()
    place.write("floor_met", "the least edition is this one", floor=[line, 1])
    place.write("floor_above", "a later edition is asked for", expect="sealed.edition", floor=[line, 2])
    place.write("floor_of_another_line", "another line is asked for", expect="sealed.edition", floor=["00" * 16, 1])

    place, _ = fresh()
    place.seal(pad_to=512)
    place.write("padded", "every stream is padded to multiples of 512 bytes")

    place, made = fresh()
    with Opener(place.registry, "latest", signer_public=place.signer.public_key()).open(
        unwrap(made.manifest.header, place.recipient)
    ) as opened:
        rekey(opened, place.registry, wrap=wrap_to([place.recipient.public]), signer=place.signer, tag="latest")
    place.write("rekeyed", "the second edition of its line", floor=[made.manifest.header.line.hex(), 2])

    changed("flipped_bit", "in a file's stream; every signature still holds", "sealed.broken", flip)
    changed("layer_missing", "a blob is not there", "file.unreadable", missing)
    changed("layer_cut", "a blob is shorter than its descriptor says", "sealed.broken", cut)
    changed("layers_swapped_and_signed", "two files changed places, by the owner's own hand", "sealed.broken", swapped)
    changed("layers_swapped", "two files changed places; no signature is about it", "signature.invalid", unsigned)
    changed("header_of_another", "another artifact's header, signed", "sealed.broken", other_header)
    changed("layer_left_out", "a file less than the index says, signed", "sealed.malformed", fewer)
    changed("another_id", "another artifact id and edition, signed", "sealed.broken", lied_edition)
    changed("another_signer", "somebody else's key is expected", "signature.invalid", foreign)
    changed("manifest_torn", "the manifest lacks its last byte", "sealed.broken", torn)


if __name__ == "__main__":
    streams()
    artifacts()
