"""Arguments and domains: golden files, and what must never be in them."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from launching import NITRO, SNP, SPECS, TDX, TDX_GPU, TPM, place_for

from strongroom.errors import UsageError
from strongroom.launch.libvirt import domain
from strongroom.launch.place import QuoteService
from strongroom.launch.qemu import arguments

GOLDEN = Path(__file__).parents[2] / "golden" / "launch"


def rendered():
    loader = importlib.util.spec_from_file_location("golden_launch", GOLDEN / "make.py")
    module = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(module)
    return module.rendered()


def test_the_golden_files_are_what_is_rendered():
    made = rendered()
    assert made == {path.name: path.read_text() for path in GOLDEN.glob("*.*") if path.suffix != ".py"}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_nothing_is_there_that_would_be_measured_unasked(spec):
    words = arguments(spec, place_for(spec))
    assert "-nodefaults" in words
    for word in words:
        if word.startswith("virtio-net"):
            assert "romfile=" in word
        if word.startswith("vfio-pci"):
            assert "rombar=0" in word
        assert "debug" not in word


def test_the_specifications_digest_is_what_the_launch_register_gets():
    other = replace(TDX, name="other")
    assert arguments(TDX, place_for(TDX)) != arguments(other, place_for(other))
    for spec, renamed in ((TDX, other), (SNP, replace(SNP, name="other"))):
        first, second = domain(spec, place_for(spec)), domain(renamed, place_for(renamed))
        assert first.replace("<name>worker<", "<name>other<") != second


def test_a_quote_service_may_be_a_socket():
    place = replace(place_for(TDX), quotes=QuoteService(path="/run/qgs.socket"))
    assert '"path": "/run/qgs.socket"' in " ".join(arguments(TDX, place))
    assert 'path="/run/qgs.socket"' in domain(TDX, place)


@pytest.mark.parametrize(
    ("spec", "change"),
    [
        (TDX, {"accelerator": "tcg"}),
        (TPM, {"disks": ()}),
        (TPM, {"boot_disk": None}),
        (TPM, {"gpus": ("0000:41:00.0",)}),
        (TPM, {"vsock_cid": None}),
        (TDX, {"boot_disk": Path("/x")}),
    ],
)
def test_a_host_that_does_not_fit_is_refused(spec, change):
    place = replace(place_for(spec), **change)
    for render in (arguments, domain):
        with pytest.raises(UsageError):
            render(spec, place)


@pytest.mark.parametrize(
    "address",
    [
        "0000:41:00.0,rombar=1",
        "41:00",
        "/dev/../41:00.0",
        "0000:41:20.0",
        "0000:41:00.8",
        "0000:4A:00.0",
        "",
        "0000:41:00.0\n",
    ],
)
def test_what_is_no_address_of_a_gpu_is_refused(address):
    for render in (arguments, domain):
        with pytest.raises(UsageError, match="no PCI address"):
            render(TDX_GPU, replace(place_for(TDX_GPU), gpus=(address,)))


def test_an_address_may_leave_its_domain_out():
    place = replace(place_for(TDX_GPU), gpus=("41:00.0",))
    assert 'domain="0x0000" bus="0x41" slot="0x00"' in domain(TDX_GPU, place)
    assert any(word.startswith("vfio-pci,host=41:00.0,") for word in arguments(TDX_GPU, place))


def test_an_enclave_is_started_by_others():
    with pytest.raises(UsageError, match="AWS"):
        arguments(NITRO, place_for(TDX))


def test_a_port_leads_to_the_first_network_alone():
    network = next(device for device in TPM.devices if device.kind == "network")
    spec = replace(TPM, devices=(*TPM.devices, network))
    networks = [word for word in arguments(spec, place_for(spec)) if word.startswith("user,")]
    assert ["hostfwd=tcp:127.0.0.1:8443-:443" in word for word in networks] == [True, False]


def test_many_disks_have_many_names():
    disk = next(device for device in TPM.devices if device.kind == "disk")
    spec = replace(TPM, devices=(disk,) * 60)
    text = domain(spec, replace(place_for(spec), disks=(Path("/d"),) * 60))
    assert text.count('dev="vd') == len({part.split('"')[0] for part in text.split('dev="')[1:]}) == 61
