"""Oblivious HTTP: messages sealed to a worker so that a relay can carry them without reading them, without any I/O.

RFC 9458 for whole messages, draft-ietf-ohai-chunked-ohttp-08 for those sealed in chunks, both ways. What is sealed is
binary HTTP (`bhttp`), so method, path, status and fields are inside.

    request  = key_id(1) kem(2) kdf(2) aead(2) enc(32)  then  sealed            whole
                                                         or   chunks            in chunks
    answer   = nonce(max(Nn, Nk))                        then  sealed  or  chunks
    chunks   = { varint(length >= 1) sealed }*  varint(0) sealed-to-the-end

Associated data is empty, but for the last chunk's, which is "final": without that chunk no message is complete. The
HPKE context's `info` is a label, a zero and the request's first seven bytes, so a key that serves EHBP too (with its
own `info`) never opens a message of the one as a message of the other.

Safety, what the protocol leaves open, and where it is closed:
- the same request can be sent again: `replay`;
- lengths show: requests are padded (`bhttp`), answers within their content (`padding`);
- a key list that differs for each asker would tell askers apart: our client takes the key from evidence alone;
- no forward secrecy against a stolen channel key, which is why that key dies with its worker.

Knows: key configurations, encapsulation, chunks. Does not know: HTTP servers and clients, what is inside.
Not covered: KEMs but X25519, KDFs but HKDF-SHA256; several keys in one list that we write.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.channel.bhttp import read_varint, varint
from strongroom.crypto import hpke
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, MalformedMessage, SealBroken, StreamTruncated

VERSION = "ohttp/chunked-08"
"""The name of this channel in a keyset's list of channels."""

GATEWAY_PATH = "/.well-known/ohttp-gateway"
"""Where a worker takes encapsulated requests, and shows its key configurations (RFC 9540, section 4)."""
KEYS_MEDIA_TYPE = "application/ohttp-keys"
REQUEST_TYPE, RESPONSE_TYPE = "message/ohttp-req", "message/ohttp-res"
CHUNKED_REQUEST_TYPE, CHUNKED_RESPONSE_TYPE = "message/ohttp-chunked-req", "message/ohttp-chunked-res"
KEY_PROBLEM = "https://iana.org/assignments/http-problem-types#ohttp-key"
"""The type of the problem that answers a request sealed to a key that is not held (RFC 9458, section 5.3)."""

KEY_ID = 0
HEADER_BYTES = 7
ENCAPSULATION_BYTES = 32
OPENING_BYTES = HEADER_BYTES + ENCAPSULATION_BYTES
SUITES = (hpke.AES_256_GCM, hpke.CHACHA20_POLY1305, hpke.AES_128_GCM)
"""The AEADs that a worker takes, best first."""

CHUNK = 16384 - hpke.TAG_BYTES
"""The most plaintext in a chunk that we seal: every receiver takes 16384 sealed bytes."""
MAX_CHUNK = 1 << 20
"""The most sealed bytes in a chunk that we open."""
MAX_CHUNKS = 1 << 16
"""The most chunks of one request: opening them must not cost more than the bytes are worth."""
MAX_KEY_LIST = 16 << 10

_FINAL = b"final"


@dataclass(frozen=True, slots=True)
class Labels:
    """What tells whole messages from messages in chunks."""

    request: bytes
    response: bytes


WHOLE = Labels(b"message/bhttp request", b"message/bhttp response")
CHUNKED = Labels(b"message/bhttp chunked request", b"message/bhttp chunked response")


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """One key configuration: an X25519 key, and the AEADs (with HKDF-SHA256) that its holder takes."""

    key_id: int
    public: bytes
    aeads: tuple[int, ...]


def encode_key_list(public: bytes) -> bytes:
    """The key configurations (RFC 9458, section 3.2) of a worker with the X25519 key `public` (32 bytes)."""
    if len(public) != hpke.X25519_BYTES:
        raise MalformedMessage(f"a channel key of {len(public)} bytes where {hpke.X25519_BYTES} are needed")
    suites = b"".join(hpke.KDF_ID.to_bytes(2) + aead.to_bytes(2) for aead in SUITES)
    config = bytes([KEY_ID]) + hpke.KEM_ID.to_bytes(2) + public + len(suites).to_bytes(2) + suites
    return len(config).to_bytes(2) + config


def parse_key_list(data: bytes) -> tuple[KeyConfig, ...]:
    """The configurations that we could use, in their order; those of other KEMs or KDFs are passed over.

    Raises MalformedMessage. Nothing vouches for them: only a key from verified evidence may be sealed to.
    """
    if not data or len(data) > MAX_KEY_LIST:
        raise MalformedMessage(f"a list of key configurations of {len(data)} bytes")
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2])
        config = data[at + 2 : at + 2 + length]
        if len(data) < at + 2 or len(config) != length:
            raise MalformedMessage("a list of key configurations that ends within one")
        at += 2 + length
        if (known := _parse_key_config(config)) is not None:
            found.append(known)
    return tuple(found)


