"""The wire of the sealed channel, version 2 (`strongroom/2`), byte for byte, without any I/O.

    request body = encapsulation (1120) || sealed secret (48) || frame...
    answer body  = nonce (32) || frame...
    frame        = u32be length || u8 final || ciphertext (AES-256-GCM; associated data: the five bytes before it)
    plaintext    = u16be padding || content || zero bytes (padding)

A random secret is sealed to the worker's MLKEM768-X25519 key, for one keyset alone; the keys of both directions are drawn
from it and from every byte of the request's head. The first frame of either direction holds a head (`heads`), the others the
body; the last, and only the last, says that it is final. (docs/reference/channel-v2.md has it in words, with vectors.)

Safety: nonces are the frames' numbers, so frames cannot be moved, repeated or left out; an end without the final flag is no
end (StreamTruncated), and nothing may follow it. Both keys depend on the encapsulation and the sealed secret, so no other
head carries the same frames: its SHA-256 is what `replay` remembers. Whoever has the private key later reads what was
recorded, which is why that key dies with its worker; a quantum computer alone does not.

Knows: keys, frames, padding, the two directions. Does not know: what a head says, HTTP servers and clients.
Not covered: several keys in one worker, early answers before a request has come to its end.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.channel.padding import BUCKET
from strongroom.crypto import hpke
from strongroom.errors import ChannelRefused, MalformedMessage, SealBroken, StreamTruncated
from strongroom.records.digest import Digest, raw
from strongroom.records.worker import CHANNEL_V2

VERSION = CHANNEL_V2
"""The name of this version in a keyset's list of channels."""

METHOD, PATH = "POST", "/.well-known/strongroom/sealed"
"""Where every sealed request goes; what it really asks for stands in its first frame."""
MEDIA_TYPE = "application/vnd.strongroom.sealed"
KEYSET_HEADER = "strongroom-keyset"
"""The digest of the keyset that a request was sealed to, in the clear, for whoever routes it."""

INFO = b"strongroom/2 request\x00"
SECRET_BYTES = 32
HEAD_BYTES = hpke.RELEASE_ENCAPSULATION_BYTES + SECRET_BYTES + hpke.TAG_BYTES
NONCE_BYTES = 32

_PREFIX = struct.Struct("!IB")
PREFIX_BYTES = _PREFIX.size
PADDING_BYTES = 2
MAX_CONTENT = 64 << 10
"""The most content and padding of one frame, in bytes."""
MAX_FRAME = PADDING_BYTES + MAX_CONTENT + hpke.TAG_BYTES
"""The longest ciphertext of one frame, in bytes."""
MAX_FRAMES = 1 << 16
"""The most frames of one request: opening them must not cost more than the bytes are worth."""
_MIN_FRAME = PADDING_BYTES + hpke.TAG_BYTES


@dataclass(frozen=True, slots=True)
class Peer:
    """The worker that a request is sealed to: its MLKEM768-X25519 key (1216 bytes), and the digest of its keyset.

    Both from verified evidence.
    """

    public: bytes
    keyset: Digest


class FrameSealer:
    """Seals one direction, frame by frame."""

    def __init__(self, key: bytes, base_nonce: bytes, *, bucket: int = BUCKET) -> None:
        """`bucket`: to whose multiples of bytes content is padded; it must divide MAX_CONTENT."""
        if bucket < 1 or MAX_CONTENT % bucket:
            raise ValueError(f"a bucket of {bucket} bytes does not divide {MAX_CONTENT}")
        self._aead = AESGCM(key)
        self._base_nonce = int.from_bytes(base_nonce)
        self._bucket = bucket
        self._sequence = 0

    def seal(self, content: bytes, *, final: bool = False) -> bytes:
        """`content` as frames of at most MAX_CONTENT bytes each; nothing for nothing, unless it is the end."""
        if 0 < len(content) <= MAX_CONTENT:
            return self._seal_one(content, final=final)
        parts = [content[i : i + MAX_CONTENT] for i in range(0, len(content), MAX_CONTENT)]
        if final and not parts:
            parts = [b""]
        last = len(parts) - 1
        return b"".join(self._seal_one(part, final=final and i == last) for i, part in enumerate(parts))

    def _seal_one(self, content: bytes, *, final: bool) -> bytes:
        padding = -len(content) % self._bucket
        plaintext = padding.to_bytes(PADDING_BYTES) + content + bytes(padding)
        prefix = _PREFIX.pack(len(plaintext) + hpke.TAG_BYTES, final)
        nonce = (self._base_nonce ^ self._sequence).to_bytes(hpke.NONCE_BYTES)  # as `hpke.sequence_nonce`
        self._sequence += 1
        return prefix + self._aead.encrypt(nonce, plaintext, prefix)


