"""Real logs with their stated outcomes: registers, standings of events, facts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.errors import MalformedEvidence
from strongroom.records.verdict import Status
from strongroom.tee.eventlog import (
    Event,
    Facts,
    Log,
    Standing,
    Style,
    check_cel,
    check_log,
    difference,
    inputs,
    interpret,
    judge,
    parse_cel,
    parse_log,
    replay,
    replay_cel,
)
from strongroom.tee.eventlog.tcg2 import SpecId
from strongroom.tee.steps import Steps
from strongroom_sim.eventlog import serialise

EMPTY = "3d458cfe55"
"""SHA-256 registers that hold a separator and nothing else."""
COS_113 = "tdx/v4_00806f05_gcp_cos113.ccel.bin"
REGISTERS = {
    "tpm/eventlog_cos-101-amd-sev.bin": (
        "0f35c21460 6eb40f5b6b . . 6d9f1a1d46 d1a1ab23a5 . 2bc6edaa92 ebb7c847c4 b5ad662e5e 14:d0d9545920"
    ),
    "tpm/eventlog_ubuntu-2404-amd-sevsnp.bin": (
        "50597a2784 57344e1cc8 . . abe8b3fa6a 0b0e1903ae . 33ad69850f 6932a3f71d ce08798b28 14:306f9d8b94"
    ),
    "tpm/eventlog_rhel8-uefi.bin": (
        "24af52a4f4 454220afaa . . 758a3d35f1 53d0ee3616 . 5fd54361d5 25c3874041 d43b2f61eb 14:d8f57ebcc1"
    ),
    "tpm/eventlog_eventlogwithsp800155.bin": (
        "d0c70a9310 f28e7dc5d0 . . 18314f0c33 7da8fcc568 . 8c5dc45176 98effecabb 06f41037a0 14:6eb05e8a8a"
    ),
    "tpm/eventlog_confidential-gke-debug-251000_eventlog.bin": (
        "d0c70a9310 f28e7dc5d0 . . 18314f0c33 7da8fcc568 . 8c5dc45176 98effecabb 4df4604236 14:6eb05e8a8a"
    ),
    "tpm/eventlog_crypto_agile.bin": "1536de221b f883c25efc . . b0af298ea2 3f2855fc9d . 3d6207f9a2",
    "tpm/keylime/binary_bios_measurements-secureboot": (
        "0d993cf4ba 77092bbdc5 7551ef5fcd . ce5e8ef15f 4316832e47 . 2f96e1f1bf 79019cc5eb acd038dd8e 14:66c465262f"
    ),
    COS_113: "3fa2f61f39 f62dbc072b 4969684dc8",
    "tdx/ccel/gke_grub.bin": "bc99451390 c17cb288a4 334aeba2c9",
    "tdx/ccel/ovmf.bin": "8566f99879 775b9f6bfe 94eaf7a7bf",
}
"""SHA-256 of TPMs, SHA-384 of TDs. Those of the first three were also read from the machines' TPMs, by others."""

STANDINGS = {
    "tpm/eventlog_cos-101-amd-sev.bin": (40, 8, 0),
    "tpm/eventlog_ubuntu-2404-amd-sevsnp.bin": (96, 20, 0),
    "tpm/eventlog_rhel8-uefi.bin": (75, 7, 0),
    "tpm/eventlog_eventlogwithsp800155.bin": (41, 10, 2),
    "tpm/eventlog_confidential-gke-debug-251000_eventlog.bin": (41, 11, 2),
    "tpm/eventlog_crypto_agile.bin": (22, 4, 0),
    "tpm/keylime/binary_bios_measurements-secureboot": (77, 21, 0),
    COS_113: (31, 12, 0),
    "tdx/ccel/gke_grub.bin": (20, 13, 2),
    "tdx/ccel/ovmf.bin": (12, 8, 0),
}
"""Events recomputed, opaque, never extended; none is a mismatch and none is unknown."""

