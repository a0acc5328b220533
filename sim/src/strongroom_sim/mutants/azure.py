"""Mutants of evidence of Azure: the hardware's report, the paravisor's words, the vTPM's quote; each vouches anew for the next.

Knows: how the three are tied together, and what the runtime claims make a verdict say. Does not know: reports of the hardware
(`snp`, `dcap`), quotes (`tpm`), or how mutants are judged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from strongroom.appraisal.kinds import KINDS
from strongroom.records import codec
from strongroom.records.azure import AzureEvidence
from strongroom.records.evidence import Collateral
from strongroom.records.tpm import TpmQuote
from strongroom.tee.eventlog import Style
from strongroom.tee.tpm import parse
from strongroom_sim.conformance import Sample
from strongroom_sim.eventlog import EventLog
from strongroom_sim.mutants import dcap, snp, snp_fields, tpm
from strongroom_sim.mutants.documents import change_json, strict
from strongroom_sim.mutants.logs import Logged, change_log, power_on, replayed
from strongroom_sim.mutants.mutant import UNCHANGED, Base, Change, Field, Forge, Maker, Mutant, Said, with_quote
from strongroom_sim.mutants.tpm import Key, Machine
from strongroom_sim.subjects import Hardware

RUNTIME, SHOWN = "azure.runtime", "azure.ak"
REGISTERS = range(24)
AK_NAME = "HCLAkPub"
BITS = ("secure-boot", "console-enabled", "tpm-enabled", "vmUniqueId")
LEAST_BITS = 2048
REPORT_DATA = {"report_data", "reportdata"}


@dataclass(frozen=True, slots=True)
class Beneath:
    """One form of hardware beneath: how it signs 64 bytes, and how it changes a field of what it signs."""

    sign: Callable[[bytes], bytes]
    change: Callable[[random.Random, bytes], Change]
    collateral: Collateral


@dataclass(frozen=True, slots=True)
class Vm:
    """One VM above one form of hardware, and the good sample."""

    beneath: Beneath
    machine: Machine
    base: Base


class Azure:
    """VMs above every form of one kind of hardware, all of whose keys are at hand."""

    def __init__(self, kind: str, hardware: Hardware) -> None:
        self.kind, self.now = kind, hardware.now
        self.key = rsa.generate_private_key(65537, LEAST_BITS)
        self.stranger = rsa.generate_private_key(65537, LEAST_BITS)
        found: Sequence[Beneath]
        if kind == "az-snp":
            chips = snp.Snp(hardware)
            found, self.anchors = [above_snp(guest) for guest in chips.guests], chips.anchors
        else:
            platform = dcap.Dcap("tdx", hardware)
            found, self.anchors = [above_tdx(platform, body) for body in platform.bodies], platform.anchors
        self.runtime = runtime(self.key)
        pcrs = {"sha256": {index: bytes([index]) * 32 for index in REGISTERS}}
        self.machine = Machine(self._ak(self.key), pcrs)
        self.vms = [Vm(beneath, self.machine, self._base(beneath, self.machine)) for beneath in found]
        self.logged = self._logged(found[0])

    def _ak(self, key: rsa.RSAPrivateKey) -> Key:
        return Key(key, tpm.bare(key), scheme=parse.RSASSA, bare=True, told=False)

    def evidence(
        self, beneath: Beneath, *, text: str | None = None, quote: TpmQuote | None = None, hardware: bytes | None = None
    ) -> bytes:
        """The whole, with these parts instead; the hardware signs the hash of the runtime claims."""
        said = (text or self.runtime).encode("utf-8", "surrogatepass")
        below = hardware if hardware is not None else beneath.sign(bound(said))
        return codec.encode(AzureEvidence(below, said, quote or self.machine.record()))

    def _base(self, beneath: Beneath, machine: Machine, log: bytes = b"") -> Base:
        quote = self.evidence(beneath, quote=machine.record())
        return Base.of(KINDS[self.kind], self.anchors, Sample(quote, beneath.collateral, self.now, log))

    def _logged(self, beneath: Beneath) -> Logged:
        made = EventLog().boot()

        def machine(registers: Mapping[int, bytes]) -> Machine:
            values = {index: registers.get(index, power_on(Style.TPM, index, 32)) for index in REGISTERS}
            return replace(self.machine, pcrs={"sha256": values})

        base = self._base(beneath, machine(replayed(made.log, "sha256")), made.serialised())
        claims = {index: f"pcr{index}" for index in REGISTERS}
        return Logged(
            made.log,
            "sha256",
            base,
            lambda registers: self.evidence(beneath, quote=machine(registers).record()),
            claims,
            without="1",
        )


def bound(text: bytes) -> bytes:
    """What the hardware's report data must be."""
    return hashlib.sha256(text).digest() + bytes(32)


