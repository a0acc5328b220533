import base64
import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FileUnreadable, MalformedRecord, ServiceUnavailable, StrongroomError, Unavailable
from strongroom.sealed.registries.oci.challenge import Challenge, parse_challenges
from strongroom.sealed.registries.oci.credentials import (
    HUB_KEY,
    Credentials,
    find_credentials,
    from_config,
    run_helper,
)

TOKEN = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def nobody(name, place):
    raise AssertionError((name, place))


def entry(user="ann", password="rain"):  # noqa: S107
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def config(**members):
    return json.dumps(members).encode()


# --- challenges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="a, b"', (Challenge("basic", {"realm": "a, b"}),)),
        (
            'Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push"',
            (
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "registry",
                        "scope": "repository:a/b:pull,push",
                    },
                ),
            ),
        ),
        ('Negotiate, Basic realm=x , , Bearer REALM = "y"', (
            Challenge("negotiate"), Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"}),
        )),
        ("Negotiate YWJj==, Basic realm=x", (Challenge("negotiate"), Challenge("basic", {"realm": "x"}))),
        (r'Basic realm="say \"hi\""', (Challenge("basic", {"realm": 'say "hi"'}),)),
    ],
)  # fmt: skip
def test_challenges_are_read_as_http_writes_them(text, found):
    assert parse_challenges(text) == found


@pytest.mark.parametrize(
    "text",
    ['Basic realm="x', 'Basic realm="x" realm="y"', "Basic realm=x, realm=y", '="x"', "Basic realm=ä", "Basic\nx", "a=b",
     'Bearer realm="x"y', "Basic " * 40, "x" * 9000, ", ".join("a" * 3 for _ in range(40))],
)  # fmt: skip
def test_what_is_no_challenge_is_refused(text):
    with pytest.raises(ServiceUnavailable, match="WWW-Authenticate"):
        parse_challenges(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TOKEN, st.dictionaries(TOKEN.map(str.lower), VALUE, max_size=4)), max_size=4))
def test_challenges_come_back_as_they_were_written(challenges):
    written = ", ".join(
        f"{scheme} "
        + ", ".join(
            f'{name}="{value}"'
            for name, value in ((n, v.replace("\\", "\\\\").replace('"', '\\"')) for n, v in parameters.items())
        )
        for scheme, parameters in challenges
    )
    assert parse_challenges(written.rstrip()) == tuple(Challenge(s.lower(), p) for s, p in challenges)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text('ab=", \\', max_size=40)))
def test_any_text_is_challenges_or_refused(text):
    try:
        found = parse_challenges(text)
    except ServiceUnavailable:
        return
    assert all(one.scheme == one.scheme.lower() for one in found)


# --- configuration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "place", "name"),
    [
        ("registry.example", "registry.example", "a/b"),
        ("https://registry.example", "registry.example", "a"),
        ("https://registry.example/v1/", "registry.example", "a"),
        ("registry.example:5000", "registry.example:5000", "a"),
        ("registry.example/a", "registry.example", "a/b"),
        ("registry.example/a/b", "registry.example", "a/b"),
        (HUB_KEY, "docker.io", "library/a"),
        ("docker.io", "docker.io", "library/a"),
    ],
)
def test_an_entry_is_found_by_its_registry_or_a_path_there(key, place, name):
    assert from_config(config(auths={key: entry()}), place, name, helper=nobody) == Credentials("ann", "rain")


@pytest.mark.parametrize("key", ["registry.example:5000", "other.example", "registry.example/ab", "example", "a"])
def test_an_entry_of_another_registry_or_path_is_not_taken(key):
    assert from_config(config(auths={key: entry()}), "registry.example", "a/b", helper=nobody) is None


def test_the_longest_path_counts():
    auths = {"r.example": entry("all"), "r.example/a/b": entry("mine"), "r.example/a": entry("ours")}
    assert from_config(config(auths=auths), "r.example", "a/b/c", helper=nobody).user == "mine"


