"""Enclave images of AWS Nitro, and the registers that an enclave started from one will show.

Knows: the layout of an EIF, version 4 and older (aws-nitro-enclaves-image-format, `src/defs/mod.rs`: a header of 548 bytes,
big-endian, sections with headers of their own, CRC-32 over all but itself), and PCR 0 to 2 (AWS "Cryptographic attestation",
"PCR0, PCR1, PCR2"): each is one extension, from zeros, by the SHA-384 of contents of sections in their order. PCR 8 is the
same for the certificate of a signed image. Does not know: attestation documents. Not covered: the role and the instance of
the parent (PCR 3 and 4), which are not the image's, and whether the signature of an image is valid.
"""

from __future__ import annotations

import binascii
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import cbor
from strongroom.crypto.schemes import UNPARSABLE
from strongroom.errors import MalformedImage, Unreadable
from strongroom.launch.measure.bounds import MAX_IMAGE_BYTES, part
from strongroom.launch.measure.expected import Expected, ExpectedInput

MAGIC = b".eif"
VERSIONS = range(2, 5)
MAX_SECTIONS = 32
HEADER_BYTES, SECTION_BYTES, CRC_AT = 548, 12, 544
COUNT_AT, OFFSETS_AT, SIZES_AT = 26, 28, 284
KERNEL, COMMAND_LINE, RAMDISK, SIGNATURE, METADATA = 1, 2, 3, 4, 5
NAMES = {KERNEL: "kernel", COMMAND_LINE: "command line", RAMDISK: "ramdisk"}
MAX_SIGNATURE = 64 * 1024


@dataclass(frozen=True, slots=True)
class EnclaveImage:
    """A parsed EIF: sections as type and content, in their order."""

    version: int
    sections: tuple[tuple[int, memoryview], ...]


def parse_eif(data: bytes) -> EnclaveImage:
    """Read an enclave image. Raises `MalformedImage`; a wrong checksum is one, too."""
    if len(data) > MAX_IMAGE_BYTES or bytes(data[:4]) != MAGIC:
        raise MalformedImage("this is not an enclave image")
    part(data, 0, HEADER_BYTES, "the header of the enclave image")
    version, count = _number(data, 4, 2), _number(data, COUNT_AT, 2)
    if version not in VERSIONS or count > MAX_SECTIONS:
        raise MalformedImage(f"an enclave image of version {version} with {count} sections")
    sections, at = [], HEADER_BYTES
    for number in range(count):
        kind, size = _number(data, at, 2), _number(data, at + 4, 8)
        offset, listed = _number(data, OFFSETS_AT + 8 * number, 8), _number(data, SIZES_AT + 8 * number, 8)
        if (offset, listed) != (at, size) or kind not in range(KERNEL, METADATA + 1):
            raise MalformedImage("the header of this enclave image does not say where its sections are")
        sections.append((kind, part(data, at + SECTION_BYTES, size, "a section of the enclave image")))
        at += SECTION_BYTES + size
    if at != len(data):
        raise MalformedImage("something follows the sections of this enclave image")
    view = memoryview(data)
    if binascii.crc32(view[HEADER_BYTES:], binascii.crc32(view[:CRC_AT])) != _number(data, CRC_AT, 4):
        raise MalformedImage("the checksum of this enclave image is wrong")
    kinds = [kind for kind, _ in sections]
    if kinds.count(KERNEL) != 1 or kinds.count(COMMAND_LINE) != 1 or RAMDISK not in kinds:
        raise MalformedImage("an enclave image has one kernel, one command line, and ramdisks")
    return EnclaveImage(version, tuple(sections))


def pcrs(image: EnclaveImage) -> Expected:
    """PCR 0, 1, 2, and 8 if the image is signed. Raises `MalformedImage`."""
    whole, bootstrap, application = hashlib.sha384(), hashlib.sha384(), hashlib.sha384()
    inputs, ramdisks = [], 0
    for kind, content in image.sections:
        if kind not in NAMES:
            continue
        whole.update(content)
        if kind != RAMDISK or not ramdisks:
            bootstrap.update(content)
        else:
            application.update(content)
        ramdisks += kind == RAMDISK
        what = NAMES[kind] + (f" {ramdisks}" if kind == RAMDISK else "")
        inputs.append(ExpectedInput("pcr0", what, hashlib.sha384(content).hexdigest(), what, NAMES[kind]))
    found = {f"pcr{n}": _extended(one.digest()) for n, one in enumerate((whole, bootstrap, application))}
    signatures = [content for kind, content in image.sections if kind == SIGNATURE]
    if signatures:
        found["pcr8"] = _extended(hashlib.sha384(_certificate(signatures)).digest())
    return Expected("nitro", found, {}, tuple(inputs))


def command_line(image: EnclaveImage) -> str:
    """The command line that is built in. Raises `MalformedImage`."""
    content = next(bytes(content) for kind, content in image.sections if kind == COMMAND_LINE)
    try:
        return content.rstrip(b"\0\n").decode("ascii")
    except UnicodeDecodeError:
        raise MalformedImage("the command line of this image is not ASCII") from None


def _certificate(signatures: list[memoryview]) -> bytes:
    """The certificate of the signer, as DER; the signature section is CBOR, and its certificate an array of numbers or bytes."""
    if len(signatures) != 1 or len(signatures[0]) > MAX_SIGNATURE:
        raise MalformedImage("an enclave image has one signature section of sensible size")
    try:
        pem = cbor.decode(bytes(signatures[0]), limit=MAX_SIGNATURE)[0]["signing_certificate"]
        octets = pem if isinstance(pem, bytes) else bytes([*pem])  # never bytes(n), which would be n zeros
        return x509.load_pem_x509_certificate(octets).public_bytes(Encoding.DER)
    except (Unreadable, LookupError, *UNPARSABLE):
        raise MalformedImage("the signature of this enclave image does not parse") from None


def _extended(digest: bytes) -> str:
    return hashlib.sha384(bytes(48) + digest).hexdigest()


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(part(data, at, size, "the enclave image"), "big")
