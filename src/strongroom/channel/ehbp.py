"""The wire of the sealed channel: EHBP (Encrypted HTTP Body Protocol) version 1, byte for byte, without any I/O.

Both bodies are sequences of frames, `uint32_be length || ciphertext`. Those of the request are messages of one HPKE
context (`info` "ehbp request"); those of the answer are AES-256-GCM under a key drawn from that context's exporter
and a random nonce of the server's. A frame of length 0 means nothing. Associated data is empty everywhere.
(https://github.com/tinfoilsh/encrypted-http-body-protocol, SPEC.md, sections 3 and 4.)

Safety, what version 1 leaves open, and where it is closed:
- the end of a body is the end of the HTTP message, so a proxy can cut at a frame: `completion` proves the answer's end,
  and our own client puts a request into one frame;
- the same request can be sent again: `replay`;
- lengths show: `padding`;
- method, path, status and headers are not bound: receipts name what was done; nothing secret goes into a header;
- X25519 alone, no forward secrecy against a stolen channel key, which is why that key dies with its worker.

Knows: key configurations, frames, the two directions. Does not know: HTTP servers and clients.
Not covered: session recovery tokens, several suites or keys in one configuration.
"""

from __future__ import annotations

import re
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.crypto import hpke
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, MalformedMessage, SealBroken, StreamTruncated

VERSION = "ehbp/1"
"""The name of this version in a keyset's list of channels."""

ENCAPSULATION_HEADER = "ehbp-encapsulated-key"
NONCE_HEADER = "ehbp-response-nonce"
KEYS_PATH = "/.well-known/hpke-keys"
KEYS_MEDIA_TYPE = "application/ohttp-keys"
PROBLEM_MEDIA_TYPE = "application/problem+json"
KEY_CONFIG_PROBLEM = "urn:ietf:params:ehbp:error:key-config"
"""The type of the problem that a server answers, with status 422, to a request sealed to a key it does not hold."""

REQUEST_INFO = b"ehbp request"
RESPONSE_LABEL = b"ehbp response"

KEY_CONFIG_BYTES = 41
ENCAPSULATION_BYTES = 32
NONCE_BYTES = 32
PREFIX_BYTES = 4
MAX_FRAME = 64 << 20
"""The longest frame, ciphertext and tag, that any receiver takes. Receivers may set a lower limit."""
MAX_FRAMES = 1 << 16
"""The most frames, empty ones included, of one request: opening them must not cost more than the bytes are worth."""
SEAL_FRAME = 64 << 10
"""How much plaintext of an answer goes into one frame, so that the other end can use it before the rest arrives."""

_CONFIG_HEAD = bytes([0]) + hpke.KEM_ID.to_bytes(2)
_CONFIG_TAIL = (4).to_bytes(2) + hpke.KDF_ID.to_bytes(2) + hpke.AEAD_ID.to_bytes(2)
_HEX_32 = re.compile(r"[0-9a-f]{64}\Z")


def encode_key_config(public: bytes) -> bytes:
    """The key configuration (41 bytes, RFC 9458 section 3.1) of a server with the X25519 key `public` (32 bytes)."""
    if len(public) != hpke.X25519_BYTES:
        raise MalformedMessage(f"a channel key of {len(public)} bytes where {hpke.X25519_BYTES} are needed")
    return _CONFIG_HEAD + public + _CONFIG_TAIL


def parse_key_config(data: bytes) -> bytes:
    """The X25519 key in a key configuration. Raises MalformedMessage for any other length, key id or suite.

    Nothing vouches for it: only a key from verified evidence may be sealed to.
    """
    head, public, tail = data[:3], data[3:35], data[35:]
    if len(data) != KEY_CONFIG_BYTES or head != _CONFIG_HEAD or tail != _CONFIG_TAIL:
        raise MalformedMessage("not a key configuration of the one suite that this channel speaks")
    return public


def parse_hex32(text: str, name: str) -> bytes:
    """The 32 bytes of a header's value: 64 lower-case hexadecimal digits. Raises MalformedMessage."""
    if not _HEX_32.match(text):
        raise MalformedMessage(f"the header {name} is not 64 lower-case hexadecimal digits")
    return bytes.fromhex(text)


