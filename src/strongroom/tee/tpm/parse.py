"""The bytes of a TPM quote (TPM 2.0 Library, Part 2: Structures), read totally.

Knows: TPMS_ATTEST of type quote, TPMT_SIGNATURE, TPMT_PUBLIC of RSA and elliptic keys, PCR selections, and the record
that carries them. Does not know: whether any of it is true (`verify`). Field names follow the specification. All
integers are big-endian. Refused, with `MalformedEvidence`: unknown algorithms, attributes and banks, a bank named
twice, lengths that are not exact, anything after the end. Not covered: attestations of other types, EC-DAA, SM2, SM3,
curves other than P-256 and P-384.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.tpm import TpmQuote

MAX_QUOTE_BYTES = 32 * 1024
MAX_STRUCTURE_BYTES = 4096
PCR_COUNT = 24
MAX_SELECT_BYTES = 4
MAX_BANKS = 8

ATTEST_QUOTE = 0x8018
RSA, AES, NULL, RSASSA, RSAES, RSAPSS, OAEP, ECDSA, ECDH, ECC, CFB = (
    0x0001, 0x0006, 0x0010, 0x0014, 0x0015, 0x0016, 0x0017, 0x0018, 0x0019, 0x0023, 0x0043,
)  # fmt: skip
"""TPM_ALG_ID (Part 2, section 6.3)."""
HASHES = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
CURVES: dict[int, ec.EllipticCurve] = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1()}
DIGEST_BYTES = {name: hashlib.new(name, usedforsecurity=False).digest_size for name in HASHES.values()}

FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN, ADMIN_WITH_POLICY = 1 << 1, 1 << 4, 1 << 5, 1 << 7
RESTRICTED, DECRYPT, SIGN, X509_SIGN = 1 << 16, 1 << 17, 1 << 18, 1 << 19
KNOWN_ATTRIBUTES = 0x000F_0FF6
"""TPMA_OBJECT (Part 2, section 8.3): bits 1, 2, 4 to 11 and 16 to 19; all others are reserved."""
OWNER, ENDORSEMENT = 0x40000001, 0x4000000B
"""TPM_RH (Part 2, section 7.4): the hierarchies whose keys outlive a restart."""
MIN_RSA_BITS, MAX_RSA_BITS, DEFAULT_EXPONENT = 1024, 4096, 65537

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Public:
    """A public key. For a bare key, which is no TPM structure, `name_hash` to `scheme` are None.

    `raw` is the TPMT_PUBLIC, or the SubjectPublicKeyInfo of a bare key. `scheme` is (algorithm, name of its hash or
    ""), None where the key fixes none. `symmetric` is (bits, mode) of the AES key that protects what hangs below.
    """

    raw: bytes
    key: PublicKey
    name_hash: str | None
    attributes: int | None
    policy: bytes
    symmetric: tuple[int, int] | None
    scheme: tuple[int, str] | None

    @property
    def name(self) -> str:
        """The key's name in hexadecimal (Part 1, section 16): nameAlg and the digest over TPMT_PUBLIC; `spki:` if bare."""
        if self.name_hash is None:
            return "spki:" + hashlib.sha256(self.raw).hexdigest()
        identifier = next(number for number, name in HASHES.items() if name == self.name_hash)
        digest = hashlib.new(self.name_hash, self.raw, usedforsecurity=False).hexdigest()
        return f"{identifier:04x}{digest}"

    def qualified_name(self, hierarchy: int) -> bytes:
        """The qualified name of a primary key of this hierarchy (Part 1, section 16); empty for a bare key."""
        if self.name_hash is None:
            return b""
        name = bytes.fromhex(self.name)
        path = hierarchy.to_bytes(4, "big") + name
        return name[:2] + hashlib.new(self.name_hash, path, usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True)
