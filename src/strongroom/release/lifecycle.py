"""A key's life beside creation and use (`administration`): imported, ordered to be rekeyed, destroyed. Every act is a leaf.

Knows: what each act changes and writes down, and in which order a destruction becomes a proof. Does not know: whether the
caller is an owner (`owners`), or how a store overwrites (`stores.life_rows`). A destruction is in one transaction: leases that
hold the key, or to which a cell granted it, end, what was wrapped is overwritten, the statement about it is signed and
logged. Its proof leaves only when the store's files hold no trace any more; asked again, the broker overwrites again and
gives the same statement. Not covered: copies that the store does not have: of an imported key with its owner, of the
whole in backups, which open as long as the root key does.
"""

from __future__ import annotations

from strongroom.errors import ReleaseRefused, StoreUnavailable, UsageError
from strongroom.receipts.destruction import leaf_of, sign_destruction
from strongroom.records import codec
from strongroom.records.destruction import DestroyedVersion, DestructionDocument, KeyDestruction
from strongroom.records.digest import Digest, digest_bytes, frame
from strongroom.records.envelope import Envelope
from strongroom.records.release import LogProof
from strongroom.records.revocation import About, Subject
from strongroom.release import leaves
from strongroom.release.administration import key_info
from strongroom.release.keys import KeyRing, open_at_broker
from strongroom.release.log import Log
from strongroom.release.revocations import Revocations
from strongroom.release.state import BrokerKeys
from strongroom.release.stores.lives import KeyOrder, StoredDestruction
from strongroom.release.stores.port import KeyState, Reader, Store, StoredKey, Transaction
from strongroom.release.wire import ImportContext, KeyImport, KeyInfo, RekeyOrder, check_name, check_same_tenant

ROW_TAG = "strongroom/kek-row/v1"
FIRST_VERSION = 1


