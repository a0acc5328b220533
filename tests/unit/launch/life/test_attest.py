"""Evidence of a launched machine, judged by the real appraisal: a worker on a fake chip stands for the machine."""

import contextlib
import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from launching import TDX
from world import IMAGE, world

from strongroom.appraisal.kinds import kind_of
from strongroom.appraisal.statement import launch_register
from strongroom.errors import AppraisalRefused, NotMeasurable, ServiceUnavailable, SignatureInvalid, UsageError
from strongroom.launch.life.attest import WorkerAttest
from strongroom.launch.measure import Expected
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.launch import Boot, PinnedFile
from strongroom.records.policy import Requirement
from strongroom.records.session import VerificationDocument, WorkerProof

SPEC = replace(TDX, boot=Boot("uki", PinnedFile("worker.efi", IMAGE), None, None, ()))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture(scope="module")
def machine(made):
    """A worker in a trust domain that was launched from `SPEC`: its digest is in MRCONFIGID."""
    place = made.place(mrconfigid=bytes.fromhex(launch_register(SPEC.digest)))
    with made.serving(place=replace(place, launch_spec=SPEC.digest)) as served:
        assert served.error is None, served.error
        yield served


@pytest.fixture(scope="module")
def expected(made, machine):
    """What the registers hold, as if it had been computed."""
    bundle = made.client(machine.url).verify().bundle
    claims = kind_of("tdx").stated(bundle.evidence.quote)
    return Expected("tdx", {name: str(claims[name]) for name in kind_of("tdx").registers}, {}, ())


def attest(made, machine, **changed):
    trust = {
        "policy": made.policy, "anchor": made.anchor_file, "broker": made.broker.identity.fingerprint,
        "accept_simulated": True,
    }  # fmt: skip
    return WorkerAttest(getattr(machine, "url", machine), **(trust | changed))


def test_a_machine_with_the_registers_that_were_computed_is_ready_by_its_brokers_verdict(made, machine, expected):
    asked = attest(made, machine)
    proof = codec.decode(WorkerProof, asked.prove(SPEC, expected).evidence)
    assert proof.bundle.evidence.statement.launch_spec == SPEC.digest
    found = asked.ready()
    document = codec.decode(VerificationDocument, found.evidence)
    assert (document.release.lease_id, document.verdict.accepted) == (found.lease_id, True)


def test_another_register_is_refused_by_name_and_kept(made, machine, expected):
    asked = attest(made, machine)
    wrong = replace(expected, registers=dict(expected.registers) | {"rtmr2": "11" * 48})
    with pytest.raises(AppraisalRefused) as raised:
        asked.prove(SPEC, wrong)
    assert "statement.image" in raised.value.failed
    said = asked.refused()
    assert any("rtmr2" in text for text in said["inputs"])
    assert said["proof"]["bundle"]["evidence"]["kind"] == "tdx"
    with pytest.raises(UsageError):
        asked.ready()


def test_a_policys_own_reference_values_do_not_count(made, machine, expected):
    """The policy admits this worker, and the launch does not: only what was computed for it counts."""
    other = replace(SPEC, boot=replace(SPEC.boot, image=PinnedFile("other.efi", digest_bytes(b"other"))))
    with pytest.raises(AppraisalRefused) as raised:
        attest(made, machine).prove(other, expected)
    assert "statement.image" in raised.value.failed


def test_a_machine_of_another_specification_is_refused(made, machine, expected):
    other = replace(SPEC, name="other")
    asked = attest(made, machine)
    with pytest.raises(AppraisalRefused) as raised:
        asked.prove(other, expected)
    assert "policy.launch_spec" in raised.value.failed
    assert any("launch specification" in text for text in asked.refused()["inputs"])


def test_evidence_is_one_thing_and_the_brokers_verdict_another(made, machine, expected):
    asked = attest(made, machine, broker=digest_bytes(b"another broker"))
    assert asked.prove(SPEC, expected).evidence
    with pytest.raises(SignatureInvalid):
        asked.ready()


def test_simulation_is_not_ready_unless_somebody_says_so(made, machine, expected):
    from strongroom.errors import SimulationNotAccepted

    asked = attest(made, machine, accept_simulated=False)
    assert asked.prove(SPEC, expected).evidence
    with pytest.raises(SimulationNotAccepted):
        asked.ready()


def test_a_policy_is_asked_for_the_rest(made, machine, expected):
    policy = replace(made.policy, configuration=Requirement(one_of=(digest_bytes(b"another configuration"),)))
    with pytest.raises(AppraisalRefused) as raised:
        attest(made, machine, policy=policy).prove(SPEC, expected)
    assert "policy.configuration" in raised.value.failed


def test_who_does_not_answer_proves_nothing(made, expected):
    asked = attest(made, "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable):
        asked.prove(SPEC, expected)
    assert asked.refused() == {"proof": None, "inputs": []}


@contextmanager
def sending(head, piece, seconds):
    """Somebody who answers each connection with `head`, and then sends a piece again and again until we hang up; how many."""
    sent = []

    def serve():
        connection, _ = listening.accept()
        with contextlib.suppress(OSError), connection:
            connection.settimeout(10)
            connection.recv(65536)
            connection.sendall(head)
            while len(sent) < 20_000:
                connection.sendall(piece)
                sent.append(len(piece))
                time.sleep(seconds)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", sent
        thread.join(30)
        assert not thread.is_alive()


def test_of_an_answer_without_an_end_the_head_is_read_alone(made):
    with sending(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16), 0) as (url, sent):
        attest(made, url).knock()
    assert sum(sent) < 100 << 20, "what nobody reads is not sent: buffers are full"


def test_a_head_that_never_ends_is_no_answer(made, monkeypatch):
    monkeypatch.setattr("strongroom.launch.life.attest.KNOCK_SECONDS", 0.5)
    with (
        sending(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", 0.05) as (url, sent),
        pytest.raises(ServiceUnavailable, match="TimeoutError"),
    ):
        attest(made, url).knock()
    assert len(sent) < 1000


def test_a_launch_that_could_never_be_judged_is_not_started(made, machine, expected):
    registers = {name: value for name, value in expected.registers.items() if name != "rtmr1"}
    with pytest.raises(NotMeasurable, match="rtmr1"):
        attest(made, machine).check(SPEC, replace(expected, registers=registers))


def test_without_a_broker_nobody_is_ready(made, machine):
    with pytest.raises(UsageError, match="broker's verdict"):
        attest(made, machine, broker=None)


def test_what_is_kept_of_a_refusal_is_json(made, machine, expected):
    asked = attest(made, machine)
    with pytest.raises(AppraisalRefused):
        asked.prove(replace(SPEC, name="other"), expected)
    assert json.loads(json.dumps(asked.refused())) == asked.refused()
