"""What stands beside an ocicrypt layer: public options, private options, and the annotations that carry them.

Public options (`org.opencontainers.image.enc.pubopts`) name the cipher and hold the MAC; private options hold key, nonce
and the plaintext's digest, wrapped to recipients (`org.opencontainers.image.enc.keys.SCHEME`, several joined by commas).
ocicrypt authenticates no name and no order of layers. Ours say in the private options, where other readers look past it,
which layer of which artifact they are and what the file is called.

Knows: these JSON texts (containers/ocicrypt: spec, blockcipher). Does not know: how keys are wrapped (`jwe`).
Not covered: the schemes pgp, pkcs7, pkcs11 and providers, which are named and not opened.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from strongroom.errors import MalformedArtifact, MalformedRecord, SealBroken
from strongroom.records import codec
from strongroom.records.digest import Digest, is_digest
from strongroom.sealed.ocicrypt import jwe
from strongroom.sealed.ocicrypt.keys import PrivateKey

CIPHER = "AES_256_CTR_HMAC_SHA256"
PREFIX = "org.opencontainers.image.enc."
PUBLIC = PREFIX + "pubopts"
WRAPPED = PREFIX + "keys."
JWE = WRAPPED + "jwe"
PROVIDER = "provider."
PLACE = "strongroom.place"

KEY_BYTES = 32
NONCE_BYTES = 16
MAC_BYTES = 32
MAX_WRAPPED = 64
MAX_OPTIONS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Which layer of which artifact this is, of how many, and the path of its file. Canonical JSON, authenticated."""

    TYPE: ClassVar[str] = "strongroom/ocicrypt-place/v1"
    artifact_id: bytes
    layer: int
    layers: int
    path: str


@dataclass(frozen=True, slots=True)
class PrivateOptions:
    """What opens a layer, and what proves that it opened right."""

    key: bytes
    nonce: bytes
    digest: Digest
    place: Place | None

    def __repr__(self) -> str:
        return f"PrivateOptions(digest={self.digest!r})"

    def to_bytes(self) -> bytes:
        options = {"nonce": _b64(self.nonce)}
        if self.place is not None:
            options[PLACE] = _b64(codec.encode(self.place))
        return _json({"symkey": _b64(self.key), "digest": self.digest, "cipheroptions": options})

    @classmethod
    def from_bytes(cls, data: bytes) -> PrivateOptions:
        """Raises `MalformedArtifact`."""
        with _naming("private options"):
            value = _members(codec.parse_json(data, limit=MAX_OPTIONS_BYTES), {"symkey", "digest", "cipheroptions"})
            options = _members(value["cipheroptions"], {"nonce"}, {PLACE})
            key, nonce = _unb64(value["symkey"]), _unb64(options["nonce"])
            digest = value["digest"]
            if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
                raise MalformedRecord("a key or a nonce of the wrong length")
            if not isinstance(digest, str) or not is_digest(digest):
                raise MalformedRecord("no digest of the plaintext")
            place = codec.decode(Place, _unb64(options[PLACE])) if PLACE in options else None
            return cls(key, nonce, Digest(digest), place)


def public_bytes(mac: bytes) -> bytes:
    """The public options of a layer with this MAC."""
    return _json({"cipher": CIPHER, "hmac": _b64(mac), "cipheroptions": {}})


def notes(mac: bytes, wrapped: bytes) -> dict[str, str]:
    """The annotations of a layer with this MAC, whose private options are wrapped as the JWE `wrapped`."""
    return {JWE: _b64(wrapped), PUBLIC: _b64(public_bytes(mac))}


def mac_of(found: Mapping[str, str]) -> bytes:
    """The MAC in the public options among a layer's annotations. Raises `MalformedArtifact`."""
    with _naming("public options"):
        data = _unb64(found.get(PUBLIC))
        value = _members(codec.parse_json(data, limit=MAX_OPTIONS_BYTES), {"cipher", "hmac", "cipheroptions"})
        mac = _unb64(value["hmac"])
        if value["cipher"] != CIPHER or value["cipheroptions"] not in ({}, None) or len(mac) != MAC_BYTES:
            raise MalformedRecord(f"the cipher is not {CIPHER}, or its MAC has the wrong length")
        return mac


def unwrap(found: Mapping[str, str], key: PrivateKey) -> PrivateOptions:
    """The private options among a layer's annotations, if `key` is a recipient's.

    Raises `SealBroken` if it is nobody's here, and says what else the layer is wrapped to; `MalformedArtifact`.
    """
    broken: SealBroken | None = None
    with _naming("wrapped keys"):
        texts = found[JWE].split(",") if JWE in found else []
        if len(texts) > MAX_WRAPPED:
            raise MalformedRecord(f"more than {MAX_WRAPPED}")
        packets = [_unb64(text) for text in texts]
    for packet in packets:
        try:
            return PrivateOptions.from_bytes(jwe.decrypt(packet, key))
        except SealBroken as error:
            broken = error
    reason = broken.message if broken else "no key of this layer is wrapped as JWE"
    others = _others(found)
    raise SealBroken(
        f"{reason}; ways that are not opened here: {', '.join(others)}" if others else reason,
        remedy="Use a recipient's private key. A provider's key is unwrapped by the agent of its guest, others by skopeo.",
    )


def _others(found: Mapping[str, str]) -> list[str]:
    """Ways to the key that are not opened here, by name; of a provider also the id of its key, if it says one."""
    ways = []
    for name in sorted(name.removeprefix(WRAPPED) for name in found if name.startswith(WRAPPED) and name != JWE):
        if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            key_id = _provider_key(found[WRAPPED + name]) if name.startswith(PROVIDER) else None
            ways.append(f"{name} ({key_id})" if key_id else name)
    return ways


def _provider_key(text: str) -> str | None:
    """The key id in the packet of Confidential Containers' key provider (attestation-agent), which is not secret."""
    try:
        packet = codec.parse_json(_unb64(text.split(",", maxsplit=1)[0]), limit=MAX_OPTIONS_BYTES)
    except MalformedRecord:
        return None
    key_id = packet.get("kid") if isinstance(packet, dict) else None
    return key_id if isinstance(key_id, str) and re.fullmatch(r"[A-Za-z0-9:/._-]{1,256}", key_id) else None


def _members(value: Any, needed: set[str], allowed: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict) or not needed <= value.keys() <= needed | (allowed or set()):
        raise MalformedRecord("members are missing or not understood")
    return value


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: Any) -> bytes:
    """Canonical base64 (RFC 4648 section 4). Raises `MalformedRecord`."""
    if not isinstance(text, str):
        raise MalformedRecord("a part is missing or not text")
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise MalformedRecord("this is not base64") from None
    if _b64(data) != text:
        raise MalformedRecord("this base64 is not canonical")
    return data


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Turn `MalformedRecord` into `MalformedArtifact` that says which part it is about."""
    try:
        yield
    except MalformedRecord as error:
        raise MalformedArtifact(f"the {what} of a layer do not parse: {error.message}") from None
