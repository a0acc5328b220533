"""Wipe receipts: what makes one hold, and everything that does not."""

import os
from dataclasses import replace

import pytest
from launching import TPM, place_for
from lifecycles import Killed

from strongroom.crypto.signatures import fingerprint, generate_p256
from strongroom.errors import FileUnreadable, MalformedRecord, SignatureInvalid, WipeInvalid
from strongroom.launch.life import files, wipe
from strongroom.launch.life.drivers.qemu import Qemu
from strongroom.launch.life.files import sync_folder
from strongroom.launch.life.wipe import Progress, Target, check_wipe, sign
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.launched import Wiped, WipeDocument, WipeReceipt

KEY = generate_p256()
SIGNER = fingerprint(KEY.public_key())


def step(what, how, name="", size=None):
    return Wiped(what, name, how, size, None, "")


STEPS = (
    step("keys", "revoked", "lease"), step("guest", "powered off", "qemu"), step("disk", "none"),
    step("tpm", "overwritten", "tpm/state", 10), step("nvram", "overwritten", "vars.fd", 20),
    step("boot-disk", "unlinked", "boot.img", 30), step("image", "unlinked", "images/x", 40), step("trace", "none"),
    step("gpu", "none"),
)  # fmt: skip
RECEIPT = WipeReceipt("worker", digest_bytes(b"s"), "qemu", digest_bytes(b"j"), 1, 2, STEPS, wipe.NOT_SHOWN)


def test_a_whole_receipt_holds_and_travels():
    document = codec.decode(WipeDocument, codec.encode(sign(RECEIPT, KEY)))
    assert check_wipe(document, SIGNER) == RECEIPT


@pytest.mark.parametrize("left_out", range(len(STEPS)))
def test_a_kind_of_thing_that_is_left_out_is_seen(left_out):
    steps = STEPS[:left_out] + STEPS[left_out + 1 :]
    with pytest.raises(WipeInvalid, match=STEPS[left_out].what):
        check_wipe(sign(replace(RECEIPT, steps=steps), KEY), SIGNER)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RECEIPT, steps=(STEPS[3], *STEPS[:3], *STEPS[4:])),
        replace(RECEIPT, steps=(*STEPS, step("moon", "none"))),
        replace(RECEIPT, steps=(*STEPS[:1], step("guest", "runs"), *STEPS[2:])),
        replace(RECEIPT, steps=(*STEPS[:3], step("tpm", "kept", "tpm/state"), *STEPS[4:])),
        replace(RECEIPT, not_shown=()),
        replace(RECEIPT, ended=0),
    ],
    ids=["vTPM before keys", "unknown kind", "guest runs", "vTPM kept", "claims all", "ended before"],
)
def test_what_does_not_hold_is_refused(wrong):
    with pytest.raises(WipeInvalid):
        check_wipe(sign(wrong, KEY), SIGNER)


def test_another_signer_or_content_is_refused():
    document = sign(RECEIPT, KEY)
    other = generate_p256()
    with pytest.raises(SignatureInvalid, match="another launcher"):
        check_wipe(sign(RECEIPT, other), SIGNER)
    with pytest.raises(SignatureInvalid):
        check_wipe(replace(document, receipt=sign(RECEIPT, other).receipt), SIGNER)
    changed = replace(document.receipt, payload=document.receipt.payload.replace(b'"worker"', b'"wOrker"'))
    with pytest.raises(SignatureInvalid):
        check_wipe(replace(document, receipt=changed), SIGNER)
    with pytest.raises(MalformedRecord):
        check_wipe(replace(document, launcher=b"no key"), SIGNER)


