"""A log as files: paths of tiles, hash tiles, bundles of entries."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.errors import StrongroomError
    from strongroom.receipts import tiles


def one(data: bytes) -> None:
    path, _, content = data.partition(b"\n")
    with suppress(StrongroomError):
        tile = tiles.parse_path(path.decode("utf-8", "replace"))
        if tile.path != path.decode():
            raise AssertionError(path)
        if tile.level is not None:
            tiles.parse_hashes(content, tile)
        elif tiles.bundle(tiles.parse_bundle(content, tile)) != content:
            raise AssertionError(content)


def seeds() -> list[bytes]:
    return [
        b"tile/0/000.p/2\n" + bytes(64),
        b"tile/entries/000.p/3\n" + tiles.bundle([b"one", b"", b"three"]),
        b"tile/1/x001/x234/067\n" + bytes(256 * 32),
    ]


if __name__ == "__main__":
    run(one, seeds)
