"""Programs, unified images, firmware, variables, enclave images: what is read, what is refused, which digests come out."""

import base64
import hashlib
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedImage, NotMeasurable
from strongroom.launch.measure import eif, firmware, linux, pe, snp, tdx, uki
from strongroom_sim import images

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def test_the_digest_of_a_program_leaves_out_checksum_and_signatures():
    plain = images.program({".text": b"code", ".data": b"x" * 700}, tail=b"overlay!")
    digest = pe.authenticode(pe.parse_program(plain), "sha256")
    signed = images.program({".text": b"code", ".data": b"x" * 700}, tail=b"overlay!", signature=b"signature")
    assert pe.authenticode(pe.parse_program(signed), "sha256") == digest
    summed = bytearray(plain)
    summed[0x80 + 24 + 64] = 1
    assert pe.authenticode(pe.parse_program(bytes(summed)), "sha256") == digest
    for place in (0x50, 0x80 + 24 + 16, len(plain) - 1, len(plain) - 600):
        changed = bytearray(plain)
        changed[place] ^= 1
        assert pe.authenticode(pe.parse_program(bytes(changed)), "sha256") != digest


def test_the_digest_of_a_program_is_over_header_sections_and_tail_in_this_order():
    data = images.program({".text": b"code"}, tail=b"tail")
    checksum, security = 0x80 + 24 + 64, 0x80 + 24 + 112 + 32
    rest = data[:checksum] + data[checksum + 4 : security] + data[security + 8 :]
    assert pe.authenticode(pe.parse_program(data), "sha384") == hashlib.sha384(rest).digest()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b"ZM"), (0x3C, struct.pack("<I", 1 << 30)), (0x80, b"XX"), (0x80 + 6, b"\xff\xff"), (0x80 + 24, b"\x0b\x01"),
        (0x80 + 24 + 108, b"\x04"), (0x80 + 24 + 60, b"\xff\xff\xff\x7f"), (0x80 + 24 + 112 + 36, b"\x05"),
        (0x80 + 24 + 240 + 16, b"\xff\xff\xff\x7f"), (0x80 + 24 + 240 + 8, b"\xff\xff\xff\x7f"), (0x80 + 20, b"\x08\x00"),
    ],
)  # fmt: skip
def test_a_broken_program_is_refused(place, value):
    data = bytearray(images.program({".text": b"code"}))
    data[place : place + len(value)] = value
    with pytest.raises(MalformedImage):
        pe.parse_program(bytes(data))


def test_sections_that_overlap_are_not_measured_twice():
    data = bytearray(images.program({".text": b"code", ".data": b"data"}))
    row = 0x80 + 24 + 240
    data[row + 60 : row + 64] = data[row + 20 : row + 24]
    data[row + 56 : row + 60] = struct.pack("<I", 1024)
    with pytest.raises(MalformedImage, match="overlap"):
        pe.authenticode(pe.parse_program(bytes(data)), "sha256")


def test_a_unified_image_is_taken_apart():
    image = uki.parse_uki(images.unified(more={".sbat": b"sbat", ".uname": b"6.1", ".pcrsig": b"never"}))
    assert list(image.measured) == [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]
    assert (image.command_line, image.initrd, image.stub) == ("console=ttyS0 quiet", b"initrd", 257)


def test_an_older_stub_measures_less():
    old = uki.parse_uki(images.unified(stub=b"#### LoaderInfo: systemd-stub 252.39-1 ####", more={".sbat": b"sbat"}))
    assert ".sbat" not in old.measured


@pytest.mark.parametrize(
    "broken",
    [
        images.unified(stub=b"#### LoaderInfo: systemd-stub 251 ####"),
        images.unified(stub=b"somebody else's"),
        images.unified(linux=b""),
        images.unified(more={".profile": b"ID=second"}),
        images.unified(command_line=b"x" * 70_000),
        images.program({".text": b"code"}),
    ],
)
def test_images_that_measure_something_else_are_refused(broken):
    with pytest.raises(MalformedImage):
        uki.parse_uki(broken)


