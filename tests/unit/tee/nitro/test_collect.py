"""The collector against a security module's interface, and against ones that are absent, refusing or lying."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto import cbor
from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.records.verdict import all_passed
from strongroom.tee.nitro import Collector, detect
from strongroom.tee.nitro.collect import REQUEST, Message
from strongroom_sim.nitro import Enclave

NOW = 1_790_000_000
DATA = bytes(range(64))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nsm").write_bytes(b"")
    return tmp_path


@pytest.fixture
def enclave(place: Any) -> Enclave:
    return Enclave(place.cloud, place.enclave.pcrs, clock=lambda: NOW)


def answering(answer: Callable[[dict[str, Any]], bytes]) -> Callable[[int, int, Message], int]:
    """A device that answers whatever it is told to; what it was asked is handed on."""

    def ioctl(_descriptor: int, request: int, message: Message) -> int:
        assert request == REQUEST
        asked = cbor.decode(ctypes.string_at(message.request, message.request_bytes))
        given = answer(asked["Attestation"])
        ctypes.memmove(message.response, given, len(given))
        message.response_bytes = len(given)
        return 0

    return ioctl


def test_the_request_is_the_kernels():
    """_IOWR(0x0A, 0, struct nsm_raw) of linux/nsm.h."""
    both_ways, magic, number = 3, 0x0A, 0
    assert both_ways << 30 | ctypes.sizeof(Message) << 16 | magic << 8 | number == REQUEST
    assert ctypes.sizeof(Message) == 32


def test_a_document_is_over_our_data_and_verifies(place: Any, root: Path, enclave: Enclave):
    assert detect(root) == "nitro"
    quote = Collector(root, ioctl=enclave.ioctl).quote(DATA, nonce=b"nonce", public_key=b"key")
    genuine = place.judge(quote)
    assert all_passed(genuine.checks)
    assert genuine.claims["report_data"] == DATA.hex()
    assert (genuine.claims["nonce"], genuine.claims["public_key"]) == (b"nonce".hex(), b"key".hex())


def test_what_is_not_given_is_asked_for_as_null(root: Path, enclave: Enclave):
    seen: list[dict[str, Any]] = []

    def answer(asked: dict[str, Any]) -> bytes:
        seen.append(dict(asked))
        return cbor.encode({"Attestation": {"document": enclave.quote(DATA)}})

    Collector(root, ioctl=answering(answer)).quote(DATA)
    assert seen == [{"user_data": DATA, "nonce": None, "public_key": None}]


def test_without_a_device_there_is_an_error_and_no_fallback(tmp_path: Path, enclave: Enclave):
    assert detect(tmp_path) is None
    with pytest.raises(DeviceUnavailable):
        Collector(tmp_path, ioctl=enclave.ioctl).quote(DATA)


def test_a_file_that_is_no_device_is_an_error(root: Path):
    with pytest.raises(DeviceUnavailable):
        Collector(root).quote(DATA)


ANSWERS: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(64),
    "an error": cbor.encode({"Error": "InvalidArgument"}),
    "a word": cbor.encode("GetRandom"),
    "no document": cbor.encode({"Attestation": {"document": b"\x84"}}),
    "more than a document": cbor.encode({"Attestation": {"document": b"\x84"}, "more": 1}),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_that_is_no_document_is_an_error(root: Path, answer: bytes):
    with pytest.raises(DeviceUnavailable, match="document"):
        Collector(root, ioctl=answering(lambda _: answer)).quote(DATA)


def test_a_document_over_other_data_is_an_error(root: Path, enclave: Enclave):
    other = cbor.encode({"Attestation": {"document": enclave.quote(bytes(64))}})
    collector = Collector(root, ioctl=answering(lambda _: other))
    for nonce in (b"", b"nonce"):
        with pytest.raises(DeviceUnavailable, match="other data"):
            collector.quote(DATA, nonce=nonce)


def test_a_device_that_claims_more_than_there_was_room_for_is_an_error(root: Path):
    def ioctl(_descriptor: int, _request: int, message: Message) -> int:
        message.response_bytes = 1 << 40
        return 0

    with pytest.raises(DeviceUnavailable, match="room"):
        Collector(root, ioctl=ioctl).quote(DATA)


def test_more_than_a_document_carries_is_a_usage_error(root: Path, enclave: Enclave):
    collector = Collector(root, ioctl=enclave.ioctl)
    for data, extra in ((bytes(513), {}), (DATA, {"nonce": bytes(513)}), (DATA, {"public_key": bytes(1025)})):
        with pytest.raises(UsageError):
            collector.quote(data, **extra)


def test_the_simulated_module_refuses_what_a_real_one_refuses(enclave: Enclave):
    with pytest.raises(OSError, match="Inappropriate"):
        enclave.ioctl(0, 1, Message())
    with pytest.raises(UsageError):
        Enclave(enclave._cloud, {16: bytes(48)})
    assert enclave._answer(cbor.encode({"Attestation": {"extra": 1}})) == cbor.encode({"Error": "InvalidArgument"})
    assert enclave._answer(b"\xff") == cbor.encode({"Error": "InvalidOperation"})