def response_key(secret: bytes, encapsulation: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """Key (32 bytes) and first nonce (12 bytes) of the answer, from the exported secret (SPEC.md, section 4.4)."""
    if (len(secret), len(encapsulation), len(nonce)) != (hpke.KEY_BYTES, ENCAPSULATION_BYTES, NONCE_BYTES):
        raise MalformedMessage("a secret, encapsulation or nonce of the wrong length")
    prk = hpke.extract(encapsulation + nonce, secret)
    return hpke.expand(prk, b"key", hpke.KEY_BYTES), hpke.expand(prk, b"nonce", hpke.NONCE_BYTES)


def frame(ciphertext: bytes) -> bytes:
    """`ciphertext` as one frame."""
    if len(ciphertext) > MAX_FRAME:
        raise MalformedMessage(f"a frame of {len(ciphertext)} bytes where {MAX_FRAME} are allowed")
    return len(ciphertext).to_bytes(PREFIX_BYTES) + ciphertext


class FrameReader:
    """Cuts a stream of bytes into the ciphertexts of its frames. Holds at most one incomplete frame."""

    def __init__(self, *, max_frame: int = MAX_FRAME, max_frames: int | None = None) -> None:
        """`max_frame` bounds one ciphertext in bytes, `max_frames` the number of frames, empty ones included."""
        self._max_frame = max_frame
        self._frames_left = max_frames
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The ciphertexts completed by `data`. Raises MalformedMessage as soon as a frame announces too much."""
        self._buffer += data
        start, ciphertexts = 0, []
        while (end := self._frame_end(start)) is not None:
            if end > start + PREFIX_BYTES:
                ciphertexts.append(bytes(self._buffer[start + PREFIX_BYTES : end]))
            start = end
        del self._buffer[:start]
        return ciphertexts

    def finish(self) -> None:
        """The stream has ended. Raises StreamTruncated if that was inside a frame."""
        if self._buffer:
            raise StreamTruncated("the body ended inside a frame")

    def _frame_end(self, start: int) -> int | None:
        """Where the frame at `start` ends, or None while it is incomplete."""
        if len(self._buffer) - start < PREFIX_BYTES:
            return None
        length = int.from_bytes(self._buffer[start : start + PREFIX_BYTES])
        if length > self._max_frame:
            raise MalformedMessage(f"a frame of {length} bytes where {self._max_frame} are allowed")
        end = start + PREFIX_BYTES + length
        if end > len(self._buffer):
            return None
        if self._frames_left is not None:
            if self._frames_left == 0:
                raise MalformedMessage("a body of too many frames")
            self._frames_left -= 1
        return end


class _ResponseStream:
    """What both ends of an answer share: the key, and a nonce for each frame by its number."""

    def __init__(self, secret: bytes, encapsulation: bytes, nonce: bytes) -> None:
        key, self._base_nonce = response_key(secret, encapsulation, nonce)
        self._aead = AESGCM(key)
        self._sequence = 0

    def _nonce(self) -> bytes:
        return hpke.sequence_nonce(self._base_nonce, self._sequence)


class ResponseSealer(_ResponseStream):
    """Seals the answer, frame by frame. `RequestOpener.respond` makes it."""

    def seal(self, plaintext: bytes) -> bytes:
        """`plaintext` as frames of at most SEAL_FRAME bytes each; nothing for nothing."""
        return b"".join(self._seal_one(plaintext[i : i + SEAL_FRAME]) for i in range(0, len(plaintext), SEAL_FRAME))

    def _seal_one(self, plaintext: bytes) -> bytes:
        ciphertext = self._aead.encrypt(self._nonce(), plaintext, None)
        self._sequence += 1
        return frame(ciphertext)


class ResponseOpener(_ResponseStream):
    """Opens the answer, frame by frame. `RequestSealer.opener` makes it. After an error it is of no more use."""

    def __init__(self, secret: bytes, encapsulation: bytes, nonce: bytes, *, max_frame: int = MAX_FRAME) -> None:
        super().__init__(secret, encapsulation, nonce)
        self._reader = FrameReader(max_frame=max_frame)

    def feed(self, data: bytes) -> bytes:
        """The plaintext that `data` completes.

        Raises MalformedMessage for a frame that is none, ChannelRefused for one that the worker did not seal here.
        """
        return b"".join(self._open_one(ciphertext) for ciphertext in self._reader.feed(data))

    def finish(self) -> None:
        """The answer has ended. Raises StreamTruncated if inside a frame; that whole frames lack is not seen here."""
        self._reader.finish()

    def _open_one(self, ciphertext: bytes) -> bytes:
        if len(ciphertext) < hpke.TAG_BYTES:
            raise MalformedMessage(f"a frame of {len(ciphertext)} bytes, shorter than its tag")
        try:
            plaintext = self._aead.decrypt(self._nonce(), ciphertext, None)
        except InvalidTag as error:
            raise ChannelRefused(
                "a frame of the answer was changed, moved or not sealed by the worker", detail=f"frame {self._sequence}"
            ) from error
        self._sequence += 1
        return plaintext


class RequestSealer:
    """Seals one request to a server's key; then opens its answer."""

    def __init__(self, public: bytes) -> None:
        """`public`: the X25519 key (32 bytes) of the worker, from verified evidence."""
        self.encapsulation, self._context = hpke.setup_sender(public, REQUEST_INFO)

    def seal(self, plaintext: bytes) -> bytes:
        """`plaintext` as the next frame of the body."""
        return frame(self._context.seal(plaintext))

    def opener(self, nonce: bytes, *, max_frame: int = MAX_FRAME) -> ResponseOpener:
        """The opener of the answer that carries `nonce` (32 bytes)."""
        secret = self._context.export(RESPONSE_LABEL, hpke.KEY_BYTES)
        return ResponseOpener(secret, self.encapsulation, nonce, max_frame=max_frame)


class RequestOpener:
    """Opens one request at the server; then seals its answer."""

    def __init__(self, private: X25519PrivateKey, encapsulation: bytes) -> None:
        """Raises MalformedMessage for an encapsulation that is none."""
        self.encapsulation = encapsulation
        self._context = hpke.setup_receiver(private, encapsulation, REQUEST_INFO)
        self._opened = 0

    @classmethod
    def from_header(cls, private: X25519PrivateKey, value: str) -> Self:
        """From the value of ENCAPSULATION_HEADER."""
        return cls(private, parse_hex32(value, ENCAPSULATION_HEADER))

    def open(self, body: bytes) -> bytes:
        """The whole sealed `body`, opened; called once. No plaintext comes out before every frame has been judged.

        Raises MalformedMessage for frames that are none and for a body without any (it would leave the encapsulation
        unproved), StreamTruncated for half a frame, ChannelKeyMismatch if it was sealed to another key (or its first
        frame changed: nobody can tell), ChannelRefused if a later frame does not open.
        """
        reader = FrameReader(max_frames=MAX_FRAMES)
        plaintext = b"".join(self._open_one(ciphertext) for ciphertext in reader.feed(body))
        reader.finish()
        if not self._opened:
            raise MalformedMessage("a sealed request without a frame")
        return plaintext

    def respond(self, nonce: bytes) -> ResponseSealer:
        """The sealer of the answer. `nonce`: 32 fresh random bytes, which travel in NONCE_HEADER."""
        secret = self._context.export(RESPONSE_LABEL, hpke.KEY_BYTES)
        return ResponseSealer(secret, self.encapsulation, nonce)

    def _open_one(self, ciphertext: bytes) -> bytes:
        try:
            plaintext = self._context.open(ciphertext)
        except SealBroken as error:
            if not self._opened:
                raise ChannelKeyMismatch("the request was not sealed to this worker's key") from error
            raise ChannelRefused("a frame of the request was changed", detail=f"frame {self._opened}") from error
        self._opened += 1
        return plaintext