def test_passwords_may_hold_colons_and_identity_tokens_come_beside_them():
    found = from_config(config(auths={"r": {**entry("<u>", "a:b"), "identitytoken": "t"}}), "r", "n", helper=nobody)
    assert found == Credentials("<u>", "a:b", "t")
    assert from_config(config(auths={"r": {"identitytoken": "t"}}), "r", "n", helper=nobody).identity_token == "t"
    assert from_config(config(auths={"r": {}}), "r", "n", helper=nobody) is None
    assert "a:b" not in repr(found)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b"5", config(auths=[]), config(auths={"r": []}), config(auths={"r": {"auth": 5}}),
        config(auths={"r": {"auth": "***"}}), config(auths={"r": {"auth": "YW5u"}}), config(auths={"r": {"auth": "OmE="}}),
        config(auths={"r": {"identitytoken": {}}}), config(credHelpers=[]), config(credsStore=5),
        config(credsStore="../evil"), config(credsStore="a b"), config(credHelpers={"r": "x;y"}),
        config(auths={"r": {"auth": "A" * 100_000}}), b" " * 2_000_000,
    ],
)  # fmt: skip
def test_a_configuration_of_another_form_is_malformed_and_tells_nothing_of_itself(data):
    with pytest.raises(MalformedRecord) as caught:
        from_config(data, "r", "n", helper=nobody)
    assert "docker login" in caught.value.remedy
    assert "YW5u" not in str(caught.value.as_dict())


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.none() | st.booleans() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["auths", "auth", "r", "credHelpers", "credsStore"]), inner, max_size=4
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_bytes_are_a_configuration_or_malformed(data):
    try:
        found = from_config(data, "r", "n", helper=lambda *_: None)
    except StrongroomError:
        return
    assert found is None or isinstance(found, Credentials)


def test_a_helper_of_the_registry_comes_before_the_general_one_and_both_before_what_is_in_the_file():
    asked = []

    def helper(name, place):
        asked.append((name, place))
        return json.dumps({"ServerURL": place, "Username": "ann", "Secret": name}).encode()

    data = config(credsStore="all", credHelpers={"r": "mine", "docker.io": "hub"}, auths={"r": entry(), "s": {}})
    assert from_config(data, "r", "n", helper=helper).password == "mine"
    assert from_config(data, "s", "n", helper=helper).password == "all"
    assert from_config(data, "docker.io", "n", helper=helper).password == "hub"
    assert asked == [("mine", "r"), ("all", "s"), ("hub", HUB_KEY)]
    assert from_config(data, "r", "n", helper=lambda *_: None) == Credentials("ann", "rain")
    token = from_config(data, "r", "n", helper=lambda *_: b'{"Username":"<token>","Secret":"t"}')
    assert token == Credentials(identity_token="t")


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"Username":"a","Secret":""}', b'{"Username":1,"Secret":"x"}'])
def test_a_helper_that_answers_something_else_is_refused(answer):
    with pytest.raises(MalformedRecord):
        from_config(config(credsStore="x"), "r", "n", helper=lambda *_: answer)


# --- where files lie ----------------------------------------------------------------------------------------------------


def test_files_are_looked_at_in_their_order(tmp_path):
    run, docker, home, named = (tmp_path / name for name in ("run/containers", "docker", "home/.docker", "named"))
    for place, user in ((run, "run"), (docker, "docker"), (home, "home"), (named, "named")):
        place.mkdir(parents=True)
        name = "auth.json" if user == "run" else "config.json"
        (place / name).write_bytes(config(auths={"r": entry(user)}))

    def found(**environ):
        known = find_credentials("r", "n", {k: str(v) for k, v in environ.items()}, helper=nobody)
        return known and known.user

    everywhere = {"XDG_RUNTIME_DIR": tmp_path / "run", "DOCKER_CONFIG": docker, "HOME": tmp_path / "home"}
    assert found(REGISTRY_AUTH_FILE=named / "config.json", **everywhere) == "named"
    assert found(**everywhere) == "run"
    assert found(DOCKER_CONFIG=docker, HOME=tmp_path / "home") == "docker"
    assert found(HOME=tmp_path / "home") == "home"
    assert found(HOME=tmp_path) is None
    assert found() is None
    with pytest.raises(FileUnreadable):
        found(REGISTRY_AUTH_FILE=tmp_path / "missing", HOME=tmp_path / "home")
    with pytest.raises(FileUnreadable):
        found(REGISTRY_AUTH_FILE=tmp_path)


# --- helpers ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path, monkeypatch):
    def make(text):
        place = tmp_path / "docker-credential-test"
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(place.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return make


def test_a_helper_is_asked_over_its_standard_input(program):
    program('read place; echo "{\\"Username\\":\\"$1 $place\\",\\"Secret\\":\\"s\\"}"')
    assert json.loads(run_helper("test", "r.example")) == {"Username": "get r.example", "Secret": "s"}


def test_a_helper_without_credentials_has_none_and_one_that_fails_is_unavailable(program):
    program("echo credentials not found in native keychain; exit 1")
    assert run_helper("test", "r") is None
    program("echo secret-of-mine; exit 1")
    with pytest.raises(Unavailable, match="ended with 1") as caught:
        run_helper("test", "r")
    assert "secret-of-mine" not in str(caught.value.as_dict())
    with pytest.raises(Unavailable, match="not installed"):
        run_helper("never-installed", "r")
