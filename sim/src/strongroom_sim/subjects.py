"""One conformance subject for each kind of evidence, on simulated hardware made for the purpose.

Knows: how each simulator makes good and broken evidence. Does not know: the rules (`conformance`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from strongroom.appraisal.kinds import KINDS
from strongroom.crypto.signatures import generate_p256
from strongroom.records import codec
from strongroom.records.azure import AzureEvidence
from strongroom.records.evidence import Collateral
from strongroom.records.google import GoogleEvidence
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.eventlog import Style, codes
from strongroom.tee.eventlog.digests import GCE_INFO
from strongroom.tee.eventlog.interpret import TECHNOLOGIES
from strongroom.tee.tpm.parse import PCR_COUNT
from strongroom_sim.azure import AzureVm
from strongroom_sim.broken import cca as broken_cca
from strongroom_sim.broken import nitro as broken_nitro
from strongroom_sim.broken import sgx as broken_sgx
from strongroom_sim.broken import snp as broken_snp
from strongroom_sim.broken import tdx as broken_tdx
from strongroom_sim.broken import tpm as broken_tpm
from strongroom_sim.ca import Installation
from strongroom_sim.cca import CcaPlatform, Realm
from strongroom_sim.chip import Chip
from strongroom_sim.conformance import Sample, Subject
from strongroom_sim.eventlog import EventLog
from strongroom_sim.google import GoogleVm
from strongroom_sim.mutants.logs import power_on, replayed
from strongroom_sim.nitro import Enclave, NitroCloud
from strongroom_sim.sgx import SgxEnclave
from strongroom_sim.snp import SnpChip, SnpInstallation
from strongroom_sim.tpm import Tpm, TpmMaker

DATA = bytes(range(64))
MEASUREMENT = bytes(range(48))
QUALIFYING = bytes(range(32))


@dataclass(frozen=True)
class Hardware:
    """Simulated hardware of every kind, made at `now` (Unix seconds)."""

    intel: Installation
    amd: SnpInstallation
    maker: TpmMaker
    cloud: NitroCloud
    arm: CcaPlatform
    now: int

    @classmethod
    def make(cls, now: int) -> Self:
        """Hardware that is never written anywhere; it takes a few seconds."""
        return cls(
            Installation.ephemeral(now),
            SnpInstallation.generate(now=now),
            TpmMaker.generate(now=now),
            NitroCloud.create(now=now),
            CcaPlatform(),
            now,
        )


def subjects(hardware: Hardware) -> dict[str, Subject]:
    """Kind -> its subject."""
    return {name: make(hardware) for name, make in _MAKERS.items()}


def _samples(found: Mapping[str, Any], vendor: str) -> dict[str, Sample]:
    """Broken evidence of one kind as samples; each is (evidence, the vendor's collateral or None, time)."""
    return {
        check: Sample(quote, Collateral(**{vendor: collateral}), now)
        for check, (quote, collateral, now) in ((check, tuple_of(sample)) for check, sample in found.items())
    }


def tuple_of(sample: Any) -> tuple[bytes, Any, int]:
    """A piece of broken evidence as a plain triple."""
    quote = sample.quote if hasattr(sample, "quote") else sample.evidence
    return quote, sample.collateral, sample.now


def _tdx(hardware: Hardware) -> Subject:
    chip, now = Chip(hardware.intel, mrtd=MEASUREMENT), hardware.now
    good = Sample(chip.quote(DATA), hardware.intel.bundle(now), now)
    anchors = [installation_anchor("tdx", hardware.intel.root_pem)]
    return Subject(KINDS["tdx"], anchors, good, _samples(broken_tdx.broken(hardware.intel, now), "intel"))


def _sgx(hardware: Hardware) -> Subject:
    enclave, now = SgxEnclave(hardware.intel, mrenclave=bytes(32)), hardware.now
    good = Sample(enclave.quote(DATA), Collateral(intel=hardware.intel.collateral(now, kind="sgx")), now)
    anchors = [installation_anchor("sgx", hardware.intel.root_pem)]
    return Subject(KINDS["sgx"], anchors, good, _samples(broken_sgx.broken(hardware.intel, now), "intel"))


def _snp(hardware: Hardware) -> Subject:
    chip, now = SnpChip(hardware.amd, measurement=MEASUREMENT, now=hardware.now), hardware.now
    good = Sample(chip.report(DATA), Collateral(amd=chip.collateral(now)), now)
    anchors = [installation_anchor("snp", hardware.amd.root_pem)]
    return Subject(KINDS["snp"], anchors, good, _samples(broken_snp.broken(hardware.amd, now), "amd"))


def _nitro(hardware: Hardware) -> Subject:
    pcrs = {index: hashlib.sha384(bytes([index])).digest() for index in range(5)}
    enclave, now = Enclave(hardware.cloud, pcrs), hardware.now
    good = Sample(enclave.quote(DATA, now=now), Collateral(aws=hardware.cloud.collateral(now)), now)
    anchors = [installation_anchor("nitro", hardware.cloud.root_pem)]
    found = _samples(broken_nitro.broken(hardware.cloud, now), "aws")
    return Subject(KINDS["nitro"], anchors, good, found, needs_collateral=False)


def _cca(hardware: Hardware) -> Subject:
    realm, now = Realm(hardware.arm, rim=bytes(64)), hardware.now
    good = Sample(realm.quote(DATA), Collateral(arm=hardware.arm.collateral), now)
    found = _samples(broken_cca.broken(hardware.arm, now), "arm")
    return Subject(KINDS["cca"], [hardware.arm.anchor], good, found, timeless=True)


def _tpm(hardware: Hardware) -> Subject:
    tpm, now = _booted(hardware), hardware.now
    good = Sample(tpm.quote(QUALIFYING), Collateral(tpm=tpm.ak_collateral(now)), now)
    anchors = [installation_anchor("tpm", hardware.maker.root_pem)]
    found = _samples(broken_tpm.broken(hardware.maker, generate_p256(), now), "tpm")
    found.pop("tpm.ak.enrolment")  # another way to trust the key: a good sample of this one has no such check
    found.pop("tpm.ak")
    return Subject(KINDS["tpm"], anchors, good, found, optional=frozenset({"tpm.ak"}))


def _az_snp(hardware: Hardware) -> Subject:
    now, vm = hardware.now, AzureVm(_booted(hardware))
    chip = SnpChip(hardware.amd, measurement=MEASUREMENT, now=now)
    collateral = Collateral(amd=chip.collateral(now))
    anchors = [installation_anchor("snp", hardware.amd.root_pem)]
    return _azure("az-snp", vm, chip.report, Subject(KINDS["az-snp"], anchors, Sample(b"", collateral, now), {}))


def _az_tdx(hardware: Hardware) -> Subject:
    now, vm = hardware.now, AzureVm(_booted(hardware))
    chip = Chip(hardware.intel, mrtd=MEASUREMENT, sept_ve_disable=False)
    anchors = [installation_anchor("tdx", hardware.intel.root_pem)]
    sample = Sample(b"", hardware.intel.bundle(now), now)
    return _azure("az-tdx", vm, chip.quote, Subject(KINDS["az-tdx"], anchors, sample, {}))


def _azure(
    name: str,
    vm: AzureVm,
    sign: Callable[[bytes], bytes],
    subject: Subject,
) -> Subject:
    """The check of its own, and one of the vTPM's under a key that nobody vouches for; the rest is its parts' affair."""
    good = replace(subject.good, quote=vm.evidence(sign, QUALIFYING))
    elsewhere = vm.evidence(lambda bound: sign(bytes([bound[0] ^ 1]) + bound[1:]), QUALIFYING)
    decoded = codec.decode(AzureEvidence, good.quote)
    forged = codec.encode(replace(decoded, tpm=vm.quote(QUALIFYING, AzureVm(vm.tpm).ak)))
    found = {
        "azure.runtime": replace(good, quote=elsewhere),
        "tpm.quote.signature": replace(good, quote=forged),
    }
    own = frozenset(found)
    others = frozenset(check.id for check in Subject(KINDS[name], subject.anchors, good, {}).judge(good).checks) - own
    return replace(subject, good=good, broken=found, optional=others)


def _gce_snp(hardware: Hardware) -> Subject:
    now, vm = hardware.now, GoogleVm(_booted(hardware), hardware.now)
    chip = SnpChip(hardware.amd, measurement=MEASUREMENT, now=now)
    collateral = Collateral(amd=chip.collateral(now), tpm=vm.collateral(now))
    anchors = [installation_anchor("snp", hardware.amd.root_pem), installation_anchor("tpm", hardware.maker.root_pem)]
    return _google("gce-snp", vm, chip.report, Subject(KINDS["gce-snp"], anchors, Sample(b"", collateral, now), {}))


def _gce_tdx(hardware: Hardware) -> Subject:
    now, vm = hardware.now, GoogleVm(_booted(hardware), hardware.now)
    chip = Chip(hardware.intel, mrtd=MEASUREMENT)
    collateral = replace(hardware.intel.bundle(now), tpm=vm.collateral(now))
    anchors = [
        installation_anchor("tdx", hardware.intel.root_pem),
        installation_anchor("tpm", hardware.maker.root_pem),
    ]
    return _google("gce-tdx", vm, chip.quote, Subject(KINDS["gce-tdx"], anchors, Sample(b"", collateral, now), {}))


def _google(name: str, vm: GoogleVm, sign: Callable[[bytes], bytes], subject: Subject) -> Subject:
    """The checks of its own; the rest is its parts' affair.

    A quote of another VM's vTPM beside this hardware; an AK whose certificate is of no machine of Google's; a log that
    names other hardware.
    """

    def booted(technology: str) -> Sample:
        number = TECHNOLOGIES.index(technology)
        log = EventLog().event(0, codes.NONHOST_INFO, GCE_INFO + bytes([number]) + bytes(15)).boot()
        registers = replayed(log.log, "sha256")
        vm.tpm.pcrs["sha256"] = [registers.get(n, power_on(Style.TPM, n, 32)) for n in range(PCR_COUNT)]
        return replace(subject.good, quote=vm.evidence(sign, QUALIFYING), log=log.serialised())

    lying, good = booted("sev"), booted("sev-snp" if name == "gce-snp" else "tdx")
    untold = codec.decode(GoogleEvidence, good.quote)
    plain = replace(good.collateral, tpm=vm.tpm.ak_collateral(good.now))
    found = {
        "gce.hardware": replace(good, quote=vm.evidence(lambda data: sign(data[::-1]), QUALIFYING)),
        "gce.machine": replace(good, quote=codec.encode(replace(untold, certificate=b"")), collateral=plain),
        "gce.technology": lying,
    }
    judged = Subject(KINDS[name], subject.anchors, good, {}).judge(good)
    others = frozenset(check.id for check in judged.checks) - found.keys()
    return replace(subject, good=good, broken=found, optional=others)


def _booted(hardware: Hardware) -> Tpm:
    tpm = Tpm(hardware.maker, hardware.now)
    tpm.boot(b"image")
    return tpm


_MAKERS: Mapping[str, Callable[[Hardware], Subject]] = {
    "tdx": _tdx,
    "sgx": _sgx,
    "snp": _snp,
    "tpm": _tpm,
    "nitro": _nitro,
    "cca": _cca,
    "az-snp": _az_snp,
    "az-tdx": _az_tdx,
    "gce-snp": _gce_snp,
    "gce-tdx": _gce_tdx,
}
