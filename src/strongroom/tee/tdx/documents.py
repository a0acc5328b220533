"""TCB info and QE identity as Intel's provisioning service publishes them (PCS API v4), as typed values.

Knows: TCB info version 3 of TDX, QE identity version 2 of the TD quoting enclave. Does not know: who signed the text
(`verify`) or which level a platform reaches (`tcb`). Members that are not needed are skipped, because Intel adds
some; a needed one that is missing, of another type, out of range or of unknown meaning is refused with
`MalformedEvidence`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from strongroom.errors import MalformedEvidence
from strongroom.records import codec

T = TypeVar("T")

COMPONENTS = 16
STATUSES = frozenset(
    {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    }
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Level:
    """The standing of whatever reaches a level: status, the security advisories that apply, and the level's date."""

    status: str
    advisories: tuple[str, ...]
    date: str


@dataclass(frozen=True, slots=True)
class PlatformLevel:
    """A TCB level: the least SVNs of CPU (16), provisioning enclave and TDX components (16) that reach it."""

    sgx: tuple[int, ...]
    pcesvn: int
    tdx: tuple[int, ...]
    level: Level


@dataclass(frozen=True, slots=True)
class EnclaveLevel:
    """The least ISVSVN (of an enclave or of a TDX module) that reaches a level."""

    isvsvn: int
    level: Level


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """Who signed a generation of the TDX module (`TDX_03`), its attributes under a mask, its levels, newest first."""

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[EnclaveLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """TCB info of one platform family; times in Unix seconds, `levels` in Intel's order, highest first."""

    issued: int
    next_update: int
    evaluation_number: int
    fmspc: bytes
    pceid: bytes
    module: ModuleIdentity
    modules: tuple[ModuleIdentity, ...]
    levels: tuple[PlatformLevel, ...]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """What the genuine TD quoting enclave looks like."""

    issued: int
    next_update: int
    evaluation_number: int
    miscselect: bytes
    miscselect_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: tuple[EnclaveLevel, ...]


def parse_tcb_info(text: str) -> TcbInfo:
    """Read TCB info. Raises `MalformedEvidence` or `MalformedRecord`."""
    document = _Document(codec.parse_json(text))
    document.expect("id", "TDX")
    document.expect("version", 3)
    document.expect("tcbType", 0)
    return TcbInfo(
        issued=document.time("issueDate"),
        next_update=document.time("nextUpdate"),
        evaluation_number=document.number("tcbEvaluationDataNumber"),
        fmspc=document.octets("fmspc", 6),
        pceid=document.octets("pceId", 2),
        module=_module(document.member("tdxModule")),
        modules=tuple(_module(item) for item in document.items("tdxModuleIdentities", optional=True)),
        levels=tuple(_platform_level(item) for item in document.items("tcbLevels")),
    )


def parse_qe_identity(text: str) -> QeIdentity:
    """Read the identity of the TD quoting enclave. Raises `MalformedEvidence` or `MalformedRecord`."""
    document = _Document(codec.parse_json(text))
    document.expect("id", "TD_QE")
    document.expect("version", 2)
    return QeIdentity(
        issued=document.time("issueDate"),
        next_update=document.time("nextUpdate"),
        evaluation_number=document.number("tcbEvaluationDataNumber"),
        miscselect=document.octets("miscselect", 4),
        miscselect_mask=document.octets("miscselectMask", 4),
        attributes=document.octets("attributes", 16),
        attributes_mask=document.octets("attributesMask", 16),
        mrsigner=document.octets("mrsigner", 32),
        isvprodid=document.number("isvprodid"),
        levels=tuple(_enclave_level(item) for item in document.items("tcbLevels")),
    )


def _module(document: _Document) -> ModuleIdentity:
    """A module identity; the one of the first generation (`tdxModule`) has neither id nor levels."""
    named = document.has("id")
    return ModuleIdentity(
        id=document.text("id") if named else "",
        mrsigner=document.octets("mrsigner", 48),
        attributes=document.octets("attributes", 8),
        attributes_mask=document.octets("attributesMask", 8),
        levels=tuple(_enclave_level(item) for item in document.items("tcbLevels", optional=not named)),
    )


def _platform_level(document: _Document) -> PlatformLevel:
    tcb = document.member("tcb")
    return PlatformLevel(
        sgx=_components(tcb, "sgxtcbcomponents"),
        pcesvn=tcb.number("pcesvn"),
        tdx=_components(tcb, "tdxtcbcomponents"),
        level=_level(document),
    )


def _enclave_level(document: _Document) -> EnclaveLevel:
    return EnclaveLevel(document.member("tcb").number("isvsvn"), _level(document))


def _components(tcb: _Document, name: str) -> tuple[int, ...]:
    components = tuple(item.number("svn") for item in tcb.items(name))
    if len(components) != COMPONENTS:
        raise MalformedEvidence(f"{name} has {len(components)} components")
    return components


def _level(document: _Document) -> Level:
    status = document.text("tcbStatus")
    if status not in STATUSES:
        raise MalformedEvidence("a TCB level has an unknown status")
    document.time("tcbDate")
    return Level(status, document.texts("advisoryIDs"), document.text("tcbDate"))


class _Document:
    """A JSON object whose members are asked for by name and type."""

    def __init__(self, value: Any) -> None:
        self._members: dict[str, Any] = self._typed(value, dict, "an entry")

    @staticmethod
    def _typed(value: Any, kind: type[T], name: str) -> T:
        if type(value) is not kind:
            raise MalformedEvidence(f"{name} of the collateral is missing or of another type")
        return value

    def has(self, name: str) -> bool:
        return name in self._members

    def expect(self, name: str, value: str | int) -> None:
        found = self._members.get(name)
        if type(found) is not type(value) or found != value:
            raise MalformedEvidence(f"{name} of the collateral is not {value!r}")

    def text(self, name: str) -> str:
        return self._typed(self._members.get(name), str, name)

    def number(self, name: str) -> int:
        value = self._typed(self._members.get(name), int, name)
        if not 0 <= value <= codec.MAX_INTEGER:
            raise MalformedEvidence(f"{name} of the collateral is out of range")
        return value

    def octets(self, name: str, length: int) -> bytes:
        text = self.text(name)
        if len(text) != 2 * length or not text.isascii() or not text.isalnum():
            raise MalformedEvidence(f"{name} of the collateral is not {length} bytes in hexadecimal")
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise MalformedEvidence(f"{name} of the collateral is not hexadecimal") from None

    def time(self, name: str) -> int:
        text = self.text(name)
        try:
            moment = datetime.fromisoformat(text if _TIME.fullmatch(text) else "")
        except ValueError:
            raise MalformedEvidence(f"{name} of the collateral is not a time") from None
        return int(moment.timestamp())

    def member(self, name: str) -> _Document:
        return _Document(self._members.get(name))

    def items(self, name: str, *, optional: bool = False) -> list[_Document]:
        if optional and name not in self._members:
            return []
        return [_Document(item) for item in self._typed(self._members.get(name), list, name)]

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._typed(self._members.get(name, []), list, name)
        return tuple(self._typed(item, str, name) for item in found)