def _parse_key_config(config: bytes) -> KeyConfig | None:
    if len(config) < 3:  # noqa: PLR2004 (key id and KEM)
        raise MalformedMessage("a key configuration without a KEM")
    if config[1:3] != hpke.KEM_ID.to_bytes(2):
        return None  # the length of its key is that KEM's business
    public, rest = config[3:35], config[35:]
    suites = rest[2:]
    if len(rest) < 6 or int.from_bytes(rest[:2]) != len(suites) or len(suites) % 4:  # noqa: PLR2004
        raise MalformedMessage("a key configuration without symmetric algorithms")
    pairs = [
        (int.from_bytes(suites[i : i + 2]), int.from_bytes(suites[i + 2 : i + 4])) for i in range(0, len(suites), 4)
    ]
    aeads = tuple(aead for kdf, aead in pairs if kdf == hpke.KDF_ID and aead in hpke.AEAD_KEY_BYTES)
    return KeyConfig(config[0], public, aeads) if aeads else None


class _Response:
    """What both ends of an answer share: the key, and a nonce for each chunk by its number."""

    def __init__(self, context: hpke.Context, labels: Labels, aead: int, encapsulation: bytes, nonce: bytes) -> None:
        key_bytes = hpke.AEAD_KEY_BYTES[aead]
        secret = context.export(labels.response, nonce_bytes(aead))
        prk = hpke.extract(encapsulation + nonce, secret)
        self._aead = hpke.aead(aead, hpke.expand(prk, b"key", key_bytes))
        self._base_nonce = hpke.expand(prk, b"nonce", hpke.NONCE_BYTES)
        self._chunks = 0

    def _next_nonce(self) -> bytes:
        nonce = hpke.sequence_nonce(self._base_nonce, self._chunks)
        self._chunks += 1
        return nonce


def nonce_bytes(aead: int) -> int:
    """The length of an answer's nonce: max(Nn, Nk)."""
    return max(hpke.NONCE_BYTES, hpke.AEAD_KEY_BYTES[aead])


class ResponseSealer(_Response):
    """Seals an answer: the nonce travels first, then `whole`, or any number of `chunks` and one `final`."""

    def whole(self, plaintext: bytes) -> bytes:
        """The one sealed part of an answer that is not in chunks."""
        return self._aead.encrypt(self._next_nonce(), plaintext, None)

    def chunks(self, plaintext: bytes) -> bytes:
        """`plaintext` as chunks; nothing for nothing."""
        return b"".join(self._chunk(plaintext[i : i + CHUNK]) for i in range(0, len(plaintext), CHUNK))

    def final(self) -> bytes:
        """The end: an empty last chunk."""
        return varint(0) + self._aead.encrypt(self._next_nonce(), b"", _FINAL)

    def _chunk(self, plaintext: bytes) -> bytes:
        return _framed(self._aead.encrypt(self._next_nonce(), plaintext, None))


class ResponseOpener(_Response):
    """Opens an answer in chunks, as it arrives. After an error it is of no more use."""

    def __init__(self, context: hpke.Context, labels: Labels, aead: int, encapsulation: bytes, nonce: bytes) -> None:
        super().__init__(context, labels, aead, encapsulation, nonce)
        self._reader = ChunkReader()

    def whole(self, sealed: bytes) -> bytes:
        """The plaintext of an answer that is not in chunks."""
        return self._open(sealed, b"")

    def feed(self, data: bytes) -> bytes:
        """The plaintext that `data` completes; the last chunk's comes with `finish`.

        Raises MalformedMessage for a chunk that is none, ChannelRefused for one that the worker did not seal here.
        """
        return b"".join(self._open(sealed, b"") for sealed in self._reader.feed(data))

    def finish(self) -> bytes:
        """The last plaintext. Raises StreamTruncated if the answer has no last chunk, ChannelRefused if it is not the last."""
        return self._open(self._reader.finish(), _FINAL)

    def _open(self, sealed: bytes, aad: bytes) -> bytes:
        if len(sealed) < hpke.TAG_BYTES:
            raise MalformedMessage(f"a chunk of {len(sealed)} bytes, shorter than its tag")
        try:
            return self._aead.decrypt(self._next_nonce(), sealed, aad)
        except InvalidTag as error:
            raise ChannelRefused(
                "a part of the answer was changed, moved or not sealed by the worker",
                detail=f"chunk {self._chunks - 1}",
            ) from error


