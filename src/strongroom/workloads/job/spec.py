"""Job specifications as files: TOML for people, a signed envelope for machines.

Knows: how a job is written, signed and read, and whether a file is its code. Does not know: how it runs.
"""

from __future__ import annotations

import hmac
import io
import tomllib
import zipfile
from collections.abc import Callable, Sequence

from strongroom.crypto.signatures import PublicKey, SigningKey, open_envelope, sign_envelope
from strongroom.errors import MalformedRecord, SealBroken, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.job import PAYLOAD_TYPE, JobSpec

MAX_TOML = 256 * 1024
MAX_CODE_BYTES = 64 * 1024 * 1024


def from_toml(text: str, code: bytes, read_recipient: Callable[[str], bytes]) -> JobSpec:
    """Parse a job as people write it. Raises `MalformedRecord` or `UsageError`.

    Every member is required but `entry` and `arguments`; `code` is not written, since its digest is that of the bytes.
    `recipients` are names of public key files, which `read_recipient` reads.
    """
    if len(text) > MAX_TOML:
        raise MalformedRecord(f"a job of {len(text)} characters exceeds the limit of {MAX_TOML}")
    try:
        members = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MalformedRecord(
            f"this job is not TOML: {error}", remedy="See the example in `strongroom job sign --help`."
        ) from None
    names = members.get("recipients")
    if "code" in members or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise MalformedRecord(
            "a job names its recipients as a list of files, and no code",
            remedy='Write recipients = ["KEY.pub"]; the code comes with --code.',
        )
    keys = [codec.b64encode(read_recipient(name)) for name in names]
    value = {"entry": "", "arguments": [], **members, "recipients": keys, "code": digest_bytes(code)}
    spec = codec.from_json(JobSpec, {"type": JobSpec.TYPE, **value})
    check_code(spec, code)
    return spec


def sign_job(spec: JobSpec, key: SigningKey) -> Envelope:
    """The job in a DSSE envelope, signed by whoever answers for it."""
    return sign_envelope(PAYLOAD_TYPE, codec.encode(spec), key)


def open_job(envelope: Envelope, signers: Sequence[PublicKey]) -> JobSpec:
    """The job in an envelope that one of `signers` signed. Raises `SignatureInvalid` or `MalformedRecord`."""
    return codec.decode(JobSpec, open_envelope(envelope, PAYLOAD_TYPE, signers))


def check_code(spec: JobSpec, code: bytes) -> None:
    """Return if `code` is this job's. Raises `SealBroken` for other bytes, `UsageError` for what cannot be run."""
    if len(code) > MAX_CODE_BYTES:
        raise UsageError(f"code of {len(code)} bytes exceeds the limit of {MAX_CODE_BYTES}")
    if not hmac.compare_digest(digest_bytes(code), spec.code):
        raise SealBroken(
            "this is not the code that the job was signed for", detail="code", remedy="Name the file that was signed."
        )
    if spec.entry and not zipfile.is_zipfile(io.BytesIO(code)):
        raise UsageError(
            "a job with an entry is a wheel, and this file is none", remedy="Leave the entry out for a script."
        )


def check_inputs(spec: JobSpec, found: Sequence[Digest]) -> None:
    """Return if `found` are the job's inputs, in order. Raises `SealBroken`."""
    if tuple(found) != spec.inputs:
        raise SealBroken(
            "these are not the inputs that the job was signed for",
            detail="inputs",
            remedy="Name the artifacts of the job with --input, each once, in its order.",
        )
