"""TCB info and QE identity as Intel's provisioning service publishes them, as typed values.

Knows: TCB info version 3 of TDX and SGX (PCS API v4), version 2 of SGX (PCS API v3; it has no id and numbers its
components), QE identity version 2 of both quoting enclaves. Does not know: who signed the text (`signed`) or which level
a platform reaches (`levels`). Members that are not needed are skipped, because Intel adds some; a needed one that is
missing, of another type, out of range or of unknown meaning is refused with `MalformedEvidence`, and so is JSON with a
member twice, a fraction, or more than `MAX_BYTES`. Each text is read once, because it is read for every new platform.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from strongroom.errors import MalformedEvidence

T = TypeVar("T")

MAX_BYTES = 256 * 1024
MAX_INTEGER = 2**53 - 1
COMPONENTS = 16
MAX_SVN = 0xFF
TDX, SGX = "TDX", "SGX"
TD_QE, QE = "TD_QE", "QE"
UP_TO_DATE = "UpToDate"
UNSTATED = "unstated"
"""Stands for the advisories of a level of TCB info version 2, which lists none though some apply; no policy admits it
unawares, so an old form of a document hides nothing."""
STATUSES = frozenset(
    {
        UP_TO_DATE,
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    }
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NUMBERED = tuple(f"sgxtcbcomp{index:02}svn" for index in range(1, COMPONENTS + 1))


@dataclass(frozen=True, slots=True)
class Level:
    """The standing of whatever reaches a level: status, the security advisories that apply, and the level's date."""

    status: str
    advisories: tuple[str, ...]
    date: str


@dataclass(frozen=True, slots=True)
class PlatformLevel:
    """A TCB level: the least SVNs of CPU (16), provisioning enclave and, for TDX only, TDX components (16)."""

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
    """TCB info of one platform family; times in Unix seconds, `levels` in Intel's order, highest first.

    `module` and `modules` are of TDX; for SGX there are none.
    """

    issued: int
    next_update: int
    evaluation_number: int
    fmspc: bytes
    pceid: bytes
    levels: tuple[PlatformLevel, ...]
    module: ModuleIdentity | None = None
    modules: tuple[ModuleIdentity, ...] = ()


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """What the genuine quoting enclave looks like."""

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


def parse_tcb_info(text: str | bytes, kind: str) -> TcbInfo:
    """Read TCB info of `kind`, `TDX` or `SGX`. Raises `MalformedEvidence`."""
    document = _Document(_json(text))
    version = document.number("version")
    if version == 2 and kind == SGX:  # noqa: PLR2004 (the only document without an id)
        if document.has("id"):
            raise MalformedEvidence("TCB info of version 2 has an id")
    else:
        document.expect("id", kind)
        document.expect("version", 3)
    document.expect("tcbType", 0)
    tdx = kind == TDX
    return TcbInfo(
        issued=document.time("issueDate"),
        next_update=document.time("nextUpdate"),
        evaluation_number=document.number("tcbEvaluationDataNumber"),
        fmspc=document.octets("fmspc", 6),
        pceid=document.octets("pceId", 2),
        levels=tuple(_platform_level(item, version, tdx=tdx) for item in document.items("tcbLevels")),
        module=_module(document.member("tdxModule")) if tdx else None,
        modules=tuple(_module(item) for item in document.items("tdxModuleIdentities", optional=True)) if tdx else (),
    )


def parse_qe_identity(text: str | bytes, enclave: str) -> QeIdentity:
    """Read the identity of the quoting enclave `TD_QE` or `QE`. Raises `MalformedEvidence`."""
    document = _Document(_json(text))
    document.expect("id", enclave)
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


def _platform_level(document: _Document, version: int, *, tdx: bool) -> PlatformLevel:
    tcb = document.member("tcb")
    listed = version > 2  # noqa: PLR2004 (version 2 numbers its components)
    return PlatformLevel(
        sgx=tcb.components("sgxtcbcomponents") if listed else tcb.numbered(_NUMBERED),
        pcesvn=tcb.number("pcesvn"),
        tdx=tcb.components("tdxtcbcomponents") if tdx else (),
        level=_level(document, silent=() if listed else (UNSTATED,)),
    )


