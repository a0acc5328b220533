import dataclasses

import httpx2
import pytest

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto.signatures import generate_ed25519, sign_envelope
from strongroom.errors import (
    GrantInvalid,
    LeaseEnded,
    LogInvalid,
    NotAuthorised,
    ReleaseRefused,
    ServiceUnavailable,
    SignatureInvalid,
    UsageError,
    WitnessesUnavailable,
)
from strongroom.records import codec
from strongroom.records.cell import CellAnswer, CellKind, CellView
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.release import Edition, KeyRequest, ReleaseRequest, Use
from strongroom.release.cell_client import CellClient
from strongroom.release.client import BrokerClient
from strongroom.release.wire import CELL_VIEW_PAYLOAD_TYPE, CellCreation

ARTIFACT = digest_bytes(b"an artifact in a registry")
OUTPUT = Edition.first(b"the output of it")
DIGEST = digest_bytes(b"a checkpoint")


@pytest.fixture
def lease(world, owner, client, worker):
    owner.put_policy(sign_policy(world.policy(), world.owner))
    owner.create_key("model", "policy")
    wrapped = owner.wrap("model", Edition.first(b"artifact-id"), b"k" * 32)
    challenge = client.challenge("release")
    bundle = worker.prove(challenge.nonce, "release")
    return client.release(ReleaseRequest(challenge, bundle, (KeyRequest(ARTIFACT, wrapped, Use.OPEN),))).lease_id


@pytest.fixture
def cells(client, worker, lease, owner):
    owner.create_cell(CellCreation("steps", CellKind.COUNTER, "policy", None, None))
    owner.create_cell(CellCreation("epsilon", CellKind.BUDGET, "policy", 10, "outputs"))
    return CellClient(client, lease, worker.keyset, worker.statement, worker.receipt, worker.release)


@pytest.fixture
def wrapped(owner):
    owner.create_key("outputs", "policy", max_uses=3)
    return owner.wrap("outputs", OUTPUT, b"o" * 32)


def test_a_worker_counts_spends_and_looks(cells, owner):
    assert cells.look("steps").value == 0
    assert cells.advance("steps", expected=0, number=3, digest=DIGEST).value == 3
    assert (cells.look("steps").value, cells.look("steps").digest) == (3, DIGEST)
    assert cells.spend("epsilon", 4, purpose="query").value == 6
    assert owner.cell("epsilon").value == 6
    assert [(cell.id, cell.value) for cell in owner.cells()] == [("epsilon", 6), ("steps", 3)]
    with pytest.raises(ReleaseRefused) as refused:
        cells.spend("epsilon", 7, purpose="query")
    assert refused.value.detail == "cell.spent"


def test_a_worker_spends_for_an_output_key(cells, wrapped):
    answer, key = cells.spend_for_key("epsilon", 4, purpose="release", wrapped=wrapped)
    assert (answer.value, key) == (6, b"o" * 32)
    for _ in range(2):
        cells.spend_for_key("epsilon", 1, purpose="release", wrapped=wrapped)
    with pytest.raises(ReleaseRefused) as refused:
        cells.spend_for_key("epsilon", 1, purpose="release", wrapped=wrapped)
    assert refused.value.detail == "key.uses"
    assert cells.look("epsilon").value == 4


def test_owners_alone_make_cells(client, world, url):
    with pytest.raises(NotAuthorised):
        client.create_cell(CellCreation("mine", CellKind.COUNTER, "policy", None, None))
    for method, path in (("GET", "/v1/cells"), ("POST", "/v1/cells"), ("GET", "/v1/cells/steps")):
        assert httpx2.request(method, url + path).status_code == 401
    assert world.broker.cells.all() == ()


def test_an_owner_is_told_what_is_wrong_with_a_cell(owner):
    with pytest.raises(UsageError):
        owner.create_cell(CellCreation("epsilon", CellKind.BUDGET, "policy", None, None))
    with pytest.raises(UsageError):
        owner.cell("none")


def test_another_key_is_not_heard(cells):
    stranger = dataclasses.replace(cells, receipt_key=generate_ed25519())
    for ask in (
        lambda: stranger.look("steps"),
        lambda: stranger.spend("epsilon", 1, purpose="query"),
        lambda: stranger.advance("steps", expected=0, number=1, digest=DIGEST),
    ):
        with pytest.raises(SignatureInvalid):
            ask()


def test_an_ended_lease_moves_nothing(cells, owner):
    owner.revoke(cells.lease_id)
    with pytest.raises(LeaseEnded):
        cells.spend("epsilon", 1, purpose="query")
    with pytest.raises(LeaseEnded):
        cells.look("epsilon")
    assert owner.cell("epsilon").value == 10


