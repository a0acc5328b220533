"""Who the administrators of a broker are: its roots, named at the start, and those whom a root appointed.

Knows: how an appointment is brought in and taken back, who speaks in a token, and whose signature makes a policy count.
Does not know: what a role may do (`roles`), the form of appointments and of tokens (`owners`), SQL (`stores`).

An appointment is an envelope that a root signed, for this broker alone; the store keeps it as it came. So nobody becomes
an administrator by writing the database, and whoever a root appointed ends with that root. All are held in memory, and
changed there before the change of the store is durable where somebody is removed, after it where somebody is added: what
is in doubt is refused. Not covered: undoing a removal by writing the database, which only a newer backup would show;
several brokers over one store; one key in two roles.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from strongroom.appraisal.policies import PAYLOAD_TYPE
from strongroom.crypto.signatures import fingerprint, open_envelope, public_to_der
from strongroom.errors import Refused, SignatureInvalid, StoreUnavailable, Unreadable, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.names import tenant_of
from strongroom.records.policy import Policy
from strongroom.release import leaves, owners
from strongroom.release.appointments import administrators_key, open_appointment
from strongroom.release.log import Log
from strongroom.release.owners import OwnerClaims
from strongroom.release.roles import EVERY, Administrator, Appointment, Role, Verb
from strongroom.release.stores.administrators import AdministratorReader, StoredAdministrator
from strongroom.release.stores.port import Store, StoredPolicy, Transaction

MAX_ADMINISTRATORS = 1024
POLICIES_REMEMBERED = 256


class Administrators:
    """The administrators of one broker. Every method may be called from many threads.

    `roots` are the keys named at the start, which act for every tenant. Raises `StoreUnavailable`.
    """

    def __init__(self, store: Store, log: Log, *, broker: Digest, roots: Sequence[EllipticCurvePublicKey]) -> None:
        self._store, self._log, self._broker = store, log, broker
        self._roots = tuple(roots)
        self._changing = threading.Lock()
        self._known = store.read(self._read)

    def all(self) -> tuple[Administrator, ...]:
        """Everybody who is one now, the roots first."""
        return tuple(self._known.everyone.values())

    def speaking(
        self, token: str, *, method: str, path: str, body: bytes, now: int
    ) -> tuple[Administrator, OwnerClaims]:
        """Who signed `token` for this one request, and its claims. Raises `NotAuthorised`; see `owners.check_request`."""
        known = self._known
        who, claims = owners.check_request(
            token, known.keys, broker=self._broker, method=method, path=path, body=body, now=now
        )
        return known.everyone[who], claims

    def open_policy(self, envelope: bytes) -> tuple[Policy, Digest]:
        """The policy in `envelope` and its digest, if it was signed by who may put policies of its tenant, today.

        Raises `SignatureInvalid` or `MalformedRecord`.
        """
        return self._known.open_policy(envelope)

    def check_signed(self, policies: Sequence[StoredPolicy]) -> None:
        """Asked inside a transaction: no signer was removed since these were opened. Raises `SignatureInvalid`."""
        for policy in policies:
            self.open_policy(policy.envelope)

    def add(self, envelope: Envelope, *, who: Digest, now: int) -> Administrator:
        """Take the appointment that a root signed. Raises `SignatureInvalid`, `MalformedRecord` or `UsageError`."""
        appointment = open_appointment(envelope, self._roots, self._broker)
        made = _administrator(appointment, who, now)
        stored = StoredAdministrator(made.fingerprint, envelope.to_bytes(), who, now)

        def put(transaction: Transaction) -> None:
            if made.fingerprint in self._known.everyone:
                raise UsageError(
                    "this key is an administrator's already", remedy="Remove it first, or appoint another key."
                )
            if len(self._known.everyone) >= MAX_ADMINISTRATORS:
                raise UsageError(f"a broker has at most {MAX_ADMINISTRATORS} administrators", remedy="Remove some.")
            transaction.put_administrator(stored)
            self._log.append(transaction, leaves.administrator_event(made, "added", time=now, who=who))

        with self._changing:
            self._store.write(put)
            self._known = self._store.read(self._read)
        return made

    def remove(self, name: Digest, *, who: Digest, now: int) -> Administrator:
        """End an administrator: their tokens, and the policies that only they signed, count no more. Raises `UsageError`."""

        def drop(transaction: Transaction) -> Administrator:
            found = self._known.everyone.get(name)
            if found is None:
                raise UsageError("there is no such administrator", remedy="See `strongroom administrators list`.")
            if found.role is Role.ROOT:
                raise UsageError("a root is not removed here", remedy="Start the broker without this --owner.")
            if not transaction.remove_administrator(name):
                raise StoreUnavailable("an administrator changed within a transaction")
            self._log.append(transaction, leaves.administrator_event(found, "removed", time=now, who=who))
            self._known = self._read(transaction)  # before it is durable: no decision after it rests on them
            return found

        with self._changing:
            try:
                return self._store.write(drop)
            finally:
                self._known = self._store.read(self._read)

    def _read(self, reader: AdministratorReader) -> _Known:
        """Everybody whom a present root appointed; what no present root signed, or does not parse, appoints nobody."""
        everyone = [
            Administrator(fingerprint(root), public_to_der(root), Role.ROOT, EVERY, None, None) for root in self._roots
        ]
        for stored in reader.administrators():
            try:
                envelope = Envelope.from_bytes(stored.appointment)
                appointment = open_appointment(envelope, self._roots, self._broker)
            except (Refused, Unreadable, UsageError):
                continue
            found = _administrator(appointment, stored.added_by, stored.added)
            if found.fingerprint == stored.fingerprint:  # else nobody could take it back by its name
                everyone.append(found)
        return _Known(everyone)


class _Known:
    """The administrators at one moment. It never changes: whoever comes or goes makes another one, which remembers nothing."""

    def __init__(self, everyone: Sequence[Administrator]) -> None:
        self.everyone: dict[Digest, Administrator] = {}
        for one in everyone:  # the roots come first, and a root stays one whatever else its key was made
            self.everyone.setdefault(one.fingerprint, one)
        self.keys = {name: administrators_key(one.key) for name, one in self.everyone.items()}

        @lru_cache(maxsize=POLICIES_REMEMBERED)
        def opened(data: bytes) -> tuple[Policy, Digest]:
            envelope = Envelope.from_bytes(data)
            policy = codec.decode(Policy, envelope.payload)
            try:
                open_envelope(envelope, PAYLOAD_TYPE, self._signers(tenant_of(policy.id)))
            except SignatureInvalid:
                raise SignatureInvalid(
                    "nobody who may put policies of this tenant signed this policy",
                    detail="policy.signer",
                    remedy="Have it signed, under a higher version, by who is an owner of its tenant now.",
                ) from None
            return policy, policy.digest

        self.open_policy = opened  # by its exact bytes: whoever changes one bit has it judged anew

    def _signers(self, tenant: str) -> list[EllipticCurvePublicKey]:
        return [self.keys[name] for name, one in self.everyone.items() if one.may(Verb.POLICIES_PUT, tenant)]


def _administrator(appointment: Appointment, who: Digest, now: int) -> Administrator:
    name = fingerprint(administrators_key(appointment.key))
    return Administrator(name, appointment.key, appointment.role, appointment.tenant, who, now)
