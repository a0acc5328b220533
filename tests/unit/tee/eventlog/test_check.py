"""The four checks that a log leaves, and the known failures that they answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from strongroom.records.verdict import Status
from strongroom.tee.eventlog import Facts, Log, Style, check_cel, check_log, codes, replay, replay_cel
from strongroom.tee.steps import Doubt, Outcome, Steps
from strongroom_sim.eventlog import EventLog, broken_logs, cos_cel, renumbered, serialise, serialise_cel

BANK = {Style.TPM: "sha256", Style.CCEL: "sha384"}
IDS = ["x.log.parse", "x.log.replay", "x.log.digests", "x.log.events"]
STYLES = pytest.mark.parametrize("style", list(Style))


def made(style: Style) -> EventLog:
    return EventLog(style, (BANK[style],)).boot()


def checked(
    data: bytes, registers: Mapping[int, bytes], style: Style, bank: str = ""
) -> tuple[dict[str, Status], dict[str, str], Outcome[Facts]]:
    steps = Steps()
    outcome = check_log("x", data, registers, bank or BANK[style], style, steps)
    assert [check.id for check in steps.checks] == IDS
    return {c.id: c.status for c in steps.checks}, {c.id: c.detail for c in steps.checks}, outcome


def failed(statuses: Mapping[str, Status]) -> set[str]:
    """What failed; whatever comes after it must not have run."""
    found = [name for name in IDS if statuses[name] is Status.FAIL]
    assert len(found) <= 1
    if found:
        after = IDS[IDS.index(found[0]) + 1 :]
        assert all(statuses[name] is Status.NOT_RUN for name in after)
    return set(found)


def replay_fails(log: Log, registers: Mapping[int, bytes]) -> str:
    statuses, details, outcome = checked(serialise(log), registers, log.style)
    assert failed(statuses) == {"x.log.replay"}
    assert not outcome.holds
    return details["x.log.replay"]


@STYLES
def test_a_good_log_passes_every_check(style: Style):
    log = made(style)
    statuses, details, outcome = checked(log.serialised(), replay(log.log, BANK[style]), style)
    assert set(statuses.values()) == {Status.PASS}
    assert outcome.value.exit_boot_services
    assert "recomputed" in details["x.log.digests"]
    assert details["x.log.events"] == "Secure Boot on, 3 images"


@STYLES
def test_each_check_fails_alone_on_a_log_made_for_it(style: Style):
    broken = broken_logs(style, (BANK[style],), BANK[style])
    assert [f"x.{name}" for name in broken] == IDS
    for name, (data, registers) in broken.items():
        assert failed(checked(data, registers, style)[0]) == {f"x.{name}"}


@STYLES
def test_a_log_is_not_believed_where_what_vouches_for_the_registers_failed(style: Style):
    log, steps = made(style), Steps()
    signature = steps.run("x.signature", _doubt)
    check_log("x", log.serialised(), replay(log.log, BANK[style]), BANK[style], style, steps, signature)
    assert [check.status for check in steps.checks] == [
        Status.FAIL,
        Status.PASS,
        Status.NOT_RUN,
        Status.NOT_RUN,
        Status.NOT_RUN,
    ]
    assert "x.signature" in steps.checks[2].detail


def _doubt() -> int:
    raise Doubt("no")


@STYLES
def test_no_log_is_a_failure(style: Style):
    assert failed(checked(b"", {0: bytes(32)}, style)[0]) == {"x.log.parse"}


@STYLES
@pytest.mark.parametrize("bank", ["sha1", "sha512", "sm3_256", "md5", "shake_128", ""])
def test_a_bank_that_is_weak_missing_or_unknown_fails(style: Style, bank: str):
    log = EventLog(style, ("sha1", BANK[style])).boot()
    steps = Steps()
    check_log("x", log.serialised(), {0: bytes(20)}, bank, style, steps)
    assert steps.checks[1].status is Status.FAIL


@STYLES
def test_cve_2022_0317_a_log_that_is_not_bound_to_quoted_registers_is_refused(style: Style):
    log = made(style).log
    registers = dict(replay(log, BANK[style]))
    assert replay_fails(log, {}) == "no register was quoted"
    for register in registers:
        fewer = {other: value for other, value in registers.items() if other != register}
        assert "was not quoted" in replay_fails(log, fewer)


@STYLES
def test_cve_2022_0317_events_of_one_register_cannot_pass_for_those_of_another(style: Style):
    log = made(style).log
    first, second = sorted({event.index for event in log.events})[:2]
    events = [
        replace(event, index={first: second, second: first}.get(event.index, event.index)) for event in log.events
    ]
    replay_fails(renumbered(log, events), replay(log, BANK[style]))


@STYLES
def test_cve_2022_0317_duplicated_events_are_refused(style: Style):
    log = made(style).log
    for at, event in enumerate(log.events):
        replay_fails(renumbered(log, [*log.events[: at + 1], event, *log.events[at + 1 :]]), replay(log, BANK[style]))


@STYLES
def test_cve_2022_0317_unsorted_events_are_refused(style: Style):
    log = made(style).log
    assert "not what the log replays to" in replay_fails(
        renumbered(log, reversed(log.events)), replay(log, BANK[style])
    )


@STYLES
def test_rtmr_log_with_one_event_dropped(style: Style):
    log = made(style).log
    for at in range(len(log.events)):
        fewer = renumbered(log, [*log.events[:at], *log.events[at + 1 :]])
        assert replay_fails(fewer, replay(log, BANK[style]))


@STYLES
def test_rtmr_log_with_one_event_moved(style: Style):
    log = made(style).log
    for at, event in enumerate(log.events):
        later = [n for n in range(at + 1, len(log.events)) if log.events[n].index == event.index]
        if not later or log.events[later[0]].digests == event.digests:
            continue
        events = list(log.events)
        events.insert(later[0], events.pop(at))
        replay_fails(renumbered(log, events), replay(log, BANK[style]))


@STYLES
def test_rtmr_log_with_one_event_between_the_events_of_others_is_the_same_log(style: Style):
    """Only the order within a register is measured."""
    log = made(style).log
    events = sorted(log.events, key=lambda event: event.index)
    statuses, _, _ = checked(serialise(renumbered(log, events)), replay(log, BANK[style]), style)
    assert failed(statuses) == set()


@STYLES
def test_dstack_1296_every_register_is_compared(style: Style):
    log = made(style).log
    registers = replay(log, BANK[style])
    for register, value in registers.items():
        changed = {**registers, register: value[:-1] + bytes([value[-1] ^ 1])}
        name = f"pcr{register}" if style is Style.TPM else f"rtmr{register}"
        assert replay_fails(log, changed) == f"{name} is not what the log replays to"


@STYLES
def test_dstack_1296_a_register_that_the_log_does_not_explain_is_refused(style: Style):
    log = made(style).log
    registers = dict(replay(log, BANK[style]))
    unused = 12 if style is Style.TPM else 3
    untouched = {**registers, unused: bytes(len(registers[0]))}
    assert failed(checked(serialise(log), untouched, style)[0]) == set()
    assert "no event of it" in replay_fails(log, {**registers, unused: b"\1" * len(registers[0])})


@STYLES
def test_a_value_of_another_length_is_not_the_register(style: Style):
    log = made(style).log
    registers = dict(replay(log, BANK[style]))
    for value in (b"", registers[0][:20], registers[0] + b"\0"):
        replay_fails(log, {**registers, 0: value})


def test_registers_of_a_dynamic_launch_that_never_was_hold_ones():
    log = made(Style.TPM).log
    registers = dict(replay(log, "sha256"))
    assert failed(checked(serialise(log), {**registers, 17: b"\xff" * 32}, Style.TPM)[0]) == set()
    assert "no event of it" in replay_fails(log, {**registers, 17: bytes(32)})


@STYLES
def test_a_digest_that_is_not_of_its_event_is_named(style: Style):
    log = made(style).log
    at = next(n for n, event in enumerate(log.events) if event.data.startswith(b"kernel_cmdline"))
    lie = replace(log.events[at], data=b"kernel_cmdline: /vmlinuz ro\0")
    lying = renumbered(log, [*log.events[:at], lie, *log.events[at + 1 :]])
    statuses, details, _ = checked(serialise(lying), replay(log, BANK[style]), style)
    assert failed(statuses) == {"x.log.digests"}
    assert details["x.log.digests"] == f"event {at} (EV_IPL): the digest is not that of the text or the text and a NUL"


@STYLES
def test_an_unknown_event_fails_the_last_check(style: Style):
    log = made(style).event(9, 0x08000001, b"runtime")
    statuses, details, _ = checked(log.serialised(), replay(log.log, BANK[style]), style)
    assert failed(statuses) == {"x.log.events"}
    assert "event type 0x08000001" in details["x.log.events"]


def proved(facts: Facts, bank: str) -> tuple[Facts, Counter[str]]:
    """The facts without what rests on labels, and the digests of all that loaders measured, by whatever name."""
    texts = (*facts.grub_commands, *facts.kernel_command_lines, *facts.module_command_lines)
    digests = [hashlib.new(bank, text.encode()).hexdigest() for text in texts]
    bare = replace(facts, measured=(), grub_commands=(), kernel_command_lines=(), module_command_lines=())
    return bare, Counter([*digests, *(one.digest for one in facts.measured)])


@STYLES
def test_no_flipped_bit_of_a_log_changes_what_is_proved(style: Style):
    """What a flipped bit may leave standing is what no digest covers: labels, and the paths of images."""
    log = made(style)
    data, registers = log.serialised(), replay(log.log, BANK[style])
    truth = proved(checked(data, registers, style)[2].value, BANK[style])
    held = 0
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 8)
        outcome = checked(bytes(changed), registers, style)[2]
        if outcome.holds:
            held += 1
            assert proved(outcome.value, BANK[style]) == truth, position
    assert held < len(data) / 8


def test_a_canonical_event_log_leaves_the_same_four_checks():
    cel = cos_cel([(0, b"image"), (8, b"")])
    registers = replay_cel(cel, "sha384")
    steps = Steps()
    outcome = check_cel("x", serialise_cel(cel), registers, "sha384", steps)
    assert [check.id for check in steps.checks] == ["x.cel.parse", "x.cel.replay", "x.cel.digests", "x.cel.events"]
    assert outcome.value.image_reference == "image"
    wrong = replace(cel.records[0], content=cel.records[0].content[:-1] + b"x")
    cases = {
        "x.cel.parse": (serialise_cel(cel) + b"x", registers),
        "x.cel.replay": (serialise_cel(cel), {3: bytes(48)}),
        "x.cel.digests": (serialise_cel(replace(cel, records=(wrong, *cel.records[1:]))), registers),
    }
    twice = cos_cel([(0, b"a"), (0, b"b")])
    cases["x.cel.events"] = (serialise_cel(twice), replay_cel(twice, "sha384"))
    for identifier, (data, quoted) in cases.items():
        steps = Steps()
        assert not check_cel("x", data, quoted, "sha384", steps).holds
        assert [check.id for check in steps.checks if check.status is Status.FAIL] == [identifier]


def test_a_label_is_not_what_a_digest_covers():
    """The known limit, held by a test: GRUB hashes the text without its label."""
    log = EventLog(Style.CCEL, ("sha384",)).boot().log
    at = next(n for n, event in enumerate(log.events) if event.data.startswith(b"grub_cmd"))
    other = replace(log.events[at], data=b"kernel_cmdline: " + log.events[at].data.removeprefix(b"grub_cmd: "))
    renamed = renumbered(log, [*log.events[:at], other, *log.events[at + 1 :]])
    _, _, outcome = checked(serialise(renamed), replay(log, "sha384"), Style.CCEL)
    assert outcome.holds
    assert len(outcome.value.kernel_command_lines) == 2


def test_a_startup_locality_that_is_not_true_does_not_replay():
    for said, true in ((0, 3), (3, 4), (4, 0)):
        log = EventLog().startup_locality(said).boot().log
        truth = EventLog().startup_locality(true).boot().log
        assert "pcr0" in replay_fails(log, replay(truth, "sha256"))
    assert codes.NO_ACTION == 3


def test_a_register_that_grows_after_the_log_need_not_be_quoted_and_every_other_must():
    log = made(Style.TPM).log
    later = [replace(event, index=10, type=codes.IPL) for event in log.events if event.index == 9]
    assert later
    grown = renumbered(log, [*log.events, *later])
    registers = replay(log, "sha256")
    for growing, expected in (((10,), Status.PASS), ((11,), Status.FAIL), ((), Status.FAIL)):
        steps = Steps()
        check_log("x", serialise(grown), registers, "sha256", Style.TPM, steps, growing=growing)
        assert steps.checks[1].status is expected


def test_what_is_moved_to_a_register_that_nobody_compared_is_no_fact():
    """Secure Boot's state, truly replayed, but of a register that is compared with nothing."""
    log = made(Style.TPM).log
    moved = [replace(event, index=10) if event.index == 7 else event for event in log.events]
    registers = {**replay(log, "sha256"), 7: bytes(32)}
    steps = Steps()
    outcome = check_log("x", serialise(renumbered(log, moved)), registers, "sha256", Style.TPM, steps, growing=(10, 11))
    assert not outcome.holds
    assert steps.checks[3].status is Status.FAIL