def test_files_are_noted_before_they_go_and_overwritten_where_a_guest_wrote(tmp_path, monkeypatch):
    for name in ("tpm", "boot.img", "large"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"somebody's")
    monkeypatch.setattr(files, "MOST_OVERWRITTEN", 400)
    monkeypatch.setattr(wipe, "MOST_OVERWRITTEN", 400)
    seen, real = [], os.unlink
    progress = Progress(tmp_path, 5)
    wanted = [("tpm", "tpm"), ("boot-disk", "boot.img"), ("disk", "large"), ("trace", "link"), ("trace", "missing")]
    monkeypatch.setattr(files.Path, "unlink", lambda path: seen.append((path.name, path.read_bytes())) or real(path))
    wipe.files(progress, tmp_path, [Target(what, tmp_path / name) for what, name in wanted])
    assert dict(seen)["tpm"] == bytes(300), "zeros stood there when it went"
    assert dict(seen)["boot.img"] == b"boot.img" * 100
    assert [(s.name, s.how) for s in progress.done.values()] == [
        ("tpm", "overwritten"), ("boot.img", "unlinked"), ("large", "unlinked"), ("link", "unlinked"),
    ]  # fmt: skip
    assert progress.done["tpm", "tpm"].digest == digest_bytes(b"tpm" * 100)
    assert progress.done["disk", "large"].digest is None
    assert (tmp_path / "elsewhere").read_bytes() == b"somebody's"
    assert Progress(tmp_path, 5).done == progress.done, "a later launcher knows it"


def test_a_file_with_another_name_is_not_overwritten(tmp_path):
    (tmp_path / "given.img").write_bytes(b"somebody's")
    os.link(tmp_path / "given.img", tmp_path / "disk-0.img")
    assert files.destroy(tmp_path / "disk-0.img", overwrite=True) == "unlinked"
    assert (tmp_path / "given.img").read_bytes() == b"somebody's"


def test_a_receipt_does_not_say_overwritten_of_what_has_another_name(tmp_path):
    (tmp_path / "given.img").write_bytes(b"somebody's")
    os.link(tmp_path / "given.img", tmp_path / "disk-0.img")
    progress = Progress(tmp_path, 5)
    wipe.files(progress, tmp_path, [Target("disk", tmp_path / "disk-0.img")])
    (found,) = progress.done.values()
    assert (found.how, found.digest) == ("unlinked", digest_bytes(b"somebody's"))
    assert found.detail.startswith("1 other name ")
    assert (tmp_path / "given.img").read_bytes() == b"somebody's"


def test_a_file_that_gets_another_name_after_it_was_noted_is_not_said_to_be_overwritten(tmp_path, monkeypatch):
    (tmp_path / "disk-0.img").write_bytes(b"a guest's")

    def destroy(path, *, overwrite):
        os.link(path, tmp_path / "kept.img")
        return files.destroy(path, overwrite=overwrite)

    monkeypatch.setattr(wipe, "destroy", destroy)
    wipe.files(Progress(tmp_path, 5), tmp_path, [Target("disk", tmp_path / "disk-0.img")])
    (found,) = Progress(tmp_path, 5).done.values()
    assert found.how == "unlinked"
    assert (tmp_path / "kept.img").read_bytes() == b"a guest's"


@pytest.mark.parametrize("cut", ["before the zeros", "before it was unlinked"])
def test_a_file_that_was_overwritten_when_the_power_went_keeps_its_digest(tmp_path, monkeypatch, cut):
    path = tmp_path / "disk-0.img"
    path.write_bytes(b"a guest's")

    def destroy(path, *, overwrite):
        assert overwrite
        if cut == "before it was unlinked":
            path.write_bytes(bytes(9))
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(wipe, "destroy", destroy)
        with pytest.raises(Killed):
            wipe.files(Progress(tmp_path, 5), tmp_path, [Target("disk", path)])
    later = Progress(tmp_path, 5)
    wipe.files(later, tmp_path, [Target("disk", path)])
    assert list(later.done.values()) == [Wiped("disk", "disk-0.img", "overwritten", 9, digest_bytes(b"a guest's"), "")]
    assert not path.exists()


def test_what_stays_is_an_error(tmp_path):
    (tmp_path / "tpm").mkdir()
    with pytest.raises(FileUnreadable):
        wipe.files(Progress(tmp_path, 5), tmp_path, [Target("tpm", tmp_path / "tpm")])


