"""Every path of the broker, and who may ask for it."""

import httpx2
import pytest

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto.signatures import fingerprint, generate_p256
from strongroom.errors import (
    LeaseEnded,
    MalformedRecord,
    NotAuthorised,
    NotPermitted,
    ReleaseRefused,
    SignatureInvalid,
    UsageError,
)
from strongroom.records.cell import CellKind
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition, KeyRequest, ReleaseRequest, Use
from strongroom.records.revocation import About, Subject
from strongroom.release.cell_client import CellClient
from strongroom.release.client import BrokerClient
from strongroom.release.owners import sign_request
from strongroom.release.roles import ALLOWED, EVERY, Role, Verb
from strongroom.release.wire import CellCreation
from strongroom.services.broker import broker_app
from strongroom.services.owned import OwnedRoute

ANYBODYS = {
    ("GET", "/healthz"),
    ("GET", "/v1/identity"),
    ("POST", "/v1/challenges"),
    ("POST", "/v1/releases"),
    ("POST", "/v1/leases/{id}/renew"),
    ("POST", "/v1/leases/{id}/extend"),
    ("POST", "/v1/enrolments"),
    ("POST", "/v1/enrolments/answers"),
    ("POST", "/v1/receipts"),
    ("POST", "/v1/cells/{id:path}/advance"),
    ("POST", "/v1/cells/{id:path}/spend"),
    ("POST", "/v1/cells/{id:path}/look"),
    ("GET", "/checkpoint"),
    ("GET", "/tile/{path:path}"),
}
"""What proves itself, or is public. A path that is neither here nor wants a verb must not exist."""
ARTIFACT = digest_bytes(b"an artifact in a registry")
APPOINTED = [role for role in Role if role is not Role.ROOT]


def named(route):
    (method,) = route.methods - {"HEAD"}
    return method, route.path


def test_a_path_is_an_administrators_with_a_verb_or_one_of_those_that_prove_themselves(world):
    routes = broker_app(world.broker).routes
    assert {named(route) for route in routes if not isinstance(route, OwnedRoute)} == ANYBODYS
    assert {route.verb for route in routes if isinstance(route, OwnedRoute)} == set(Verb)
    assert len({named(route) for route in routes}) == len(routes)


@pytest.mark.parametrize("role", Role)
def test_each_role_gets_through_to_its_verbs_and_to_no_other(world, url, role):
    key = world.owner
    if role is not Role.ROOT:
        key = generate_p256()
        appointed(world, url, key, role, EVERY)
    for route in broker_app(world.broker).routes:
        if not isinstance(route, OwnedRoute):
            continue
        method, path = named(route)
        answer = ask(world, url, key, method, path.replace("{id:path}", "x").replace("{id}", "x"))
        refused = answer.status_code == 403 and answer.json()["code"] == "admin.not_permitted"
        assert refused is (route.verb not in ALLOWED[role]), (role, method, path, answer.text)
        assert refused or answer.status_code != 401
        if refused:
            assert answer.json()["detail"] == f"{role.value} {route.verb.value}"


def test_without_a_token_every_path_of_administrators_is_401(world, url):
    for route in broker_app(world.broker).routes:
        if isinstance(route, OwnedRoute):
            method, path = named(route)
            path = path.replace("{id:path}", "a/b").replace("{id}", "x")
            assert httpx2.request(method, f"{url}{path}").status_code == 401, path


def ask(world, url, key, method, path):
    body = b"{}" if method == "POST" else b""
    token = sign_request(
        key, broker=world.broker.identity.fingerprint, method=method, path=path, body=body, now=world.now
    )
    return httpx2.request(method, f"{url}{path}", content=body, headers={"authorization": f"Bearer {token}"})


def appointed(world, url, key, role, tenant):
    with_root = client_of(world, url, world.owner)
    made = with_root.add_administrator(key.public_key(), role, tenant)
    with_root.close()
    return made


def client_of(world, url, key):
    return BrokerClient(url, fingerprint=world.broker.identity.fingerprint, identity=key, clock=lambda: world.now)


@pytest.fixture
def people(world, url):
    """Clients: the root, and one of each role for the tenant acme, and an owner of another tenant."""
    keys = {"root": world.owner, "other": generate_p256(), **{role.value: generate_p256() for role in APPOINTED}}
    for role in APPOINTED:
        appointed(world, url, keys[role.value], role, "acme")
    appointed(world, url, keys["other"], Role.OWNER, "other")
    clients = {name: client_of(world, url, key) for name, key in keys.items()}
    clients["keys"] = keys
    yield clients
    for name in keys:
        clients[name].close()


@pytest.fixture
def estate(world, people):
    """A policy, a key and a cell of acme, of other, and of the house."""
    for tenant, who in (("acme/", "owner"), ("other/", "other"), ("", "root")):
        policy = world.policy(policy_id=f"{tenant}policy")
        people[who].put_policy(sign_policy(policy, people["keys"][who]))
        people[who].create_key(f"{tenant}key", f"{tenant}policy")
        people[who].create_cell(CellCreation(f"{tenant}cell", CellKind.COUNTER, f"{tenant}policy", None, None))
    return people


