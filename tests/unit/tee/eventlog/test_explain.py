"""Which input made a register differ."""

from __future__ import annotations

import dataclasses

import pytest

from strongroom.tee.eventlog import Change, Input, Style, codes, difference, inputs
from strongroom.tee.eventlog.efi import EFI_GLOBAL, Variable
from strongroom.tee.eventlog.explain import MAX_DESCRIPTION_CHARACTERS, describe
from strongroom_sim.eventlog import EventLog

BANK = "sha384"


def rows(log: EventLog) -> tuple[Input, ...]:
    return inputs(log.log, BANK)


def cc() -> EventLog:
    return EventLog(Style.CCEL, (BANK,))


BOOT = rows(cc().boot())


def row(register: str, digest: str, description: str = "", kind: str = "EV_IPL") -> Input:
    return Input(register, kind, digest, description or digest)


def test_equal_inputs_do_not_differ():
    assert difference(BOOT, BOOT) == ()
    assert difference((), ()) == ()


def test_a_changed_command_line_is_named_with_both_texts():
    found = difference(BOOT, rows(cc().boot(command_line="console=ttyS0 rw")))
    assert [one.register for one in found] == ["rtmr2"]
    assert found[0].change is Change.CHANGED
    assert found[0].position == 3
    assert found[0].text == (
        "rtmr2 event 3 EV_IPL differs: expected grub_cmd: linux /vmlinuz console=ttyS0 ro, "
        "found grub_cmd: linux /vmlinuz console=ttyS0 rw"
    )


def test_a_changed_kernel_command_line_alone_is_named():
    log = cc().boot().log
    at = next(n for n, event in enumerate(log.events) if event.data.startswith(b"kernel_cmdline"))
    other = cc().grub("kernel_cmdline", "/vmlinuz init=/bin/sh").log.events[0]
    changed = dataclasses.replace(log, events=(*log.events[:at], other, *log.events[at + 1 :]))
    found = difference(BOOT, inputs(changed, BANK))
    assert len(found) == 1
    assert found[0].text == (
        "rtmr2 event 5 EV_IPL differs: expected kernel_cmdline: /vmlinuz console=ttyS0 ro, "
        "found kernel_cmdline: /vmlinuz init=/bin/sh"
    )


def test_a_changed_initrd_is_named_by_its_file_and_digests():
    found = difference(BOOT, rows(cc().boot(initrd=b"other")))
    assert len(found) == 1
    assert found[0].text.startswith("rtmr2 event 6 EV_IPL /initrd differs: expected ")
    assert found[0].change is Change.CHANGED


def test_another_firmware_is_named():
    one, other = cc().firmware(), cc().firmware(firmware=b"other")
    found = difference(rows(one), rows(other))
    assert [item.text.split(" differs")[0] for item in found] == [
        "rtmr0 event 2 EV_EFI_PLATFORM_FIRMWARE_BLOB2 firmware"
    ]


def test_each_register_that_differs_is_named_once():
    found = difference(BOOT, rows(cc().boot(kernel=b"other", secure_boot=False)))
    assert [(one.register, one.position) for one in found] == [("rtmr0", 3), ("rtmr1", 6), ("rtmr2", 4)]
    assert "expected SecureBoot = 01, found SecureBoot = 00" in found[0].text


def test_an_event_that_was_added_is_named():
    for at in range(4):
        expected = [row("pcr8", digest) for digest in ("a", "b", "c")]
        actual = [*expected[:at], row("pcr8", "x"), *expected[at:]]
        (found,) = difference(expected, actual)
        assert (found.position, found.change) == (at + 1, Change.ADDED)
        assert found.text == f"pcr8 event {at + 1} was added: EV_IPL x"


