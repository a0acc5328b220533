"""Inside an enclave: attestation documents from the Nitro Security Module, through the kernel's /dev/nsm.

Knows: the one request of the driver (Linux include/uapi/linux/nsm.h: NSM_IOCTL_RAW over two buffers) and the CBOR of
the request "Attestation" (AWS "nsm-api"). Does not know: who answers; the file lies below a root directory and the
system call is an argument, so a simulated module answers the same bytes. There is no fallback: without a device every
call ends in `DeviceUnavailable`. The kernel bounds the wait (two minutes). Not covered: extending and locking registers.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strongroom.crypto import cbor
from strongroom.errors import DeviceUnavailable, MalformedEvidence, UsageError
from strongroom.tee.nitro.parse import PUBLIC_KEY_BYTES, USER_BYTES, parse_document, read_answer

DEVICE = Path("dev/nsm")
REQUEST = 0xC020_0A00
"""NSM_IOCTL_RAW: _IOWR(0x0A, 0, 32 bytes)."""
MAX_REQUEST_BYTES = 0x1000
MAX_RESPONSE_BYTES = 0x3000

Ioctl = Callable[[int, int, Any], int]


class Message(ctypes.Structure):
    """`struct nsm_raw`: address and length of the request, address and length of the response."""

    _fields_ = (
        ("request", ctypes.c_uint64),
        ("request_bytes", ctypes.c_uint64),
        ("response", ctypes.c_uint64),
        ("response_bytes", ctypes.c_uint64),
    )


def detect(root: Path = Path("/")) -> str | None:
    """The kind of TEE whose device the kernel below `root` offers: `nitro`, or None. Nothing stands in for it."""
    return "nitro" if (root / DEVICE).exists() else None


class Collector:
    """The Nitro Security Module of this enclave. The kernel answers one request at a time."""

    def __init__(self, root: Path = Path("/"), *, ioctl: Ioctl = fcntl.ioctl) -> None:
        """`root` is where the kernel's file systems are mounted; `ioctl` is the system call."""
        self._device = root / DEVICE
        self._ioctl = ioctl

    def quote(self, report_data: bytes, *, nonce: bytes = b"", public_key: bytes = b"") -> bytes:
        """A document over `report_data` (as its user data), and over a nonce and a public key where they are given.

        At most 512, 512 and 1024 bytes. Raises `DeviceUnavailable`, also if the document is over anything else.
        """
        sizes = len(report_data) in USER_BYTES and len(nonce) in USER_BYTES
        if not sizes or (public_key and len(public_key) not in PUBLIC_KEY_BYTES):
            raise UsageError("more data than a Nitro document carries")
        asked = {"user_data": report_data or None, "nonce": nonce or None, "public_key": public_key or None}
        answer = self._exchange(cbor.encode({"Attestation": asked}))
        try:
            document = read_answer(answer)
            parsed = parse_document(document)
        except MalformedEvidence as error:
            raise DeviceUnavailable(f"the device gave no document: {error.message}") from None
        if {name: getattr(parsed, name) or None for name in asked} != asked:
            raise DeviceUnavailable("the device gave a document over other data")
        return document

    def extend(self, register: int, measurement: bytes) -> None:
        """Raises `DeviceUnavailable`: an enclave binds what it says, and extends nothing."""
        raise DeviceUnavailable(f"register {register} is not extended by {len(measurement)} bytes in an enclave")

    def log(self) -> bytes:
        """An enclave has no firmware of its own that would log."""
        return b""

    def _exchange(self, request: bytes) -> bytes:
        """One request and its answer."""
        if len(request) > MAX_REQUEST_BYTES:
            raise UsageError(f"a request of {len(request)} bytes where the device takes {MAX_REQUEST_BYTES}")
        sent, received = (ctypes.create_string_buffer(size) for size in (len(request), MAX_RESPONSE_BYTES))
        sent.raw = request
        message = Message(ctypes.addressof(sent), len(request), ctypes.addressof(received), MAX_RESPONSE_BYTES)
        try:
            descriptor = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._ioctl(descriptor, REQUEST, message)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DeviceUnavailable(
                f"the Nitro Security Module cannot be used ({error.strerror or 'error'})", detail="nsm"
            ) from None
        if message.response_bytes > MAX_RESPONSE_BYTES:
            raise DeviceUnavailable("the device says that it gave more than there was room for")
        return received.raw[: message.response_bytes]
