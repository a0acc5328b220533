"""What a simulated platform measures instead of booting: the image as the Python files of a package.

Knows: how an image and a launch specification become MRTD and MRCONFIGID. Does not know: chips.
RTMR0 to RTMR2 stay zero, because nothing boots. A real platform measures firmware, kernel and initrd instead.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from strongroom.errors import FileUnreadable
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, frame
from strongroom.records.policy import Reference

PACKAGE_TAG = "strongroom-sim/package/v1"
IMAGE_TAG = "strongroom-sim/image/v1"
LAUNCH_SPEC_TAG = "strongroom/launch-spec/v1"
REGISTER_BYTES = 48


def measure_image(package: Path) -> Digest:
    """The digest of the Python files below `package`: of each path (sorted, relative) and SHA-256.

    Raises `FileUnreadable`.
    """
    try:
        files = sorted(path for path in package.rglob("*.py") if path.is_file())
        listing = [[path.relative_to(package).as_posix(), digest_bytes(path.read_bytes())] for path in files]
    except OSError as error:
        raise FileUnreadable(f"{package} cannot be measured ({error.strerror})") from None
    if not listing:
        raise FileUnreadable(f"there is no Python file below {package}")
    return digest_bytes(frame(PACKAGE_TAG, codec.encode(sorted(listing))))


def mrtd_for(image: Digest) -> bytes:
    """The 48 bytes of MRTD for an image."""
    return hashlib.sha384(frame(IMAGE_TAG, image.encode("ascii"))).digest()


def mrconfigid_for(launch_spec: Digest | None) -> bytes:
    """The 48 bytes of MRCONFIGID for a launch specification, zeros where there is none."""
    if launch_spec is None:
        return bytes(REGISTER_BYTES)
    return hashlib.sha384(frame(LAUNCH_SPEC_TAG, launch_spec.encode("ascii"))).digest()


def reference_for(image: Digest) -> Reference:
    """The reference values of an image on a simulated platform."""
    zero = bytes(REGISTER_BYTES).hex()
    registers = {"mrtd": mrtd_for(image).hex(), "rtmr0": zero, "rtmr1": zero, "rtmr2": zero}
    return Reference(image=image, kind="tdx", registers={name: (value,) for name, value in registers.items()})
