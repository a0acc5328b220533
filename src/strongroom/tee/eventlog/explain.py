"""Which measured input made a register differ, in words.

Knows: events as rows (register, type, digest, description) and how two lists of them differ first. Does not know: where
the expected rows come from (`launch`, reference values), nor what to do about a difference (`appraisal`). Descriptions
are for people: what stands in them is vouched for only as far as the event's digest goes (`digests`).
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import codes
from strongroom.tee.eventlog.digests import SEPARATOR_ERROR, tagged
from strongroom.tee.eventlog.efi import image_path, narrow_text, parse_variable, wide_text
from strongroom.tee.eventlog.replay import register_name, register_of
from strongroom.tee.eventlog.tcg2 import Event, Log

SHORT_VALUE_BYTES = 32
MAX_DESCRIPTION_CHARACTERS = 2048
LONG_TEXT_CHARACTERS = 120
CONTEXT_CHARACTERS = 40
IMAGES = {codes.EFI_BOOT_SERVICES_APPLICATION, codes.EFI_BOOT_SERVICES_DRIVER, codes.EFI_RUNTIME_SERVICES_DRIVER}
VARIABLES = {
    codes.EFI_VARIABLE_DRIVER_CONFIG,
    codes.EFI_VARIABLE_BOOT,
    codes.EFI_VARIABLE_BOOT2,
    codes.EFI_VARIABLE_AUTHORITY,
    codes.EFI_SPDM_DEVICE_POLICY,
    codes.EFI_SPDM_DEVICE_AUTHORITY,
}
LABELLED = {codes.EFI_HANDOFF_TABLES2, codes.EFI_PLATFORM_FIRMWARE_BLOB2, codes.POST_CODE2}
"""Types whose data begins with a description preceded by its size in one byte."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing by which a register was extended: `register` as `rtmr2`, `type` as `EV_IPL`, `digest` as hex."""

    register: str
    type: str
    digest: str
    description: str


class Change(enum.StrEnum):
    """How an input differs from what was expected."""

    CHANGED = "changed"
    MISSING = "missing"
    ADDED = "added"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first input of `register` that is not as expected; `position` counts that register's events from 1."""

    register: str
    position: int
    change: Change
    text: str


def inputs(log: Log, bank: str) -> tuple[Input, ...]:
    """All events that extended a register, in order. Raises `MalformedEvidence` if the log has no such bank."""
    return tuple(
        Input(
            register_name(log.style, register_of(log.style, event.index)),
            event.name,
            event.digest(bank).hex(),
            describe(event),
        )
        for event in log.events
        if event.extended
    )


def describe(event: Event) -> str:
    """The event's data in words; of what is not text, its size and SHA-256."""
    return _printable(_words(event) or _size(event.data))


def difference(expected: Sequence[Input], actual: Sequence[Input]) -> tuple[Difference, ...]:
    """The first difference of each register in which the two differ, in the order of the registers' first appearance."""
    registers = dict.fromkeys(row.register for row in (*expected, *actual))
    found = (
        _first_difference(
            register,
            [row for row in expected if row.register == register],
            [row for row in actual if row.register == register],
        )
        for register in registers
    )
    return tuple(one for one in found if one is not None)


def _first_difference(register: str, expected: Sequence[Input], actual: Sequence[Input]) -> Difference | None:
    wanted, got = [_key(row) for row in expected], [_key(row) for row in actual]
    if wanted == got:
        return None
    at = next((n for n, (one, other) in enumerate(zip(wanted, got, strict=False)) if one != other), None)
    at = min(len(wanted), len(got)) if at is None else at
    here, there = f"{register} event {at + 1}", wanted[at:]
    if at == len(got) or (len(wanted) > len(got) and wanted[at + 1 :][:1] == got[at:][:1]):
        return Difference(register, at + 1, Change.MISSING, f"{here} is missing: {_row(expected[at])}")
    if at == len(wanted) or (len(got) > len(wanted) and got[at + 1 :][:1] == wanted[at:][:1]):
        return Difference(register, at + 1, Change.ADDED, f"{here} was added: {_row(actual[at])}")
    if got[at] in there and sorted(wanted) == sorted(got):
        origin = at + there.index(got[at]) + 1
        text = f"{here} {_row(actual[at])} moved here; it was expected as event {origin}"
        return Difference(register, at + 1, Change.MOVED, text)
    return Difference(register, at + 1, Change.CHANGED, f"{here} {_contrast(expected[at], actual[at])}")


def _key(row: Input) -> tuple[str, str]:
    return row.type, row.digest


def _row(row: Input) -> str:
    return f"{row.type} {row.description}"


def _contrast(expected: Input, actual: Input) -> str:
    if expected.type != actual.type:
        return f"differs: expected {_row(expected)}, found {_row(actual)}"
    if expected.description == actual.description:
        return f"{actual.type} {actual.description} differs: expected {expected.digest}, found {actual.digest}"
    wanted, got = _around(expected.description, actual.description)
    return f"{actual.type} differs: expected {wanted}, found {got}"


def _around(one: str, other: str) -> tuple[str, str]:
    """Both texts, long ones cut to where they begin to differ."""
    if max(len(one), len(other)) <= LONG_TEXT_CHARACTERS:
        return one, other
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - CONTEXT_CHARACTERS)
    end = start + LONG_TEXT_CHARACTERS
    cut = [("… " if start else "") + text[start:end] + (" …" if len(text) > end else "") for text in (one, other)]
    return cut[0], cut[1]


def _words(event: Event) -> str:
    data = event.data
    if event.type == codes.SEPARATOR:
        return {bytes(4): "without error", SEPARATOR_ERROR: "error"}.get(data, data[:SHORT_VALUE_BYTES].hex())
    if event.type in VARIABLES:
        return _variable(data)
    if event.type in IMAGES:
        return image_path(data) or "an image in memory"
    if event.type in LABELLED:
        return narrow_text(data[1 : 1 + data[0]]) or "" if data else ""
    if event.type == codes.EVENT_TAG:
        try:
            data = tagged(data)[1]
        except MalformedEvidence:
            return ""
    return wide_text(data) or narrow_text(data) or ""


def _variable(data: bytes) -> str:
    try:
        variable = parse_variable(data, exact=False)
    except MalformedEvidence:
        return ""
    value = variable.value
    return f"{variable.name} = {value.hex() or 'nothing' if len(value) <= SHORT_VALUE_BYTES else _size(value)}"


def _size(data: bytes) -> str:
    return f"{len(data)} bytes with SHA-256 {hashlib.sha256(data).hexdigest()}" if data else "no data"


def _printable(text: str) -> str:
    """One line, whatever the machine logged: what is not printable is escaped, and what is too long is cut."""
    line = "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= MAX_DESCRIPTION_CHARACTERS else line[:MAX_DESCRIPTION_CHARACTERS] + " …"
