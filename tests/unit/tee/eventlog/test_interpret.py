"""What a log proves about a boot, and the logs that prove nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import Facts, Log, Style, codes, interpret
from strongroom.tee.eventlog.efi import EFI_GLOBAL, IMAGE_SECURITY, Variable, serialise_variable
from strongroom_sim.eventlog import CERTIFICATE, EventLog, renumbered, signature_list

BANK = {Style.TPM: "sha256", Style.CCEL: "sha384"}
LOADERS = {codes.IPL, codes.EVENT_TAG}
KEYS = signature_list(CERTIFICATE)
STYLES = pytest.mark.parametrize("style", list(Style))


def make(style: Style) -> EventLog:
    return EventLog(style, (BANK[style],))


def facts(log: EventLog | Log) -> Facts:
    whole = log.log if isinstance(log, EventLog) else log
    return interpret(whole, BANK[whole.style])


def refused(log: EventLog | Log, match: str) -> None:
    with pytest.raises(MalformedEvidence, match=match):
        facts(log)


def digest(content: bytes, style: Style) -> str:
    return hashlib.new(BANK[style], content).hexdigest()


def relabelled(log: Log, at: Callable[[int, bytes], bool], kind: int, data: bytes) -> Log:
    """The log with one event under another label, its digests as they were."""
    chosen = next(event for event in log.events if at(event.type, event.data))
    events = [replace(event, type=kind, data=data) if event is chosen else event for event in log.events]
    return replace(log, events=tuple(events))


@STYLES
def test_a_boot_by_grub_gives_its_facts(style: Style):
    found = facts(make(style).boot(command_line="ro quiet", kernel=b"vmlinuz", initrd=b"initramfs"))
    assert found.secure_boot.enabled
    fingerprint = hashlib.sha256(CERTIFICATE).hexdigest()
    for database in (found.secure_boot.pk, found.secure_boot.kek, found.secure_boot.db):
        assert [(entry.kind, entry.value) for entry in database] == [("x509", fingerprint)]
    assert found.secure_boot.dbx == ()
    assert [authority.name for authority in found.authorities] == ["db", "SbatLevel"]
    assert found.grub_commands == ("linux /vmlinuz ro quiet",)
    assert found.kernel_command_lines == ("/vmlinuz ro quiet",)
    assert found.module_command_lines == ()
    assert found.images == tuple(digest(image, style) for image in (b"shim", b"grub", b"vmlinuz"))
    register = "pcr9" if style is Style.TPM else "rtmr2"
    files = [(one.name, one.digest) for one in found.measured if one.register == register and one.name != "MokList"]
    assert files == [
        ("/boot/grub/grub.cfg", digest(b"configuration", style)),
        ("/vmlinuz", digest(b"vmlinuz", style)),
        ("/initrd", digest(b"initramfs", style)),
    ]
    assert found.exit_boot_services
    assert found.gce_technology is None
    assert found.firmware_version == ("strongroom-sim 1" if style is Style.TPM else "")


@STYLES
def test_a_boot_of_a_unified_kernel_image_gives_its_facts(style: Style):
    found = facts(make(style).unified_boot(command_line="ro", kernel=b"vmlinuz"))
    assert [(one.name, one.digest) for one in found.measured] == [
        (".linux", digest(b"vmlinuz", style)),
        (".osrel", digest(b"ID=strongroom-sim", style)),
        (".cmdline", digest(b"ro", style)),
        (".initrd", digest(b"initrd", style)),
        ("LOADED_IMAGE::LoadOptions", digest("ro\0".encode("utf-16-le"), style)),
        ("Linux initrd", digest(b"initrd", style)),
    ]
    assert found.kernel_command_lines == ()


@STYLES
def test_a_command_line_that_systemd_stub_took_over_is_a_fact(style: Style):
    assert facts(make(style).firmware().stub_command_line("ro init=/x")).kernel_command_lines == ("ro init=/x",)


@STYLES
def test_secure_boot_that_is_off_is_said_to_be_off(style: Style):
    assert not facts(make(style).boot(secure_boot=False)).secure_boot.enabled


@STYLES
def test_a_boot_without_a_handover_says_so(style: Style):
    assert not facts(make(style).firmware()).exit_boot_services


@pytest.mark.parametrize(("number", "technology"), [(0, "none"), (1, "sev"), (2, "sev-es"), (3, "tdx"), (4, "sev-snp")])
def test_the_technology_of_a_google_machine_is_told_by_its_firmware(number: int, technology: str):
    said = b"GCE NonHostInfo\0" + bytes([number]) + bytes(15)
    assert facts(make(Style.TPM).event(0, codes.NONHOST_INFO, said).boot()).gce_technology == technology


def test_a_technology_that_is_unknown_late_or_said_twice_is_refused():
    sev = b"GCE NonHostInfo\0\1" + bytes(15)
    refused(make(Style.TPM).event(0, codes.NONHOST_INFO, sev[:16] + b"\5" + sev[17:]).boot(), "not known")
    refused(make(Style.TPM).event(0, codes.NONHOST_INFO, sev[:-1]).boot(), "not known")
    refused(make(Style.TPM).boot().event(0, codes.NONHOST_INFO, sev), "not measured by the firmware")
    refused(make(Style.TPM).event(1, codes.NONHOST_INFO, sev).boot(), "not measured by the firmware")
    twice = make(Style.TPM).event(0, codes.NONHOST_INFO, sev).event(0, codes.NONHOST_INFO, sev)
    refused(twice.boot(), "again")


def test_a_firmware_version_after_the_separator_is_refused():
    log = make(Style.TPM).boot().log
    version = log.events[0]
    assert version.type == codes.S_CRTM_VERSION
    refused(renumbered(log, [*log.events[1:], version]), "not measured by the firmware")


def test_the_startup_locality_is_a_fact():
    assert facts(make(Style.TPM).startup_locality(3).boot()).startup_locality == 3


@STYLES
@pytest.mark.parametrize("kind", [0x0, 0x08000001, 0x80000000, 0x10000000])
def test_an_event_of_an_unknown_type_is_not_ignored(style: Style, kind: int):
    refused(make(style).boot().event(9, kind, b"x"), "nothing here interprets")


@STYLES
def test_an_event_of_a_known_type_with_unknown_content_is_not_ignored(style: Style):
    refused(make(style).boot().event(9, codes.IPL, b"\xff\xfe\xfd"), "nothing here interprets")
    refused(make(style).boot().tag(9, 7, b"x", b"y"), "nothing here interprets")
    refused(make(style).no_action(b"something else").boot(), "nothing here interprets")


@STYLES
def test_an_event_whose_data_was_not_measured_is_refused(style: Style):
    refused(make(style).boot().event(9, codes.IPL, b"grub_cmd: a\0", b"b"), "was not measured as it is logged")


@STYLES
def test_a_second_separator_in_a_register_is_refused(style: Style):
    for pcr in (7, 4):
        refused(make(style).boot().separator(pcr), "second separator")


@STYLES
def test_a_missing_separator_is_refused(style: Style):
    log = make(style).boot().log
    separators = [event for event in log.events if event.type == codes.SEPARATOR]
    assert len(separators) == (8 if style is Style.TPM else 2)
    for one in separators:
        refused(renumbered(log, [event for event in log.events if event is not one]), "separator|trusted|firmware")


@STYLES
@pytest.mark.parametrize("value", [b"\1\0\0\0", b"\xff" * 4, b"\0\0\0\1", b"", bytes(8)])
def test_a_separator_that_is_not_zero_is_refused(style: Style, value: bytes):
    log = make(style).boot().log
    events = [
        make(style).separator(7, value).log.events[0]
        if event.type == codes.SEPARATOR and event.index in {1, 7}
        else event
        for event in log.events
    ]
    refused(renumbered(log, events), "error|separator")


@STYLES
def test_a_separator_hidden_behind_another_label_is_refused(style: Style):
    """The bootloader adds a second set of variables and a second separator, and the log hides the first."""
    log = make(style).firmware(secure_boot=False).log
    hidden = relabelled(log, lambda kind, _: kind == codes.SEPARATOR, codes.PLATFORM_CONFIG_FLAGS, b"ACPI DATA")
    refused(hidden, "disguise")


@STYLES
def test_secure_boot_hidden_behind_another_label_is_refused(style: Style):
    """The firmware said off; the log shows that as something opaque, and as SecureBoot what a host could have measured."""
    made = make(style).variable(7, codes.EFI_VARIABLE_DRIVER_CONFIG, Variable(EFI_GLOBAL, "SecureBoot", b"\0"))
    log = made.boot().log
    off = log.events[0].data
    hidden = relabelled(log, lambda _, data: data == off, codes.PLATFORM_CONFIG_FLAGS, b"ACPI DATA")
    refused(hidden, "disguise")


@STYLES
def test_a_firmware_action_hidden_behind_another_label_is_refused(style: Style):
    log = make(style).boot().log
    hidden = relabelled(log, lambda _, data: data == b"Exit Boot Services Invocation", codes.POST_CODE, b"POST CODE")
    refused(hidden, "disguise")


def test_a_boot_order_that_looks_like_an_error_is_no_disguise_and_another_variable_is():
    for value, works in ((b"\1\0\0\0", True), (bytes(4), False)):
        order = Variable(EFI_GLOBAL, "BootOrder", value)
        log = make(Style.TPM).boot().variable(1, codes.EFI_VARIABLE_BOOT, order, value_only=True)
        if works:
            assert facts(log)
        else:
            refused(log, "disguise")
    other = Variable(EFI_GLOBAL, "Boot0000", b"\1\0\0\0")
    refused(make(Style.TPM).boot().variable(1, codes.EFI_VARIABLE_BOOT, other, value_only=True), "disguise")


def variables(style: Style, *chosen: tuple[str, str, bytes]) -> EventLog:
    made = make(style)
    for guid, name, value in chosen:
        made.variable(7, codes.EFI_VARIABLE_DRIVER_CONFIG, Variable(guid, name, value))
    made.separator(7)
    for pcr in range(7) if style is Style.TPM else (4,):
        made.separator(pcr)
    return made


ALL = [
    (EFI_GLOBAL, "SecureBoot", b"\1"),
    (EFI_GLOBAL, "PK", KEYS),
    (EFI_GLOBAL, "KEK", KEYS),
    (IMAGE_SECURITY, "db", KEYS),
    (IMAGE_SECURITY, "dbx", b""),
]


@STYLES
def test_the_secure_boot_variables_are_all_there_in_order(style: Style):
    assert facts(variables(style, *ALL)).secure_boot.enabled
    assert facts(variables(style, *ALL, (IMAGE_SECURITY, "dbt", b""))).secure_boot.enabled
    for left_out in range(len(ALL)):
        refused(variables(style, *ALL[:left_out], *ALL[left_out + 1 :]), "Secure Boot variables")
    refused(variables(style, *ALL[1:], ALL[0]), "Secure Boot variables")
    refused(variables(style), "missing")


@STYLES
@pytest.mark.parametrize("again", range(len(ALL)))
def test_a_secure_boot_variable_is_there_once(style: Style, again: int):
    refused(variables(style, *ALL, ALL[again]), "second time")


@STYLES
def test_a_secure_boot_variable_after_the_separator_is_refused(style: Style):
    late = make(style).boot(secure_boot=False)
    late.variable(7, codes.EFI_VARIABLE_DRIVER_CONFIG, Variable(EFI_GLOBAL, "SecureBoot", b"\1"))
    refused(late, "cannot be trusted")


@STYLES
def test_a_secure_boot_variable_in_another_register_is_refused(style: Style):
    stray = make(style).variable(5, codes.EFI_VARIABLE_DRIVER_CONFIG, Variable(EFI_GLOBAL, "SecureBoot", b"\1")).boot()
    refused(stray, "cannot be trusted")


@STYLES
def test_a_variable_of_the_same_name_elsewhere_is_another_variable(style: Style):
    refused(variables(style, (IMAGE_SECURITY, "SecureBoot", b"\1"), *ALL[1:]), "Secure Boot variables")


@STYLES
def test_secure_boot_is_on_or_off_and_on_only_with_keys(style: Style):
    refused(variables(style, (EFI_GLOBAL, "SecureBoot", b"\2"), *ALL[1:]), "neither on nor off")
    refused(variables(style, (EFI_GLOBAL, "SecureBoot", b"\1\1"), *ALL[1:]), "neither on nor off")
    assert not facts(variables(style, (EFI_GLOBAL, "SecureBoot", b""), *ALL[1:])).secure_boot.enabled
    for empty in (1, 2, 3):
        rows = [(guid, name, b"" if n == empty else value) for n, (guid, name, value) in enumerate(ALL)]
        refused(variables(style, *rows), "without keys")


@STYLES
def test_a_key_list_that_does_not_parse_is_refused(style: Style):
    refused(variables(style, *ALL[:3], (IMAGE_SECURITY, "db", KEYS[:-1]), ALL[4]), "ends early")


def test_something_else_among_the_secure_boot_variables_is_refused():
    for kind in (codes.PLATFORM_CONFIG_FLAGS, codes.IPL, codes.EFI_PLATFORM_FIRMWARE_BLOB):
        refused(make(Style.TPM).event(7, kind, b"ACPI DATA", b"x").boot(), "no place")
    refused(make(Style.CCEL).event(7, codes.IPL, b"file", b"x").boot(), "no place")


@STYLES
def test_an_authority_in_another_register_is_refused(style: Style):
    entry = Variable(IMAGE_SECURITY, "db", b"x")
    refused(make(style).boot().variable(5, codes.EFI_VARIABLE_AUTHORITY, entry), "belongs to|end of boot services")
    early = make(style).variable(5, codes.EFI_VARIABLE_AUTHORITY, entry).boot()
    refused(early, "belongs to")


@STYLES
def test_a_debugger_in_the_firmware_is_refused(style: Style):
    refused(make(style).action(7, "UEFI Debug Mode").boot(), "UEFI Debug Mode")
    refused(make(style).event(1, codes.PLATFORM_CONFIG_FLAGS, b"UEFI Debug Mode").boot(), "disguise")


@STYLES
def test_disabled_dma_protection_is_a_fact(style: Style):
    assert "DMA Protection Disabled" in facts(make(style).action(7, "DMA Protection Disabled").boot()).actions
    refused(make(style).event(1, codes.PLATFORM_CONFIG_FLAGS, b"DMA Protection Disabled").boot(), "disguise")


@STYLES
def test_what_comes_after_the_end_of_boot_services_is_refused(style: Style):
    for late in ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success"):
        refused(make(style).boot().action(5, late), "after the end of boot services")
    refused(make(style).boot().event(5, codes.EFI_GPT_EVENT, b"EFI PART"), "after the end of boot services")


@STYLES
def test_the_end_of_boot_services_may_fail_first(style: Style):
    made = make(style).firmware().action(5, "Exit Boot Services Invocation")
    made.action(5, "Exit Boot Services Returned with Failure").exit()
    assert facts(made).exit_boot_services


@STYLES
def test_the_end_of_boot_services_needs_an_invocation_and_its_own_register(style: Style):
    refused(make(style).firmware().action(5, "Exit Boot Services Returned with Success"), "without an invocation")
    elsewhere = make(style).firmware().action(1, "Exit Boot Services Invocation")
    refused(elsewhere, "not where the end of boot services")


@STYLES
def test_a_command_of_grub_in_another_register_is_refused(style: Style):
    made = make(style).firmware().event(4, codes.IPL, b"grub_cmd: set a=b\0", b"set a=b")
    refused(made, "no command of GRUB's")


def test_a_command_line_cannot_be_hidden_behind_another_label():
    """Whatever a loader's event is called, its digest is among the facts, as a text or as something measured."""
    log = make(Style.CCEL).boot(command_line="init=/bin/sh").log
    for kind, data in (
        (codes.IPL, b"harmless.cfg\0"),
        (codes.IPL, b"/vmlinuz init=/bin/sh\0"),
        (codes.EVENT_TAG, bytes.fromhex("ec223b8f") + (4).to_bytes(4, "little") + b"tag\0"),
    ):
        hidden = relabelled(log, lambda _, found: found.startswith(b"kernel_cmdline"), kind, data)
        found = facts(hidden)
        assert found.kernel_command_lines == ()
        assert digest(b"/vmlinuz init=/bin/sh", Style.CCEL) in {one.digest for one in found.measured}
    for kind in (codes.POST_CODE, codes.COMPACT_HASH, codes.EFI_BOOT_SERVICES_APPLICATION, codes.ACTION):
        hidden = relabelled(log, lambda _, found: found.startswith(b"kernel_cmdline"), kind, b"/vmlinuz init=/bin/sh")
        refused(hidden, "no place")


