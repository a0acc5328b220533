"""A software TPM (swtpm) with a certified endorsement key, spoken to by our collector and by tpm2-tools.

What is proved here: our commands, structures, credentials and verdicts are those of a real implementation of TPM 2.0.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from software_tpm import software_tpm

from strongroom.crypto import x509
from strongroom.crypto.signatures import SigningKey, generate_p256
from strongroom.errors import DeviceUnavailable, MalformedEvidence, SignatureInvalid
from strongroom.records import codec
from strongroom.records.evidence import TpmCollateral
from strongroom.records.policy.requirement import Requirement
from strongroom.records.tpm import TpmQuote
from strongroom.records.verdict import RootClass, Status
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.tpm import Collector, enrol, parse_key, parse_quote, read_quote, read_tpm2_tools, verify
from strongroom.tee.tpm.credential import Credential, make_credential, sized
from strongroom.tee.tpm.device import Channel

pytestmark = pytest.mark.needs("swtpm", "swtpm_setup", "swtpm_localca", "tpm2_quote", "tpm2_activatecredential")

NONCE = bytes(range(32))
LIFE = 3600
NO_LISTS = Requirement(any="this CA publishes no revocation lists")
BOOT = "sha256:0,4,7,15"
CREATE_AK = ("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name")
ACTIVATE = ("tpm2_activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-P", "session:session.ctx")
QUOTE = ("tpm2_quote", "-c", "ak.ctx", "-l", BOOT, "-q", NONCE.hex(), "-m", "m", "-s", "s", "-o", "o")
UNRESTRICTED = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
CREDENTIAL_FILE = bytes.fromhex("badcc0de00000001")


@dataclass
class Machine:
    """One software TPM, as a machine that booted something; `work` is where tools keep their files."""

    port: int
    work: Path
    chain: str
    root: str
    verifier: SigningKey

    @property
    def anchors(self) -> list[TrustAnchor]:
        return [
            installation_anchor("tpm", self.root),
            enrol.enrolment_anchor(self.verifier.public_key(), RootClass.SILICON),
        ]

    @property
    def now(self) -> int:
        return int(time.time())

    def collector(self) -> Collector:
        return Collector(connect=self.connect)

    def connect(self) -> Channel:
        """A TPM without a resource manager serves one guest after another."""
        return Channel(socket.create_connection(("127.0.0.1", self.port), timeout=10).detach())

    def tool(self, *words: str) -> bytes:
        """Run one of tpm2-tools in `work`; keys that it leaves behind are flushed."""
        environment = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}"}
        done = subprocess.run(words, cwd=self.work, env=environment, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, (words, done.stderr.decode())
        if words[0] not in {"tpm2_flushcontext", "tpm2_startauthsession", "tpm2_policysecret"}:
            flushed = ("tpm2_flushcontext", "-t")
            subprocess.run(flushed, cwd=self.work, env=environment, capture_output=True, timeout=60, check=True)
        return done.stdout

    def file(self, name: str) -> bytes:
        return (self.work / name).read_bytes()

    def enrolled(self, ek: bytes, ak: bytes, answer: object) -> TpmCollateral:
        """The whole of an enrolment; `answer` opens a credential."""
        endorsed = enrol.check_endorsement(
            parse_key(ek), TpmCollateral(self.chain, ()), self.anchors, self.now, revocation=NO_LISTS
        )
        waiting = enrol.challenge(endorsed, parse_key(ak))
        note = enrol.finish(waiting, answer(waiting.credential), self.verifier, now=self.now, life=LIFE)  # type: ignore[operator]
        return TpmCollateral("", (), note.to_bytes())

    def judge(self, quote: TpmQuote | bytes, collateral: TpmCollateral | None) -> Genuine:
        parsed = parse_quote(quote) if isinstance(quote, bytes) else read_quote(quote)
        return verify(parsed, collateral, self.anchors, self.now)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    place = tmp_path_factory.mktemp("swtpm")
    with software_tpm(place) as started:
        (place / "work").mkdir()
        found = Machine(started.port, place / "work", "", started.root, generate_p256())
        leaf = x509.load_certificate(found.collector().keys()[0]).public_bytes(Encoding.PEM).decode()
        found.chain = leaf + started.issuer + started.root
        for register in (0, 4, 7):
            found.tool("tpm2_pcrextend", f"{register}:sha256={register:02x}" + "ab" * 31)
        yield found


@pytest.fixture(scope="module")
def word(machine: Machine) -> TpmCollateral:
    """The enrolment of our collector's key, live."""
    _, ek, ak = machine.collector().keys()
    return machine.enrolled(ek, ak, machine.collector().activate)


def failed(genuine: Genuine) -> set[str]:
    return {check.id for check in genuine.checks if check.status is Status.FAIL}


def test_a_key_is_enrolled_and_its_quote_is_genuine(machine: Machine, word: TpmCollateral):
    genuine = machine.judge(machine.collector().quote(NONCE), word)
    assert genuine.holds, failed(genuine)
    assert genuine.root_class is RootClass.INSTALLATION
    assert genuine.claims["report_data"] == NONCE.hex()
    assert str(genuine.claims["pcr0"]).strip("0")
    assert genuine.claims["pcr17"] == "ff" * 32


def test_the_runtime_register_is_extended_and_quoted(machine: Machine, word: TpmCollateral):
    before = machine.judge(machine.collector().quote(NONCE), word).claims["pcr15"]
    machine.collector().extend(15, b"\7" * 32)
    after = machine.judge(machine.collector().quote(NONCE), word).claims["pcr15"]
    import hashlib

    assert after == hashlib.sha256(bytes.fromhex(str(before)) + b"\7" * 32).hexdigest()


