"""CCA tokens, bare and wrapped, of both profiles; one that parses is verified as well."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.errors import StrongroomError
    from strongroom.tee.cca import parse_token, verify
    from strongroom_sim.cca import CcaPlatform, Realm, assemble, sign

PLATFORM = CcaPlatform()
RIM = bytes(range(64))


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        verify(parse_token(data), PLATFORM.collateral, [PLATFORM.anchor], 0)


def seeds() -> list[bytes]:
    realms = [Realm(PLATFORM, rim=RIM, legacy=legacy) for legacy in (True, False)]
    found = []
    for realm in realms:
        parts = realm.platform_token(realm.public_key), sign(realm.claims(RIM), realm.key)
        found += [assemble(*parts), assemble(*parts, wrapped=True)]
    return found


if __name__ == "__main__":
    run(one, seeds)
