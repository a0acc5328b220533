"""`strongroom tenants`, and what `serve` makes of the file and its adapters."""

import json

import pytest
from click.testing import CliRunner

from strongroom.channel.credential import key_digest, new_key
from strongroom.cli.tenants import tenancy, tenants_command
from strongroom.crypto.signatures import generate_p256, public_to_pem
from strongroom.errors import UsageError

SIGNER, OTHER = (generate_p256().public_key() for _ in range(2))
LIMITS = "".join(
    f'{name} = "unlimited"\n' for name in ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent")
)


@pytest.fixture
def file(tmp_path):
    written = tmp_path / "tenants.toml"
    tenants = [
        f'[[tenant]]\nname = "{name}"\nkeys = ["{key_digest(new_key())}"]\n{LIMITS}' for name in ("acme", "zeta")
    ]
    written.write_text("version = 1\n" + "".join(tenants), encoding="utf-8")
    return written


def test_a_key_is_printed_once_with_the_digest_that_stands_for_it():
    made = [json.loads(CliRunner().invoke(tenants_command, ["key", "--json"]).output) for _ in range(2)]
    assert made[0]["key"] != made[1]["key"]
    assert all(key_digest(each["key"]) == each["digest"] for each in made)
    assert "strongroom-key-" in CliRunner().invoke(tenants_command, ["key"]).output


def test_a_file_is_checked_and_its_digest_is_what_a_worker_is_measured_with(file):
    said = json.loads(CliRunner().invoke(tenants_command, ["check", str(file), "--json"]).output)
    assert said["tenants"] == ["acme", "zeta"]
    assert tenancy(file, (), SIGNER, cache=False).measured == {"tenants": said["digest"]}
    assert "2 tenants" in CliRunner().invoke(tenants_command, ["check", str(file)]).output


def test_adapters_are_measured_by_their_place_and_opened_under_their_owners_key(file, tmp_path):
    (tmp_path / "zeta.pub").write_bytes(public_to_pem(OTHER))
    adapters = ("acme=dir:r:a", f"zeta=dir:r:z,{tmp_path / 'zeta.pub'}")
    made = tenancy(file, adapters, SIGNER, cache=True)
    assert {name: made.measured[name] for name in ("adapter.acme", "adapter.zeta")} == {
        "adapter.acme": 1,
        "adapter.zeta": 2,
    }
    assert made.places == {"acme": 0, "zeta": 1}
    assert [reference for reference, _ in made.references] == ["dir:r:a", "dir:r:z"]
    assert [public_to_pem(key) for _, key in made.references] == [public_to_pem(SIGNER), public_to_pem(OTHER)]
    assert made.engine == {"cache_prompt": 1}


@pytest.mark.parametrize("wrong", [("nobody=dir:r:a",), ("acme=",), ("acme",), ("acme=dir:a", "acme=dir:b")], ids=str)
def test_an_adapter_of_nobody_or_of_two_is_refused(file, wrong):
    with pytest.raises(UsageError, match="adapter"):
        tenancy(file, wrong, SIGNER, cache=False)


def test_without_tenants_there_is_neither_a_cache_nor_an_adapter_nor_a_door():
    for adapters, cache in ((("acme=dir:r:a",), False), ((), True)):
        with pytest.raises(UsageError, match="--tenants"):
            tenancy(None, adapters, SIGNER, cache=cache)
    plain = tenancy(None, (), SIGNER, cache=False)
    assert (plain.engine, plain.measured, plain.references, plain.around(None)) == ({}, {}, [], None)