def test_everybody_is_shown_what_is_theirs(estate):
    def seen(client):
        return (
            {key.key_id for key in client.keys()},  # noqa: SIM118 (not a dict)
            {policy.id for policy in client.policies()},
            {cell.id for cell in client.cells()},
        )

    for who in ("owner", "operator", "auditor"):
        assert seen(estate[who]) == ({"acme/key"}, {"acme/policy"}, {"acme/cell"})
    assert seen(estate["other"]) == ({"other/key"}, {"other/policy"}, {"other/cell"})
    assert seen(estate["root"])[0] == {"key", "acme/key", "other/key"}


def test_an_owner_does_not_touch_what_is_anothers(world, estate):
    owner, signer = estate["owner"], estate["keys"]["owner"]
    size = world.log_size()
    for tenant in ("other/", ""):
        for act in (
            lambda t=tenant: owner.create_key(f"{t}new", f"{t}policy"),
            lambda t=tenant: owner.create_key("acme/new", f"{t}policy"),
            lambda t=tenant: owner.wrap(f"{t}key", Edition.first(b"artifact-id"), bytes(32)),
            lambda t=tenant: owner.rotate_key(f"{t}key"),
            lambda t=tenant: owner.retire_key(f"{t}key"),
            lambda t=tenant: owner.revoke_subject(Subject(About.KEY, f"{t}key")),
            lambda t=tenant: owner.revoke_subject(Subject(About.POLICY, f"{t}policy")),
            lambda t=tenant: owner.revoke_subject(Subject(About.TENANT, t.rstrip("/"))),
            lambda t=tenant: owner.lift(Subject(About.KEY, f"{t}key")),
            lambda: owner.revoke_subject(Subject(About.MACHINE, "ppid:00")),
            lambda: owner.revoke_subject(Subject(About.ARTIFACT, "sha256:" + "0" * 64)),
            lambda t=tenant: owner.cell(f"{t}cell"),
            lambda t=tenant: owner.create_cell(CellCreation(f"{t}new", CellKind.COUNTER, f"{t}policy", None, None)),
            lambda t=tenant: owner.put_policy(sign_policy(world.policy(policy_id=f"{t}policy", version=9), signer)),
        ):
            with pytest.raises(NotPermitted) as refused:
                act()
            assert refused.value.remedy
    assert world.log_size() == size


def test_a_policy_brought_by_one_and_signed_by_another_counts_by_its_signer(world, estate):
    policy = world.policy(policy_id="acme/policy", version=2)
    with pytest.raises(SignatureInvalid):
        estate["owner"].put_policy(sign_policy(policy, estate["keys"]["other"]))
    assert estate["owner"].put_policy(sign_policy(policy, estate["keys"]["root"])).version == 2


def test_a_key_and_its_policy_are_of_one_tenant_for_a_root_too(estate):
    with pytest.raises(UsageError, match="one tenant"):
        estate["root"].create_key("acme/new", "other/policy")
    with pytest.raises(UsageError, match="one tenant"):
        estate["root"].create_cell(CellCreation("acme/new", CellKind.BUDGET, "acme/policy", 3, "other/key"))


def lease_of(world, worker, key_id):
    return world.release(world.request(worker, world.wrap(key_id=key_id))).lease_id


def test_a_lease_is_of_the_tenants_whose_keys_it_holds(world, estate, worker, another_worker):
    mine, others = lease_of(world, worker, "acme/key"), lease_of(world, another_worker, "other/key")
    for who in ("owner", "operator", "auditor"):
        assert [lease.id for lease in estate[who].leases()] == [mine]
    for who in ("owner", "operator"):
        with pytest.raises(NotPermitted):
            estate[who].revoke(others)
        with pytest.raises(NotPermitted):
            estate[who].revoke("unknown")
    assert [lease.id for lease in estate["operator"].revoke(mine)] == [mine]
    with pytest.raises(LeaseEnded):
        estate["root"].revoke("unknown")


def test_a_lease_with_keys_of_two_tenants_is_of_both(world, estate, worker):
    challenge = world.challenge()
    wrapped = [world.wrap(key_id=f"{tenant}/key") for tenant in ("acme", "other")]
    bundle = worker.prove(challenge.nonce, challenge.purpose)
    keys = tuple(KeyRequest(ARTIFACT, each, Use.OPEN) for each in wrapped)
    lease_id = world.release(ReleaseRequest(challenge, bundle, keys)).lease_id
    for who in ("owner", "other", "auditor"):
        assert [lease.id for lease in estate[who].leases()] == [lease_id]
        pages = estate[who].audit(lease=lease_id)
        assert any(leaf.decision is not None for page in pages for leaf in page.leaves)
    assert [lease.id for lease in estate["other"].revoke(lease_id)] == [lease_id]  # each may take its key back


