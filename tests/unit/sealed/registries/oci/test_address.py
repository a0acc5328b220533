import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import UsageError
from strongroom.sealed.registries import from_reference
from strongroom.sealed.registries.oci import OciRegistry
from strongroom.sealed.registries.oci.address import Address, is_loopback, parse_reference

HEX = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "base", "reference"),
    [
        ("oci://registry.example/model", "https://registry.example/v2/model", "latest"),
        ("oci://Registry.Example:5000/a/b-c/d_e:V1.2", "https://registry.example:5000/v2/a/b-c/d_e", "V1.2"),
        (f"oci://registry.example/a__b@{HEX}", "https://registry.example/v2/a__b", HEX),
        ("oci://localhost:5000/a:b", "http://localhost:5000/v2/a", "b"),
        ("oci://127.9.9.9/a", "http://127.9.9.9/v2/a", "latest"),
        ("oci://[::1]:5000/a", "http://[::1]:5000/v2/a", "latest"),
        ("oci://[2001:db8::1]/a", "https://[2001:db8::1]/v2/a", "latest"),
        ("oci://10.0.0.1:80/a", "https://10.0.0.1:80/v2/a", "latest"),
        ("oci://localhost.example.org/a", "https://localhost.example.org/v2/a", "latest"),
        ("oci://docker.io/smol", "https://registry-1.docker.io/v2/library/smol", "latest"),
        ("oci://index.docker.io/me/smol:x", "https://registry-1.docker.io/v2/me/smol", "x"),
    ],
)
def test_a_reference_names_a_repository_and_a_tag_or_digest(text, base, reference):
    addresses, found = parse_reference(text, {})
    assert (addresses.own.base, found, addresses.mirrors) == (base, reference, ())


@pytest.mark.parametrize(
    "text",
    [
        "oci://", "oci://host", "oci://host/", "oci:///name", "oci://host/Name", "oci://host//name", "oci://host/name/",
        "oci://host/a..b", "oci://host/../b", "oci://user@host/name", "oci://user:secret@host/name", "oci://host/name?x=1",
        "oci://host/name#x", "oci://host:0/name", "oci://host:65536/name", "oci://host:x/name", "oci://-host/name",
        "oci://host/name:", "oci://host/name:.x", "oci://host/name@sha256:00", "oci://host/name:a@" + HEX,
        "oci://host/" + "a" * 256, "oci://host/name:" + "a" * 129, "oci://hóst/name", "oci://host/name\n", "OCI://host/name",
    ],
)  # fmt: skip
def test_anything_else_is_a_usage_error_that_says_how_to_write_it(text):
    with pytest.raises(UsageError) as caught:
        from_reference(text)
    assert "oci://HOST" in caught.value.remedy


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"oci://[a-z0-9.:\[\]@/_-]{0,40}", fullmatch=True)))
def test_a_reference_is_read_or_refused(text):
    try:
        addresses, reference = parse_reference(text, {})
    except UsageError:
        return
    assert addresses.own.base.startswith(("https://", "http://"))
    assert addresses.own.plain == addresses.own.base.startswith("http://")
    assert reference


def test_the_scheme_chooses_the_registry():
    registry, reference = from_reference("oci://registry.example/model:v1")
    assert isinstance(registry, OciRegistry)
    assert reference == "v1"


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.255.0.1", True), ("::1", True), ("[::1]", True),
        ("128.0.0.1", False), ("localhost.", False), ("127.0.0.1.example.org", False), ("127.1", False), ("::2", False),
        ("", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_spoken_to_in_the_clear(host, here):
    assert is_loopback(host) == here


def test_others_are_spoken_to_in_the_clear_only_where_somebody_said_so_and_that_is_loud(caplog):
    environ = {"STRONGROOM_INSECURE_REGISTRIES": "lab:5000, 10.0.0.7"}
    with caplog.at_level(logging.WARNING):
        assert parse_reference("oci://lab:5000/a", environ)[0].own.plain
        assert parse_reference("oci://10.0.0.7:80/a", environ)[0].own.plain
    assert caplog.text.count("without TLS") == 2
    assert not parse_reference("oci://lab:5001/a", environ)[0].own.plain
    assert not parse_reference("oci://lab/a", environ)[0].own.plain


def test_mirrors_are_asked_in_their_order_for_their_registry_alone():
    environ = {
        "STRONGROOM_REGISTRY_MIRRORS": "docker.io=mirror.example/hub, x.example:1=y.example,docker.io=localhost:5000"
    }
    addresses, _ = parse_reference("oci://docker.io/smol", environ)
    assert addresses.mirrors == (
        Address("mirror.example", "hub/library/smol"),
        Address("localhost:5000", "library/smol", plain=True),
    )
    assert parse_reference("oci://x.example:1/a", environ)[0].mirrors == (Address("y.example", "a"),)
    assert parse_reference("oci://x.example/a", environ)[0].mirrors == ()


@pytest.mark.parametrize("name", ["STRONGROOM_INSECURE_REGISTRIES", "STRONGROOM_REGISTRY_MIRRORS"])
@pytest.mark.parametrize(
    "value", ["a b", "http://host", "a=", "=b", "a=b=c", "a=http://b", "*", "a=b/../c", "host/name"]
)
def test_what_the_environment_says_is_understood_or_refused(name, value):
    with pytest.raises(UsageError, match=name):
        parse_reference("oci://host/name", {name: value})
