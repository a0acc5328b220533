import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import UsageError
from strongroom.records.names import check_name, check_same_tenant, check_tenant, tenant_of
from strongroom.release import wire


@pytest.mark.parametrize(
    ("name", "tenant"), [("model", ""), ("a", ""), ("acme/model", "acme"), ("0/0", "0"), ("a.b_c-d/e.f", "a.b_c-d")]
)
def test_an_id_says_whose_it_is(name, tenant):
    assert check_name(name) == name
    assert tenant_of(name) == tenant


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a/b/c", "a//b", "A/b", "a/.b", "../a", "*", "a/*", "a\n", "a/b\n"]
)
def test_other_texts_name_nothing(name):
    with pytest.raises(UsageError):
        check_name(name)


@pytest.mark.parametrize("name", ["", "*", "a/b", "/", "A", "x" * 65])
def test_a_tenant_is_one_plain_name(name):
    with pytest.raises(UsageError):
        check_tenant(name)
    assert check_tenant("acme") == "acme"


def test_what_belongs_together_has_one_tenant():
    check_same_tenant("key", "policy")
    check_same_tenant("acme/key", "acme/policy", "acme/output")
    for others in (("acme/key", "policy"), ("key", "acme/policy"), ("acme/key", "acme2/policy")):
        with pytest.raises(UsageError):
            check_same_tenant(*others)


@given(st.text())
def test_every_text_has_a_tenant_and_only_ids_pass(text):
    tenant = tenant_of(text)
    try:
        check_name(text)
    except UsageError:
        return
    assert text == (f"{tenant}/{text.rpartition('/')[2]}" if tenant else text)


def test_the_wire_speaks_of_the_same_rule():
    assert (wire.check_name, wire.tenant_of) == (check_name, tenant_of)
