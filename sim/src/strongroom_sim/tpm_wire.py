"""The commands of a simulated TPM, and the device that a guest opens: as much as attesting needs.

Knows: how commands and responses are laid out (TPM 2.0 Library, Part 3), handles, which registers may be extended. Does not
know: keys, registers, structures (`tpm`). The device is a socket at the place of `/dev/tpmrm0` below a root directory, which
speaks the same bytes. Sessions and passwords are taken as they come: a simulated TPM guards nothing. Not covered: all other
commands, which end in TPM_RC_COMMAND_CODE as in a TPM that lacks them.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.errors import DeviceUnavailable, StrongroomError
from strongroom.tee.tpm import commands, parse
from strongroom.tee.tpm.credential import coordinates, kdfe, oaep, open_credential, sized
from strongroom.tee.tpm.device import DEVICE, HEADER_BYTES
from strongroom.tee.tpm.parse import HASHES, Reader, parse_public, parse_selection
from strongroom_sim import tpm as chips
from strongroom_sim.tpm import PrivateKey, Statement, Tpm

RC_COMMAND_CODE, RC_VALUE, RC_HANDLE, RC_INTEGRITY = 0x143, 0x184, 0x18B, 0x1DF
HANDLES = {
    commands.CREATE_PRIMARY: 1, commands.QUOTE: 1, commands.PCR_EXTEND: 1, commands.NV_READ_PUBLIC: 1,
    commands.NV_READ: 2, commands.START_SESSION: 2, commands.POLICY_SECRET: 2, commands.ACTIVATE_CREDENTIAL: 2,
    commands.PCR_READ: 0, commands.FLUSH_CONTEXT: 0,
}  # fmt: skip
REGISTERS_AT_ONCE = 8
FIRST_KEY, POLICY_SESSION = 0x80000000, 0x03000000
MAX_COMMAND_BYTES = 4096
IDLE_SECONDS = 0.2


class Refusal(Exception):
    """A response code that is not a success."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:#x}")
        self.code = code