def test_an_event_that_is_missing_is_named():
    expected = [row("pcr8", digest) for digest in ("a", "b", "c")]
    for at in range(3):
        (found,) = difference(expected, [*expected[:at], *expected[at + 1 :]])
        assert (found.position, found.change) == (at + 1, Change.MISSING)
        assert found.text == f"pcr8 event {at + 1} is missing: EV_IPL {'abc'[at]}"


def test_an_event_that_moved_is_named_with_where_it_was():
    expected = [row("pcr8", digest) for digest in ("a", "b", "c")]
    (found,) = difference(expected, [expected[2], expected[0], expected[1]])
    assert found.change is Change.MOVED
    assert found.text == "pcr8 event 1 EV_IPL c moved here; it was expected as event 3"


def test_a_whole_register_may_be_missing_or_added():
    one = [row("pcr8", "a")]
    assert [d.change for d in difference(one, [])] == [Change.MISSING]
    assert [d.change for d in difference([], one)] == [Change.ADDED]


def test_another_type_of_the_same_digest_is_a_difference():
    (found,) = difference([row("pcr8", "a")], [row("pcr8", "a", kind="EV_ACTION")])
    assert found.text == "pcr8 event 1 differs: expected EV_IPL a, found EV_ACTION a"


def test_registers_are_compared_apart():
    one, other = row("pcr8", "a"), row("pcr9", "b")
    assert difference([one, other], [other, one]) == ()


def test_of_long_texts_only_the_place_where_they_differ_is_shown():
    start, end = "a" * 500, "b" * 500
    (found,) = difference([row("pcr8", "1", f"{start}X{end}")], [row("pcr8", "2", f"{start}Y{end}")])
    assert len(found.text) < 400
    assert "aX" in found.text
    assert "aY" in found.text


@pytest.mark.parametrize(
    ("log", "description"),
    [
        (EventLog().separator(7), "without error"),
        (EventLog().separator(7, b"\1\0\0\0"), "error"),
        (EventLog().separator(7, b"\xff" * 4), "ffffffff"),
        (EventLog().action(5, "Exit Boot Services Invocation"), "Exit Boot Services Invocation"),
        (EventLog().variable(7, codes.EFI_VARIABLE_DRIVER_CONFIG, Variable(EFI_GLOBAL, "PK", b"")), "PK = nothing"),
        (EventLog().variable(7, codes.EFI_VARIABLE_DRIVER_CONFIG, Variable(EFI_GLOBAL, "PK", b"\1\2")), "PK = 0102"),
        (EventLog().image(b"x"), "an image in memory"),
        (EventLog().tag(9, 7, b"Linux initrd\0"), "Linux initrd"),
        (EventLog().event(9, codes.EVENT_TAG, b"x"), "1 bytes with SHA-256 "),
        (EventLog().event(0, codes.POST_CODE, b""), "no data"),
        (EventLog().event(0, codes.EFI_HANDOFF_TABLES2, b"\x09TdxTable\0rest"), "TdxTable"),
        (EventLog().event(0, codes.EFI_HANDOFF_TABLES2, b""), "no data"),
        (EventLog().event(0, codes.EFI_VARIABLE_BOOT, b"short"), "5 bytes with SHA-256 "),
        (EventLog().grub("grub_cmd", "menuentry {\n\tlinux\n}"), r"grub_cmd: menuentry {\n\tlinux\n}"),
    ],
)
def test_an_event_is_described_in_words(log: EventLog, description: str):
    assert describe(log.log.events[0]).startswith(description)


def test_no_description_is_more_than_one_printable_line():
    long = EventLog().grub("grub_cmd", "x" * 5000).log.events[0]
    assert len(describe(long)) <= MAX_DESCRIPTION_CHARACTERS + 2
    tricky = EventLog().grub("grub_cmd", "a\u202e\x1b[2J\nb\\").log.events[0]
    assert describe(tricky).isprintable()


def test_events_that_no_register_heard_of_are_no_inputs():
    log = EventLog().startup_locality(3).boot()
    assert len(inputs(log.log, "sha256")) == len(log.log.events) - 1