def test_notes_that_a_power_cut_tore_are_made_again(tmp_path):
    progress = Progress(tmp_path, 5)
    progress.note(STEPS[0])
    progress.note(STEPS[1])
    path = tmp_path / "wipe-000005.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    later = Progress(tmp_path, 5)
    assert list(later.done.values()) == [STEPS[0]]
    later.note(STEPS[1])
    later.note(STEPS[2])
    assert list(Progress(tmp_path, 5).done.values()) == list(STEPS[:3]), "nothing is written behind the torn line"


def test_a_note_that_lacks_its_end_of_line_is_torn_too(tmp_path):
    progress = Progress(tmp_path, 5)
    progress.note(STEPS[0])
    path = tmp_path / "wipe-000005.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    later = Progress(tmp_path, 5)
    assert later.done == {}
    later.note(STEPS[1])
    assert list(Progress(tmp_path, 5).done.values()) == [STEPS[1]]


def test_a_broker_that_was_away_is_asked_again(tmp_path):
    answers, asked = [("unreachable", "away"), ("revoked", "")], []

    def revoke(lease_id):
        asked.append(lease_id)
        return answers[len(asked) - 1]

    for how in ("unreachable", "revoked", "revoked"):
        wipe.keys(Progress(tmp_path, 5), ("lease",), revoke)
        assert [one.how for one in Progress(tmp_path, 5).done.values()] == [how]
    assert asked == ["lease", "lease"]


def test_every_lease_is_ended_and_a_broker_that_is_away_is_not_waited_for_twice(tmp_path):
    asked = []

    def revoke(lease_id):
        asked.append(lease_id)
        return {"a": ("refused", "no"), "b": ("revoked", ""), "c": ("unreachable", "away")}[lease_id]

    progress = Progress(tmp_path, 5)
    wipe.keys(progress, ("a", "b", "c", "d"), revoke)
    assert [(one.name, one.how) for one in progress.done.values()] == [
        ("a", "refused"), ("b", "revoked"), ("c", "unreachable"), ("d", "unreachable"),
    ]  # fmt: skip
    assert asked == ["a", "b", "c"]
    refused = replace(RECEIPT, steps=(step("keys", "refused", "lease"), *STEPS[1:]))
    assert check_wipe(sign(refused, KEY), SIGNER) == refused


def test_a_folder_that_is_gone_or_no_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("gone", "file"):
        with pytest.raises(FileUnreadable):
            sync_folder(tmp_path / name)


def test_a_chips_folder_that_is_not_empty_is_said(tmp_path):
    (tmp_path / "tpm" / "folder").mkdir(parents=True)
    with pytest.raises(FileUnreadable, match="tpm"):
        Qemu().forget(TPM, replace(place_for(TPM), state=tmp_path))


def test_gpus_are_reset_or_said_not_to_be(tmp_path):
    (tmp_path / "devices" / "0000:41:00.0").mkdir(parents=True)
    progress = Progress(tmp_path, 5)
    wipe.gpus(progress, ("0000:41:00.0", "0000:42:00.0"), devices=tmp_path / "devices")
    assert [(s.name, s.how) for s in progress.done.values()] == [
        ("0000:41:00.0", "reset"),
        ("0000:42:00.0", "not reset"),
    ]
    assert (tmp_path / "devices" / "0000:41:00.0" / "reset").read_text() == "1"


def test_nothing_is_written_at_what_is_no_address_of_a_gpu(tmp_path):
    (tmp_path / "devices" / "0000:41:00.0").mkdir(parents=True)
    progress = Progress(tmp_path, 5)
    wipe.gpus(progress, (str(tmp_path), "../..", "41:00.0"), devices=tmp_path / "devices" / "0000:41:00.0" / "..")
    assert [step.how for step in progress.done.values()] == ["not reset", "not reset", "reset"]
    assert not list(tmp_path.glob("reset"))