def test_the_same_key_comes_back_after_every_call(machine: Machine):
    assert machine.collector().keys()[2] == machine.collector().keys()[2]


def test_an_elliptic_endorsement_key_opens_our_credentials(machine: Machine):
    _, ek, ak = machine.collector().keys("ecc")
    credential = make_credential(parse_key(ek), parse_key(ak).name, NONCE)
    assert machine.collector().activate(credential, "ecc") == NONCE


def test_a_credential_for_another_key_or_spoilt_is_refused_by_the_tpm(machine: Machine):
    _, ek, ak = machine.collector().keys()
    other = make_credential(parse_key(ek), "000b" + "11" * 32, NONCE)
    good = make_credential(parse_key(ek), parse_key(ak).name, NONCE)
    spoilt = replace(good, blob=good.blob[:-1] + bytes([good.blob[-1] ^ 1]))
    for credential in (other, spoilt):
        with pytest.raises(DeviceUnavailable):
            machine.collector().activate(credential)


@pytest.mark.parametrize(
    ("algorithm", "scheme", "name"),
    [("rsa", "rsassa", "sha256"), ("rsa", "rsapss", "sha256"), ("ecc", "ecdsa", "sha256")],
)
def test_tpm2_tools_make_keys_enrolments_and_quotes_that_we_verify(
    machine: Machine, algorithm: str, scheme: str, name: str
):
    machine.tool("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
    machine.tool(*CREATE_AK, "-G", algorithm, "-g", name, "-s", scheme)
    assert parse_key(machine.file("ak.pub")).name == machine.file("ak.name").hex()
    collateral = machine.enrolled(
        machine.file("ek.pub"), machine.file("ak.pub"), lambda found: activate(machine, found)
    )
    machine.tool(*QUOTE, "-g", name, "--scheme", scheme)
    quote = read_tpm2_tools(*(machine.file(part) for part in ("m", "s", "o", "ak.pub")))
    genuine = machine.judge(quote, collateral)
    assert genuine.holds, failed(genuine)
    assert set(quote.pcrs["sha256"]) == {"0", "4", "7", "15"}
    tamper(machine, quote, collateral)


def activate(machine: Machine, credential: Credential) -> bytes:
    """tpm2-tools open a credential that we made."""
    (machine.work / "cred").write_bytes(CREDENTIAL_FILE + sized(credential.blob) + sized(credential.secret))
    machine.tool("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
    machine.tool("tpm2_policysecret", "-S", "session.ctx", "-c", "e")
    machine.tool(*ACTIVATE, "-i", "cred", "-o", "secret")
    machine.tool("tpm2_flushcontext", "session.ctx")
    return machine.file("secret")


def tamper(machine: Machine, quote: TpmQuote, collateral: TpmCollateral) -> None:
    """What is changed after the TPM signed is noticed, by the step that is for it."""
    values = quote.pcrs["sha256"]
    assert failed(machine.judge(replace(quote, pcrs={"sha256": {**values, "4": "00" * 32}}), collateral)) == {
        "tpm.pcrs.digest"
    }
    moved = {**{index: value for index, value in values.items() if index != "4"}, "5": values["4"]}
    assert failed(machine.judge(replace(quote, pcrs={"sha256": moved}), collateral)) == {"tpm.pcrs.selection"}
    for position in range(6, len(quote.attest) - 40, 5):
        changed = bytearray(quote.attest)
        changed[position] ^= 1
        try:
            genuine = machine.judge(replace(quote, attest=bytes(changed)), collateral)
        except MalformedEvidence:
            continue
        assert not genuine.holds
    assert failed(machine.judge(quote, None)) == {"tpm.ak"}


def test_our_quote_and_theirs_are_of_the_same_registers(machine: Machine):
    ours = codec.decode(TpmQuote, machine.collector().quote(NONCE, (0, 4, 7)))
    theirs = machine.tool("tpm2_pcrread", "sha256:0,4,7").decode().lower()
    assert all(value in theirs for value in ours.pcrs["sha256"].values())


def test_tpm2_tools_check_our_quote(machine: Machine):
    """The other way round: an independent verifier accepts what our collector made."""
    quote = codec.decode(TpmQuote, machine.collector().quote(NONCE, (0, 4, 7)))
    key = parse_key(quote.ak).key
    from cryptography.hazmat.primitives.serialization import PublicFormat

    (machine.work / "ak.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (machine.work / "our.m").write_bytes(quote.attest)
    (machine.work / "our.s").write_bytes(quote.signature)
    machine.tool("tpm2_checkquote", "-u", "ak.pem", "-m", "our.m", "-s", "our.s", "-q", NONCE.hex(), "-g", "sha256")


def test_a_key_that_may_sign_anything_is_not_enrolled(machine: Machine):
    machine.tool("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
    machine.tool("tpm2_createprimary", "-C", "e", "-G", "ecc:ecdsa-sha256:null", "-c", "free.ctx", "-a", UNRESTRICTED)
    machine.tool("tpm2_readpublic", "-c", "free.ctx", "-o", "free.pub")
    with pytest.raises(SignatureInvalid, match="restricted"):
        machine.enrolled(machine.file("ek.pub"), machine.file("free.pub"), lambda _: b"")


def test_a_wrong_answer_enrols_nobody(machine: Machine):
    _, ek, ak = machine.collector().keys()
    with pytest.raises(SignatureInvalid):
        machine.enrolled(ek, ak, lambda _: bytes(32))
