import io
import json
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256, sign_envelope
from strongroom.errors import FileUnreadable, MalformedRecord, SealBroken, SignatureInvalid, UsageError
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.job import PAYLOAD_TYPE, JobResult, JobSpec
from strongroom.workloads.job.spec import MAX_TOML, check_code, check_inputs, from_toml, open_job, sign_job

CODE = b"print('hello')"
INPUT = digest_bytes(b"an artifact")
KEYS = {f"{name}.pub": ReleaseKey.generate().public for name in ("one", "two")}
MEMBERS: dict[str, Any] = {
    "name": "sum", "inputs": [INPUT], "recipients": ["one.pub"], "seconds": 60, "output_bytes": 1 << 20,
}  # fmt: skip


def read_key(name: str) -> bytes:
    if name not in KEYS:
        raise FileUnreadable(name)
    return KEYS[name]


def toml(**changes: Any) -> str:
    members = {key: value for key, value in {**MEMBERS, **changes}.items() if value is not None}
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in members.items())


def spec_of(program: bytes = CODE, /, **changes: Any) -> JobSpec:
    return from_toml(toml(**changes), program, read_key)


def wheel(**files: str) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return kept.getvalue()


def test_a_job_is_read_from_toml_with_the_digest_of_its_code():
    spec = spec_of(recipients=["one.pub", "two.pub"], arguments=["--fast", "ü"])
    assert spec.code == digest_bytes(CODE)
    assert spec.inputs == (INPUT,)
    assert spec.recipients == (KEYS["one.pub"], KEYS["two.pub"])
    assert spec.arguments == ("--fast", "ü")
    assert spec.entry == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": []},
        {"inputs": ["sha256:short"]},
        {"recipients": []},
        {"recipients": "one.pub"},
        {"recipients": [1]},
        {"recipients": ["one.pub", "one.pub"]},
        {"seconds": 0},
        {"seconds": 1.5},
        {"output_bytes": 0},
        {"arguments": [1]},
        {"entry": "module"},
        {"entry": "module:function()"},
        {"entry": "os;evil:f"},
        {"code": INPUT},
        {"networks": ["all"]},
        {"name": None},
        {"seconds": None},
        {"output_bytes": None},
        {"recipients": None},
    ],
)
def test_a_job_that_makes_no_sense_is_refused(changes: dict[str, Any]):
    with pytest.raises(MalformedRecord):
        spec_of(**changes)


def test_a_recipient_that_is_no_key_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(KEYS, "short.pub", b"short")
    with pytest.raises(MalformedRecord, match="1216"):
        spec_of(recipients=["short.pub"])
    with pytest.raises(FileUnreadable):
        spec_of(recipients=["nobody.pub"])


@pytest.mark.parametrize("text", ["", "= 1", "name = 'a'\nname = 'b'", "x" * (MAX_TOML + 1), "[[a]]\n[a]"])
def test_what_is_not_a_job_in_toml_is_refused(text: str):
    with pytest.raises(MalformedRecord):
        from_toml(text, CODE, read_key)


@given(text=st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_text_makes_anything_but_a_job_or_a_refusal(text: str):
    with pytest.raises(MalformedRecord):
        from_toml(text, CODE, read_key)


def test_a_signed_job_opens_under_its_signers_key_alone():
    key, spec = generate_p256(), spec_of()
    envelope = sign_job(spec, key)
    assert open_job(envelope, [key.public_key()]) == spec
    with pytest.raises(SignatureInvalid):
        open_job(envelope, [generate_p256().public_key()])
    with pytest.raises(SignatureInvalid):
        open_job(envelope, [])


def test_a_signature_over_something_else_is_not_a_job():
    key, spec = generate_p256(), spec_of()
    other = sign_envelope("application/vnd.strongroom.policy.v1+json", codec.encode(spec), key)
    with pytest.raises(SignatureInvalid):
        open_job(other, [key.public_key()])
    result = JobResult(spec.digest, None, spec.code)
    with pytest.raises(MalformedRecord):
        open_job(sign_envelope(PAYLOAD_TYPE, codec.encode(result), key), [key.public_key()])


@given(changed=st.binary(max_size=64).filter(lambda data: data != CODE))
@settings(max_examples=20, deadline=None)
def test_other_code_than_the_signed_is_refused(changed: bytes):
    spec = spec_of()
    check_code(spec, CODE)
    with pytest.raises(SealBroken) as refused:
        check_code(spec, changed)
    assert refused.value.detail == "code"


def test_an_entry_needs_a_wheel():
    assert spec_of(wheel(module=""), entry="package.module:main").entry == "package.module:main"
    with pytest.raises(UsageError):
        spec_of(CODE, entry="module:main")


@pytest.mark.parametrize("found", [[], [INPUT, INPUT], [digest_bytes(b"another")]])
def test_other_inputs_than_the_signed_are_refused(found: list[Any]):
    spec = spec_of()
    check_inputs(spec, [INPUT])
    with pytest.raises(SealBroken) as refused:
        check_inputs(spec, found)
    assert refused.value.detail == "inputs"


def test_inputs_have_an_order():
    other = digest_bytes(b"another")
    spec = spec_of(inputs=[INPUT, other])
    check_inputs(spec, [INPUT, other])
    with pytest.raises(SealBroken):
        check_inputs(spec, [other, INPUT])


def test_every_member_changes_the_digest_that_a_policy_pins():
    changes: list[dict[str, Any]] = [
        {},
        {"name": "other"},
        {"inputs": [INPUT, INPUT]},
        {"arguments": ["x"]},
        {"recipients": ["two.pub"]},
        {"seconds": 61},
        {"output_bytes": 1},
    ]
    digests = {spec_of(**change).digest for change in changes} | {spec_of(CODE + b"\n").digest}
    assert len(digests) == len(changes) + 1