def _enclave_level(document: _Document) -> EnclaveLevel:
    return EnclaveLevel(document.member("tcb").number("isvsvn"), _level(document))


def _level(document: _Document, silent: tuple[str, ...] = ()) -> Level:
    """A level; `silent` is what a level that is not up to date advises where it says nothing of advisories."""
    status = document.text("tcbStatus")
    if status not in STATUSES:
        raise MalformedEvidence("a TCB level has an unknown status")
    document.time("tcbDate")
    advisories = document.texts("advisoryIDs")
    if status != UP_TO_DATE and not document.has("advisoryIDs"):
        advisories = silent
    return Level(status, advisories, document.text("tcbDate"))


def _json(text: str | bytes) -> Any:
    """The value of a JSON text; strings are Unicode, so that what is claimed can be written down again."""
    if len(text) > MAX_BYTES:
        raise MalformedEvidence(f"a document of {len(text)} bytes exceeds the limit of {MAX_BYTES}")
    try:
        raw = text.encode("utf-8") if isinstance(text, str) else text
        plain = raw.decode("utf-8")
        value = json.loads(plain, object_pairs_hook=_members, parse_float=_no_fraction, parse_constant=_no_fraction)
        if "\\u" in plain:  # half of a surrogate pair is no text
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except MalformedEvidence:
        raise
    except (ValueError, RecursionError):
        raise MalformedEvidence("a document of the collateral is not JSON") from None
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedEvidence("a member of the collateral occurs twice")
    return members


def _no_fraction(_: str) -> Any:
    raise MalformedEvidence("a document of the collateral holds a number that is not whole")


@lru_cache(maxsize=256)
def _seconds(text: str) -> int | None:
    """Unix seconds of a time as Intel writes it, None for anything else; the same few dates come again and again."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if _TIME.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


class _Document:
    """A JSON object whose members are asked for by name and type."""

    __slots__ = ("_members",)

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

    def number(self, name: str, limit: int = MAX_INTEGER) -> int:
        value = self._members.get(name)
        if type(value) is not int or not 0 <= value <= limit:
            raise MalformedEvidence(f"{name} of the collateral is missing, of another type or out of range")
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
        seconds = _seconds(self.text(name))
        if seconds is None:
            raise MalformedEvidence(f"{name} of the collateral is not a time")
        return seconds

    def member(self, name: str) -> _Document:
        return _Document(self._members.get(name))

    def items(self, name: str, *, optional: bool = False) -> list[_Document]:
        if optional and name not in self._members:
            return []
        return [_Document(item) for item in self._typed(self._members.get(name), list, name)]

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._typed(self._members.get(name, []), list, name)
        return tuple(self._typed(item, str, name) for item in found)

    def components(self, name: str) -> tuple[int, ...]:
        """16 SVNs, each the member `svn` of an entry."""
        found = self._typed(self._members.get(name), list, name)
        try:
            svns = tuple([item["svn"] for item in found])
        except (TypeError, LookupError):
            raise MalformedEvidence(f"{name} of the collateral holds something else than an SVN") from None
        return self._svns(svns, name)

    def numbered(self, names: Sequence[str]) -> tuple[int, ...]:
        """16 SVNs, each a member of its own."""
        return self._svns(tuple(self._members.get(name) for name in names), names[0])

    @staticmethod
    def _svns(found: tuple[Any, ...], name: str) -> tuple[int, ...]:
        if len(found) != COMPONENTS:
            raise MalformedEvidence(f"{name} of the collateral has {len(found)} components")
        if set(map(type, found)) != {int} or min(found) < 0 or max(found) > MAX_SVN:
            raise MalformedEvidence(f"{name} of the collateral holds something else than an SVN")
        return found
