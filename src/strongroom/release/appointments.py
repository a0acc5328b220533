"""Appointments: a root's signed word that somebody is an administrator of one broker.

Knows: how one is made, and when it holds. Does not know: who is one now (`administrators`), or what they may do (`roles`).
An appointment names its broker, so it says nothing at another one of the same root. It has no end of its own: it is taken
back at the broker. Not covered: appointments that end, or that only several roots together can make.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from strongroom.crypto.signatures import PublicKey, open_envelope, public_from_der, public_to_der, sign_envelope
from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.release.owners import CURVE
from strongroom.release.roles import Appointment, Role, check_appointed

PAYLOAD_TYPE = "application/vnd.strongroom.appointment.v1+json"


def appoint(key: PublicKey, role: Role, tenant: str, *, broker: Digest, root: EllipticCurvePrivateKey) -> Envelope:
    """A root's word that the holder of `key` is `role` for `tenant` at `broker`. Raises `UsageError`."""
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != CURVE:
        raise UsageError("an administrator's key is on P-256", remedy="Make one with `strongroom keys new`.")
    check_appointed(role, tenant)
    appointment = Appointment(broker, public_to_der(key), role, tenant)
    return sign_envelope(PAYLOAD_TYPE, codec.encode(appointment), root)


def open_appointment(envelope: Envelope, roots: Sequence[EllipticCurvePublicKey], broker: Digest) -> Appointment:
    """The appointment in an envelope, if one of `roots` made it for `broker`.

    Raises `SignatureInvalid`, `MalformedRecord`, or `UsageError` for a role or a tenant that nobody is appointed to.
    """
    appointment = codec.decode(Appointment, open_envelope(envelope, PAYLOAD_TYPE, roots))
    if appointment.broker != broker:
        raise SignatureInvalid("this appointment is for another broker", detail="appointment.broker")
    administrators_key(appointment.key)
    check_appointed(appointment.role, appointment.tenant)
    return appointment


def administrators_key(key: bytes) -> EllipticCurvePublicKey:
    """A public key on P-256 from its SPKI DER. Raises `MalformedRecord`."""
    found = public_from_der(key)
    if not isinstance(found, EllipticCurvePublicKey) or found.curve.name != CURVE:
        raise MalformedRecord("an administrator's key is on P-256")
    return found
