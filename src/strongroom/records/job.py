"""A job: anyone's own code, with the sealed inputs it may read and the recipients of what it makes; and what came of it.

Knows: the shapes. Does not know: how a job runs (`workloads.job`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.artifact import MAX_RECIPIENTS
from strongroom.records.digest import Digest, digest_record

PAYLOAD_TYPE = "application/vnd.strongroom.job.v1+json"

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """`code` is a wheel or a Python script, by digest; `entry` is `module:function` of a wheel, or empty for a script.

    `inputs` are sealed artifacts by digest, opened in this order as directories `0`, `1`, …; `recipients` are
    ML-KEM-768+X25519 public keys, each of which can open the outputs; `seconds` and `output_bytes` bound the run.
    """

    TYPE: ClassVar[str] = "strongroom/job/v1"
    name: str
    code: Digest
    entry: str
    inputs: tuple[Digest, ...]
    arguments: tuple[str, ...]
    recipients: tuple[bytes, ...]
    seconds: int
    output_bytes: int

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("a job without sealed inputs has nothing to prove itself for")
        if self.entry and not _ENTRY.fullmatch(self.entry):
            raise ValueError("the entry of a wheel is written module:function; a script has none")
        if not self.recipients:
            raise ValueError("a job without recipients has nobody to give its outputs to")
        if len(set(self.recipients)) != len(self.recipients) or len(self.recipients) > MAX_RECIPIENTS:
            raise ValueError(f"recipients are named once each, and at most {MAX_RECIPIENTS}")
        if any(len(key) != 1216 for key in self.recipients):  # noqa: PLR2004 (ML-KEM-768+X25519)
            raise ValueError("a recipient is an ML-KEM-768+X25519 public key of 1216 bytes")
        if self.seconds < 1 or self.output_bytes < 1:
            raise ValueError("a job needs bounds: seconds and output_bytes, at least 1")

    @property
    def digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job's receipt says of its response.

    `outputs` is the digest of the sealed outputs, None if there are none; `signer` the fingerprint of the key that signed
    them, which the worker made for this one run.
    """

    TYPE: ClassVar[str] = "strongroom/job-result/v1"
    job: Digest
    outputs: Digest | None
    signer: Digest

    @property
    def digest(self) -> Digest:
        return digest_record(self)
