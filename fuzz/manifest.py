"""OCI manifests of sealed artifacts, and the image index of a layout."""

import tempfile
from contextlib import suppress
from pathlib import Path

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.records.digest import digest_bytes
    from strongroom.sealed.manifest import Manifest
    from strongroom.sealed.registries.directory import IMAGE_MANIFEST, DirectoryRegistry

LAYOUT = tempfile.TemporaryDirectory(prefix="strongroom-fuzz-")


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        manifest = Manifest.from_bytes(data)
        if manifest.to_bytes() != data:
            raise AssertionError
    Path(LAYOUT.name, "index.json").write_bytes(data)
    registry = DirectoryRegistry(Path(LAYOUT.name))
    for act in (lambda: registry.resolve("latest"), lambda: registry.referrers(samples.IMAGE, IMAGE_MANIFEST)):
        with suppress(StrongroomError):
            act()


def seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        registry = DirectoryRegistry(Path(folder))
        registry.put_manifest(samples.manifest(), media_type=IMAGE_MANIFEST, tag="latest")
        registry.attach(digest_bytes(samples.manifest()), b"{}", artifact_type="application/x")
        return [samples.manifest(), Path(folder, "index.json").read_bytes()]


if __name__ == "__main__":
    run(one, seeds)