class RequestSealer:
    """Seals one request to a worker's key; then opens its answer."""

    def __init__(
        self, public: bytes, *, labels: Labels = CHUNKED, aead: int = hpke.AES_256_GCM, key_id: int = KEY_ID
    ) -> None:
        """`public`: the X25519 key (32 bytes) of the worker, from verified evidence."""
        header = bytes([key_id]) + b"".join(number.to_bytes(2) for number in (hpke.KEM_ID, hpke.KDF_ID, aead))
        self._encapsulation, self._context = hpke.setup_sender(public, labels.request + b"\x00" + header, aead)
        self._labels, self._aead = labels, aead
        self.opening = header + self._encapsulation
        self.nonce_bytes = nonce_bytes(aead)

    def seal(self, message: bytes) -> bytes:
        """The whole encapsulated request, in chunks if `labels` say so."""
        if self._labels is WHOLE:
            return self.opening + self._context.seal(message)
        chunks = (_framed(self._context.seal(message[i : i + CHUNK])) for i in range(0, len(message), CHUNK))
        return self.opening + b"".join(chunks) + varint(0) + self._context.seal(b"", _FINAL)

    def opener(self, nonce: bytes) -> ResponseOpener:
        """The opener of the answer that begins with `nonce` (`nonce_bytes` long)."""
        return ResponseOpener(self._context, self._labels, self._aead, self._encapsulation, nonce)


class RequestOpener:
    """Opens one request at the worker; then seals its answer."""

    def __init__(
        self, private: X25519PrivateKey, opening: bytes, *, labels: Labels = CHUNKED, key_id: int = KEY_ID
    ) -> None:
        """`opening`: the first OPENING_BYTES of the request; `key_id` is the one that `private` is known by.

        Raises MalformedMessage for a suite that we do not speak or an encapsulation that is none, ChannelKeyMismatch for
        another key's id.
        """
        if len(opening) != OPENING_BYTES:
            raise MalformedMessage("a request without its encapsulation")
        header, self.encapsulation = opening[:HEADER_BYTES], opening[HEADER_BYTES:]
        kem, kdf, self._aead = (int.from_bytes(header[i : i + 2]) for i in (1, 3, 5))
        if (kem, kdf) != (hpke.KEM_ID, hpke.KDF_ID) or self._aead not in SUITES:
            raise MalformedMessage("a request under a suite that this worker does not take")
        if header[0] != key_id:
            raise ChannelKeyMismatch("the request names another key than this worker's")
        self._labels = labels
        self._context = hpke.setup_receiver(private, self.encapsulation, labels.request + b"\x00" + header, self._aead)
        self._opened = 0
        self.nonce_bytes = nonce_bytes(self._aead)

    def open(self, sealed: bytes) -> bytes:
        """The message in what followed the opening; called once. No plaintext comes out before all has been judged.

        Raises MalformedMessage for chunks that are none, StreamTruncated where the last one lacks, ChannelKeyMismatch if
        the first part was sealed to another key (or changed: nobody can tell), ChannelRefused for any other part.
        """
        if self._labels is WHOLE:
            return self._open(sealed, b"")
        reader = ChunkReader(max_chunks=MAX_CHUNKS)
        parts = [self._open(chunk, b"") for chunk in reader.feed(sealed)]
        return b"".join(parts) + self._open(reader.finish(), _FINAL)

    def respond(self, nonce: bytes) -> ResponseSealer:
        """The sealer of the answer. `nonce`: `nonce_bytes` fresh random bytes, which travel first."""
        return ResponseSealer(self._context, self._labels, self._aead, self.encapsulation, nonce)

    def _open(self, sealed: bytes, aad: bytes) -> bytes:
        try:
            plaintext = self._context.open(sealed, aad)
        except SealBroken as error:
            if not self._opened:
                raise ChannelKeyMismatch("the request was not sealed to this worker's key") from error
            raise ChannelRefused("a part of the request was changed", detail=f"chunk {self._opened}") from error
        self._opened += 1
        return plaintext


class ChunkReader:
    """Cuts a stream into sealed chunks. The last one reaches to the stream's end, so only `finish` gives it."""

    def __init__(self, *, max_chunks: int | None = None) -> None:
        self._buffer = bytearray()
        self._left = max_chunks
        self._last = False

    def feed(self, data: bytes) -> list[bytes]:
        """The chunks that `data` completes, but for the last. Raises MalformedMessage for one that is too long."""
        self._buffer += data
        chunks, start = [], 0
        while not self._last and (found := read_varint(self._buffer, start)) is not None:
            length, at = found
            if length > MAX_CHUNK:
                raise MalformedMessage(f"a chunk of {length} bytes where {MAX_CHUNK} are allowed")
            if length and at + length > len(self._buffer):
                break
            self._count()
            chunks += [bytes(self._buffer[at : at + length])] if length else []
            self._last, start = not length, at + length
        del self._buffer[:start]
        if self._last and len(self._buffer) > MAX_CHUNK:
            raise MalformedMessage(f"a last chunk of more than {MAX_CHUNK} bytes")
        return chunks

    def finish(self) -> bytes:
        """The last chunk. Raises StreamTruncated if the stream ended before it."""
        if not self._last:
            raise StreamTruncated("the message ended before its last chunk")
        return bytes(self._buffer)

    def _count(self) -> None:
        if self._left is None:
            return
        if not self._left:
            raise MalformedMessage("a request of too many chunks")
        self._left -= 1


def _framed(sealed: bytes) -> bytes:
    return varint(len(sealed)) + sealed