def test_a_long_body_is_refused_before_it_is_read(url):
    for verb in ("advance", "spend", "look"):
        answer = httpx2.post(f"{url}/v1/cells/steps/{verb}", content=b"x" * 70_000)
        assert answer.status_code == 413


class Lossy(httpx2.BaseTransport):
    """Loses the first answers to spends, after the broker has given them."""

    def __init__(self, losses):
        self.losses, self.through = losses, httpx2.HTTPTransport()

    def handle_request(self, request):
        response = self.through.handle_request(request)
        if request.url.path.endswith("/spend") and self.losses:
            self.losses -= 1
            response.close()
            raise httpx2.ReadError("lost", request=request)
        return response


@pytest.mark.parametrize(("losses", "heard"), [(1, True), (2, False)])
def test_a_lost_answer_is_asked_for_again_and_debited_once(cells, world, url, owner, losses, heard):
    lossy = BrokerClient(
        url, fingerprint=world.broker.identity.fingerprint, transport=Lossy(losses), clock=lambda: world.now
    )
    asking = dataclasses.replace(cells, client=lossy)
    if heard:
        assert asking.spend("epsilon", 4, purpose="query").value == 6
    else:
        with pytest.raises(ServiceUnavailable):
            asking.spend("epsilon", 4, purpose="query")
    lossy.close()
    assert owner.cell("epsilon").value == 6


class Lying:
    """A client whose broker changes its answers."""

    def __init__(self, client, change):
        self.client, self.change, self.identity = client, change, client.identity
        self.witnesses = client.witnesses

    def ask_cell(self, cell_id, verb, request, kind):
        return self.change(self.client.ask_cell(cell_id, verb, request, kind))


def test_an_answer_that_was_changed_is_not_believed(cells, wrapped):
    old = cells.spend("epsilon", 1, purpose="query")
    granted = []

    def lying(change):
        return dataclasses.replace(cells, client=Lying(cells.client, change))

    def keep(answer: CellAnswer):
        granted.append(answer)
        return answer

    lying(keep).spend_for_key("epsilon", 1, purpose="query", wrapped=wrapped)
    more = lying(lambda answer: dataclasses.replace(answer, value=answer.value + 1))
    with pytest.raises(LogInvalid):
        more.spend("epsilon", 1, purpose="query")
    with pytest.raises(LogInvalid):
        more.advance("steps", expected=0, number=1, digest=DIGEST)
    with pytest.raises(LogInvalid):
        lying(lambda _: old).spend("epsilon", 1, purpose="query")
    with pytest.raises(LogInvalid):
        lying(lambda answer: dataclasses.replace(answer, grant=granted[0].grant)).spend("epsilon", 1, purpose="query")
    with pytest.raises(GrantInvalid):
        lying(lambda _: old).spend_for_key("epsilon", 1, purpose="query", wrapped=wrapped)
    with pytest.raises(LogInvalid):
        lying(lambda _: granted[0]).spend_for_key("epsilon", 1, purpose="query", wrapped=wrapped)


def test_a_view_for_somebody_else_is_not_believed(cells, world):
    def older(envelope: Envelope):
        view = codec.decode(CellView, envelope.payload)
        made = dataclasses.replace(view, nonce=b"n" * 32)
        return sign_envelope(CELL_VIEW_PAYLOAD_TYPE, codec.encode(made), world.keys.signing)

    def forged(envelope: Envelope):
        return sign_envelope(CELL_VIEW_PAYLOAD_TYPE, envelope.payload, generate_ed25519())

    with pytest.raises(LogInvalid):
        dataclasses.replace(cells, client=Lying(cells.client, older)).look("steps")
    with pytest.raises(SignatureInvalid):
        dataclasses.replace(cells, client=Lying(cells.client, forged)).look("steps")


def test_no_answer_of_a_cell_leaves_without_the_witnesses_that_are_demanded(cells, world, wrapped, monkeypatch):
    def unsigned(*_):
        raise WitnessesUnavailable("fewer than 1 witnesses signed the log in time", detail="log.witnesses")

    monkeypatch.setattr(world.broker, "_settle", unsigned)
    with pytest.raises(WitnessesUnavailable):
        cells.advance("steps", expected=0, number=3, digest=DIGEST)
    with pytest.raises(WitnessesUnavailable):
        cells.spend_for_key("epsilon", 4, purpose="release", wrapped=wrapped)
