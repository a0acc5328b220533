"""Which register holds what.

Knows: the registers' use in the Platform Firmware Profile 1.06, section 3.3.4, and by GRUB, shim and systemd-stub; how
UEFI 2.10, section 38.4.1, maps PCRs to RTMRs (1 and 7 to RTMR0, 2 to 6 to RTMR1, 8 to 15 to RTMR2). Does not know: what
follows from an event in its register or in another (`interpret`).
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.tee.eventlog import codes
from strongroom.tee.eventlog.tcg2 import Style

VARIABLES = {
    codes.SEPARATOR,
    codes.EFI_ACTION,
    codes.EFI_VARIABLE_DRIVER_CONFIG,
    codes.EFI_VARIABLE_AUTHORITY,
    codes.EFI_SPDM_DEVICE_POLICY,
    codes.EFI_SPDM_DEVICE_AUTHORITY,
}
PLATFORM = {
    codes.CPU_MICROCODE,
    codes.PLATFORM_CONFIG_FLAGS,
    codes.TABLE_OF_DEVICES,
    codes.NONHOST_CONFIG,
    codes.S_CRTM_VERSION,
    codes.EFI_VARIABLE_BOOT,
    codes.EFI_VARIABLE_BOOT2,
    codes.EFI_HANDOFF_TABLES,
    codes.EFI_HANDOFF_TABLES2,
    codes.EFI_PLATFORM_FIRMWARE_BLOB,
    codes.EFI_PLATFORM_FIRMWARE_BLOB2,
    codes.EVENT_TAG,
}
LOADER = frozenset({codes.IPL, codes.EVENT_TAG})


@dataclass(frozen=True, slots=True)
class Layout:
    """Registers by what is measured there; `only_text` are those of `loaders` that hold nothing but texts."""

    firmware: int
    secure_boot: int
    secure_boot_types: frozenset[int]
    images: frozenset[int]
    exit: int
    separators: tuple[int, ...]
    commands: frozenset[int]
    command_lines: frozenset[int]
    loaders: frozenset[int]
    only_text: frozenset[int]


LAYOUTS = {
    Style.TPM: Layout(
        firmware=0,
        secure_boot=7,
        secure_boot_types=frozenset(VARIABLES),
        images=frozenset({2, 4}),
        exit=5,
        separators=tuple(range(8)),
        commands=frozenset({8}),
        command_lines=frozenset({8, 12}),
        loaders=frozenset(range(8, 16)),
        only_text=frozenset({8}),
    ),
    Style.CCEL: Layout(
        firmware=0,
        secure_boot=0,
        secure_boot_types=frozenset(VARIABLES | PLATFORM),
        images=frozenset({1}),
        exit=1,
        separators=(0, 1),
        commands=frozenset({2}),
        command_lines=frozenset({2}),
        loaders=frozenset({2, 3}),
        only_text=frozenset(),
    ),
}