def test_the_register_of_grubs_commands_holds_only_texts():
    refused(make(Style.TPM).boot().event(8, codes.IPL, b"file\0", b"x"), "no text")
    log = make(Style.TPM).boot(command_line="init=/bin/sh").log
    hidden = relabelled(log, lambda _, found: found.startswith(b"kernel_cmdline"), codes.IPL, b"harmless.cfg\0")
    refused(hidden, "no text")


@STYLES
def test_a_text_where_none_is_measured_is_refused(style: Style):
    made = make(style).firmware().event(4, codes.IPL, "ro\0".encode("utf-16-le"))
    refused(made, "a text where none is measured")


def test_a_section_is_announced_and_then_measured():
    name = ".linux\0".encode("utf-16-le")
    for style in Style:
        refused(make(style).firmware().event(11, codes.IPL, name, b".linux\0"), "was announced")
        refused(make(style).firmware().event(11, codes.IPL, name, b"kernel"), "sequence")
        twice = make(style).firmware().section(".linux", b"a").event(11, codes.IPL, name, b"b")
        refused(twice, "sequence")
        mixed = make(style).firmware().event(11, codes.IPL, name, b".linux\0")
        refused(mixed.event(11, codes.IPL, ".initrd\0".encode("utf-16-le"), b"x"), "sequence")


def test_a_dictionary_of_whole_variables_does_not_pass_for_a_boot_variable():
    off = serialise_variable(Variable(EFI_GLOBAL, "SecureBoot", b"\0"))
    made = make(Style.TPM).event(1, codes.EFI_VARIABLE_BOOT, off, off).boot()
    refused(made, "disguise")


@STYLES
def test_an_image_cannot_be_hidden_behind_another_label(style: Style):
    log = make(style).boot(kernel=b"rootkit").log
    for kind in (codes.POST_CODE, codes.COMPACT_HASH, codes.EFI_HANDOFF_TABLES2, codes.EFI_PLATFORM_FIRMWARE_BLOB):
        rootkit = digest(b"rootkit", style)
        events = [
            replace(event, type=kind)
            if event.digest(BANK[style]).hex() == rootkit and event.type not in LOADERS
            else event
            for event in log.events
        ]
        assert facts(replace(log, events=tuple(events))).images == facts(log).images
        assert rootkit in facts(log).images
