"""Mutants of evidence of Google: hardware's report and vTPM's quote, each signed anew, and what ties them made anew or not.

Knows: what the hardware must sign so that both are of one machine, worked out here a second time. Does not know: reports of
the hardware (`snp`, `dcap`), quotes (`tpm`), the AK's certificates (`tpm_trust`), or how mutants are judged.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from strongroom.appraisal.kinds import KINDS
from strongroom.crypto.signatures import generate_p256
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.google import GoogleEvidence
from strongroom.records.tpm import TpmQuote
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.eventlog import Style
from strongroom_sim.conformance import Sample
from strongroom_sim.eventlog import EventLog
from strongroom_sim.google import GoogleVm
from strongroom_sim.mutants import dcap, snp, tpm
from strongroom_sim.mutants.azure import REPORT_DATA, Beneath, above_snp, above_tdx
from strongroom_sim.mutants.logs import Logged, change_log, power_on, replayed
from strongroom_sim.mutants.mutant import (
    UNCHANGED,
    Base,
    Change,
    Forge,
    Maker,
    Mutant,
    other,
    with_collateral,
    with_quote,
)
from strongroom_sim.mutants.tpm import QUALIFYING, Key, Machine
from strongroom_sim.subjects import Hardware
from strongroom_sim.tpm import Tpm, public_area

CERTIFICATE = "gce.certificate"
REGISTERS = range(24)


@dataclass(frozen=True, slots=True)
class Vm:
    """One VM above one form of hardware, and the good sample."""

    beneath: Beneath
    base: Base


class Google:
    """VMs above every form of one kind of hardware, all of whose keys are at hand."""

    def __init__(self, kind: str, hardware: Hardware) -> None:
        self.kind, self.now = kind, hardware.now
        self.vm = GoogleVm(Tpm(hardware.maker, hardware.now), hardware.now)
        self.stranger = generate_p256()
        found: Sequence[Beneath]
        if kind == "gce-snp":
            chips = snp.Snp(hardware)
            found, anchors = [above_snp(guest) for guest in chips.guests], chips.anchors
        else:
            platform = dcap.Dcap("tdx", hardware)
            found, anchors = [above_tdx(platform, body) for body in platform.bodies], platform.anchors
        self.anchors = [*anchors, installation_anchor("tpm", hardware.maker.root_pem)]
        self.machine = Machine(
            Key(self.vm.tpm.ak, public_area(self.vm.tpm.ak.public_key())),
            {"sha256": {index: bytes([index]) * 32 for index in REGISTERS}},
        )
        self.vms = [Vm(beneath, self._base(beneath, self.machine)) for beneath in found]
        self.logged = self._logged(found[0])

    def evidence(
        self,
        beneath: Beneath,
        quote: TpmQuote,
        *,
        name: str = "",
        qualifying: bytes = QUALIFYING,
        hardware: bytes | None = None,
        certificate: bytes | None = None,
    ) -> bytes:
        """The whole: hardware that signs this name of an AK and these data, or that is given."""
        below = hardware if hardware is not None else beneath.sign(tied(name or self.name, qualifying))
        return codec.encode(GoogleEvidence(below, self.vm.certificate if certificate is None else certificate, quote))

    @property
    def name(self) -> str:
        return tpm.name_of(self.machine.key.public).hex()

    def collateral(self, beneath: Beneath) -> Collateral:
        return replace(beneath.collateral, tpm=self.vm.collateral(self.now))

    def _base(self, beneath: Beneath, machine: Machine, log: bytes = b"") -> Base:
        quote = self.evidence(beneath, machine.record())
        return Base.of(KINDS[self.kind], self.anchors, Sample(quote, self.collateral(beneath), self.now, log))

    def _logged(self, beneath: Beneath) -> Logged:
        made = EventLog().boot()

        def machine(registers: Mapping[int, bytes]) -> Machine:
            values = {index: registers.get(index, power_on(Style.TPM, index, 32)) for index in REGISTERS}
            return replace(self.machine, pcrs={"sha256": values})

        base = self._base(beneath, machine(replayed(made.log, "sha256")), made.serialised())
        claims = {index: f"pcr{index}" for index in REGISTERS}
        return Logged(
            made.log, "sha256", base, lambda registers: self.evidence(beneath, machine(registers).record()), claims
        )


def tied(name: str, qualifying: bytes) -> bytes:
    """What the hardware must sign, written out by hand."""
    text = json.dumps({"ak_name": name, "qualifying_data": codec.b64encode(qualifying)}, separators=(",", ":")).encode()
    tag = b"strongroom/vtpm-binding/v1"
    return hashlib.sha512(bytes([0, len(tag)]) + tag + len(text).to_bytes(8, "big") + text).digest()


def _hardware(chance: random.Random, made: Google) -> Mutant:
    """A field of the hardware's report; what it binds is not the attester's to choose here."""
    vm = chance.choice(made.vms)
    change = vm.beneath.change(chance, tied(made.name, QUALIFYING))
    says = None if change.where in REPORT_DATA else change.says
    evidence = made.evidence(vm.beneath, made.machine.record(), hardware=change.data)
    return with_quote(vm.base, replace(change, data=evidence, says=says))


def _quote(chance: random.Random, made: Google) -> Mutant:
    """The vTPM's quote, signed anew by the AK; the hardware means this one, or the good one."""
    vm = chance.choice(made.vms)
    record, change = tpm.change_quote(
        chance, made.machine, ("statement", "registers", "selection", "public", "signature")
    )
    moved = {"ak_name", "report_data"} & (change.says or {}).keys()
    if moved and not chance.randrange(3):
        return with_quote(vm.base, replace(change, data=made.evidence(vm.beneath, record), says=None))
    says = change.says or {}
    name = str(says.get("ak_name") or made.name)
    qualifying = bytes.fromhex(str(says["report_data"])) if "report_data" in says else QUALIFYING
    evidence = made.evidence(vm.beneath, record, name=name, qualifying=qualifying)
    return with_quote(vm.base, replace(change, data=evidence))