class FrameOpener:
    """Opens one direction, however it was cut into pieces. After an error it is of no more use."""

    def __init__(self, key: bytes, base_nonce: bytes, *, max_frames: int | None = None) -> None:
        """`max_frames` bounds the number of frames."""
        self._aead = AESGCM(key)
        self._base_nonce = base_nonce
        self._frames_left = max_frames
        self._sequence = 0
        self._buffer = bytearray()
        self.ended = False

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the frames that `data` completes, in order.

        Raises MalformedMessage for frames that are none and for bytes after the last, ChannelRefused for a frame that the
        other end did not seal here.
        """
        self._buffer += data
        start, contents = 0, []
        while (end := self._frame_end(start)) is not None:
            contents.append(self._open_one(start, end))
            start = end
        del self._buffer[:start]
        return contents

    def finish(self) -> None:
        """No more comes. Raises StreamTruncated if the final frame has not come."""
        if not self.ended:
            raise StreamTruncated("the message ended before its final frame")

    def _frame_end(self, start: int) -> int | None:
        """Where the frame at `start` ends, or None while it is incomplete."""
        buffer = self._buffer
        if self.ended and len(buffer) > start:
            raise MalformedMessage("bytes after the final frame")
        if len(buffer) - start < PREFIX_BYTES:
            return None
        length, final = int.from_bytes(buffer[start : start + 4]), buffer[start + 4]
        if not _MIN_FRAME <= length <= MAX_FRAME or final > 1:
            raise MalformedMessage(f"a frame of {length} bytes, marked {final}, is none")
        end = start + PREFIX_BYTES + length
        return end if end <= len(buffer) else None

    def _open_one(self, start: int, end: int) -> bytes:
        if self._frames_left is not None:
            if self._frames_left == 0:
                raise MalformedMessage("a message of too many frames")
            self._frames_left -= 1
        prefix, ciphertext = bytes(self._buffer[start : start + PREFIX_BYTES]), self._buffer[start + PREFIX_BYTES : end]
        nonce = hpke.sequence_nonce(self._base_nonce, self._sequence)
        try:
            plaintext = self._aead.decrypt(nonce, bytes(ciphertext), prefix)
        except InvalidTag as error:
            raise ChannelRefused(
                "a frame was changed, moved or not sealed by the other end", detail=f"frame {self._sequence}"
            ) from error
        self._sequence += 1
        self.ended = prefix[4] == 1
        return _unpadded(plaintext)


def _unpadded(plaintext: bytes) -> bytes:
    padding = int.from_bytes(plaintext[:PADDING_BYTES])
    end = len(plaintext) - padding
    if end < PADDING_BYTES or plaintext.count(0, end) != padding:
        raise MalformedMessage("a frame whose padding is none")
    return plaintext[PADDING_BYTES:end]


class _Keys:
    """The keys of one exchange, the same at both ends."""

    def __init__(self, secret: bytes, head: bytes) -> None:
        """`secret`: 32 bytes; `head`: the HEAD_BYTES in which it travelled."""
        if len(secret) != SECRET_BYTES:
            raise MalformedMessage(f"a secret of {len(secret)} bytes where {SECRET_BYTES} are needed")
        prk = hpke.extract(head, secret)
        self.request = hpke.expand(prk, b"request key", hpke.KEY_BYTES), hpke.expand(prk, b"request nonce", 12)
        self._answer = hpke.expand(prk, b"answer", SECRET_BYTES)

    def answer(self, nonce: bytes) -> tuple[bytes, bytes]:
        """Key and first nonce of the answer that begins with `nonce`."""
        if len(nonce) != NONCE_BYTES:
            raise MalformedMessage(f"a nonce of {len(nonce)} bytes where {NONCE_BYTES} are needed")
        prk = hpke.extract(nonce, self._answer)
        return hpke.expand(prk, b"answer key", hpke.KEY_BYTES), hpke.expand(prk, b"answer nonce", 12)


class RequestSealer:
    """Seals one request to a worker; then opens its answer."""

    def __init__(self, secret: bytes, head: bytes) -> None:
        """`secret`: 32 bytes; `head`: the HEAD_BYTES that carry it. `to` makes both."""
        self.head = head
        self._keys = _Keys(secret, head)

    @classmethod
    def to(cls, peer: Peer, *, random: Callable[[int], bytes] = secrets.token_bytes) -> Self:
        """For one request to `peer`. Raises MalformedMessage for a key that is none."""
        secret = random(SECRET_BYTES)
        encapsulation, box = hpke.seal_to(peer.public, secret, INFO + raw(peer.keyset))
        return cls(secret, encapsulation + box)

    def seal(self, head: bytes, body: bytes, *, bucket: int = BUCKET) -> bytes:
        """The whole body of the request: encapsulation, the frame of the head, the frames of the body. Called once."""
        if not 0 < len(head) <= MAX_CONTENT:
            raise ChannelRefused(f"a head of {len(head)} bytes", remedy="Send fewer and shorter headers.")
        sealer = FrameSealer(*self._keys.request, bucket=bucket)
        return self.head + sealer.seal(head, final=not body) + (sealer.seal(body, final=True) if body else b"")

    def opener(self) -> AnswerOpener:
        """The opener of the answer."""
        return AnswerOpener(self._keys)


class AnswerOpener:
    """Opens the answer as it arrives: its head, then its body. After an error it is of no more use."""

    def __init__(self, keys: _Keys) -> None:
        self._keys = keys
        self._nonce = b""
        self._frames: FrameOpener | None = None
        self.head: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """What `data` completes of the body; `head` is set as soon as it is there. Raises as `FrameOpener.feed`."""
        if self._frames is None:
            missing = NONCE_BYTES - len(self._nonce)
            self._nonce, data = self._nonce + data[:missing], data[missing:]
            if len(self._nonce) < NONCE_BYTES:
                return b""
            self._frames = FrameOpener(*self._keys.answer(self._nonce))
        contents = self._frames.feed(data)
        if self.head is None and contents:
            self.head = contents.pop(0)
        return b"".join(contents)

    def finish(self) -> None:
        """The answer has ended. Raises StreamTruncated if before its final frame."""
        if self._frames is None:
            raise StreamTruncated("the answer ended before it began")
        self._frames.finish()


class RequestOpener:
    """Opens one request at the worker; then seals its answer."""

    def __init__(self, private: hpke.ReleaseKey, keyset: Digest, body: bytes) -> None:
        """`body`: the whole body of the request. Nothing comes out before every byte of it has been judged.

        Raises MalformedMessage for a form that is none, StreamTruncated for a body cut anywhere, ChannelRefused for one
        that was changed or is for another key.
        """
        head = body[:HEAD_BYTES]
        if len(head) != HEAD_BYTES:
            raise StreamTruncated("the request ended inside its encapsulation")
        encapsulation, box = head[: hpke.RELEASE_ENCAPSULATION_BYTES], head[hpke.RELEASE_ENCAPSULATION_BYTES :]
        try:
            secret = private.open(encapsulation, box, INFO + raw(keyset))
        except SealBroken as error:
            raise ChannelRefused("the request was changed, or sealed to another key") from error
        self._keys = _Keys(secret, head)
        frames = FrameOpener(*self._keys.request, max_frames=MAX_FRAMES)
        contents = frames.feed(body[HEAD_BYTES:])
        frames.finish()
        self.identity = hashlib.sha256(head).digest()
        """What is remembered of this request (32 bytes)."""
        self.head = contents[0]
        self.body = b"".join(contents[1:])

    def respond(self, nonce: bytes, *, bucket: int = BUCKET) -> FrameSealer:
        """The sealer of the answer. `nonce`: 32 fresh random bytes, the first of the answer's body."""
        return FrameSealer(*self._keys.answer(nonce), bucket=bucket)