class Wire:
    """Commands of one guest to a simulated TPM; what it loaded is gone when it leaves, as with a resource manager."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._keys: dict[int, tuple[bytes, PrivateKey]] = {}
        self._made = 0

    def exchange(self, command: bytes) -> bytes:
        """The response to one command."""
        tag, code = command[:2], int.from_bytes(command[6:10], "big")
        try:
            body = self._answer(code, tag == b"\x80\x02", Reader(command[HEADER_BYTES:], "a command"))
        except Refusal as refusal:
            return _response(b"\x80\x01", refusal.code, b"")
        except StrongroomError:
            return _response(b"\x80\x01", RC_VALUE, b"")
        return _response(tag, 0, body)

    def close(self) -> None:
        self._keys.clear()

    def _answer(self, code: int, with_sessions: bool, reader: Reader) -> bytes:  # noqa: FBT001 (the command's own tag)
        if code not in HANDLES:
            raise Refusal(RC_COMMAND_CODE)
        handles = [reader.integer(4) for _ in range(HANDLES[code])]
        if with_sessions:
            reader.take(reader.integer(4))
        handler = {
            commands.CREATE_PRIMARY: self._create_primary,
            commands.QUOTE: self._quote,
            commands.PCR_EXTEND: self._extend,
            commands.NV_READ_PUBLIC: self._nv_public,
            commands.NV_READ: self._nv_read,
            commands.START_SESSION: lambda _, __: POLICY_SESSION.to_bytes(4, "big") + sized(bytes(16)),
            commands.POLICY_SECRET: lambda _, __: _parameters(sized(b"") + bytes(6) + sized(b"")),
            commands.ACTIVATE_CREDENTIAL: self._activate,
            commands.PCR_READ: self._read,
            commands.FLUSH_CONTEXT: self._flush,
        }[code]
        return handler(handles, reader)

    def _create_primary(self, _: list[int], reader: Reader) -> bytes:
        reader.sized()
        public, key = chips.from_template(reader.sized(), self._tpm)
        handle = FIRST_KEY + self._made
        self._made += 1
        self._keys[handle] = (public, key)
        return handle.to_bytes(4, "big") + _parameters(sized(public))

    def _flush(self, _: list[int], reader: Reader) -> bytes:
        handle = reader.integer(4)
        if handle != POLICY_SESSION and self._keys.pop(handle, None) is None:
            raise Refusal(RC_HANDLE)
        return b""

    def _read(self, _: list[int], reader: Reader) -> bytes:
        ((bank, indices),) = parse_selection(reader)
        given = indices[:REGISTERS_AT_ONCE]
        values = b"".join(sized(self._tpm.pcrs[bank][index]) for index in given)
        return (
            self._tpm.changes.to_bytes(4, "big")
            + chips.selection_of([(bank, given)])
            + len(given).to_bytes(4, "big")
            + values
        )

    def _quote(self, handles: list[int], reader: Reader) -> bytes:
        key = self._key(handles[0])[1]
        qualifying = reader.sized()
        reader.integer(2)
        attest = self._tpm.attest(Statement(qualifying), parse_selection(reader), "sha256")
        return _parameters(sized(attest) + chips.signature(key, attest))

    def _extend(self, handles: list[int], reader: Reader) -> bytes:
        for _ in range(reader.integer(4)):
            bank = HASHES[reader.integer(2)]
            self._tpm.extend(handles[0], bank, reader.take(parse.DIGEST_BYTES[bank]))
        return _parameters(b"")

    def _nv_public(self, handles: list[int], _: Reader) -> bytes:
        content = self._nv(handles[0])
        public = handles[0].to_bytes(4, "big") + b"\x00\x0b" + bytes(4) + sized(b"") + len(content).to_bytes(2, "big")
        return sized(public) + sized(b"")

    def _nv_read(self, handles: list[int], reader: Reader) -> bytes:
        size, offset = reader.integer(2), reader.integer(2)
        return _parameters(sized(self._nv(handles[1])[offset : offset + size]))

    def _nv(self, index: int) -> bytes:
        if index not in self._tpm.nv:
            raise Refusal(RC_HANDLE)
        return self._tpm.nv[index]

    def _activate(self, handles: list[int], reader: Reader) -> bytes:
        ak, (ek, key) = self._key(handles[0])[0], self._key(handles[1])
        blob, secret = reader.sized(), reader.sized()
        value = open_credential(blob, _seed(key, secret), parse_public(ek), parse_public(ak).name)
        if value is None:
            raise Refusal(RC_INTEGRITY)
        return _parameters(sized(value))

    def _key(self, handle: int) -> tuple[bytes, PrivateKey]:
        if handle not in self._keys:
            raise Refusal(RC_HANDLE)
        return self._keys[handle]


class TpmDevice:
    """A simulated TPM served below `root`. A context manager; `serve` runs until told to stop, one guest at a time."""

    def __init__(self, tpm: Tpm, root: Path) -> None:
        """Make the socket below `root`, which must not hold a device yet. Raises `DeviceUnavailable`."""
        self._tpm = tpm
        path = root / DEVICE
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._socket.bind(str(path))
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            raise DeviceUnavailable(f"no simulated TPM can be served below {root} ({error.strerror})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def serve(self, stop: Callable[[], bool]) -> None:
        """Answer guests until `stop` says so; it is asked at least five times a second."""
        while not stop():
            if select.select([self._socket], [], [], IDLE_SECONDS)[0]:
                connection, _ = self._socket.accept()
                with connection:
                    self._attend(connection, stop)

    def _attend(self, connection: socket.socket, stop: Callable[[], bool]) -> None:
        """One guest: a command, its response, until it leaves."""
        wire, command = Wire(self._tpm), b""
        while not stop():
            if not select.select([connection], [], [], IDLE_SECONDS)[0]:
                continue
            piece = connection.recv(MAX_COMMAND_BYTES)
            command += piece
            if not piece or len(command) > MAX_COMMAND_BYTES:
                return
            if len(command) >= HEADER_BYTES and len(command) == int.from_bytes(command[2:6], "big"):
                connection.sendall(wire.exchange(command))
                command = b""


def _seed(key: PrivateKey, secret: bytes) -> bytes:
    """What a TPM does with an encrypted seed, by its endorsement key."""
    if isinstance(key, rsa.RSAPrivateKey):
        try:
            return key.decrypt(secret, oaep("sha256"))
        except ValueError:
            raise Refusal(RC_VALUE) from None
    reader = Reader(secret, "an encrypted seed")
    x, y = reader.sized(), reader.sized()
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), key.curve)
    try:
        shared = key.exchange(ec.ECDH(), numbers.public_key())
    except ValueError:
        raise Refusal(RC_VALUE) from None
    return kdfe("sha256", shared, "IDENTITY", x, coordinates(key.public_key())[0], 256)


def _parameters(content: bytes) -> bytes:
    """The parameters of a response with sessions: their size, themselves, and an answer of one password session."""
    return len(content).to_bytes(4, "big") + content + sized(b"") + b"\x01" + sized(b"")


def _response(tag: bytes, code: int, body: bytes) -> bytes:
    return tag + (HEADER_BYTES + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body
