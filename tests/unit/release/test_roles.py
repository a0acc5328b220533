import pytest

from strongroom.crypto.signatures import fingerprint, generate_p256, public_to_der
from strongroom.errors import NotPermitted, UsageError
from strongroom.release.roles import ALLOWED, EVERY, Administrator, Caller, Role, Verb, check_appointed

KEY = generate_p256().public_key()
READS = {Verb.POLICIES_LIST, Verb.KEYS_LIST, Verb.LEASES_LIST, Verb.CELLS_LIST}


def someone(role, tenant="acme"):
    return Administrator(fingerprint(KEY), public_to_der(KEY), role, tenant, None, None)


def test_the_table_of_roles_is_this_and_no_more():
    assert set(ALLOWED) == set(Role)
    assert ALLOWED[Role.ROOT] == set(Verb)
    assert set(Verb) - ALLOWED[Role.OWNER] == {Verb.ADMINISTRATORS_CHANGE}
    assert ALLOWED[Role.OPERATOR] == READS | {Verb.LEASES_REVOKE, Verb.KEYS_RETIRE}
    assert ALLOWED[Role.AUDITOR] == READS | {Verb.ADMINISTRATORS_LIST, Verb.AUDIT_READ, Verb.EXPLAIN}


def test_only_roots_change_administrators():
    assert [role for role in Role if Verb.ADMINISTRATORS_CHANGE in ALLOWED[role]] == [Role.ROOT]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("verb", Verb)
def test_a_verb_that_is_not_in_the_table_has_no_caller(role, verb):
    if verb in ALLOWED[role]:
        assert Caller(someone(role), verb).on("acme/x") == fingerprint(KEY)
        return
    with pytest.raises(NotPermitted) as refused:
        Caller(someone(role), verb)
    assert role.value in refused.value.message
    assert verb.value in refused.value.message
    assert any(other.value in refused.value.remedy for other in Role if verb in ALLOWED[other])


@pytest.mark.parametrize(
    ("tenant", "name", "whose"),
    [
        ("acme", "acme/key", True),
        ("acme", "other/key", False),
        ("acme", "acme2/key", False),
        ("acme", "acme", False),
        ("acme", "key", False),
        ("acme", "/key", False),
        ("acme", "", False),
        (EVERY, "acme/key", True),
        (EVERY, "key", True),
    ],
)
def test_a_role_holds_for_its_tenant(tenant, name, whose):
    caller = Caller(someone(Role.OWNER, tenant), Verb.KEYS_WRAP)
    assert caller.sees(name) is whose
    for ask in (caller.on, caller.on_any):
        if whose:
            assert ask(name) == fingerprint(KEY)
            continue
        with pytest.raises(NotPermitted) as refused:
            ask(name)
        assert refused.value.detail == "owner keys.wrap"


def test_the_house_is_nobodys_who_is_there_for_one_tenant():
    """Not even of one whose tenant were empty, by whatever accident."""
    assert not someone(Role.OWNER, "").may(Verb.KEYS_WRAP, "")
    with pytest.raises(NotPermitted):
        Caller(someone(Role.OWNER, ""), Verb.KEYS_WRAP).on("key")


def test_all_of_the_names_must_be_theirs_or_of_a_lease_one():
    caller = Caller(someone(Role.OWNER), Verb.LEASES_REVOKE)
    with pytest.raises(NotPermitted, match="other"):
        caller.on("acme/key", "other/key")
    assert caller.on_any("other/key", "acme/key") == fingerprint(KEY)
    assert caller.sees("other/key", "acme/key")


def test_on_nothing_only_who_is_there_for_everybody_acts():
    caller = Caller(someone(Role.OWNER), Verb.LEASES_REVOKE)
    for ask in (caller.on, caller.on_any, caller.everywhere):
        with pytest.raises(NotPermitted):
            ask()
    assert not caller.sees()
    everybodys = Caller(someone(Role.OWNER, EVERY), Verb.LEASES_REVOKE)
    assert everybodys.everywhere() == everybodys.on_any() == fingerprint(KEY)


@pytest.mark.parametrize(
    ("role", "tenant"),
    [(Role.ROOT, EVERY), (Role.ROOT, "acme"), (Role.OWNER, ""), (Role.OWNER, "a/b"), (Role.AUDITOR, "Acme")],
)
def test_who_cannot_be_appointed(role, tenant):
    with pytest.raises(UsageError):
        check_appointed(role, tenant)