def _tie(chance: random.Random, made: Google) -> Mutant:
    """The hardware means another key, another quote, or nothing at all."""
    vm, record = chance.choice(made.vms), made.machine.record()
    wrong: Callable[[], bytes] = chance.choice(
        [
            lambda: tied(tpm.name_of(public_area(made.stranger.public_key())).hex(), QUALIFYING),
            lambda: tied(made.name, other(chance, QUALIFYING)),
            lambda: tied(made.name.upper(), QUALIFYING) if made.name.upper() != made.name else bytes(64),
            lambda: other(chance, tied(made.name, QUALIFYING)),
            lambda: QUALIFYING + bytes(32),
            lambda: hashlib.sha512(QUALIFYING).digest(),
            lambda: bytes(64),
        ]
    )
    evidence = made.evidence(vm.beneath, record, hardware=vm.beneath.sign(wrong()))
    return with_quote(vm.base, Change(evidence, "untied"))


def _certificate(chance: random.Random, made: Google) -> Mutant:
    """The copy of the certificate; a certificate of no machine, of one not for production, of another key."""
    vm, record = chance.choice(made.vms), made.machine.record()
    if chance.randrange(2):
        copy = chance.choice([b"", b"\x30", other(chance, made.vm.certificate), made.vm.certificate + b"\0"])
        evidence = made.evidence(vm.beneath, record, certificate=copy)
        says = None if copy else UNCHANGED
        return with_quote(vm.base, Change(evidence, "certificate shown", says, free=CERTIFICATE))
    machine = made.vm.tpm
    word = chance.choice(
        [
            machine.ak_collateral(made.now),
            GoogleVm(Tpm(machine.maker, made.now, ak=made.stranger), made.now).collateral(made.now),
            None,
        ]
    )
    collateral = replace(vm.base.sample.collateral, tpm=word)
    return with_collateral(vm.base, collateral, Change(b"", "certificate of another"))


def _log(chance: random.Random, made: Google) -> Mutant:
    return change_log(chance, made.logged)


def forge(kind: str, hardware: Hardware) -> Forge:
    """The mutants of `gce-snp` or `gce-tdx`."""
    made = Google(kind, hardware)
    ways: Mapping[str, tuple[int, Callable[[random.Random, Google], Mutant]]] = {
        "hardware": (5, _hardware),
        "quote": (5, _quote),
        "tie": (3, _tie),
        "certificate": (2, _certificate),
        "log": (3, _log),
    }
    bases = [*(vm.base for vm in made.vms), made.logged.base]
    return Forge(kind, bases, {name: Maker(weight, _bind(make, made)) for name, (weight, make) in ways.items()})


def _bind(make: Callable[[random.Random, Google], Mutant], made: Google) -> Callable[[random.Random], Mutant]:
    return lambda chance: make(chance, made)
