import pytest

from strongroom.engines.nursery import Nursery
from strongroom.engines.server import Needs
from strongroom.errors import UsageError
from strongroom.services.models import Named, Told, named, own_settings
from strongroom.workloads.inference.models import Restarts

SHARED = {"context": 512, "threads": 1, "slots": 1}


def test_one_model_may_go_without_a_name_and_several_may_not():
    assert named(["dir:r:t"], "default") == (Named("default", "dir:r:t"),)
    assert named(["dir:a=b:t"], "default") == (Named("default", "dir:a=b:t"),)
    assert named(["a=dir:r=x:t", "org/b.1=s3://q"], "n") == (Named("a", "dir:r=x:t"), Named("org/b.1", "s3://q"))
    for references in (["dir:r:t", "dir:r:u"], ["a=dir:r:t", "dir:r:u"], ["a=", "b=x"], ["=x", "b=x"]):
        with pytest.raises(UsageError, match="needs a name"):
            named(references, "default")


@pytest.mark.parametrize(
    "told", ["a.slots", "slots=2", "a.slots=0", "a.slots=x", "a.slots=²", "a.other=1", "=", "a.queue=-1"]
)
def test_a_setting_that_makes_no_sense_is_refused(told):
    with pytest.raises(UsageError):
        own_settings([told])


def test_what_is_measured_names_all_that_matters_and_one_model_stays_as_it_was():
    one = Told(named(["dir:r:t"], "default"), SHARED)
    assert one.measured() == {**SHARED, "name": "default"}
    models = named(["a=x", "b=y"], "")
    two = Told(models, SHARED, own_settings(["b.slots=2", "b.queue=3", "b.context=64"]), resident=1)
    assert two.measured() == {**SHARED, "models": "a,b", "b.slots": 2, "b.context": 64, "resident": 1}
    assert two.references == ["x", "y"]
    assert Told(models, SHARED, resident=2).measured() == Told(models, SHARED).measured()


@pytest.mark.parametrize(
    ("own", "resident"), [({"c": {"slots": 1}}, None), ({}, 0), ({}, 3)], ids=["stranger", "none", "too many"]
)
def test_what_does_not_fit_the_models_is_refused(own, resident):
    with pytest.raises(UsageError):
        Told(named(["a=x", "b=y"], ""), SHARED, own, resident=resident)


def test_a_server_in_place_of_the_engine_is_measured_with_its_command():
    models = named(["a=x", "b=y"], "")
    told = Told(models, SHARED, own_settings(["b.adapters=c,d"]), command="run '{model}' --port {port}", kind="vllm")
    assert told.measured().items() >= {"engine": "server", "kind": "vllm", "b.adapters": "c,d"}.items()
    assert told.measured()["command"] == "run '{model}' --port {port}"
    made = told.make("development", Nursery(), restarts=Restarts(), told=print)
    assert [model.adapters for model in made] == [(), ("c", "d")]
    assert all(model.whole for model in made)
    assert not any(
        model.whole for model in Told(models, SHARED).make("development", Nursery(), restarts=Restarts(), told=print)
    )
    for strange in ("run 'x", "  "):
        with pytest.raises(UsageError):
            Told(models, SHARED, command=strange)
    with pytest.raises(UsageError, match="adapters"):
        Told(models, SHARED, own_settings(["b.adapters=c"]))
    with pytest.raises(UsageError, match="has what it needs"):
        Told(models, SHARED, needs=Needs(compiles=True))


def test_a_server_keeps_prefixes_for_tenants_apart_only_if_it_takes_a_salt():
    models, shared = named(["dir:r:t"], "m"), {**SHARED, "cache_prompt": 1}
    with pytest.raises(UsageError, match="tenant apart"):
        Told(models, shared, command="run")
    for fine in (Told(models, shared, command="run", kind="vllm"), Told(models, shared)):
        assert fine.measured()["cache_prompt"] == 1
    assert "cache_prompt" not in Told(models, SHARED, command="run").measured()


def test_two_models_of_one_name_are_refused():
    with pytest.raises(UsageError, match="one name"):
        Told(named(["a=x", "a=y"], ""), SHARED)


def test_what_a_server_needs_is_measured_with_its_command():
    def told(**needs):
        return Told(named(["dir:r:t"], "m"), SHARED, command="run", needs=Needs(**needs)).measured()

    assert told(scratch=64, compiles=True, unsafe_gpus=True) == {
        **told(), "scratch": 64, "compiles": 1, "gpus": "unsafe"
    }  # fmt: skip