def runtime(key: rsa.RSAPrivateKey) -> str:
    """The paravisor's claims."""
    numbers = key.public_key().public_numbers()
    ak = {"kid": AK_NAME, "key_ops": ["sign"], "kty": "RSA", "e": _number(numbers.e), "n": _number(numbers.n)}
    configuration = {"secure-boot": True, "console-enabled": False, "tpm-enabled": True, "vmUniqueId": "strongroom-sim"}
    document = {"keys": [ak], "vm-configuration": configuration, "user-data": "AB" * 64}
    return json.dumps(document, separators=(",", ":"))


def _number(value: int) -> str:
    return codec.b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def above_snp(guest: snp.Guest) -> Beneath:
    """A guest of SEV-SNP."""

    def signed(data: bytes) -> bytes:
        return guest.signed[:0x50] + data + guest.signed[0x90:]

    def change(chance: random.Random, data: bytes) -> Change:
        found = signed(data)
        fields: tuple[Field, ...] = snp_fields.fields_of(guest.product, guest.version, found)
        made = snp.change_report(chance, replace(guest, signed=found, fields=fields))
        return replace(made, data=guest.chip.sign(made.data))

    return Beneath(lambda data: guest.chip.sign(signed(data)), change, Collateral(amd=guest.amd))


def above_tdx(platform: dcap.Dcap, body: dcap.Body) -> Beneath:
    """A TD with this form of report."""
    place = next(field.at for field in body.fields if field.name == "reportdata")

    def signed(data: bytes) -> bytes:
        return body.signed[:place] + data + body.signed[place + 64 :]

    def change(chance: random.Random, data: bytes) -> Change:
        made = dcap.change_signed(chance, platform, replace(body, signed=signed(data)))
        return replace(made, data=platform.quote(made.data))

    return Beneath(lambda data: platform.quote(signed(data)), change, Collateral(intel=platform.intel))


def _hardware(chance: random.Random, made: Azure) -> Mutant:
    """A field of the hardware's report; what it binds is not the attester's to choose here."""
    vm = chance.choice(made.vms)
    change = vm.beneath.change(chance, bound(made.runtime.encode()))
    says = None if change.where in REPORT_DATA else change.says
    evidence = made.evidence(vm.beneath, hardware=change.data)
    return with_quote(vm.base, replace(change, data=evidence, says=says))


def _runtime(chance: random.Random, made: Azure) -> Mutant:
    """What the paravisor says, vouched for by the hardware or not."""
    vm = chance.choice(made.vms)
    if chance.randrange(3):
        text, where = change_json(chance, made.runtime, made.now, ("HCLAkPub", "HCLEkPub", "RSA", "EC", "1", "0"))
    else:
        text, where = _named_like_a_claim(chance, made, vm), "named like a claim"
    if not chance.randrange(6):
        hardware = vm.beneath.sign(bound(made.runtime.encode()))
        change = Change(made.evidence(vm.beneath, text=text, hardware=hardware), f"runtime unbound {where}")
    else:
        says = said(text, made.key)
        change = Change(made.evidence(vm.beneath, text=text), f"runtime {where}", says, free=RUNTIME)
    return with_quote(vm.base, change)


def _named_like_a_claim(chance: random.Random, made: Azure, vm: Vm) -> str:
    """A member of the configuration with the name of something that hardware or vTPM measured."""
    document = json.loads(made.runtime)
    name = chance.choice([*vm.base.genuine.claims, "mitigations_launch", "tcb_status_module", "debug"])
    if name in {"secure_boot", "console_enabled", "tpm_enabled", "vmUniqueId"}:
        name = "measurement"
    name = name.replace("_", "-") if chance.randrange(2) else name
    document["vm-configuration"][name] = chance.choice([True, False, "00" * 48, "1", "0", chance.randbytes(32).hex()])
    return json.dumps(document, separators=(",", ":"))


