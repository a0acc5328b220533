"""Enrolment of TPMs at a broker: a machine shows the certificate of its endorsement key (EK) and gets a note on its own AK.

Knows: the order, in two requests, and what is written down. Does not know: certificates or credentials (`tee.tpm.enrol`), HTTP.

    (1) the EK's certificate leads to a root that counts here; the answer is a credential and a ticket
    (2) ticket and secret come back; in one transaction the ticket's nonce is consumed, also where the secret is wrong, and the
        note's digest becomes a leaf

Nothing is kept between the two: the ticket is MACed, and the secret is derived from it, so that a flood of requests costs no
room. A ticket holds two minutes and is used once. Machines that an owner revoked are not enrolled. Whether an EK's maker
revoked it is asked when it is enrolled: newer lists of the broker's own count, and a note ends.
Not covered: limits of how often one machine is enrolled; each time costs its TPM a second or so, and the log a leaf.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from strongroom.crypto.signatures import SigningKey
from strongroom.errors import NonceReused, ReleaseRefused, SignatureInvalid, StrongroomError
from strongroom.records import codec
from strongroom.records.digest import frame
from strongroom.records.enrolment import (
    Enrolled,
    EnrolmentAnswer,
    EnrolmentChallenge,
    EnrolmentRequest,
    EnrolmentTicket,
)
from strongroom.records.evidence import Collateral
from strongroom.records.policy.requirement import Requirement
from strongroom.records.revocation import About, Subject
from strongroom.records.verdict import RootClass
from strongroom.release import leaves
from strongroom.release.challenges import LIFETIME_SECONDS
from strongroom.release.clock import decision_time
from strongroom.release.log import Log
from strongroom.release.present import Present
from strongroom.release.revocations import check_not_revoked
from strongroom.release.stores.port import Store, Transaction
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.tpm import enrol, parse_key
from strongroom.tee.tpm.enrol import CHECKED

NONCE_BYTES = 32
NOTE_SECONDS = 30 * 86_400
TICKETS = "enrolment"
CREDENTIAL_TAG = "strongroom/tpm-enrolment-secret/v1"


@dataclass(frozen=True, slots=True)
class Enroller:
    """Who signs notes at a broker: its private key, the roots of endorsement keys that count, seconds that a note holds.

    `revocation` may admit, with its reason, an endorsement key of whose issuers nobody gave a list.
    """

    key: SigningKey = field(repr=False)
    anchors: Sequence[TrustAnchor]
    seconds: int = NOTE_SECONDS
    revocation: Requirement = CHECKED

    @property
    def anchor(self) -> TrustAnchor:
        """By which its notes count; of which class a TPM's root is, each note says."""
        return enrol.enrolment_anchor(self.key.public_key(), RootClass.SILICON)


class Enrolments:
    """The enrolments at one broker; where `enroller` is None, each is refused. May be shared by threads."""

    def __init__(
        self, store: Store, log: Log, secret: bytes, *, enroller: Enroller | None, present: Present | None
    ) -> None:
        """`secret` (32 bytes) is the broker's for challenges; `present` has revocation lists of its own."""
        self._store, self._log, self._secret = store, log, secret
        self._enroller, self._present = enroller, present

    def begin(self, request: EnrolmentRequest, *, now: int) -> EnrolmentChallenge:
        """Step (1). Raises `SignatureInvalid` or `MalformedEvidence` for keys or certificates that do not hold.

        And `UsageError` for an endorsement key that protects nothing, `ReleaseRefused` where nobody is enrolled.
        """
        enroller, now = self._enrolling(), decision_time(now, self._log.time)
        given = Collateral(tpm=request.endorsement)
        found = given if self._present is None else self._present.newest_of(given, now=now)
        ek, ak = parse_key(request.ek), parse_key(request.ak)
        endorsed = enrol.check_endorsement(
            ek, found.tpm or request.endorsement, enroller.anchors, now, revocation=enroller.revocation
        )
        ticket = EnrolmentTicket(
            ak_name=ak.name,
            endorsement=endorsed.fingerprint,
            root=endorsed.root,
            root_class=endorsed.root_class,
            nonce=secrets.token_bytes(NONCE_BYTES),
            expires=now + LIFETIME_SECONDS,
            mac=b"",
        )
        ticket = dataclasses.replace(ticket, mac=self._derived(EnrolmentTicket.TYPE, ticket))
        credential = enrol.challenge(endorsed, ak, self._derived(CREDENTIAL_TAG, ticket)).credential
        return EnrolmentChallenge(ticket, credential.blob, credential.secret)

    def finish(self, answer: EnrolmentAnswer, *, now: int) -> Enrolled:
        """Step (2), before anybody witnessed it.

        Raises `SignatureInvalid` for a secret that is not the one, `NonceReused` for a ticket that was answered, and
        `ReleaseRefused` for one that is not this broker's, has expired, or is of a machine that was revoked.
        """
        enroller, now, ticket = self._enrolling(), decision_time(now, self._log.time), answer.ticket
        if not hmac.compare_digest(self._derived(EnrolmentTicket.TYPE, ticket), ticket.mac):
            raise ReleaseRefused("this ticket is not one of this broker's", detail="enrolment.mac")
        if not now < ticket.expires <= now + LIFETIME_SECONDS:
            raise ReleaseRefused("this ticket has expired", detail="enrolment.expired", remedy="Begin anew.")
        right = hmac.compare_digest(self._derived(CREDENTIAL_TAG, ticket), answer.secret)

        def conclude(transaction: Transaction) -> Enrolled | StrongroomError:
            transaction.forget(now)
            if not transaction.consume(TICKETS, ticket.nonce, ticket.expires):
                return NonceReused("this ticket was answered before", detail="enrolment.nonce", remedy="Begin anew.")
            if not right:
                return SignatureInvalid("the credential came back wrong: that TPM does not hold this attestation key")
            try:
                check_not_revoked(transaction, _subjects(ticket))
            except ReleaseRefused as error:
                return error
            note = enrol.sign_note(
                ticket.ak_name,
                endorsement=ticket.endorsement,
                root=ticket.root,
                root_class=ticket.root_class,
                key=enroller.key,
                now=now,
                life=enroller.seconds,
            )
            leaf = leaves.enrolled(note, time=now, root_class=ticket.root_class, until=now + enroller.seconds)
            return Enrolled(note, self._log.append(transaction, leaf))

        done = self._store.write(conclude)
        if isinstance(done, StrongroomError):  # returned, so that what was consumed stays so
            raise done
        return done

    def _enrolling(self) -> Enroller:
        if self._enroller is None:
            raise ReleaseRefused(
                "this broker enrols no TPMs",
                detail="enrolment.none",
                remedy="Start it with --enrol-tpms, or bring a note that somebody else signed: `strongroom evidence enrol`.",
            )
        return self._enroller

    def _derived(self, tag: str, ticket: EnrolmentTicket) -> bytes:
        """32 bytes of this broker's own over all of `ticket` but its MAC; the tag says what for."""
        unsigned = dataclasses.replace(ticket, mac=b"")
        return hmac.digest(self._secret, frame(tag, codec.encode(unsigned)), hashlib.sha256)


def _subjects(ticket: EnrolmentTicket) -> set[Subject]:
    names = (f"endorsement:{ticket.endorsement}", f"ak_name:{ticket.ak_name}")
    return {Subject(About.MACHINE, name) for name in names}