def test_a_worker_moves_the_cell_of_a_tenant(world, url, estate, worker):
    lease_id = lease_of(world, worker, "acme/key")
    client = client_of(world, url, None)
    cells = CellClient(client, lease_id, worker.keyset, worker.statement, worker.receipt, worker.release)
    assert cells.advance("acme/cell", expected=0, number=3, digest=ARTIFACT).value == 3
    assert cells.look("acme/cell").value == estate["owner"].cell("acme/cell").value == 3
    for others in ("other/cell", "cell"):
        with pytest.raises(ReleaseRefused) as refused:
            cells.advance(others, expected=0, number=1, digest=ARTIFACT)
        assert refused.value.detail == "cell.policy"
    client.close()


def test_the_spend_of_a_tenants_budget_needs_a_policy_whose_signer_is_there(world, url, estate, worker):
    owner = estate["owner"]
    owner.create_cell(CellCreation("acme/budget", CellKind.BUDGET, "acme/policy", 9, "acme/key"))
    lease_id, wrapped = lease_of(world, worker, "acme/key"), owner.wrap("acme/key", Edition.first(b"output"), bytes(32))
    client = client_of(world, url, None)
    cells = CellClient(client, lease_id, worker.keyset, worker.statement, worker.receipt, worker.release)
    assert cells.spend_for_key("acme/budget", 1, purpose="release", wrapped=wrapped)[1] == bytes(32)
    estate["root"].remove_administrator(fingerprint(estate["keys"]["owner"].public_key()))
    with pytest.raises(SignatureInvalid):
        cells.spend_for_key("acme/budget", 1, purpose="release", wrapped=wrapped)
    assert cells.look("acme/budget").value == 8
    client.close()


def test_an_audit_shows_the_leaves_to_all_and_evidence_to_those_whose_keys_were_released(
    world, estate, worker, another_worker
):
    mine, others = lease_of(world, worker, "acme/key"), lease_of(world, another_worker, "other/key")

    def kept(who):
        pages = list(estate[who].audit())
        found = {leaf.index for page in pages for leaf in page.leaves if leaf.decision is not None}
        assert sum(len(page.leaves) for page in pages) == world.log_size()
        return {world.leaves()[index].subject for index in found}

    assert kept("root") == {mine, others}
    assert kept("owner") == kept("auditor") == {mine}
    with pytest.raises(NotPermitted):
        list(estate["operator"].audit())
    (page,) = estate["auditor"].audit(lease=others)
    assert all(leaf.decision is None for leaf in page.leaves)
    assert page.policies == page.collateral == ()


def test_who_there_is_is_shown_to_those_whom_it_concerns(people):
    def shown(who):
        return [(one.role.value, one.tenant) for one in people[who].administrators()]

    assert shown("root")[0] == ("root", "*")
    assert set(shown("root")) == {*shown("owner"), ("owner", "other")}
    assert set(shown("owner")) == {("root", "*"), ("owner", "acme"), ("operator", "acme"), ("auditor", "acme")}
    assert shown("auditor") == shown("owner")
    with pytest.raises(NotPermitted):
        people["operator"].administrators()


def test_only_a_root_appoints_and_removes(world, people):
    key = generate_p256().public_key()
    for who in ("owner", "operator", "auditor", "other"):
        with pytest.raises(NotPermitted):
            people[who].add_administrator(key, Role.OWNER, "acme")
        with pytest.raises(NotPermitted):
            people[who].remove_administrator(fingerprint(people["keys"]["owner"].public_key()))
    gone = people["root"].remove_administrator(fingerprint(people["keys"]["owner"].public_key()))
    assert gone.role is Role.OWNER
    with pytest.raises(NotAuthorised):
        people["owner"].keys()
    with pytest.raises(UsageError):
        people["root"].remove_administrator(digest_bytes(b"nobody"))
    with pytest.raises(UsageError, match="root is not removed"):
        people["root"].remove_administrator(world.who)


def test_an_administrator_is_named_by_a_fingerprint(world, url):
    answer = ask(world, url, world.owner, "DELETE", "/v1/administrators/somebody")
    assert (answer.status_code, answer.json()["code"]) == (400, "record.malformed")


def test_a_broker_that_answers_about_another_is_not_believed(world, people):
    assert people["root"].identity
    people["root"]._send = lambda *_: codec_list(world)
    with pytest.raises(MalformedRecord, match="another administrator"):
        people["root"].add_administrator(generate_p256().public_key(), Role.OWNER, "acme")


def codec_list(world):
    from strongroom.records import codec
    from strongroom.release.wire import AdministratorList

    return codec.encode(AdministratorList(world.broker.administrators.all()[:1]))


def test_an_administrators_key_stays_at_home(world, url):
    nobody = BrokerClient(url, fingerprint=world.broker.identity.fingerprint)
    with pytest.raises(NotAuthorised, match="administrator's key"):
        nobody.add_administrator(generate_p256().public_key(), Role.OWNER, "acme")
    nobody.close()