def test_a_kernel_is_patched_as_qemu_does():
    kernel = images.kernel()
    given = linux.patched(kernel, 5000, 2 << 30)
    assert given[0x210] == 0xB0
    assert struct.unpack_from("<II", given, 0x218) == (((2 << 30) - 0x28000 - 1 - 5000) & ~4095, 5000)
    assert linux.patched(kernel, 5000, 64 << 30) == given, "of large machines, 2 GiB lie below 4 GiB"
    assert linux.patched(kernel, 5000, 1 << 30) != given
    for bad in (kernel[:0x230], images.kernel(0x200), b"MZ" + bytes(1000)):
        with pytest.raises(MalformedImage):
            linux.patched(bad, 5000, 2 << 30)
    with pytest.raises(MalformedImage, match="memory"):
        linux.patched(kernel, 600 << 20, 512 << 20)


def test_a_kernel_that_is_cut_anywhere_in_its_header_is_refused():
    for size in range(0x238):
        with pytest.raises(MalformedImage):
            linux.patched(images.kernel()[:size], 5000, 2 << 30)


def test_the_tables_of_firmware_are_read():
    data = images.firmware()
    assert [section.kind for section in firmware.tdx_sections(data)] == [0, 1, 3, 3, 2, 3]
    assert [section.kind for section in firmware.sev_sections(data)] == [1, 1, 2, 3, 16]
    for read in (firmware.guid_table, firmware.tdx_sections, firmware.sev_sections):
        with pytest.raises(MalformedImage):
            read(images.variables())


TABLES = images.FLASH_BYTES - 2048
"""Where the made-up firmware has its descriptors and its table; the rest is code."""


@pytest.mark.parametrize("address", [(1 << 64) - 4096, (1 << 64) - (1 << 20)])
def test_a_section_behind_the_last_address_is_refused(address):
    with pytest.raises(MalformedImage, match="last address"):
        tdx.mrtd(images.firmware(tdx=[(address, 2 << 20, 3)]), "10.1")


@given(
    changes=st.lists(
        st.tuples(st.integers(TABLES, TABLES + 300) | st.integers(images.FLASH_BYTES - 256, images.FLASH_BYTES - 1),
                  st.integers(0, 255)), min_size=1, max_size=4,
    ),
    memory=st.sampled_from([8 << 20, 2 << 30, 4 << 30, 64 << 30]),
)  # fmt: skip
@settings(deadline=None)
def test_firmware_with_changed_tables_is_read_or_refused(changes, memory):
    data = bytearray(images.firmware())
    for at, value in changes:
        data[at] = value
    try:
        sections = firmware.tdx_sections(bytes(data))
        assert all(section.address + section.memory <= 1 << 64 for section in sections)
        tdx.hand_off(sections, memory)
        firmware.sev_sections(bytes(data))
    except (MalformedImage, NotMeasurable):
        pass


@pytest.mark.parametrize("place", [0, 100, 4096, 40_000, 65_536 - 50, 65_536 - 49, 65_536 - 66])
def test_broken_firmware_is_refused_or_measured_otherwise(place):
    data = bytearray(images.firmware())
    data[place] ^= 0xFF
    try:
        assert tdx.mrtd(bytes(data), "10.1") != tdx.mrtd(images.firmware(), "10.1") or place < 8192
    except MalformedImage:
        pass


def test_variables_are_read():
    values = {(GLOBAL, "PK"): b"key", (GLOBAL, "BootOrder"): b"\0\0"}
    assert firmware.read_variables(images.variables(values)) == values
    assert firmware.read_variables(images.variables(values, state=0x3D)) == {}, "deleted variables are none"
    for broken in (images.firmware(), images.variables()[:100], bytes(4096)):
        with pytest.raises(MalformedImage):
            firmware.read_variables(broken)


def test_the_registers_of_an_enclave_image():
    found = eif.pcrs(eif.parse_eif(images.enclave())).registers

    def extended(data):
        return hashlib.sha384(bytes(48) + hashlib.sha384(data).digest()).hexdigest()

    assert found == {
        "pcr0": extended(b"kernelquietonetwo"),
        "pcr1": extended(b"kernelquietone"),
        "pcr2": extended(b"two"),
    }


