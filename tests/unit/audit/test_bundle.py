"""The file of an audit: exact, canonical, bounded; a flipped byte is refused or changes nothing."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit import bundle as files
from strongroom.audit.bundle import Manifest, Part, Scope, make, read, write
from strongroom.crypto.signatures import generate_p256, sign_envelope
from strongroom.errors import MalformedRecord, SignatureInvalid, StrongroomError, UsageError
from strongroom.records import codec
from strongroom.records.digest import digest_bytes

EXPORTER = generate_p256()
SCOPE = Scope("a lease", None, 0, 100)
BROKER = digest_bytes(b"a broker")
PARTS = {
    files.BROKER: b"{}",
    files.CHECKPOINT: b"x" * 512,
    files.numbered(files.LEAVES, 7): b"y" * 513,
    files.addressed(files.POLICIES, BROKER): b"",
}
SMALL = make(PARTS, broker=BROKER, scope=SCOPE)
SIGNED = write(SMALL, EXPORTER)


def entry(name, data=b""):
    return b"".join(files._entry(name, data))


def packed(*entries):
    return b"".join(entries) + files.END


def manifest_of(*names, data=b""):
    parts = tuple(Part(name, digest_bytes(data)) for name in names)
    return entry(files.MANIFEST, codec.encode(Manifest(BROKER, SCOPE, parts)))


def test_what_is_written_is_read_again_and_the_same_is_written_the_same():
    assert read(write(SMALL)) == SMALL
    assert write(SMALL) == write(make(dict(reversed(PARTS.items())), broker=BROKER, scope=SCOPE))
    assert write(read(SIGNED)) == SIGNED
    assert list(SMALL.folder(files.LEAVES)) == [files.numbered(files.LEAVES, 7)]


def test_any_tar_reads_it():
    with tarfile.open(fileobj=io.BytesIO(SIGNED)) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}
    assert {name: content[name] for name in PARTS} == PARTS
    assert content.keys() - PARTS.keys() == {files.MANIFEST, files.SIGNATURE}


def test_only_the_named_exporters_signature_counts():
    read(SIGNED).check_signature(EXPORTER.public_key())
    with pytest.raises(SignatureInvalid):
        read(SIGNED).check_signature(generate_p256().public_key())
    with pytest.raises(SignatureInvalid):
        SMALL.check_signature(EXPORTER.public_key())


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_changes_nothing(place, mask):
    changed = bytearray(SIGNED)
    changed[place] ^= mask
    try:
        found = read(bytes(changed))
        found.check_signature(EXPORTER.public_key())
    except StrongroomError:
        return
    assert (found.manifest, found.parts) == (SMALL.manifest, SMALL.parts)


@given(st.integers(0, len(SIGNED) - 1))
def test_a_bundle_cut_short_is_refused(length):
    with pytest.raises(MalformedRecord):
        read(SIGNED[:length])


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(MalformedRecord):
        read(data)


@pytest.mark.parametrize("behind", [b"\0", bytes(512), b"x", SIGNED])
def test_nothing_lies_behind_the_end(behind):
    with pytest.raises(MalformedRecord):
        read(SIGNED + behind)


@pytest.mark.parametrize(
    "name",
    [
        "../broker.json",
        "/broker.json",
        "leaves/../../x.json",
        "leaves/1.json",
        "leaves",
        "",
        "other.txt",
        "./broker.json",
    ],
)
def test_a_name_that_is_not_ours_is_refused(name):
    with pytest.raises(MalformedRecord):
        read(packed(manifest_of(name), entry(name)))
    with pytest.raises(UsageError):
        make({name: b""}, broker=BROKER, scope=SCOPE)


def test_no_part_comes_twice():
    one = files.BROKER
    with pytest.raises(MalformedRecord):
        read(packed(manifest_of(one), entry(one), entry(one)))
    with pytest.raises(MalformedRecord):
        read(packed(manifest_of(one, one), entry(one)))


def test_a_manifest_that_is_written_otherwise_or_signed_otherwise_is_refused():
    text = codec.encode(Manifest(BROKER, SCOPE, ()))
    read(packed(entry(files.MANIFEST, text)))
    with pytest.raises(MalformedRecord):
        read(packed(entry(files.MANIFEST, text + b" ")))
    other = sign_envelope(files.PAYLOAD_TYPE, codec.encode(SMALL.manifest), EXPORTER).to_bytes()
    with pytest.raises(MalformedRecord):
        read(packed(entry(files.MANIFEST, text), entry(files.SIGNATURE, other)))


def test_parts_lie_in_the_order_of_the_manifest_which_is_sorted():
    one, two = files.BROKER, files.CHECKPOINT
    read(packed(manifest_of(one, two), entry(one), entry(two)))
    for names, order in (((one, two), (two, one)), ((two, one), (two, one))):
        with pytest.raises(MalformedRecord):
            read(packed(manifest_of(*names), *map(entry, order)))


def test_a_part_too_few_or_too_many_is_named():
    one, two = files.BROKER, files.CHECKPOINT
    for listed, there in (((one, two), (one,)), ((one,), (one, two))):
        with pytest.raises(MalformedRecord) as caught:
            read(packed(manifest_of(*listed), *map(entry, there)))
        assert caught.value.detail == two


def test_a_part_with_other_bytes_than_listed_is_named():
    with pytest.raises(MalformedRecord) as caught:
        read(packed(manifest_of(files.BROKER), entry(files.BROKER, b"other")))
    assert caught.value.detail == files.BROKER


@pytest.mark.parametrize("kind", [b"1", b"2", b"5", b"x", b"L"])
def test_links_folders_and_extensions_of_tar_are_refused(kind):
    header = bytearray(entry(files.BROKER))
    header[156:157] = kind
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(MalformedRecord):
        read(packed(manifest_of(files.BROKER), bytes(header)))


def test_sizes_and_numbers_are_bounded(monkeypatch):
    header = files._header_of(files.BROKER, files.MAX_PART_BYTES + 1)
    with pytest.raises(MalformedRecord):
        read(packed(manifest_of(files.BROKER), header))
    with pytest.raises(UsageError):
        make({files.BROKER: bytes(files.MAX_PART_BYTES + 1)}, broker=BROKER, scope=SCOPE)
    monkeypatch.setattr(files, "MAX_PARTS", 1)
    with pytest.raises(MalformedRecord):
        read(SIGNED)
    with pytest.raises(UsageError):
        make(PARTS, broker=BROKER, scope=SCOPE)
    monkeypatch.setattr(files, "MAX_BYTES", len(SIGNED) - 1)
    with pytest.raises(MalformedRecord):
        read(SIGNED)
