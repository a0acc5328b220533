"""A model under a key that is released once per boot is served to users as any other is."""

import time

import pytest
from world import world

from strongroom.appraisal.policies import sign_policy
from strongroom.client.verification import lease_end
from strongroom.records import codec
from strongroom.records.policy import Requirement
from strongroom.records.release import Leaf


@pytest.mark.parametrize(("limit", "uses"), [(None, "uses=b"), (3, "uses=1/3b")])
def test_a_model_whose_key_is_released_once_per_boot_is_served(tmp_path, limit, uses):
    with world(tmp_path) as made:
        made.admin.create_key("booted", made.policy.id, max_uses=limit, per_boot=True)
        artifact = made.seal("booted", b"GGUF booted", key="booted")
        made.policy = made.make_policy(artifacts=Requirement(one_of=(artifact,)), version=made.policy.version + 1)
        made.admin.put_policy(sign_policy(made.policy, made.owner))
        with made.serving(opener=made.opener("booted")) as served:
            client = made.client(served.url)
            assert client.ask("x").endswith("Paris.")
            leaf = codec.decode(Leaf, client.verification.release.proof.leaf)
            assert leaf.detail.endswith(uses)
            assert time.time() < lease_end(leaf) <= time.time() + made.lease_seconds
            assert served.engine.loaded == b"GGUF booted"
    assert served.error is None