def said(text: str, key: rsa.RSAPrivateKey) -> Said | None:
    """What runtime claims make a verdict say, read a second time; None if they cannot be those of a quote by `key`."""
    document = strict(text)
    numbers = key.public_key().public_numbers()
    try:
        keys = [found for found in document["keys"] if isinstance(found, dict) and found.get("kid") == AK_NAME]
        right = (
            len(keys) == 1
            and keys[0]["kty"] == "RSA"
            and (_read(keys[0]["n"]), _read(keys[0]["e"])) == (numbers.n, numbers.e)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if not right:
        return None
    stated = document.get("vm-configuration")
    configuration: dict[str, Any] = stated if isinstance(stated, dict) else {}
    told: dict[str, str | int | None] = {name.replace("-", "_"): _word(configuration.get(name)) for name in BITS}
    user_data = document.get("user-data")
    return {**told, "runtime_user_data": user_data.lower() if isinstance(user_data, str) else ""}


def _read(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _word(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(int(value))
    return value if isinstance(value, str) else None


def _quote(chance: random.Random, made: Azure) -> Mutant:
    """The vTPM's quote, signed anew by the AK."""
    vm = chance.choice(made.vms)
    record, change = tpm.change_quote(chance, made.machine, ("statement", "registers", "selection", "signature"))
    return with_quote(vm.base, replace(change, data=made.evidence(vm.beneath, quote=record)))


def _key(chance: random.Random, made: Azure) -> Mutant:
    """Another AK in the claims, one that cannot be a key, one that evidence shows besides."""
    vm = chance.choice(made.vms)
    record = made.machine.record()
    says: Said | None
    match chance.randrange(5):
        case 0:
            evidence = made.evidence(vm.beneath, quote=replace(record, ak=tpm.bare(made.key)))
            return with_quote(vm.base, Change(evidence, "ak shown", UNCHANGED, free=SHOWN))
        case 1:
            shown = chance.choice([tpm.bare(made.stranger), b"\x30", tpm.bare(made.key) + b"\0"])
            return with_quote(
                vm.base, Change(made.evidence(vm.beneath, quote=replace(record, ak=shown)), "ak of another")
            )
        case 2:
            key = Key(made.stranger, tpm.bare(made.stranger), scheme=parse.RSASSA, bare=True, told=False)
            other = replace(made.machine, key=key).record()
            evidence = made.evidence(vm.beneath, text=runtime(made.stranger), quote=other)
            says = {"ak_name": "spki:" + hashlib.sha256(tpm.bare(made.stranger)).hexdigest()}
            return with_quote(vm.base, Change(evidence, "another ak", says))
        case 3:
            evidence = made.evidence(vm.beneath, text=runtime(made.stranger))
            return with_quote(vm.base, Change(evidence, "ak of another in the claims"))
        case _:
            document = json.loads(made.runtime)
            numbers = made.key.public_key().public_numbers()
            n = chance.choice(
                [
                    numbers.n,
                    numbers.n + 1,
                    numbers.n >> 1,
                    numbers.n << 8,
                    (1 << 2048) - 1,
                    1 << 2047,
                    0,
                    3,
                    1 << 12000 | 1,
                ]
            )
            e = chance.choice([numbers.e, 0, 1, 2, 3, 4, numbers.n, numbers.n + 2, 1 << 40 | 1, 1 << 3000 | 1])
            document["keys"][0] |= {"n": _number(n), "e": _number(e)}
            text = json.dumps(document, separators=(",", ":"))
            says = UNCHANGED if (n, e) == (numbers.n, numbers.e) else None
            return with_quote(vm.base, Change(made.evidence(vm.beneath, text=text), "ak numbers", says, free=RUNTIME))


def _log(chance: random.Random, made: Azure) -> Mutant:
    return change_log(chance, made.logged)


def forge(kind: str, hardware: Hardware) -> Forge:
    """The mutants of `az-snp` or `az-tdx`."""
    made = Azure(kind, hardware)
    ways: Mapping[str, tuple[int, Callable[[random.Random, Azure], Mutant]]] = {
        "hardware": (6, _hardware),
        "runtime": (5, _runtime),
        "quote": (4, _quote),
        "key": (2, _key),
        "log": (3, _log),
    }
    bases = [*(vm.base for vm in made.vms), made.logged.base]
    return Forge(kind, bases, {name: Maker(weight, _bind(make, made)) for name, (weight, make) in ways.items()})


def _bind(make: Callable[[random.Random, Azure], Mutant], made: Azure) -> Callable[[random.Random], Mutant]:
    return lambda chance: make(chance, made)
