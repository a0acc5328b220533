"""The golden files against what QEMU and libvirt publish of TDX and SEV-SNP, since neither is here in a version that reads them.

Sources: QEMU, qapi/qom.json (TdxGuestProperties, SevSnpGuestProperties) and docs/system/i386/tdx; libvirt, "Domain XML format",
launchSecurity of types `tdx` and `sev-snp`; AMD 56860, guest policy; Intel TDX module ABI, ATTRIBUTES.
"""

import base64
import json
import re
from itertools import pairwise
from pathlib import Path
from xml.dom import minidom

import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "launch"
TDX, SNP = ("tdx", "tdx-gpu"), ("snp", "snp-gpu")
TDX_OBJECT = {
    "qom-type",
    "id",
    "attributes",
    "sept-ve-disable",
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
    "quote-generation-socket",
}
SNP_OBJECT = {
    "id", "policy", "guest-visible-workarounds", "id-block", "id-auth", "author-key-enabled", "vcek-disabled", "host-data",
    "kernel-hashes", "cbitpos", "reduced-phys-bits", "sev-device",
}  # fmt: skip
TDX_ELEMENTS = {"policy", "mrConfigId", "mrOwner", "mrOwnerConfig", "quoteGenerationService"}
SNP_ELEMENTS = {"cbitpos", "reducedPhysBits", "policy", "guestVisibleWorkarounds", "idBlock", "idAuth", "hostData"}
TDX_DEBUG, SNP_DEBUG, SNP_ONE, SNP_MIGRATION = 1 << 0, 1 << 19, 1 << 17, 1 << 18


def options(name):
    """QEMU's options: (option, value), flags without one left out."""
    words = (GOLDEN / f"{name}.args").read_text().splitlines()
    return [(word, value) for word, value in pairwise(words) if word.startswith("-")]


def values(name, option):
    return [value for word, value in options(name) if word == option]


def security(name):
    """The domain's launchSecurity: the element, and its children by name."""
    found = minidom.parseString((GOLDEN / name).read_text()).getElementsByTagName("launchSecurity")  # noqa: S318
    assert len(found) == 1
    children = [node for node in found[0].childNodes if node.nodeType == node.ELEMENT_NODE]
    assert len({node.tagName for node in children}) == len(children)
    return found[0], {node.tagName: node for node in children}


def text(node):
    return node.firstChild.data


@pytest.mark.parametrize("name", TDX)
def test_qemus_object_of_a_trust_domain(name):
    guest = next(json.loads(value) for value in values(name, "-object") if value.startswith("{"))
    assert guest["qom-type"] == "tdx-guest"
    assert set(guest) <= TDX_OBJECT
    assert guest["sept-ve-disable"] is True
    assert len(base64.b64decode(guest["mrconfigid"], validate=True)) == 48
    assert guest["quote-generation-socket"]["type"] in {"vsock", "unix"}
    assert all(isinstance(value, str) for value in guest["quote-generation-socket"].values())
    (machine,) = values(name, "-machine")
    assert {"kernel-irqchip=split", "smm=off", f"confidential-guest-support={guest['id']}"} <= set(machine.split(","))
    assert values(name, "-cpu") == ["host"]


@pytest.mark.parametrize("name", SNP)
def test_qemus_object_of_an_snp_guest(name):
    guest = next(value for value in values(name, "-object") if value.startswith("sev-snp-guest,"))
    found = dict(part.split("=", 1) for part in guest.split(",")[1:])
    assert set(found) <= SNP_OBJECT
    policy = int(found["policy"], 16)
    assert policy & SNP_ONE
    assert not policy & (SNP_DEBUG | SNP_MIGRATION)
    assert found["kernel-hashes"] == "on"
    assert len(base64.b64decode(found["host-data"], validate=True)) == 32
    (machine,) = values(name, "-machine")
    assert {f"confidential-guest-support={found['id']}", "memory-backend=ram1"} <= set(machine.split(","))
    assert any(re.match(r"memory-backend-memfd,id=ram1,.*share=true", value) for value in values(name, "-object"))


@pytest.mark.parametrize("name", TDX + SNP)
def test_firmware_of_a_protected_guest_is_no_flash(name):
    assert len(values(name, "-bios")) == 1
    assert not any("pflash" in value for value in values(name, "-drive"))
    assert values(name, "-accel") == ["kvm"]


@pytest.mark.parametrize("name", TDX + SNP)
def test_virtio_of_a_protected_guest_goes_through_what_is_shared(name):
    virtio = [value for value in values(name, "-device") if re.match(r"(virtio|vhost)-", value)]
    assert virtio
    assert all("disable-legacy=on" in value and "iommu_platform=on" in value for value in virtio)


@pytest.mark.parametrize("name", ["tdx-gpu", "snp-gpu"])
def test_each_gpu_has_a_port_of_its_own_and_one_iommufd(name):
    devices = values(name, "-device")
    ports = [
        re.match(r"pcie-root-port,id=([^,]+)", value)[1] for value in devices if value.startswith("pcie-root-port")
    ]
    buses = [re.search(r"bus=([^,]+)", value)[1] for value in devices if value.startswith("vfio-pci")]
    hosts = [re.search(r"host=([^,]+)", value)[1] for value in devices if value.startswith("vfio-pci")]
    assert buses == ports
    assert buses
    assert len(set(buses)) == len(set(hosts)) == len(hosts)
    assert values(name, "-object").count("iommufd,id=iommufd0") == 1
    assert (GOLDEN / f"{name}.xml").read_text().count("<hostdev ") == len(hosts)


@pytest.mark.parametrize("name", [f"{name}{dialect}.xml" for name in TDX for dialect in ("", ".canonical")])
def test_libvirts_domain_of_a_trust_domain(name):
    element, children = security(name)
    assert element.getAttribute("type") == "tdx"
    assert set(children) <= TDX_ELEMENTS
    assert re.fullmatch(r"0x[0-9a-f]+", text(children["policy"]))
    assert not int(text(children["policy"]), 16) & TDX_DEBUG
    assert len(base64.b64decode(text(children["mrConfigId"]), validate=True)) == 48
    service = children["quoteGenerationService"]
    if "canonical" in name:
        (socket,) = service.getElementsByTagName("SocketAddress")
        assert dict(socket.attributes.items()) == {"type": "vsock", "cid": "2", "port": "4050"}
    else:
        assert service.getAttribute("path").startswith("/")
        assert not service.childNodes


@pytest.mark.parametrize("name", SNP)
def test_libvirts_domain_of_an_snp_guest(name):
    element, children = security(f"{name}.xml")
    assert dict(element.attributes.items()) == {"type": "sev-snp", "kernelHashes": "yes"}
    assert set(children) <= SNP_ELEMENTS
    assert text(children["cbitpos"]).isdigit()
    assert text(children["reducedPhysBits"]).isdigit()
    policy = int(text(children["policy"]), 16)
    assert policy & SNP_ONE
    assert not policy & (SNP_DEBUG | SNP_MIGRATION)
    assert len(base64.b64decode(text(children["hostData"]), validate=True)) == 32


@pytest.mark.parametrize("name", TDX + SNP)
def test_both_start_the_same_guest(name):
    (guest,) = [value for value in values(name, "-object") if "tdx-guest" in value or value.startswith("sev-snp-guest")]
    _, children = security(f"{name}.xml")
    value = text(children["mrConfigId" if name in TDX else "hostData"])
    assert value in guest
