"""The few TPM commands that attesting needs (TPM 2.0 Library, Part 3), as bytes over a transport.

Knows: how each command and response is laid out, password and policy sessions, templates of keys (TCG EK Credential
Profile 2.6, annex B: L-1 and L-2). Does not know: what they are used for (`collect`). Empty passwords only: hierarchies
that somebody gave a password to are not used. Raises `DeviceUnavailable` for every answer that is not a success, and
`MalformedEvidence` for one that does not parse.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.errors import DeviceUnavailable
from strongroom.tee.tpm import parse
from strongroom.tee.tpm.credential import Credential, sized
from strongroom.tee.tpm.device import HEADER_BYTES, Transport
from strongroom.tee.tpm.parse import ENDORSEMENT, HASHES, Reader

NO_SESSIONS, SESSIONS = 0x8001, 0x8002
NV_READ, ACTIVATE_CREDENTIAL, CREATE_PRIMARY, POLICY_SECRET, QUOTE, FLUSH_CONTEXT, NV_READ_PUBLIC, START_SESSION = (
    0x014E, 0x0147, 0x0131, 0x0151, 0x0158, 0x0165, 0x0169, 0x0176,
)  # fmt: skip
PCR_READ, PCR_EXTEND = 0x017E, 0x0182
NULL_HANDLE, PASSWORD = 0x40000007, 0x40000009
POLICY_SESSION = 0x01
CONTINUE = 0x01
NV_CHUNK = 512
MAX_NV_BYTES = 8192

RETRY_CODES = frozenset({0x908, 0x90A, 0x922})
"""TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY (Part 2, section 6.6.3): the same command again."""
RETRIES = 20
PAUSE_SECONDS = 0.01
NO_SUCH_INDEX = frozenset({0x18B, 0x08B, 0x14A})
"""TPM_RC_HANDLE for the first handle, bare or numbered, and TPM_RC_NV_UNINITIALIZED."""

EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicyA of the EK profile: TPM2_PolicySecret of the endorsement hierarchy."""
_EK_ATTRIBUTES, _AK_ATTRIBUTES = 0x000300B2, 0x00050072
_AES_128_CFB = bytes.fromhex("000600800043")


def _template(kind: int, attributes: int, policy: bytes, rest: str) -> bytes:
    return b"".join(
        (kind.to_bytes(2, "big"), b"\x00\x0b", attributes.to_bytes(4, "big"), sized(policy), bytes.fromhex(rest))
    )


EK_RSA = _template(parse.RSA, _EK_ATTRIBUTES, EK_POLICY, _AES_128_CFB.hex() + "00100800000000000100" + "00" * 256)
EK_ECC = _template(parse.ECC, _EK_ATTRIBUTES, EK_POLICY, _AES_128_CFB.hex() + "001000030010" + ("0020" + "00" * 32) * 2)
AK_ECC = _template(parse.ECC, _AK_ATTRIBUTES, b"", "0010" + "0018000b" + "00030010" + "00000000")
"""An attestation key on P-256 for ECDSA with SHA-256. A primary key: the same at every boot of the same TPM."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A key that the TPM holds ready."""

    handle: int
    public: bytes


