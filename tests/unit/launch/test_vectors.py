"""What real machines measured, computed again: a SEV-SNP guest of Milan, and trust domains with OVMF."""

import base64
import hashlib
import json
from dataclasses import replace

import cbor2
from launching import ACPI, STATELESS, TDX, content

from strongroom.launch.measure import measure, snp, tdx
from strongroom.launch.measure.firmware import SevSection, tdx_sections
from strongroom.tee.eventlog import Style, inputs, parse_log
from strongroom_sim import images

HAND_OFF = {2: "0b8772e5b0b41b83", 64: "8ae1e425351df799"}


def test_the_measurement_of_a_real_sev_snp_guest(vectors):
    raw = bytes.fromhex(json.loads((vectors / "snp/v3_milan_dstack_verifier_input.json").read_text())["attestation"])
    at = raw.find(b'{"os_image_hash"')
    machine = json.JSONDecoder().raw_decode(raw[at:].decode("latin1"))[0]
    given = json.loads(machine["sev_snp_measurement"])
    parts = cbor2.loads(base64.b64decode(given["measurement"]))
    digests = [hashlib.sha256(parts["cmdline"].encode() + b"\0").digest(), parts["initrd_hash"], parts["kernel_hash"]]
    found = snp.LaunchDigest(parts["ovmf_hash"])
    areas = [SevSection(one["gpa"], one["size"], one["type"]) for one in parts["ovmf_sections"]]
    snp.add_sections(found, areas, snp.hashes_table(parts["hashes_table_gpa"] % 4096, digests))
    snp.add_cpus(found, given["vcpus"], parts["reset_eip"], snp.signature(given["vcpu_type"]), given["guest_features"])
    assert found.value == raw[4 + 0x90 : 4 + 0xC0]


def test_the_memory_and_boot_entries_of_real_trust_domains(vectors):
    log = parse_log((vectors / "tdx/ccel/ovmf.bin").read_bytes(), Style.CCEL)
    live = {(row.register, row.type, row.digest) for row in inputs(log, "sha384")}
    sections = tdx_sections(images.firmware())
    for gigabytes, digest in HAND_OFF.items():
        assert hashlib.sha384(tdx.hand_off(sections, gigabytes << 30)).hexdigest().startswith(digest)
    spec = replace(TDX, firmware=replace(STATELESS, observed=ACPI), machine=replace(TDX.machine, memory=2048))
    expected = measure(spec, content())
    ours = {"ACPI DATA", "volume of variables", "kernel", "LOADED_IMAGE::LoadOptions", "Linux initrd"}
    for row in expected.inputs:
        if row.description not in ours and row.type != "EV_SEPARATOR":
            assert (row.register, row.type) in {(register, kind) for register, kind, _ in live}
            digests = {digest for register, _, digest in live if register == row.register}
            if row.description != "BootOrder":  # that log's digest is over the value alone, as ours
                assert row.digest in digests, row


def test_rtmr_0_of_a_real_trust_domain(vectors):
    """Dstack's log: every event but the three of ACPI is computed here."""
    document = json.loads((vectors / "tdx/v4_90c06f_dstack_quote_report.json").read_text())
    rows = [row for row in json.loads(document["event_log"]) if row["imr"] == 0]
    acpi = dict(zip(ACPI, (row["digest"] for row in rows if row["event_type"] == 0xA), strict=True))
    spec = replace(TDX, firmware=replace(STATELESS, observed=acpi), machine=replace(TDX.machine, memory=65536))
    computed = [row.digest for row in measure(spec, content()).inputs if row.register == "rtmr0"]
    live = [row["digest"] for row in rows]
    assert [n for n, pair in enumerate(zip(computed, live, strict=True)) if pair[0] != pair[1]] == [1], (
        "only the volume of variables is of another firmware"
    )
