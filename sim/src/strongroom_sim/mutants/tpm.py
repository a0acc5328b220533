"""Mutants of TPM quotes: what the TPM says, its registers, its key, its signature; signed anew by the key.

Knows: TPMS_ATTEST, TPMT_PUBLIC and TPMT_SIGNATURE (TPM 2.0 Library, Part 2), and what each field makes a verdict say. Does
not know: who vouches for the key (`tpm_trust`), event logs (`logs`), or how mutants are judged.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.records import codec
from strongroom.records.tpm import TpmQuote
from strongroom.tee.tpm import parse
from strongroom.tee.tpm.credential import sized
from strongroom_sim.mutants import scalars
from strongroom_sim.mutants.mutant import UNCHANGED, Change, Said, other
from strongroom_sim.tpm import AK_ATTRIBUTES, NUMBERS, PrivateKey, Statement, attest, public_area, signature

PUBLIC, PADDED, SHA1 = "tpm.public", "tpm.scalars", "tpm.sha1"
QUALIFYING = bytes(range(32))
NEEDED, FORBIDDEN = (1, 4, 5, 16, 18), (17, 19)
"""TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign; decrypt, x509sign."""
KNOWN = {1, 2, *range(4, 12), *range(16, 20)}
MAX_QUALIFYING = 64
Pcrs = Mapping[str, Mapping[int, bytes]]


@dataclass(frozen=True, slots=True)
class Key:
    """An attestation key as evidence shows it: `public` is TPMT_PUBLIC, or SubjectPublicKeyInfo where it is `bare`.

    `scheme` is how an RSA key signs. `certified`: a certificate vouches for it, so the TPM must name it as its signer.
    """

    private: PrivateKey
    public: bytes
    scheme: int | None = None
    bare: bool = False
    certified: bool = True
    told: bool = True

    @property
    def shown(self) -> bytes:
        """What evidence shows of it; nothing where the key stands elsewhere."""
        return self.public if self.told else b""

    @property
    def signer(self) -> bytes:
        """The qualified name that the TPM puts into what it signs: of a primary key of the endorsement hierarchy."""
        return qualified(self.public) if not self.bare else bytes(34)


@dataclass(frozen=True, slots=True)
class Machine:
    """A TPM's key and registers (bank -> index -> value)."""

    key: Key
    pcrs: Pcrs
    statement: Statement = field(default_factory=lambda: Statement(QUALIFYING))

    def record(
        self,
        *,
        key: Key | None = None,
        pcrs: Pcrs | None = None,
        statement: Statement | None = None,
        name_of: str = "sha256",
    ) -> TpmQuote:
        """The quote with these things instead, consistent in itself."""
        key, pcrs, said = key or self.key, pcrs or self.pcrs, statement or self.statement
        selection = [(bank, sorted(values)) for bank, values in pcrs.items()]
        values = b"".join(pcrs[bank][index] for bank, indices in selection for index in indices)
        data = attest(replace(said, signer=said.signer or key.signer), selection, hashlib.new(name_of, values).digest())
        shown = {bank: {str(index): value.hex() for index, value in found.items()} for bank, found in pcrs.items()}
        return TpmQuote(data, signature(key.private, data, name_of=name_of, scheme=key.scheme), key.shown, shown)


def qualified(public: bytes, hierarchy: int = parse.ENDORSEMENT) -> bytes:
    """The qualified name of a primary key (TPM 2.0 Part 1, section 16)."""
    name = name_of(public)
    algorithm = parse.HASHES[int.from_bytes(public[2:4], "big")]
    return name[:2] + hashlib.new(algorithm, hierarchy.to_bytes(4, "big") + name).digest()


def name_of(public: bytes) -> bytes:
    """The name of a key: its hash, and the digest of TPMT_PUBLIC."""
    return public[2:4] + hashlib.new(parse.HASHES[int.from_bytes(public[2:4], "big")], public).digest()