def test_a_signed_enclave_image_shows_its_signer(web_certificate):
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from strongroom.crypto import cbor

    pem = web_certificate[0].read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    section = cbor.encode([{"signing_certificate": list(pem), "signature": [1, 2]}])
    sections = [(1, b"k"), (2, b"c"), (3, b"r")]
    found = eif.pcrs(eif.parse_eif(images.enclave([*sections, (4, section)]))).registers
    assert found["pcr8"] == hashlib.sha384(bytes(48) + hashlib.sha384(der).digest()).hexdigest()
    (version,) = (at for at in range(20) if der[at : at + 5] == bytes.fromhex("a003020102"))
    fifth = base64.encodebytes(der[: version + 4] + b"\5" + der[version + 5 :])
    unknown = b"-----BEGIN CERTIFICATE-----\n" + fifth + b"-----END CERTIFICATE-----\n"
    sections_of_a_liar = [cbor.encode([{"signing_certificate": value}]) for value in (1 << 60, unknown, [256], "x")]
    for broken in (b"", b"\xff", *sections_of_a_liar, cbor.encode([])):
        with pytest.raises(MalformedImage):
            eif.pcrs(eif.parse_eif(images.enclave([*sections, (4, broken)])))


@pytest.mark.parametrize(
    "broken",
    [
        images.enclave()[:-1], images.enclave() + b"\0", b".eif", images.enclave(version=9), images.enclave([(1, b"k")]),
        images.enclave([(1, b"k"), (1, b"k"), (2, b"c"), (3, b"r")]), images.enclave([(7, b"k"), (2, b"c"), (3, b"r")]),
    ],
)  # fmt: skip
def test_a_broken_enclave_image_is_refused(broken):
    with pytest.raises(MalformedImage):
        eif.parse_eif(broken)


def test_every_bit_of_an_enclave_image_is_in_its_checksum():
    good = images.enclave()
    chance = random.Random(1)
    for _ in range(200):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with pytest.raises(MalformedImage):
            eif.parse_eif(bytes(data))


def test_the_launch_digest_is_that_of_an_independent_program():
    """`sev-snp-measure` 0.0.13 says the same of the same files; see tests/system/test_launch_peers.py."""
    code, found = images.firmware(), snp.LaunchDigest()
    found.add_data(snp.NORMAL, snp.TOP - len(code), code)
    page = snp.hashes_page(images.SEV_HASHES_AT % 4096, images.kernel(), b"initrd", "console=ttyS0")
    snp.add_sections(found, firmware.sev_sections(code), page)
    snp.add_cpus(found, 3, images.SEV_RESET_AT, snp.signature("EPYC-Milan"), 1)
    assert found.value.hex() == (
        "2463af7f3328852c666b1652a3139e9ebc0c3152cafe363c4c2e64ff05b6bb3f5c3026c684d3dc8a2f1438ee458e9b85"
    )


def test_what_sev_snp_would_not_measure_is_refused():
    with pytest.raises(NotMeasurable, match="CPU model"):
        snp.signature("host")
    with pytest.raises(NotMeasurable, match="unknown type"):
        snp.add_sections(snp.LaunchDigest(), [firmware.SevSection(0x800000, 4096, 99)], None)
    with pytest.raises(NotMeasurable, match="crosses"):
        snp.hashes_table(4000, [bytes(32)] * 3)
    with pytest.raises(NotMeasurable, match="further CPUs"):
        snp.add_cpus(snp.LaunchDigest(), 2, 0, 0, 1)


def test_qemus_versions_add_pages_in_another_order():
    code = images.firmware()
    assert tdx.mrtd(code, "8.2") != tdx.mrtd(code, "9.0") == tdx.mrtd(code, "10.1")
    assert tdx.mrtd(images.firmware(code=b"other"), "10.1") != tdx.mrtd(code, "10.1")


def test_memory_below_what_the_firmware_uses_is_refused():
    with pytest.raises(NotMeasurable):
        tdx.hand_off(firmware.tdx_sections(images.firmware()), 8 << 20)


def test_firmware_that_uses_what_is_no_memory_below_4_gib_is_refused():
    """Of 4 GiB, q35 puts 2 GiB there: what lies above them is none, though it is less than 4 GiB."""
    for address in (0x8000_0000 - 4096, 0x9000_0000):
        sections = firmware.tdx_sections(images.firmware(tdx=[(address, 8192, tdx.TD_HOB)]))
        with pytest.raises(NotMeasurable, match="below 4 GiB"):
            tdx.hand_off(sections, 4 << 30)
    assert tdx.hand_off(firmware.tdx_sections(images.firmware(tdx=[(0x7FFF_E000, 8192, tdx.TD_HOB)])), 4 << 30)
