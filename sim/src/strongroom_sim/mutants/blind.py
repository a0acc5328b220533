"""Blind changes: any byte of the quote, of the collateral, of the log; and inputs that are larger than anything may be.

Knows: which parts a sample has, and which of them are certificates in PEM or records in JSON, so that what lies inside can be
reached. Does not know: structures; nothing is signed anew.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from strongroom_sim.conformance import Sample, mutate
from strongroom_sim.mutants.certificates import pem
from strongroom_sim.mutants.mutant import Base, Change, Mutant, swapped

LIMITS: Mapping[str, int] = {
    "tdx": 16 * 1024,
    "sgx": 16 * 1024,
    "snp": 1184,
    "tpm": 32 * 1024,
    "nitro": 17 * 1024,
    "cca": 32 * 1024,
    "az-snp": 64 * 1024,
    "az-tdx": 64 * 1024,
    "gce-snp": 64 * 1024,
    "gce-tdx": 64 * 1024,
}
"""Kind -> how many bytes evidence may have; a second count, beside the one in each parser."""
MAX_LOG_BYTES = 1 << 20
MAX_CHAIN_BYTES, MAX_CRL_BYTES, MAX_LEAF_BYTES, MAX_NOTE_BYTES = 16 * 1024, 1 << 20, 8 * 1024, 8 * 1024
COLLATERAL_LIMITS: Mapping[tuple[str, str], int] = {
    **{("intel", f"{name}_chain"): MAX_CHAIN_BYTES for name in ("tcb_info", "qe_identity", "pck_crl")},
    **{("intel", name): MAX_CRL_BYTES for name in ("root_ca_crl", "pck_crl")},
    ("amd", "leaf"): MAX_LEAF_BYTES,
    ("amd", "chain"): MAX_CHAIN_BYTES,
    ("amd", "crl"): MAX_CRL_BYTES,
    ("aws", "crls"): MAX_CRL_BYTES,
    ("tpm", "chain"): MAX_CHAIN_BYTES,
    ("tpm", "crls"): MAX_CRL_BYTES,
    ("tpm", "enrolment"): MAX_NOTE_BYTES,
}
"""Vendor and member -> how large it may be, each item where there are several. What Intel signs is not read before that."""
TOO_LONG_IN = 500
"""One of so many blind changes makes an input too long."""
SAME_TRIES = 8
_BLOCK = re.compile("-----BEGIN CERTIFICATE-----\n([^-]+)-----END CERTIFICATE-----\n")


def change_blindly(chance: random.Random, base: Base) -> Mutant:
    """A mutant of `base` that nobody signed."""
    sample = base.sample
    if not chance.randrange(TOO_LONG_IN):
        return too_long(chance, base)
    kinds: list[tuple[int, str, Callable[[], Sample]]] = [
        (6, "quote", lambda: replace(sample, quote=_changed(chance, sample.quote))),
        (3, "collateral", lambda: replace(sample, collateral=_collateral(chance, sample))),
    ]
    if sample.log:
        kinds.append((3, "log", lambda: replace(sample, log=_bytes(chance, sample.log) or sample.log)))
    for _ in range(SAME_TRIES):
        _, where, make = chance.choices(kinds, [weight for weight, _, _ in kinds])[0]
        made = make()
        if made != sample:
            return Mutant(base, made, Change(b"", f"blind {where}"), aware=False)
    return Mutant(base, replace(sample, quote=sample.quote[:-1]), Change(b"", "blind cut"), aware=False)


def too_long(chance: random.Random, base: Base) -> Mutant:
    """A quote, a log or a member of the collateral beyond its limit."""
    sample = base.sample
    members = [place for place in COLLATERAL_LIMITS if _member_of(sample, *place)]
    match chance.randrange(3):
        case 0 if sample.log:
            over = MAX_LOG_BYTES - len(sample.log) + chance.randrange(1, 100)
            made = replace(sample, log=sample.log + chance.choice([b"\0", b"\xff"]) * over)
            return Mutant(base, made, Change(b"", "too long log"), aware=False)
        case 1 if members:
            vendor, name = chance.choice(members)
            value = _longer(chance, _member_of(sample, vendor, name), COLLATERAL_LIMITS[vendor, name])
            part = swapped(getattr(sample.collateral, vendor), **{name: value})
            made = replace(sample, collateral=swapped(sample.collateral, **{vendor: part}))
            return Mutant(base, made, Change(b"", f"too long {name}"), aware=False)
    limit = LIMITS[base.kind.name]
    over = limit - len(sample.quote) + chance.randrange(1, 1 << chance.randrange(1, 18))
    filler = chance.choice([bytes(over), b" " * over, sample.quote * (over // len(sample.quote) + 1)])
    made = replace(sample, quote=sample.quote + filler)
    return Mutant(base, made, Change(b"", "too long quote"), aware=False)


def _member_of(sample: Sample, vendor: str, name: str) -> Any:
    return getattr(getattr(sample.collateral, vendor), name, b"")


def _longer(chance: random.Random, value: Any, limit: int) -> Any:
    if isinstance(value, tuple):
        return (_longer(chance, value[0], limit), *value[1:])
    filler = chance.choice([b"\n", b"\0", value[:1].encode() if isinstance(value, str) else value[:1]])
    over = limit - len(value) + chance.randrange(1, 100)
    return value + filler.decode() * over if isinstance(value, str) else value + filler * over


def beyond_limit(kind: str, sample: Sample) -> str:
    """The limit that a part of the sample exceeds, as the refusal must name it; empty if none does."""
    if len(sample.quote) > LIMITS[kind]:
        return str(LIMITS[kind])
    if len(sample.log) > MAX_LOG_BYTES:
        return str(MAX_LOG_BYTES)
    for place, limit in COLLATERAL_LIMITS.items():
        value = _member_of(sample, *place)
        if any(len(item) > limit for item in (value if isinstance(value, tuple) else (value,))):
            return str(limit)
    return ""


def _bytes(chance: random.Random, data: bytes) -> bytes:
    """One change, or a few."""
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        data = mutate(data, chance) if data else chance.randbytes(1)
    return data


def _changed(chance: random.Random, data: bytes) -> bytes:
    """The bytes, or, where they are a record in JSON, one of the members inside it."""
    record = _record(data) if chance.randrange(2) else None
    if record is None:
        return _bytes(chance, data)
    return json.dumps(_member(chance, record), separators=(",", ":"), ensure_ascii=False).encode()


def _record(data: bytes) -> Any:
    try:
        return json.loads(data) if data.startswith(b"{") else None
    except ValueError:
        return None


def _member(chance: random.Random, record: Any) -> Any:
    """The record with the bytes behind one of its texts changed: base64url, hexadecimal, or as they stand."""
    if isinstance(record, dict) and record:
        name = chance.choice(sorted(record))
        return {**record, name: _member(chance, record[name])}
    if not isinstance(record, str):
        return record
    if re.fullmatch("[0-9a-f]+", record):
        return _bytes(chance, bytes.fromhex(record.ljust(len(record) + len(record) % 2, "0"))).hex()
    try:
        data = base64.urlsafe_b64decode(record + "=" * (-len(record) % 4))
    except (ValueError, binascii.Error):
        return record
    changed = _changed(chance, data)
    return base64.urlsafe_b64encode(changed).rstrip(b"=").decode("ascii")


def _collateral(chance: random.Random, sample: Sample) -> Any:
    """One member of one vendor's collateral changed."""
    vendors = [part for part in fields(sample.collateral) if getattr(sample.collateral, part.name) is not None]
    vendor = chance.choice(vendors).name
    part = getattr(sample.collateral, vendor)
    name = chance.choice([member.name for member in fields(part)])
    return swapped(sample.collateral, **{vendor: swapped(part, **{name: _value(chance, getattr(part, name))})})


def _value(chance: random.Random, value: Any) -> Any:
    if isinstance(value, bytes):
        return _changed(chance, value)
    if isinstance(value, tuple):
        at = chance.randrange(len(value)) if value else 0
        return (*value[:at], _bytes(chance, value[at]), *value[at + 1 :]) if value else (b"x",)
    blocks = _BLOCK.findall(value)
    if blocks and chance.randrange(2):
        ders = [base64.b64decode("".join(block.split())) for block in blocks]
        at = chance.randrange(len(ders))
        ders[at] = _bytes(chance, ders[at])
        return "".join(map(pem, ders))
    return _bytes(chance, value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogateescape")