class Lifecycle:
    """The owners' verbs over one store and its log. Each may raise `StoreUnavailable`.

    `who` is an owner's fingerprint, `now` in Unix seconds.
    """

    def __init__(self, store: Store, log: Log, keys: BrokerKeys, ring: KeyRing) -> None:
        self._store, self._log, self._ring = store, log, ring
        self._revocations = Revocations(store, log)
        self._wrapping, self._signing = keys.wrapping, keys.signing
        self._identity, self._fingerprint = keys.identity_envelope, keys.identity.fingerprint

    def import_key(self, key_id: str, wanted: KeyImport, *, who: Digest, now: int) -> KeyInfo:
        """Take a key that its owner made elsewhere, which came sealed to this broker; never over one that is there.

        Raises `UsageError`, or `ReleaseRefused` for what was not sealed for this, or is no key.
        """
        check_same_tenant(check_name(key_id), check_name(wanted.policy_id))
        if wanted.max_uses is not None and wanted.max_uses < 1:
            raise UsageError("a key is released once or more", remedy="Give --uses a number above 0, or leave it out.")
        context = ImportContext(self._fingerprint, key_id, wanted.policy_id, wanted.max_uses)
        kek = open_at_broker(self._wrapping, wanted, context)
        key = self._ring.adopt(kek, key_id, wanted.policy_id, now=now)

        def put(transaction: Transaction) -> KeyInfo:
            if not transaction.put_key(key):
                raise UsageError("there is already a key of this name", remedy="Choose another name.")
            transaction.mark_imported(key_id, key.version)
            what = "imported"
            if wanted.max_uses is not None:
                transaction.limit_key(key_id, wanted.max_uses)
                what = f"imported uses={wanted.max_uses}"
            self._log.append(transaction, leaves.key_event(key_id, what, time=now, who=who))
            return key_info(transaction, key)

        return self._store.write(put)

    def order(self, key_id: str, wanted: RekeyOrder, *, who: Digest, now: int) -> tuple[KeyInfo, ...]:
        """Order that what is wrapped under old versions of a key be released to nobody from a moment on.

        The same order once more changes nothing, and none is taken back. Raises `UsageError` or `ReleaseRefused`.
        """

        def put(transaction: Transaction) -> tuple[KeyInfo, ...]:
            newest = transaction.key(key_id)
            if newest is None or newest.state is not KeyState.ACTIVE:
                raise UsageError("there is no such key, or it is retired", remedy="See `strongroom keys list`.")
            if not FIRST_VERSION < wanted.least_version <= newest.version or wanted.since < 0:
                raise ReleaseRefused(
                    f"this key has versions 1 to {newest.version}, and an order leaves the newest",
                    detail="key.version",
                    remedy="Rotate it first (`strongroom keys rotate`), or name a version from 2 on that it has.",
                )
            if transaction.put_order(key_id, KeyOrder(wanted.least_version, wanted.since)):
                what = f"ordered least={wanted.least_version} since={wanted.since}"
                self._log.append(transaction, leaves.key_event(key_id, what, time=now, who=who))
            return tuple(key_info(transaction, key) for key in _versions(transaction, key_id))

        return self._store.write(put)

    def destroy(self, key_id: str, *, who: Digest, now: int) -> DestructionDocument:
        """Overwrite all versions of a retired key, end the leases that hold it, and give the proof; see the module's head.

        Raises `UsageError`, or `ReleaseRefused` for a key that is not retired.
        """
        self._store.write(lambda transaction: self._destroy(transaction, key_id, who=who, now=now))
        self._store.scrub()
        return self._store.read(lambda reader: self._document(reader, key_id))

    def _destroy(self, transaction: Transaction, key_id: str, *, who: Digest, now: int) -> None:
        if transaction.destruction(key_id) is not None:
            return
        found = _versions(transaction, key_id)
        if not found:
            raise UsageError("there is no such key", remedy="See `strongroom keys list`.")
        if any(key.state is not KeyState.RETIRED for key in found):
            raise ReleaseRefused(
                "only a retired key can be destroyed",
                detail="key.active",
                remedy="Retire it first (`strongroom keys retire`); nothing under it can be opened after it is destroyed.",
            )
        now = max(now, self._log.time_in(transaction))  # what is signed has the time of its leaf
        self._revocations.end_all(transaction, Subject(About.KEY, key_id), who=who, now=now)
        versions = tuple(
            DestroyedVersion(key.version, key.created, transaction.key_origin(key.id, key.version), row_digest(key))
            for key in found
        )
        destruction = KeyDestruction(self._fingerprint, key_id, versions, who, now)
        proof = self._log.append(transaction, leaf_of(destruction))
        signed = sign_destruction(destruction, self._signing)
        transaction.destroy_key(key_id, StoredDestruction(proof.index, signed.to_bytes()))

    def _document(self, reader: Reader, key_id: str) -> DestructionDocument:
        stored, checkpoint, size = reader.destruction(key_id), reader.log_checkpoint(), reader.log_size()
        if stored is None or checkpoint is None or stored.position >= size:
            raise StoreUnavailable("the database has lost what it kept of a destruction")
        (leaf,) = reader.log_leaves(stored.position, stored.position + 1)
        path = self._log.inclusion_path(stored.position, size)
        proof = LogProof(stored.position, leaf, path, checkpoint)
        return DestructionDocument(self._identity, Envelope.from_bytes(stored.envelope), proof)


def row_digest(key: StoredKey) -> Digest:
    """What names one version's row as it was stored, to whoever still has it; it tells nothing of the key."""
    members = {"key_id": key.id, "policy_id": key.policy_id, "version": key.version, "wrapped": key.wrapped}
    return digest_bytes(frame(ROW_TAG, codec.encode(members)))


def _versions(reader: Reader, key_id: str) -> tuple[StoredKey, ...]:
    return tuple(key for key in reader.keys() if key.id == key_id)  # noqa: SIM118 (not a dict)