FACTS = {
    "tpm/eventlog_cos-101-amd-sev.bin": (True, (1, 1, 1, 4), "GCE Virtual Firmware v1", "sev", True, 14, 4),
    "tpm/eventlog_ubuntu-2404-amd-sevsnp.bin": (
        False,
        (1, 1, 2, 371),
        "GCE Virtual Firmware v2",
        "sev-snp",
        True,
        70,
        2,
    ),
    "tpm/eventlog_rhel8-uefi.bin": (True, (1, 1, 2, 186), "GCE Virtual Firmware v1", "none", True, 49, 3),
    "tpm/eventlog_eventlogwithsp800155.bin": (True, (1, 1, 1, 4), "GCE Virtual Firmware v2", "none", True, 14, 3),
    "tpm/eventlog_confidential-gke-debug-251000_eventlog.bin": (
        True,
        (1, 1, 1, 4),
        "GCE Virtual Firmware v2",
        "none",
        True,
        14,
        3,
    ),
    "tpm/eventlog_crypto_agile.bin": (False, (1, 1, 3, 77), "1efb6b540c1d5540a4ad4ef4bf17b83a", None, False, 0, 2),
    "tpm/keylime/binary_bios_measurements-secureboot": (
        True,
        (1, 3, 4, 371),
        "edk2-20240524-7.el9",
        None,
        True,
        51,
        4,
    ),
    COS_113: (False, (1, 1, 1, 4), "", None, True, 14, 2),
    "tdx/ccel/gke_grub.bin": (False, (1, 1, 2, 186), "", None, True, 0, 2),
}
"""Secure Boot; entries of PK, KEK, db, dbx; firmware; technology; boot services ended; commands of GRUB's; images."""

COMMAND_LINES = {
    "tpm/eventlog_cos-101-amd-sev.bin": "/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd boot=local",
    "tpm/eventlog_ubuntu-2404-amd-sevsnp.bin": "/vmlinuz-6.8.0-1010-gcp root=PARTUUID=8270f3c9-b4e4-4345-80ee-5a62db7ebf3f",
    "tpm/eventlog_rhel8-uefi.bin": "(hd0,gpt2)/boot/vmlinuz-4.18.0-240.22.1.el8_3.x86_64 root=UUID=",
    "tpm/keylime/binary_bios_measurements-secureboot": "(hd0,gpt2)/vmlinuz-5.14.0-503.11.1.el9_5.x86_64 root=/dev/mapper/",
    COS_113: "/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd rootwait ro",
}


def style_of(name: str) -> Style:
    return Style.CCEL if name.startswith("tdx/") else Style.TPM


def bank_of(name: str) -> str:
    return "sha384" if name.startswith("tdx/") else "sha256"


def read(vectors: Path, name: str) -> Log:
    return parse_log((vectors / name).read_bytes(), style_of(name))


def expected(text: str) -> dict[int, str]:
    rows = (field.rpartition(":") for field in text.split())
    return {int(n) if n else at: EMPTY if value == "." else value for at, (n, _, value) in enumerate(rows)}


def shortened(registers: Mapping[int, bytes]) -> dict[int, str]:
    return {register: value.hex()[:10] for register, value in registers.items()}


@pytest.mark.parametrize("name", REGISTERS)
def test_a_real_log_replays_to_its_stated_registers(vectors: Path, name: str):
    found = shortened(replay(read(vectors, name), bank_of(name)))
    assert found == expected(REGISTERS[name]), f"{name}: expected {REGISTERS[name]}, got {found}"


@pytest.mark.parametrize("name", STANDINGS)
def test_the_digests_of_a_real_log_have_their_stated_standing(vectors: Path, name: str):
    log = read(vectors, name)
    for bank in log.algorithms:
        counts = Counter(judgement.standing for judgement in judge(log, bank))
        found = tuple(counts[s] for s in (Standing.RECOMPUTED, Standing.OPAQUE, Standing.NOT_EXTENDED))
        assert found == STANDINGS[name], f"{name}, {bank}: expected {STANDINGS[name]}, got {counts}"
        assert sum(found) == len(log.events)