class Attest:
    """TPMS_ATTEST of type quote; `raw` is what the key signed. `selection` keeps the order in which it was made."""

    raw: bytes
    magic: int
    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    clock_safe: bool
    firmware_version: int
    selection: tuple[tuple[str, tuple[int, ...]], ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """TPMT_SIGNATURE: RSA signatures as they are, ECDSA as (r, s)."""

    algorithm: int
    hash: str
    value: bytes | tuple[int, int]


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote, the key that is said to have made it, and the register values it is said to be about."""

    attest: Attest
    signature: Signature
    ak: Public
    pcrs: Mapping[str, Mapping[int, bytes]]


class Reader:
    """Bytes from front to back, never past the end; `what` names them in errors."""

    def __init__(self, data: bytes, what: str) -> None:
        if len(data) > MAX_STRUCTURE_BYTES:
            raise MalformedEvidence(f"{what} of {len(data)} bytes exceeds the limit of {MAX_STRUCTURE_BYTES}")
        self._data, self._what, self._at = data, what, 0

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise MalformedEvidence(f"{self._what} ends early, {end - len(self._data)} bytes before a field does")
        taken, self._at = self._data[self._at : end], end
        return taken

    def integer(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def sized(self) -> bytes:
        """A TPM2B: the size in 2 bytes, and so many bytes."""
        return self.take(self.integer(2))

    def hash(self) -> str:
        """A TPMI_ALG_HASH by name."""
        number = self.integer(2)
        if number not in HASHES:
            raise MalformedEvidence(f"{self._what} has the unknown hash {number:#06x}")
        return HASHES[number]

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise MalformedEvidence(f"{len(self._data) - self._at} bytes follow the end of {self._what}")


def parse_quote(data: bytes) -> Quote:
    """Read the record of kind `tpm`, nothing after it. Raises `MalformedEvidence`."""
    if len(data) > MAX_QUOTE_BYTES:
        raise MalformedEvidence(f"a TPM quote of {len(data)} bytes exceeds the limit of {MAX_QUOTE_BYTES}")
    try:
        record = codec.decode(TpmQuote, data)
    except MalformedRecord as error:
        raise MalformedEvidence(f"this is no TPM quote: {error.message}") from None
    if codec.encode(record) != data:
        raise MalformedEvidence("a TPM quote that is not in its canonical form")
    return read_quote(record)


def read_quote(record: TpmQuote) -> Quote:
    """The same from the record itself. Raises `MalformedEvidence`."""
    return Quote(
        attest=parse_attest(record.attest),
        signature=parse_signature(record.signature),
        ak=parse_key(record.ak),
        pcrs={bank: _registers(bank, values) for bank, values in record.pcrs.items()},
    )


def parse_attest(data: bytes) -> Attest:
    """Read a TPMS_ATTEST (Part 2, section 10.12.12) of type quote. Raises `MalformedEvidence`."""
    reader = Reader(data, "a TPMS_ATTEST")
    magic, kind = reader.integer(4), reader.integer(2)
    if kind != ATTEST_QUOTE:
        raise MalformedEvidence(f"an attestation of type {kind:#06x}; only quotes ({ATTEST_QUOTE:#06x}) are known")
    signer, extra = reader.sized(), reader.sized()
    clock, resets, restarts, safe = reader.integer(8), reader.integer(4), reader.integer(4), reader.integer(1)
    if safe > 1:
        raise MalformedEvidence("the clock of an attestation is neither safe nor unsafe")
    firmware, selection, digest = reader.integer(8), parse_selection(reader), reader.sized()
    reader.end()
    return Attest(data, magic, signer, extra, clock, resets, restarts, safe == 1, firmware, selection, digest)


def parse_selection(reader: Reader) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Read a TPML_PCR_SELECTION (Part 2, section 10.9.7) without a bank named twice. Raises `MalformedEvidence`."""
    banks: dict[str, tuple[int, ...]] = {}
    count = reader.integer(4)
    if count > MAX_BANKS:
        raise MalformedEvidence(f"a selection of {count} banks")
    for _ in range(count):
        bank, size = reader.hash(), reader.integer(1)
        if bank in banks or size > MAX_SELECT_BYTES:
            raise MalformedEvidence(f"a selection names {bank} twice, or more registers than there are")
        bits = int.from_bytes(reader.take(size), "little")
        banks[bank] = tuple(index for index in range(8 * size) if bits >> index & 1)
    return tuple(banks.items())


def parse_signature(data: bytes) -> Signature:
    """Read a TPMT_SIGNATURE (Part 2, section 11.3.4): RSASSA, RSAPSS or ECDSA. Raises `MalformedEvidence`."""
    reader = Reader(data, "a TPMT_SIGNATURE")
    algorithm = reader.integer(2)
    if algorithm not in {RSASSA, RSAPSS, ECDSA}:
        raise MalformedEvidence(f"a signature of unknown scheme {algorithm:#06x}")
    name = reader.hash()
    first = reader.sized()
    value = (int.from_bytes(first, "big"), int.from_bytes(reader.sized(), "big")) if algorithm == ECDSA else first
    reader.end()
    return Signature(algorithm, name, value)


def parse_key(data: bytes) -> Public:
    """Read a key as TPMT_PUBLIC, TPM2B_PUBLIC or SubjectPublicKeyInfo (DER). Raises `MalformedEvidence`."""
    if data[:1] == b"\x30":  # a SEQUENCE; a TPM structure would be of 12 KiB
        return _bare(data)
    if int.from_bytes(data[:2], "big") == len(data) - 2:
        data = data[2:]
    return parse_public(data)


def parse_public(data: bytes) -> Public:
    """Read a TPMT_PUBLIC (Part 2, section 12.2.4) of an RSA or elliptic key. Raises `MalformedEvidence`."""
    reader = Reader(data, "a TPMT_PUBLIC")
    kind, name_hash, attributes, policy = reader.integer(2), reader.hash(), reader.integer(4), reader.sized()
    if kind not in {RSA, ECC}:
        raise MalformedEvidence(f"a key of unknown type {kind:#06x}")
    if attributes & ~KNOWN_ATTRIBUTES:
        raise MalformedEvidence(f"a key with reserved attributes: {attributes:#010x}")
    symmetric, scheme = _symmetric(reader), _scheme(reader)
    key = _rsa(reader) if kind == RSA else _elliptic(reader)
    reader.end()
    return Public(data, key, name_hash, attributes, policy, symmetric, scheme)


def _symmetric(reader: Reader) -> tuple[int, int] | None:
    algorithm = reader.integer(2)
    if algorithm == NULL:
        return None
    if algorithm != AES:
        raise MalformedEvidence(f"a key with the unknown symmetric algorithm {algorithm:#06x}")
    return reader.integer(2), reader.integer(2)


def _scheme(reader: Reader) -> tuple[int, str] | None:
    algorithm = reader.integer(2)
    if algorithm == NULL:
        return None
    if algorithm == RSAES:
        return algorithm, ""
    if algorithm not in {RSASSA, RSAPSS, OAEP, ECDSA, ECDH}:
        raise MalformedEvidence(f"a key with the unknown scheme {algorithm:#06x}")
    return algorithm, reader.hash()


def _rsa(reader: Reader) -> rsa.RSAPublicKey:
    bits, exponent, modulus = reader.integer(2), reader.integer(4), reader.sized()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS or bits != 8 * len(modulus):
        raise MalformedEvidence(f"an RSA key of {8 * len(modulus)} bits that says it has {bits}")
    try:
        return rsa.RSAPublicNumbers(exponent or DEFAULT_EXPONENT, int.from_bytes(modulus, "big")).public_key()
    except ValueError:
        raise MalformedEvidence("an RSA key that cannot be used") from None


def _elliptic(reader: Reader) -> ec.EllipticCurvePublicKey:
    curve, kdf = CURVES.get(reader.integer(2)), reader.integer(2)
    if curve is None:
        raise MalformedEvidence("a key on a curve other than P-256 and P-384")
    if kdf != NULL:
        reader.hash()
    x, y = reader.sized(), reader.sized()
    try:
        return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()
    except ValueError:
        raise MalformedEvidence("a key that is not a point of its curve") from None


def _bare(data: bytes) -> Public:
    if len(data) > MAX_STRUCTURE_BYTES:
        raise MalformedEvidence(f"a key of {len(data)} bytes exceeds the limit of {MAX_STRUCTURE_BYTES}")
    try:
        key = load_der_public_key(data)
        canonical = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedEvidence("a key that is no SubjectPublicKeyInfo") from None
    if canonical != data:
        raise MalformedEvidence("a SubjectPublicKeyInfo that is not in its canonical form")
    known = isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
    if known or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)):
        return Public(data, key, None, None, b"", None, None)  # type: ignore[arg-type]  # narrowed just above
    raise MalformedEvidence("a key that is neither RSA nor on P-256 or P-384")


def _registers(bank: str, values: Mapping[str, str]) -> dict[int, bytes]:
    if bank not in DIGEST_BYTES:
        raise MalformedEvidence(f"registers of the unknown bank {bank[:16]!r}")
    registers: dict[int, bytes] = {}
    for index, text in values.items():
        if index not in _INDICES:
            raise MalformedEvidence(f"a register {index[:8]!r} where 0 to {PCR_COUNT - 1} are known")
        if len(text) != 2 * DIGEST_BYTES[bank] or not set(text) <= _HEX:
            raise MalformedEvidence(f"register {index} of {bank} is not {DIGEST_BYTES[bank]} bytes in hexadecimal")
        registers[int(index)] = bytes.fromhex(text)
    return registers


_INDICES = frozenset(str(index) for index in range(PCR_COUNT))
_HEX = frozenset("0123456789abcdef")
