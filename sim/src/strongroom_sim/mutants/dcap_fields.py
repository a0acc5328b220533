"""The fields of quotes of TDX and SGX, of the quoting enclave's report, and of the SGX extension of a PCK certificate.

Knows: where each stands (Intel TDX DCAP Quoting Library API, appendix 3; Intel SGX ECDSA QuoteGen Reference, appendix A;
Intel SGX PCK Certificate and CRL Profile Specification), and what it makes a verdict say. Does not know: keys.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from strongroom_sim.certificates import Platform
from strongroom_sim.mutants import der
from strongroom_sim.mutants.mutant import UNCHANGED, Said, layout, number, other, other_number, refused, shown, unsaid

ARC = bytes.fromhex("2a864886f84d010d01")
EXTENSION = "1.2.840.113741.1.13.1"
HEADER_FREE, ENCLAVE_FREE, CPUSVN, MEMBER = "dcap.header", "dcap.enclave", "dcap.cpusvn", "pck.member"

_HEADER = (
    ("header.version", 2, refused, ""),
    ("header.key_type", 2, refused, ""),
    ("header.tee_type", 4, refused, ""),
    ("header.reserved", 4, unsaid, HEADER_FREE),
    ("header.vendor", 16, refused, ""),
    ("header.user_data", 20, unsaid, HEADER_FREE),
)
_TD_10 = (
    ("tee_tcb_svn", 16, shown("tee_tcb_svn"), ""),
    ("mrseam", 48, shown("mrseam"), ""),
    ("mrsignerseam", 48, refused, ""),
    ("seamattributes", 8, refused, ""),
    ("tdattributes", 8, shown("td_attributes"), ""),
    ("xfam", 8, shown("xfam"), ""),
    *((name, 48, shown(name), "") for name in ("mrtd", "mrconfigid", "mrowner", "mrownerconfig")),
    *((f"rtmr{index}", 48, shown(f"rtmr{index}"), "") for index in range(4)),
    ("reportdata", 64, shown("report_data"), ""),
)
_TD_15 = (("tee_tcb_svn2", 16, shown("tee_tcb_svn2"), ""), ("mrservicetd", 48, shown("mr_service_td"), ""))
_SERVICE = (
    ("vmid", 1, number("vmid"), ""),
    ("td_id", 32, shown("td_id"), ""),
    ("devinfo", 48, shown("devinfo"), ""),
    ("init_hash", 48, shown("service_td_init_hash"), ""),
    ("init_attributes", 8, shown("service_td_init_attributes"), ""),
    ("init_cpusvn", 16, shown("service_td_init_cpusvn"), ""),
    ("init_tee_tcb_svn", 16, shown("service_td_init_tee_tcb_svn"), ""),
    ("init_model", 12, shown("service_td_init_model"), ""),
    ("current_hash", 48, shown("service_td_current_hash"), ""),
    ("current_attributes", 8, shown("service_td_current_attributes"), ""),
)
_BODY = (("body.type", 2, refused, ""), ("body.size", 4, refused, ""))


def _flags(value: bytes) -> Said:
    bits = int.from_bytes(value, "little")
    names = {"debug": 1, "mode64": 2, "provision_key": 4, "einittoken_key": 5, "kss": 7}
    return {"attributes": value.hex(), **{name: str(bits >> bit & 1) for name, bit in names.items()}}


_ENCLAVE = (
    ("cpusvn", 16, unsaid, CPUSVN),
    ("miscselect", 4, shown("miscselect"), ""),
    ("reserved.1", 12, unsaid, ENCLAVE_FREE),
    ("isvextprodid", 16, shown("isv_ext_prod_id"), ""),
    ("attributes", 8, _flags, ""),
    ("xfrm", 8, shown("xfrm"), ""),
    ("mrenclave", 32, shown("mrenclave"), ""),
    ("reserved.2", 32, unsaid, ENCLAVE_FREE),
    ("mrsigner", 32, shown("mrsigner"), ""),
    ("reserved.3", 32, unsaid, ENCLAVE_FREE),
    ("configid", 64, shown("config_id"), ""),
    ("isvprodid", 2, number("isvprodid"), ""),
    ("isvsvn", 2, number("isvsvn"), ""),
    ("configsvn", 2, number("config_svn"), ""),
    ("reserved.4", 42, unsaid, ENCLAVE_FREE),
    ("isvfamilyid", 16, shown("isv_family_id"), ""),
    ("reportdata", 64, shown("report_data"), ""),
)
TDX_4 = layout((*_HEADER, *_TD_10))
TDX_5 = layout((*_HEADER, *_BODY, *_TD_10, *_TD_15))
TDX_5_EXTENDED = layout((*_HEADER, *_BODY, *_TD_10, *_TD_15, *_SERVICE))
SGX_3 = layout((*_HEADER, *_ENCLAVE))
QE_REPORT = layout(tuple((f"qe.{name}", size, unsaid, ENCLAVE_FREE) for name, size, _, _ in _ENCLAVE))
"""What of it counts is for `standing` to say: signer, product, SVN, and attributes under the mask that Intel gives."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the extension: where it stands below Intel's arc, the type and the content of its value."""

    path: tuple[int, ...]
    tag: int
    content: bytes


