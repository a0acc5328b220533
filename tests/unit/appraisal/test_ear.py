import json
from dataclasses import replace

import pytest

from strongroom.appraisal import ear
from strongroom.crypto import jose
from strongroom.crypto.signatures import generate_p384
from strongroom.errors import MalformedRecord, SignatureInvalid
from strongroom.records import codec
from strongroom.records.verdict import Level

KEY = generate_p384()
PUBLIC = KEY.public_key()


def test_a_verdict_comes_back_from_its_token(case):
    verdict = case.judge()
    assert ear.from_token(ear.to_token(verdict, KEY, issuer="broker"), PUBLIC) == verdict


def test_a_token_of_somebody_else_is_refused(case):
    with pytest.raises(SignatureInvalid):
        ear.from_token(ear.to_token(case.judge(), KEY, issuer="broker"), generate_p384().public_key())


def test_simulation_taints_the_token_and_is_never_affirming(case):
    claims = jose.verify_token(ear.to_token(case.judge(), KEY, issuer="broker"), PUBLIC)
    assert claims["strongroom.level"] == "simulated"
    assert claims["submods"]["cpu0"]["ear.status"] == "warning"


def test_a_refused_verdict_is_contraindicated(case):
    claims = jose.verify_token(ear.to_token(case.judge(nonce=bytes(32)), KEY, issuer="broker"), PUBLIC)
    assert claims["submods"]["cpu0"]["ear.status"] == "contraindicated"
    assert claims["submods"]["cpu0"]["ear.trustworthiness-vector"]["instance-identity"] == ear.CONTRAINDICATED


def test_a_confidential_verdict_is_affirming(case):
    verdict = replace(case.judge(), level=Level.CONFIDENTIAL)
    claims = jose.verify_token(ear.to_token(verdict, KEY, issuer="broker"), PUBLIC)
    assert claims["submods"]["cpu0"]["ear.status"] == "affirming"


def test_a_token_that_contradicts_itself_is_refused(case):
    claims = jose.verify_token(ear.to_token(case.judge(), KEY, issuer="broker"), PUBLIC)
    for changed in ({"strongroom.level": "confidential"}, {"iat": 0}, {"eat_profile": "other"}):
        with pytest.raises(MalformedRecord):
            ear.from_token(jose.sign_token({**claims, **changed}, KEY, kid="broker"), PUBLIC)
    assert json.loads(codec.encode(case.judge()))["level"] == "simulated"
