"""Digests computed again from what the log says."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import Standing, Style, codes, judge
from strongroom.tee.eventlog.digests import RULES
from strongroom.tee.eventlog.efi import EFI_GLOBAL, IMAGE_SECURITY, Variable, serialise_variable
from strongroom_sim.eventlog import EventLog

VARIABLE = Variable(EFI_GLOBAL, "Boot0001", b"value")
WHOLE = serialise_variable(VARIABLE)
LINUX = ".linux\0".encode("utf-16-le")
LINE = "ro quiet\0".encode("utf-16-le")
TAG = bytes.fromhex("ed223b8f") + (3).to_bytes(4, "little") + b"abc"
OTHER_TAG = bytes.fromhex("01000000") + (3).to_bytes(4, "little") + b"abc"
GCE = b"GCE NonHostInfo\0" + b"\4" + bytes(15)
R, M, N, U = Standing.RECOMPUTED, Standing.MISMATCH, Standing.OPAQUE, Standing.UNKNOWN


def standing(kind: int, data: bytes, over: bytes) -> tuple[Standing, str]:
    judgement = judge(EventLog().event(8, kind, data, over).log, "sha256")[0]
    return judgement.standing, judgement.over


CASES = [
    (codes.SEPARATOR, bytes(4), bytes(4), R),
    (codes.SEPARATOR, bytes(4), b"\1\0\0\0", R),
    (codes.SEPARATOR, b"error 17", b"\1\0\0\0", R),
    (codes.SEPARATOR, bytes(4), b"\xff" * 4, M),
    (codes.ACTION, b"Wake Event 1", b"Wake Event 1", R),
    (codes.ACTION, b"Wake Event 1", b"Wake Event 2", M),
    (codes.EFI_ACTION, b"Exit Boot Services Invocation", b"Exit Boot Services Invocation", R),
    (codes.EFI_ACTION, b"Exit Boot Services Invocation", b"", M),
    (codes.S_CRTM_VERSION, b"1\0.\0000\0\0\0", b"1\0.\0000\0\0\0", R),
    (codes.S_CRTM_VERSION, b"1", b"2", M),
    (codes.EFI_GPT_EVENT, b"EFI PART", b"EFI PART", R),
    (codes.EFI_GPT_EVENT, b"EFI PART", b"EFI ROOT", M),
    (codes.OMIT_BOOT_DEVICE_EVENTS, b"BOOT ATTEMPTS OMITTED", b"BOOT ATTEMPTS OMITTED", R),
    (codes.EFI_VARIABLE_DRIVER_CONFIG, WHOLE, WHOLE, R),
    (codes.EFI_VARIABLE_DRIVER_CONFIG, WHOLE, b"value", M),
    (codes.EFI_VARIABLE_DRIVER_CONFIG, WHOLE + b"x", WHOLE + b"x", M),
    (codes.EFI_VARIABLE_BOOT, WHOLE, WHOLE, R),
    (codes.EFI_VARIABLE_BOOT, WHOLE, b"value", R),
    (codes.EFI_VARIABLE_BOOT, WHOLE, b"other", M),
    (codes.EFI_VARIABLE_BOOT2, WHOLE, WHOLE, R),
    (codes.EFI_VARIABLE_AUTHORITY, WHOLE, WHOLE, R),
    (codes.EFI_VARIABLE_AUTHORITY, WHOLE, WHOLE[:-1], M),
    (codes.EFI_VARIABLE_AUTHORITY, WHOLE + b"\0\0\xaf", WHOLE + b"\0\0", R),
    (codes.EFI_VARIABLE_AUTHORITY, WHOLE + b"\0\0\xaf", WHOLE, M),
    (codes.EFI_SPDM_DEVICE_POLICY, WHOLE, WHOLE, R),
    (codes.IPL, b"grub_cmd: set a=b\0", b"set a=b", R),
    (codes.IPL, b"grub_cmd set a=b\0", b"set a=b\0", R),
    (codes.IPL, b"grub_cmd: set a=b\0", b"grub_cmd: set a=b", M),
    (codes.IPL, b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz ro", R),
    (codes.IPL, b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz rw", M),
    (codes.IPL, b"grub_kernel_cmdline /vmlinuz ro\0", b"/vmlinuz ro\0", R),
    (codes.IPL, b"module_cmdline: /xen\0", b"/xen", R),
    (codes.IPL, b"grub_linuxefi Kernel\0", b"kernel", N),
    (codes.IPL, b"(hd0,gpt1)/grub.cfg\0", b"configuration", N),
    (codes.IPL, b"MokList\0", b"list", N),
    (codes.IPL, b"ro quiet\0", b"ro quiet\0", N),
    (codes.IPL, LINUX, b".linux\0", R),
    (codes.IPL, LINUX, b"kernel", N),
    (codes.IPL, LINE, LINE, R),
    (codes.IPL, LINE, b"something", N),
    (codes.IPL, b"\xfe\x01\x02", b"\xfe\x01\x02", U),
    (codes.IPL, b"", b"", U),
    (codes.EVENT_TAG, TAG, b"abc", R),
    (codes.EVENT_TAG, TAG, b"command line", N),
    (codes.EVENT_TAG, OTHER_TAG, b"abc", R),
    (codes.EVENT_TAG, OTHER_TAG, b"something", U),
    (codes.EVENT_TAG, TAG + b"d", b"abc", M),
    (codes.EVENT_TAG, b"abc", b"abc", M),
    (codes.NONHOST_INFO, GCE, GCE, R),
    (codes.NONHOST_INFO, GCE, b"other", M),
    (codes.NONHOST_INFO, b"other", b"something", N),
    (codes.EFI_BOOT_SERVICES_APPLICATION, bytes(32), b"image", N),
    (codes.EFI_BOOT_SERVICES_APPLICATION, bytes(32), bytes(32), N),
    (codes.EFI_PLATFORM_FIRMWARE_BLOB, bytes(16), b"firmware", N),
    (codes.POST_CODE, b"POST CODE", b"firmware", N),
    (codes.POST_CODE, b"POST CODE", b"POST CODE", R),
    (codes.EFI_HANDOFF_TABLES2, b"\1x", b"tables", N),
    (0x08000001, b"app-id", b"app-id", U),
    (0x0, b"", b"", U),
    (0x80000000, b"", b"", U),
]


@pytest.mark.parametrize(("kind", "data", "over", "expected"), CASES)
def test_an_event_has_its_stated_standing(kind: int, data: bytes, over: bytes, expected: Standing):
    assert standing(kind, data, over)[0] is expected


def test_every_type_with_a_name_has_a_rule_but_the_one_that_is_never_extended():
    assert set(codes.NAMES) - set(RULES) == {codes.NO_ACTION}


def test_what_is_not_in_the_log_is_named():
    assert standing(codes.EFI_BOOT_SERVICES_APPLICATION, bytes(32), b"x")[1] == "an image: its Authenticode hash"
    assert standing(codes.IPL, b"/vmlinuz\0", b"x")[1] == "what is called /vmlinuz"
    assert standing(codes.IPL, LINUX, b"x")[1] == "the section .linux of a unified kernel image"
    assert standing(codes.EVENT_TAG, TAG, b"x")[1] == "the command line that the kernel's EFI stub was given"


def test_an_event_that_is_never_extended_says_so_if_it_is_known():
    log = EventLog().startup_locality(3).no_action(b"SP800-155 Event3" + bytes(9)).no_action(b"something").log
    assert [j.standing for j in judge(log, "sha256")] == [Standing.NOT_EXTENDED, Standing.NOT_EXTENDED, U]


def test_the_bank_that_was_quoted_is_the_one_that_is_judged():
    log = EventLog(Style.TPM, ("sha1", "sha256")).event(5, codes.ACTION, b"a").log
    sha1_only = tuple((n, hashlib.sha1(b"b").digest() if n == "sha1" else d) for n, d in log.events[0].digests)  # noqa: S324

    event = dataclasses.replace(log.events[0], digests=sha1_only)
    log = dataclasses.replace(log, events=(event,))
    assert judge(log, "sha256")[0].standing is R
    assert judge(log, "sha1")[0].standing is M
    with pytest.raises(MalformedEvidence):
        judge(log, "sha384")


def test_no_flipped_bit_in_what_is_recomputed_stays_recomputed():
    entry = Variable(IMAGE_SECURITY, "db", bytes(16) + b"certificate")
    made = EventLog().secure_boot().variable(7, codes.EFI_VARIABLE_AUTHORITY, entry).separator(7).exit()
    text = b"linux /vmlinuz ro"
    made.grub("grub_cmd", text.decode()).stub_command_line("ro")
    for event in made.log.events:
        grub = event.type == codes.IPL and event.data.startswith(b"grub_cmd")
        covered = range(event.data.index(text), len(event.data) - 1) if grub else range(len(event.data))
        for position in covered:
            data = bytearray(event.data)
            data[position] ^= 1 << (position % 8)
            changed = dataclasses.replace(made.log, events=(dataclasses.replace(event, data=bytes(data)),))
            assert judge(changed, "sha256")[0].standing is not R, (event, position)
