"""Audit bundles: the file, and what an auditor makes of parts that somebody made."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.audit import bundle as files
    from strongroom.audit.report import to_markdown
    from strongroom.audit.verify import AuditTrust, verify
    from strongroom.crypto import merkle
    from strongroom.crypto.signatures import generate_ed25519, generate_p384, public_to_der, raw_public
    from strongroom.errors import StrongroomError
    from strongroom.receipts.identity import sign_identity
    from strongroom.receipts.note import Checkpoint, sign_checkpoint
    from strongroom.records import codec
    from strongroom.records.audit import KeptDecision, LoggedLeaf
    from strongroom.records.digest import digest_bytes
    from strongroom.records.envelope import Envelope
    from strongroom.records.release import BrokerIdentity, Leaf

SIGNING, LOG = generate_ed25519(), generate_ed25519()
TOKEN = public_to_der(generate_p384().public_key())
IDENTITY = BrokerIdentity(raw_public(SIGNING), TOKEN, raw_public(LOG), "strongroom.broker/fuzz", bytes(1216))
TRUST = AuditTrust(IDENTITY.fingerprint, (samples.ED25519.public_key(),), ())
SCOPE = files.Scope("lease", None, 0, 0)


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        bundle = files.read(data)
        if files.read(files.write(bundle)) != bundle:
            raise AssertionError(bundle)
        to_markdown(verify(bundle, TRUST))
    # past the manifest: any bytes as any part
    for name in PARTS:
        bundle = files.make({**PARTS, name: data[: files.MAX_PART_BYTES]}, broker=TRUST.broker, scope=SCOPE)
        to_markdown(verify(bundle, TRUST))


def _parts() -> dict[str, bytes]:
    """One decision, as far as it can be made without a broker."""
    bundle = samples.bundle()
    evidence, collateral = bundle.evidence, bundle.collateral
    kept = KeptDecision("a.b.c", evidence, collateral.digest, ())
    policy = samples.policy().digest
    digests = (
        evidence.keyset.digest,
        evidence.statement.digest,
        evidence.digest,
        digest_bytes(b"a.b.c"),
        policy,
        policy,
    )
    leaf = codec.encode(Leaf("renewal", samples.NOW, "lease", digests, "level=simulated lease_seconds=300"))
    checkpoint = Checkpoint(IDENTITY.log_origin, 1, merkle.root([merkle.leaf_hash(leaf)]))
    envelope = samples.envelope()
    return {
        files.BROKER: sign_identity(IDENTITY, SIGNING).to_bytes(),
        files.CHECKPOINT: sign_checkpoint(checkpoint, IDENTITY.log_origin, LOG).encode(),
        files.numbered(files.LEAVES, 0): codec.encode(LoggedLeaf(0, leaf, (), None)),
        files.numbered(files.DECISIONS, 0): codec.encode(kept),
        files.addressed(files.COLLATERAL, collateral.digest): codec.encode(collateral),
        files.addressed(files.POLICIES, digest_bytes(envelope)): envelope,
        files.addressed(files.RECEIPTS, digest_bytes(envelope)): Envelope.from_bytes(envelope).to_bytes(),
    }


PARTS = _parts()


def seeds() -> list[bytes]:
    bundle = files.make(PARTS, broker=TRUST.broker, scope=SCOPE)
    return [files.write(bundle), files.write(bundle, samples.ED25519), *PARTS.values()]


if __name__ == "__main__":
    run(one, seeds)