def summary(facts: Facts) -> tuple[object, ...]:
    boot = facts.secure_boot
    return (
        boot.enabled,
        tuple(len(database) for database in (boot.pk, boot.kek, boot.db, boot.dbx)),
        facts.firmware_version,
        facts.gce_technology,
        facts.exit_boot_services,
        len(facts.grub_commands),
        len(facts.images),
    )


@pytest.mark.parametrize("name", FACTS)
def test_a_real_log_gives_its_stated_facts(vectors: Path, name: str):
    facts = interpret(read(vectors, name), bank_of(name))
    assert summary(facts) == FACTS[name], f"{name}: expected {FACTS[name]}, got {summary(facts)}"
    if name in COMMAND_LINES:
        assert len(facts.kernel_command_lines) == 1
        assert facts.kernel_command_lines[0].startswith(COMMAND_LINES[name])


@pytest.mark.parametrize("name", FACTS)
def test_a_real_log_passes_the_four_checks_and_fails_on_another_register(vectors: Path, name: str):
    data, bank, style = (vectors / name).read_bytes(), bank_of(name), style_of(name)
    registers = replay(parse_log(data, style), bank)
    steps = Steps()
    assert check_log("x", data, registers, bank, style, steps).holds
    for register, value in registers.items():
        steps = Steps()
        changed = {**registers, register: value[::-1]}
        assert not check_log("x", data, changed, bank, style, steps).holds
        assert steps.checks[1].status is Status.FAIL


@pytest.mark.parametrize("name", REGISTERS)
def test_a_real_log_survives_being_written_and_read_again(vectors: Path, name: str):
    data, log = (vectors / name).read_bytes(), read(vectors, name)
    written = serialise(log)
    assert data.startswith(written)
    assert parse_log(written, log.style) == log
    assert set(data[len(written) :]) <= ({0xFF} if log.style is Style.CCEL else set())


def test_a_log_of_an_old_firmware_that_draws_the_line_twice_in_one_register_is_refused(vectors: Path):
    """OVMF of 2022 measured the separator of the boot manager into RTMR0, which had one, in place of RTMR1."""
    with pytest.raises(MalformedEvidence, match=r"event 15 .* is the second separator of its register"):
        interpret(read(vectors, "tdx/ccel/ovmf.bin"), "sha384")


def test_a_truncated_log_of_the_older_form_is_refused(vectors: Path):
    for style in Style:
        with pytest.raises(MalformedEvidence, match="Spec ID Event03"):
            parse_log((vectors / "tpm/NEG_eventlog_short_no_action.bin").read_bytes(), style)


def test_the_log_of_a_td_is_that_of_its_quote(vectors: Path):
    quote = (vectors / "tdx/v4_00806f05_gcp_cos113_module_rule.quote").read_bytes()
    registers = replay(read(vectors, COS_113), "sha384")
    assert set(registers) == {0, 1, 2}
    assert quote[48 + 328 :][:144] == b"".join(registers[n] for n in range(3))


def test_the_log_of_dstack_replays_to_all_four_registers_of_its_quote(vectors: Path):
    document = json.loads((vectors / "tdx/v4_90c06f_dstack_quote_report.json").read_text())
    rows = json.loads(document["event_log"])
    events = tuple(
        Event(
            number,
            row["imr"] + 1,
            row["event_type"],
            (("sha384", bytes.fromhex(row["digest"])),),
            bytes.fromhex(row["event_payload"]),
        )
        for number, row in enumerate(rows)
    )
    log = Log(Style.CCEL, SpecId(0, 0, b""), ("sha384",), events)
    registers = replay(log, "sha384")
    assert shortened(registers) == {0: "2e3843265f", 1: "a1b79d7602", 2: "1e31b59d60", 3: "0f787c3877"}
    assert bytes.fromhex(document["quote"])[48 + 328 :][:192] == b"".join(registers[n] for n in range(4))

    with pytest.raises(MalformedEvidence, match="event type 0x08000001"):
        interpret(log, "sha384")
    facts = interpret(replace(log, events=tuple(event for event in events if event.index < 4)), "sha384")
    assert not facts.secure_boot.enabled
    assert [one.name for one in facts.measured] == ["LOADED_IMAGE::LoadOptions", "Linux initrd"]