def members(platform: Platform) -> list[Member]:
    """The members that Intel writes of a platform."""
    stated = (platform.dynamic, platform.cached_keys, platform.smt)
    return [
        Member((1,), der.OCTETS, platform.ppid),
        *(Member((2, n), der.INTEGER, der.inside(der.integer(v))) for n, v in enumerate(platform.components, 1)),
        Member((2, 17), der.INTEGER, der.inside(der.integer(platform.pcesvn))),
        Member((2, 18), der.OCTETS, bytes(platform.components)),
        Member((3,), der.OCTETS, platform.pceid),
        Member((4,), der.OCTETS, platform.fmspc),
        Member((5,), der.ENUMERATED, b"\x01"),
        Member((6,), der.OCTETS, platform.instance_id),
        *(Member((7, n), der.BOOLEAN, b"\xff" if value else b"\0") for n, value in enumerate(stated, 1)),
    ]


def encoded(found: list[Member]) -> bytes:
    """The extension's content: those of one group stand together, in the order of the list."""
    groups: dict[tuple[int, ...], list[bytes]] = {}
    for member in found:
        pair = _pair(member.path, der.element(member.tag, member.content))
        groups.setdefault(member.path[:1] if len(member.path) > 1 else member.path, []).append(pair)
    content = [
        _pair(path, der.element(der.SEQUENCE, b"".join(pairs))) if path in {(2,), (7,)} else b"".join(pairs)
        for path, pairs in groups.items()
    ]
    return der.element(der.SEQUENCE, b"".join(content))


def _pair(path: tuple[int, ...], value: bytes) -> bytes:
    return der.element(der.SEQUENCE, der.element(der.OID, ARC + bytes(path)) + value)


@dataclass(frozen=True, slots=True)
class Stated:
    """A changed extension: its content, where, what it says beside the TCB (None: refused), and the platform it is of."""

    extension: bytes
    where: str
    says: Said | None
    platform: Platform


STATED_NAMES: dict[tuple[int, ...], str] = {(7, 1): "dynamic_platform", (7, 2): "cached_keys", (7, 3): "smt"}
SKIPPED = (2, 18)


def change_extension(chance: random.Random, platform: Platform) -> Stated:
    """The extension with one member changed."""
    found = members(platform)
    at = chance.randrange(len(found))
    name = f"pck.{'.'.join(map(str, found[at].path))}"
    match chance.randrange(8):
        case 0:
            kept = found[:at] + found[at + 1 :]
            return Stated(encoded(kept), f"{name} dropped", _dropped(found[at].path), platform)
        case 1:
            return Stated(encoded([*found, found[at]]), f"{name} twice", None, platform)
        case 2:
            added = Member(chance.choice([(8,), (2, 19), (7, 4)]), der.OCTETS, chance.randbytes(4))
            return Stated(encoded([*found, added]), "pck.added", UNCHANGED, platform)
        case 3:
            chance.shuffle(found)
            return Stated(encoded(found), "pck.order", UNCHANGED, platform)
        case 4:
            return Stated(*_malformed(chance, found, at), platform)
        case _:
            member, says, other_platform = _value(chance, found[at], platform)
            return Stated(encoded([*found[:at], member, *found[at + 1 :]]), name, says, other_platform)


def _dropped(path: tuple[int, ...]) -> Said | None:
    if path == SKIPPED:
        return UNCHANGED
    optional: dict[tuple[int, ...], str] = {(6,): "piid", **STATED_NAMES}
    return {optional[path]: ""} if path in optional else None


def _malformed(chance: random.Random, found: list[Member], at: int) -> tuple[bytes, str, Said | None]:
    """Another type, a size that cannot be, a second spelling of the same; nobody reads CPUSVN (18)."""
    member = found[at]
    unread = UNCHANGED if member.path == SKIPPED else None
    match chance.randrange(4):
        case 0:
            made = replace(member, tag=der.OCTETS if member.tag != der.OCTETS else der.INTEGER)
        case 1:
            made = replace(member, content=b"\0" + member.content)
        case 2:
            made = replace(member, content=b"")
        case _:
            return encoded(found) + chance.randbytes(1), "pck.end", None
    return encoded([*found[:at], made, *found[at + 1 :]]), "pck.malformed", unread


def _value(chance: random.Random, member: Member, platform: Platform) -> tuple[Member, Said | None, Platform]:
    """A lawful value other than the one there."""
    if member.path in STATED_NAMES:
        value = member.content == b"\0"
        says = {STATED_NAMES[member.path]: str(int(value))}
        return replace(member, content=b"\xff" if value else b"\0"), says, platform
    if member.tag in {der.INTEGER, der.ENUMERATED}:
        return _number(chance, member, platform)
    content = other(chance, member.content)
    made = replace(member, content=content)
    named: dict[tuple[int, ...], Callable[[], tuple[Said | None, Platform]]] = {
        (1,): lambda: ({"ppid": content.hex()}, platform),
        (3,): lambda: (None, platform),
        (4,): lambda: (None, platform),
        (6,): lambda: ({"piid": content.hex()}, platform),
        SKIPPED: lambda: (UNCHANGED, platform),
    }
    return made, *named[member.path]()


def _number(chance: random.Random, member: Member, platform: Platform) -> tuple[Member, Said | None, Platform]:
    stands = int.from_bytes(member.content, "big")
    limit = 0xFFFF if member.path == (2, 17) else 0xFF
    value = other_number(chance, stands, limit)
    made = replace(member, content=der.inside(der.integer(value)))
    if member.path == (5,):
        return made, {"sgx_type": value}, platform
    if member.path == (2, 17):
        return made, {"pcesvn": value}, replace(platform, pcesvn=value)
    index = member.path[1] - 1
    components = (*platform.components[:index], value, *platform.components[index + 1 :])
    return made, UNCHANGED, replace(platform, components=components)