def bare(key: PrivateKey) -> bytes:
    """SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


Changed = tuple[TpmQuote, Change]


def change_statement(chance: random.Random, machine: Machine) -> Changed:
    """One thing that the TPM says besides its registers."""
    said, key = machine.statement, machine.key
    says: Said | None = None
    match chance.choice(
        ("magic", "kind", "signer", "qualifying", "qualifying", "clock", "resets", "restarts", "safe", "firmware")
    ):
        case "magic":
            where, made = (
                "magic",
                replace(said, magic=int.from_bytes(other(chance, said.magic.to_bytes(4, "big")), "big")),
            )
        case "kind":
            made, where = replace(said, kind=chance.choice([0x8014, 0x8017, 0x8019, 0, 0xFFFF, 0x801A])), "kind"
        case "signer":
            value = chance.choice([other(chance, key.signer), qualified_elsewhere(key), chance.randbytes(64)])
            made, where = replace(said, signer=value), "signer"
            says = None if key.certified and not key.bare else {"qualified_signer": value.hex()}
        case "qualifying":
            value = chance.randbytes(chance.randrange(MAX_QUALIFYING + 1))
            made, where, says = replace(said, qualifying=value), "qualifying", {"report_data": value.hex()}
        case "clock":
            clock = chance.randrange(1 << 64)
            made, where, says = replace(said, clock=clock), "clock", {"clock": f"{clock:016x}"}
        case "resets":
            count = chance.randrange(2, 1 << 32)
            made, where, says = replace(said, resets=count), "resets", {"reset_count": count}
        case "restarts":
            count = chance.randrange(1, 1 << 32)
            made, where, says = replace(said, restarts=count), "restarts", {"restart_count": count}
        case "safe":
            made, where, says = replace(said, safe=False), "safe", {"clock_safe": "0"}
        case _:
            firmware = chance.randrange(1 << 64)
            made, where, says = replace(said, firmware=firmware), "firmware", {"firmware_version": f"{firmware:016x}"}
    return machine.record(statement=made), Change(b"", f"attest.{where}", says)


def qualified_elsewhere(key: Key) -> bytes:
    """The name of the key in the null hierarchy, whose keys do not outlive a restart; of a bare key anything."""
    return qualified(key.public, 0x40000007) if not key.bare else b"\0\x0b" + bytes(32)


def change_registers(chance: random.Random, machine: Machine) -> Changed:
    """Registers that hold something else, other ones, other banks; the TPM quotes them as they are."""
    pcrs = {bank: dict(values) for bank, values in machine.pcrs.items()}
    mine = pcrs["sha256"]
    index = chance.choice(tuple(mine))
    says: Said | None = None
    free = ""
    match chance.randrange(7):
        case 0 if len(mine) > 1:
            del mine[index]
            says, where = {f"pcr{index}": None}, "fewer"
        case 1:
            found = {number: hashlib.sha384(value).digest() for number, value in mine.items()}
            pcrs, where = {"sha384": found}, "another bank"
            says = {"bank": "sha384", **{f"pcr{number}": value.hex() for number, value in found.items()}}
        case 2:
            found = {number: hashlib.sha1(value).digest() for number, value in mine.items()}  # noqa: S324 (what must be refused)
            pcrs, where = {"sha1": found}, "sha1"
        case 3:
            pcrs["sha1"] = {index: chance.randbytes(20)}
            says, free, where = UNCHANGED, SHA1, "sha1 beside"
        case 4:
            pcrs["sha384"] = {index: chance.randbytes(48)}
            says, free, where = UNCHANGED, SHA1, "sha384 beside"
        case _:
            mine[index] = other(chance, mine[index])
            says, where = {f"pcr{index}": mine[index].hex()}, "value"
    return machine.record(pcrs=pcrs), Change(b"", f"registers.{where}", says, free=free)


def change_selection(chance: random.Random, machine: Machine) -> Changed:
    """Values shown that are not the ones quoted, or are said to be of other registers."""
    record = machine.record()
    shown = {bank: dict(values) for bank, values in record.pcrs.items()}
    mine = shown["sha256"]
    index, another = chance.sample(sorted(mine), 2)
    match chance.randrange(6):
        case 0:
            mine[index] = other(chance, bytes.fromhex(mine[index])).hex()
        case 1 if mine[index] != mine[another]:
            mine[index], mine[another] = mine[another], mine[index]
        case 2:
            del mine[index]
        case 3:
            shown["sha1"] = {index: "00" * 20}
        case 4:
            shown = {"sha384": {number: value + "00" * 16 for number, value in mine.items()}}
        case _:
            mine[index] = chance.choice(
                ["", mine[index].upper() + "A", mine[index] + "00", "zz" * 32, "00" * 31 + "01"]
            )
    return replace(record, pcrs=shown), Change(b"", "registers shown")


def change_public(chance: random.Random, machine: Machine) -> Changed:
    """The key as it is shown: other attributes, another name, other schemes; the TPM names it as its signer, or does not."""
    key = machine.key
    private = key.private
    elliptic = isinstance(private, ec.EllipticCurvePrivateKey)
    scheme = (parse.ECDSA if elliptic else key.scheme or parse.RSASSA, "sha256")
    hash_name = "sha256"
    lawful = True
    match chance.randrange(7):
        case 0 | 1:
            bit = chance.randrange(32)
            attributes = AK_ATTRIBUTES ^ 1 << bit
            lawful = bit in KNOWN and bit not in NEEDED and bit not in FORBIDDEN
            public = public_area(private.public_key(), attributes=attributes, scheme=scheme)
        case 2:
            name = chance.choice(["sha1", "sha384", "sha512"])
            lawful = name != "sha1"
            public = public_area(private.public_key(), scheme=scheme, name_hash=name)
        case 3:
            hash_name = chance.choice(["sha1", "sha384"])
            lawful = hash_name != "sha1"
            public = public_area(private.public_key(), scheme=(scheme[0], hash_name))
        case 4:
            lawful = False
            wrong = chance.choice([None, (parse.RSASSA if elliptic else parse.ECDSA, "sha256"), (parse.ECDH, "sha256")])
            public = public_area(private.public_key(), scheme=wrong)
        case 5:
            plain = public_area(private.public_key(), scheme=scheme)
            public = plain[:8] + sized(chance.randbytes(32)) + plain[10:]
        case _:
            return _shown_otherwise(chance, machine)
    other_key = replace(key, public=public, bare=False)
    made = machine.record(key=other_key, name_of=hash_name)
    says: Said | None = {"ak_name": name_of(public).hex(), "qualified_signer": qualified(public).hex()}
    if not key.certified:  # an enrolment vouches for the name, so for all of it
        says = None
    if not chance.randrange(4):
        made = machine.record(
            key=other_key, name_of=hash_name, statement=replace(machine.statement, signer=qualified_elsewhere(key))
        )
        says = None
    return made, Change(b"", "public", says if lawful else None)


def _shown_otherwise(chance: random.Random, machine: Machine) -> Changed:
    """The same key in another structure, or another key."""
    record, key = machine.record(), machine.key
    says: Said | None = None
    match chance.randrange(4):
        case 0 if not key.bare:
            return replace(record, ak=sized(key.public)), Change(b"", "public sized", UNCHANGED, free=PUBLIC)
        case 1 if not key.bare:
            spki = bare(key.private)
            says = {"ak_name": "spki:" + hashlib.sha256(spki).hexdigest()} if key.certified else None
            return replace(record, ak=spki), Change(b"", "public bare", says)
        case 2:
            stranger = ec.generate_private_key(ec.SECP256R1())
            return replace(record, ak=public_area(stranger.public_key())), Change(b"", "public of another")
        case _:
            shown = chance.choice([b"", key.public[:-1], key.public + b"\0", other(chance, key.public)])
            return replace(record, ak=shown), Change(b"", "public torn")


def change_signature(chance: random.Random, machine: Machine) -> Changed:
    """TPMT_SIGNATURE: its scalars, its sizes, its scheme."""
    record = machine.record()
    value = record.signature
    if isinstance(machine.key.private, rsa.RSAPrivateKey):
        tail = value[6:]
        numbers = machine.key.private.public_key().public_numbers()
        larger = int.from_bytes(tail, "big") + numbers.n
        made = chance.choice(
            [
                value[:4] + sized(b"\0" + tail),
                value[:4] + sized(other(chance, tail)),
                value[:4] + sized(larger.to_bytes(len(tail) + 1, "big")),
                value[:4] + sized(tail[:-1]),
                value[:4] + sized(b""),
                value + b"\0",
                (parse.RSAPSS if value[1] == parse.RSASSA else parse.RSASSA).to_bytes(2, "big") + value[2:],
                value[:2] + NUMBERS["sha384"].to_bytes(2, "big") + value[4:],
                value[:2] + NUMBERS["sha1"].to_bytes(2, "big") + value[4:],
            ]
        )
        return replace(record, signature=made), Change(b"", "signature")
    return _scalars(chance, record)


def _scalars(chance: random.Random, record: TpmQuote) -> Changed:
    head, r = record.signature[:4], record.signature[6:38]
    s = record.signature[40:]
    match chance.randrange(4):
        case 0 | 1:
            raw, says = scalars.change_raw(chance, r + s, ec.SECP256R1())
            made = head + sized(raw[:32]) + sized(raw[32:])
            return replace(record, signature=made), Change(b"", "signature.scalars", says, free=scalars.ECDSA)
        case 2:
            zeros = bytes(chance.randrange(1, 4))
            made = head + sized(zeros + r) + sized(s)
            return replace(record, signature=made), Change(b"", "signature.padded", UNCHANGED, free=PADDED)
        case _:
            made = chance.choice(
                [
                    head[:2] + NUMBERS["sha384"].to_bytes(2, "big") + record.signature[4:],
                    parse.RSASSA.to_bytes(2, "big") + head[2:] + sized(r + s),
                    head + sized(r),
                    head + sized(r) + sized(s) + b"\0",
                    head + sized(s) + sized(r),
                    b"\0\x1a" + record.signature[2:],
                ]
            )
            return replace(record, signature=made), Change(b"", "signature")


WAYS: Sequence[tuple[int, str, Callable[[random.Random, Machine], Changed]]] = (
    (4, "statement", change_statement),
    (4, "registers", change_registers),
    (2, "selection", change_selection),
    (3, "public", change_public),
    (3, "signature", change_signature),
)


def change_quote(chance: random.Random, machine: Machine, names: Sequence[str]) -> Changed:
    """The quote changed in one of the named ways."""
    found = [way for way in WAYS if way[1] in names]
    return chance.choices(found, [weight for weight, _, _ in found])[0][2](chance, machine)


def encoded(record: TpmQuote) -> bytes:
    """The record as evidence has it."""
    return codec.encode(record)
