"""What a policy asks of AWS Nitro Enclaves."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.records.policy.requirement import Requirement


@dataclass(frozen=True, slots=True)
class NitroPolicy:
    """What is wanted of a Nitro attestation document; registers and `nonce` are lower-case hexadecimal.

    `debug` is "1" for an enclave in debug mode, in which it measures nothing and its host reads along. `pcr3` is the
    role of the instance, `pcr4` the instance itself, `pcr8` who signed the image (zeros: nobody). `module` is the
    enclave's name, which is new at each start. `nonce` is the document's own, "" for none, apart from the one that is
    bound into its user data. `maximum_age` is in seconds; the key that signs lives three hours. `revocation` is
    "checked", "partly" or "none": whether AWS's CRLs were looked at, which AWS does not ask for.
    """

    debug: Requirement
    pcr3: Requirement
    pcr4: Requirement
    pcr8: Requirement
    module: Requirement
    nonce: Requirement
    revocation: Requirement
    maximum_age: int

    def __post_init__(self) -> None:
        if self.maximum_age < 1:
            raise ValueError("a document of the greatest age admitted must have an age")