class Commands:
    """A TPM that is spoken to over `transport`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create_primary(self, template: bytes) -> Loaded:
        """Make the endorsement hierarchy's key of this template, a TPMT_PUBLIC."""
        parameters = sized(sized(b"") + sized(b"")) + sized(template) + sized(b"") + bytes(4)
        reader = self._call(CREATE_PRIMARY, (ENDORSEMENT,), parameters, authorised=1)
        handle = reader.integer(4)
        reader.integer(4)  # the size of the parameters
        return Loaded(handle, reader.sized())

    def flush(self, handle: int) -> None:
        """Let go of a key or a session."""
        self._call(FLUSH_CONTEXT, (), handle.to_bytes(4, "big"))

    def read_registers(self, bank: str, indices: Sequence[int]) -> tuple[int, dict[int, bytes]]:
        """Registers of one bank, and the count of changes to any register. A TPM may give some of them only."""
        reader = self._call(PCR_READ, (), selection(bank, indices))
        changes, found, count = reader.integer(4), parse.parse_selection(reader), reader.integer(4)
        given = dict(found).get(bank, ())
        if len(given) != count or not set(given) <= set(indices):
            raise DeviceUnavailable("the TPM gave other registers than were asked for")
        return changes, {index: reader.sized() for index in given}

    def quote(self, key: int, qualifying: bytes, bank: str, indices: Sequence[int]) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE over registers of one bank, with the key's own scheme."""
        parameters = sized(qualifying) + parse.NULL.to_bytes(2, "big") + selection(bank, indices)
        reader = self._call(QUOTE, (key,), parameters, authorised=1)
        body = Reader(reader.take(reader.integer(4)), "a quote's answer")
        return body.sized(), body.rest()

    def extend(self, index: int, bank: str, measurement: bytes) -> None:
        """Extend one register of one bank."""
        identifier = next(number for number, name in HASHES.items() if name == bank)
        parameters = (1).to_bytes(4, "big") + identifier.to_bytes(2, "big") + measurement
        self._call(PCR_EXTEND, (index,), parameters, authorised=1).integer(4)  # the size of no parameters

    def read_nv(self, index: int) -> bytes:
        """All of an NV index that may be read with its own empty password; empty where the TPM has none there."""
        try:
            reader = self._call(NV_READ_PUBLIC, (index,), b"")
        except _NoSuchIndex:
            return b""
        public = Reader(reader.sized(), "an NV index")
        public.take(10)  # index, hash of its name, attributes
        public.sized()
        size, content = public.integer(2), b""
        if size > MAX_NV_BYTES:
            raise DeviceUnavailable(f"an NV index of {size} bytes")
        while len(content) < size:
            length = min(NV_CHUNK, size - len(content))
            parameters = length.to_bytes(2, "big") + len(content).to_bytes(2, "big")
            reader = self._call(NV_READ, (index, index), parameters, authorised=1)
            piece = Reader(reader.take(reader.integer(4)), "an NV answer").sized()
            if not piece or len(piece) > length:
                raise DeviceUnavailable("the TPM gave another length of an NV index than was asked for")
            content += piece
        return content

    def activate(self, ak: int, ek: int, credential: Credential) -> bytes:
        """The value in a credential for this AK and EK; the EK's policy is satisfied first."""
        session = self._start_policy()
        try:
            parameters = sized(credential.blob) + sized(credential.secret)
            reader = self._call(ACTIVATE_CREDENTIAL, (ak, ek), parameters, sessions=(PASSWORD, session))
            return Reader(reader.take(reader.integer(4)), "a credential's answer").sized()
        finally:
            self.flush(session)

    def _start_policy(self) -> int:
        parameters = (
            sized(os.urandom(16)) + sized(b"") + bytes([POLICY_SESSION]) + parse.NULL.to_bytes(2, "big") + b"\x00\x0b"
        )
        session = self._call(START_SESSION, (NULL_HANDLE, NULL_HANDLE), parameters).integer(4)
        try:
            self._call(POLICY_SECRET, (ENDORSEMENT, session), sized(b"") * 3 + bytes(4), authorised=1)
        except DeviceUnavailable:
            self.flush(session)
            raise
        return session

    def _call(
        self,
        code: int,
        handles: Sequence[int],
        parameters: bytes,
        *,
        authorised: int = 0,
        sessions: Sequence[int] = (),
    ) -> Reader:
        """The response after its header; of a command with sessions, from the handle or the parameters' size on."""
        sessions = sessions or (PASSWORD,) * authorised
        areas = b"".join(_session(handle) for handle in sessions)
        body = b"".join(handle.to_bytes(4, "big") for handle in handles)
        body += (len(areas).to_bytes(4, "big") + areas if sessions else b"") + parameters
        tag = SESSIONS if sessions else NO_SESSIONS
        header = tag.to_bytes(2, "big") + (HEADER_BYTES + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big")
        for _ in range(RETRIES):
            response = self._transport.exchange(header + body)
            result = int.from_bytes(response[6:10], "big")
            if result not in RETRY_CODES:
                break
            time.sleep(PAUSE_SECONDS)
        if result in NO_SUCH_INDEX and code == NV_READ_PUBLIC:
            raise _NoSuchIndex("the TPM has no such NV index")
        if result:
            raise DeviceUnavailable(f"the TPM refused command {code:#06x} with {result:#x}", detail=f"{result:#x}")
        if int.from_bytes(response[:2], "big") != tag:
            raise DeviceUnavailable("the TPM's answer is of another kind than the command")
        return Reader(response[HEADER_BYTES:], f"the answer to command {code:#06x}")


class _NoSuchIndex(DeviceUnavailable):
    """An NV index that is not there, which is no accident."""


def selection(bank: str, indices: Sequence[int]) -> bytes:
    """A TPML_PCR_SELECTION of registers of one bank."""
    identifier = next(number for number, name in HASHES.items() if name == bank)
    bits = sum(1 << index for index in set(indices))
    return (1).to_bytes(4, "big") + identifier.to_bytes(2, "big") + b"\x03" + bits.to_bytes(3, "little")


def _session(handle: int) -> bytes:
    """An authorisation without a secret: an empty password, or a policy that is already satisfied."""
    return handle.to_bytes(4, "big") + sized(b"") + bytes([CONTINUE]) + sized(b"")
