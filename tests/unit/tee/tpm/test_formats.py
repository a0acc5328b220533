"""Other tools' files: what is read of them, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from strongroom.errors import MalformedEvidence
from strongroom.tee.tpm import read_attestation, read_coco, read_quote, read_raw_quote, read_tpm2_tools
from strongroom_sim.tpm import public_area


def varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])


def member(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def registers(bank: int, values: dict[int, bytes]) -> bytes:
    entries = b"".join(member(2, member(1, index) + member(2, value)) for index, value in values.items())
    return member(1, bank) + entries


def attestation(place: Any, *extra: bytes) -> bytes:
    good = place.good
    values = {int(index): bytes.fromhex(value) for index, value in good.pcrs["sha256"].items()}
    quote = member(1, good.attest) + member(2, good.signature) + member(3, registers(0x0B, values))
    return member(1, place.tpm.ak_public) + member(2, quote) + member(3, b"log") + b"".join(extra)


def test_an_attestation_of_go_tpm_tools_is_read(place: Any):
    found = read_attestation(
        attestation(place, member(6, b"leaf"), member(7, b"above"), b"\x49" + bytes(8), b"\x55" + bytes(4))
    )
    assert found is not None
    assert found.quote.pcrs == place.good.pcrs
    assert (found.log, found.certificates) == (b"log", (b"leaf", b"above"))
    assert place.judge(found.quote).holds


def test_what_does_not_begin_as_an_attestation_is_none():
    assert read_attestation(b"") is None
    assert read_attestation(b"\x04\x00\x02\x00") is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05a",
        b"\x0a\x01a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x0a\x00\x03",
        b"\x0a\x00\x00\x00",
        b"\x0a\x00\x12\x00",
        b"\x0a\x00\x10\x01",
        b"\x0a\x00" + member(2, member(1, b"") + member(3, registers(0x99, {}))),
        b"\x0a\x00" + member(2, b"") * 9,
        b"\n" + bytes(2 * 1024 * 1024),
    ],
)
def test_an_attestation_of_another_form_is_malformed(data: bytes):
    with pytest.raises(MalformedEvidence):
        read_attestation(data)


def test_a_member_or_a_register_that_comes_twice_is_malformed(place: Any):
    for extra in (member(1, b"key"), member(3, b"log")):
        with pytest.raises(MalformedEvidence):
            read_attestation(attestation(place, extra))
    twice = member(3, member(1, 0x0B) + 2 * member(2, member(1, 4) + member(2, bytes(32))))
    with pytest.raises(MalformedEvidence):
        read_attestation(b"\x0a\x00" + member(2, twice))
    one = member(2, member(3, member(1, 0x0B)))
    with pytest.raises(MalformedEvidence):
        read_attestation(b"\x0a\x00" + one + one)


def coco(place: Any) -> dict[str, Any]:
    good = place.good
    encode = lambda data: base64.b64encode(data).decode().rstrip("=")  # noqa: E731
    values = [good.pcrs["sha256"][str(index)] for index in range(24)]
    quote = {"message": encode(good.attest), "signature": encode(good.signature), "pcrs": values}
    return {"ak_public": encode(good.ak), "tpm_quote": quote}


def test_confidential_containers_json_is_read(place: Any):
    assert place.judge(read_coco(coco(place))).holds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message", "%%"),
        ("message", None),
        ("signature", 7),
        ("pcrs", []),
        ("pcrs", ["00"] * 25),
        ("pcrs", ["zz"]),
        ("pcrs", "00"),
    ],
)
def test_confidential_containers_json_of_another_form_is_malformed(place: Any, name: str, value: Any):
    document = coco(place)
    document["tpm_quote"][name] = value
    with pytest.raises(MalformedEvidence):
        read_quote(read_coco(document))


def test_json_without_a_quote_is_malformed():
    for document in ({}, {"tpm_quote": 1}, {"tpm_quote": {}}):
        with pytest.raises(MalformedEvidence):
            read_coco(document)
    for found in (None, {}, {"message": "0", "signature": "", "pcrs": ["00"]}):
        with pytest.raises(MalformedEvidence):
            read_raw_quote(found, public=b"")


def pcr_file(values: list[bytes], *, bank: int = 0x0B, selected: int | None = None, count: int | None = None) -> bytes:
    """What tpm2-tools writes: TPML_PCR_SELECTION, a count, TPML_DIGESTs, as C lays them out."""
    bits = (1 << len(values)) - 1 if selected is None else selected
    selection = (1).to_bytes(4, "little") + bank.to_bytes(2, "little") + b"\x03" + bits.to_bytes(4, "little") + b"\0"
    digests = b"".join(len(value).to_bytes(2, "little") + value.ljust(64, b"\0") for value in values)
    digests = (len(values) if count is None else count).to_bytes(4, "little") + digests
    return selection.ljust(132, b"\0") + (1).to_bytes(4, "little") + digests.ljust(532, b"\0")


def test_the_files_of_tpm2_tools_are_read(place: Any):
    found = read_tpm2_tools(b"a", b"s", pcr_file([b"\1" * 32, b"\2" * 32]), public_area(place.tpm.ak.public_key()))
    assert found.pcrs == {"sha256": {"0": "01" * 32, "1": "02" * 32}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pcr_file([bytes(32)])[:-1],
        pcr_file([bytes(32)]) + b"\0",
        pcr_file([bytes(32)], bank=0x99),
        pcr_file([bytes(32)], selected=3),
        pcr_file([bytes(32), bytes(32)], selected=1),
        pcr_file([bytes(32)], count=9),
    ],
)
def test_the_files_of_tpm2_tools_in_another_form_are_malformed(data: bytes):
    with pytest.raises(MalformedEvidence):
        read_quote(read_tpm2_tools(b"", b"", data, b""))
