"""`strongroom image`: what it says, and what it refuses before anything is written."""

import packages
import pytest

from strongroom.launch.image import recipe

ROW = {"name": "made-up", "version": "1.0", "digest": "sha256:00", "origin": "wheel:made-up"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    for name in ("linux-image-6.1-cloud-amd64", *recipe.DEBS):
        (tmp_path / "files" / f"{name}.deb").write_bytes(packages.deb({}, name=name))
    for name in (recipe.OURS, *recipe.WHEELS):
        (tmp_path / "files" / f"{name}.whl").write_bytes(packages.wheel({}, name=name))
    (tmp_path / "machine.toml").write_text('version = 1\ncommand = ["strongroom"]\n')
    return tmp_path


def test_an_image_is_shown_as_a_table_and_as_a_document(strongroom, folder):
    (folder / "worker.efi").write_bytes(packages.image({"a.py": b"x = 1\n"}, [ROW]))
    ran = strongroom("image", "show", "worker.efi")
    assert ran.code == 0
    assert "made-up 1.0" in ran.out
    assert strongroom("image", "show", "worker.efi", "--json").document["total"]["python_lines"] == 1
    assert strongroom("image", "show", "machine.toml").code == 3


def test_a_lock_is_written_once(strongroom, folder):
    said = strongroom("image", "lock", "files", "-o", "image.lock", "--json").document
    assert said["wheels"] == len(recipe.WHEELS) + 1
    assert strongroom("image", "lock", "files", "-o", "image.lock").code == 2
    (folder / "files" / "nftables.deb").unlink()
    ran = strongroom("image", "lock", "files", "-o", "other.lock")
    assert ran.code == 1
    assert "nftables: missing" in ran.err


def test_a_build_refuses_before_it_writes(strongroom, folder):
    def build(*, lock="image.lock", told="machine.toml", target="worker.efi"):
        return strongroom("image", "build", lock, "--files", "files", "--configuration", told, "-o", target)

    assert strongroom("image", "lock", "files", "-o", "image.lock").code == 0
    assert build(target="machine.toml").code == 2
    assert build(told="files").code == 3
    assert build(lock="machine.toml").code == 3
    ran = build()
    assert (ran.code, "no kernel" in ran.err) == (3, True)
    (folder / "files" / "zlib1g.deb").write_bytes(packages.deb({"x": b"other"}, name="zlib1g"))
    assert build().code == 1
    (folder / "told").mkdir()
    (folder / "told" / "machine.toml").symlink_to(folder / "machine.toml")
    assert build(told="told").code == 2
    assert not (folder / "worker.efi").exists()
