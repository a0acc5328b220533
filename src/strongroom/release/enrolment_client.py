"""A machine's side of its enrolment at a broker: show the endorsement key's certificate, open the credential, take the note.

Knows: the two requests, and what of the answer is checked before it is believed. Does not know: TPM commands (`Holder`), when
a note is renewed (`worker.enrolling`).
"""

from __future__ import annotations

from collections.abc import Callable

from strongroom.errors import LogInvalid, MalformedRecord
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.enrolment import Enrolled, EnrolmentAnswer, EnrolmentChallenge, EnrolmentRequest
from strongroom.records.envelope import Envelope
from strongroom.records.tpm import TpmEnrolment
from strongroom.release import leaves, wire
from strongroom.release.client import BrokerClient
from strongroom.tee.tpm import parse_key
from strongroom.tee.tpm.credential import Credential

ANSWERS_PATH = f"{wire.ENROLMENTS_PATH}/answers"


def enrol_at(
    client: BrokerClient, request: EnrolmentRequest, activate: Callable[[Credential], bytes]
) -> tuple[Envelope, TpmEnrolment]:
    """The signed note of a broker on the AK in `request`, and what it says; `activate` opens a credential with the TPM.

    Raises what the broker raised, `DeviceUnavailable` for a credential that is for another TPM, and `LogInvalid` where the
    broker's note is on another key or not in its log. Whose signature the note has is judged where the note is used.
    """
    asked = client.post(wire.ENROLMENTS_PATH, request, EnrolmentChallenge)
    secret = activate(Credential(asked.blob, asked.seed))
    answer = client.post(ANSWERS_PATH, EnrolmentAnswer(asked.ticket, secret), Enrolled)
    try:
        note = codec.decode(TpmEnrolment, answer.note.payload)
    except MalformedRecord as error:
        raise LogInvalid(f"the broker's note does not parse: {error.message}") from None
    known = client.identity
    leaf = verify_proof(answer.proof, origin=known.log_origin, log_key=known.log, witnesses=client.witnesses)
    logged = (leaf.event, leaf.digests) == (leaves.ENROLMENT, (digest_bytes(answer.note.to_bytes()),))
    if note.ak_name != parse_key(request.ak).name or not logged:
        raise LogInvalid("the broker's note is on another key, or is not the one that it logged")
    return answer.note, note
