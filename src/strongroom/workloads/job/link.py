"""Messages between a worker and the confined child of a job: JSON, some of them with one open file.

Knows: `!IB` (length of the text, whether a file comes along), then the text, a JSON object in UTF-8; the file's descriptor
travels beside the first byte (SCM_RIGHTS). Does not know: what a message means. The parser is total: what breaks the form raises
`MalformedMessage`, and a descriptor that was not announced is closed.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

from strongroom.errors import MalformedMessage

MAX_TEXT = 4 * 1024 * 1024
_HEADER = struct.Struct("!IB")
_ROOM = socket.CMSG_LEN(struct.calcsize("i"))
"""For one descriptor; the kernel closes what does not fit."""


@dataclass(slots=True)
class Message:
    """`kind` and `members` as they were sent. `take` gives the descriptor of its file to the caller, who closes it."""

    kind: str
    members: dict[str, Any]
    descriptor: int | None = None

    def take(self) -> int:
        """Raises `MalformedMessage` if no file came with it."""
        if self.descriptor is None:
            raise MalformedMessage(f"a message of kind {self.kind[:32]!r} without its file")
        found, self.descriptor = self.descriptor, None
        return found

    def text(self, name: str) -> str:
        """A member that must be text. Raises `MalformedMessage`."""
        value = self.members.get(name)
        if not isinstance(value, str):
            raise MalformedMessage(f"a message of kind {self.kind[:32]!r} without {name}")
        return value

    def close(self) -> None:
        """Close the file, if nobody took it."""
        if self.descriptor is not None:
            os.close(self.take())


class Link:
    """One end of the socket pair, blocking; one thread sends and one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, kind: str, members: dict[str, Any], descriptor: int | None = None) -> None:
        """Send one message; a descriptor stays the caller's. Raises `MalformedMessage`, and `OSError` where nobody listens."""
        text = json.dumps({"kind": kind, **members}, ensure_ascii=False).encode()
        if len(text) > MAX_TEXT:
            raise MalformedMessage(f"a message of {len(text)} bytes exceeds the limit of {MAX_TEXT}")
        header = _HEADER.pack(len(text), descriptor is not None)
        if descriptor is not None:
            socket.send_fds(self._end, [header[:1]], [descriptor])
            header = header[1:]
        self._end.sendall(header + text)

    def receive(self) -> Message | None:
        """The next message, or None at the end. Raises `MalformedMessage`, and `OSError` where the socket fails or times out."""
        descriptors: list[int] = []
        try:
            header = self._exactly(_HEADER.size, descriptors)
            if not header:
                return None
            length, with_file = _HEADER.unpack(header)
            if length > MAX_TEXT or with_file not in (0, 1):
                raise MalformedMessage("a message without a possible header")
            kind, members = _parse(self._exactly(length, descriptors))
            if len(descriptors) != with_file:
                raise MalformedMessage("a message with another number of files than it says")
            return Message(kind, members, descriptors.pop() if descriptors else None)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _exactly(self, length: int, descriptors: list[int]) -> bytes:
        """`length` bytes, or none if the end comes before the first; descriptors beside them are added to the list."""
        data = b""
        while len(data) < length:
            part, beside, _, _ = self._end.recvmsg(length - len(data), _ROOM, socket.MSG_CMSG_CLOEXEC)
            for level, kind, found in beside:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors += _descriptors(found)
            if not part:
                if data:
                    raise MalformedMessage("a message that was cut short")
                break
            data += part
        return data


def _parse(text: bytes) -> tuple[str, dict[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedMessage("a message that is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise MalformedMessage("a message that is not an object with a kind")
    return value.pop("kind"), value


def _descriptors(data: bytes) -> list[int]:
    return [number for (number,) in struct.iter_unpack("i", data)]