def test_the_log_within_a_google_attestation_replays_to_the_registers_beside_it(vectors: Path):
    for name in ("gce_cos85_nonce9009", "gce_cos85_no_nonce"):
        message = (vectors / f"tpm/{name}.attestation.pb").read_bytes()
        start = message.index(b"Spec ID Event03") - 32
        assert message[start - 4] == 0x1A  # field 3, then the length as a number of three bytes
        size = sum((byte & 0x7F) << (7 * n) for n, byte in enumerate(message[start - 3 : start]))
        log = parse_log(message[start : start + size], Style.TPM)
        for bank in log.algorithms:
            registers = replay(log, bank)
            assert set(registers) == set(range(10))
            assert all(value in message for value in registers.values())
        facts = interpret(log, "sha256")
        assert summary(facts) == (True, (1, 1, 1, 4), "GCE Virtual Firmware v1", "sev", True, 14, 3)


def test_the_canonical_log_of_a_confidential_space_gives_its_facts(vectors: Path):
    data = base64.b64decode((vectors / "tpm/cos_cel.b64").read_text())
    cel = parse_cel(data)
    assert len(cel.records) == 18
    registers = replay_cel(cel, "sha384")
    assert shortened(registers) == {3: "2261f93374"}
    container = check_cel("x", data, registers, "sha384", Steps()).value
    assert container.image_reference.endswith("/gpu/cuda-vector-add:latest")
    assert container.image_digest == "sha256:777049f969d790c7fa9edf5783ad22b2d4fa25f31612e95639eb3b5098ff8066"
    assert (container.restart_policy, container.gpu_cc_mode, container.memory_monitor) == ("Never", "ON", False)
    assert container.arguments == ("/cuda-samples/sample",)
    assert len(container.environment) == 10
    assert container.launched


def test_what_differs_between_two_real_boots_is_named(vectors: Path):
    one = inputs(read(vectors, "tpm/eventlog_eventlogwithsp800155.bin"), "sha256")
    other = inputs(read(vectors, "tpm/eventlog_confidential-gke-debug-251000_eventlog.bin"), "sha256")
    assert [found.text for found in difference(one, other)] == ["pcr9 event 1 was added: EV_IPL /efi/boot/grub.cfg"]


@pytest.mark.parametrize("name", ["tpm/eventlog_rhel8-uefi.bin", COS_113])
def test_no_real_log_with_one_event_dropped_or_repeated_replays(vectors: Path, name: str):
    log, bank = read(vectors, name), bank_of(name)
    registers = replay(log, bank)
    for at, event in enumerate(log.events):
        fewer = (*log.events[:at], *log.events[at + 1 :])
        more = (*log.events[:at], event, *log.events[at:])
        for events in (fewer, more):
            assert replay(replace(log, events=events), bank) != registers


@pytest.mark.parametrize("name", ["tpm/eventlog_cos-101-amd-sev.bin", "tdx/ccel/gke_grub.bin"])
def test_no_flipped_bit_in_a_real_log_changes_what_is_proved(vectors: Path, name: str):
    style, bank = style_of(name), bank_of(name)
    data = serialise(read(vectors, name))
    registers = replay(parse_log(data, style), bank)
    truth = replace(interpret(parse_log(data, style), bank), measured=(), grub_commands=(), kernel_command_lines=())
    for position in range(0, len(data), 97):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 8)
        outcome = check_log("x", bytes(changed), registers, bank, style, Steps())
        if outcome.holds:
            found = replace(outcome.value, measured=(), grub_commands=(), kernel_command_lines=())
            assert found == truth, position
