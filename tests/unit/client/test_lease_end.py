"""When a lease ends, as the leaf of its decision says."""

import pytest

from strongroom.client.verification import lease_end
from strongroom.errors import LogInvalid
from strongroom.records.release import Leaf


@pytest.mark.parametrize(
    "uses",
    [
        "",
        " uses=3/10",
        " uses=3/10,-,1/1",
        " uses=b",
        " uses=-,3/10b,b",
        " uses=" + ",".join(["9007199254740990/9007199254740991b"] * 16),
    ],
    ids=["none", "one", "three", "per boot", "both", "the most"],
)
def test_a_lease_ends_when_its_leaf_says_also_where_uses_are_counted(uses):
    assert lease_end(Leaf("release", 1000, "lease", (), f"level=simulated lease_seconds=300{uses}")) == 1300


@pytest.mark.parametrize(
    "detail", ["", "level=simulated", "level=simulated lease_seconds=0300", "level=x lease_seconds=1 uses=all"]
)
def test_a_leaf_that_says_something_else_is_no_decision(detail):
    with pytest.raises(LogInvalid):
        lease_end(Leaf("release", 1000, "lease", (), detail))
