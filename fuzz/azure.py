"""Evidence of Azure: the paravisor's report, its runtime claims, our record of it; the first byte chooses.

One that parses is verified as well, and what the paravisor says never stands under a name that something else measured.
"""

import functools
from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.appraisal.kinds import kind_of
    from strongroom.errors import StrongroomError
    from strongroom.records.evidence import Collateral
    from strongroom.tee.anchors import TrustAnchor, installation_anchor
    from strongroom.tee.azure import parse_report, parse_runtime
    from strongroom_sim import Chip
    from strongroom_sim.azure import SNP, TDREPORT, TDX, AzureVm
    from strongroom_sim.tpm import Tpm, TpmMaker

QUALIFYING = bytes(range(32))


@functools.cache
def made() -> tuple[AzureVm, Chip, Collateral, list[TrustAnchor]]:
    """A VM above a simulated TD, its collateral, its anchor."""
    place = samples.installation()
    vm = AzureVm(Tpm(TpmMaker.generate(now=samples.NOW), samples.NOW))
    return vm, Chip(place, mrtd=bytes(48)), place.bundle(samples.NOW), [installation_anchor("tdx", place.root_pem)]


def one(data: bytes) -> None:
    readers = (parse_report, read_runtime, read_record)
    if data:
        with suppress(StrongroomError):
            readers[data[0] % len(readers)](data[1:])


def read_runtime(data: bytes) -> None:
    found = parse_runtime(data)
    if not found.claims.keys() <= {"secure_boot", "console_enabled", "tpm_enabled", "vmUniqueId"}:
        raise AssertionError("the paravisor names a claim that is not its own")


def read_record(data: bytes) -> None:
    _, _, collateral, anchors = made()
    kind = kind_of("az-tdx")
    kind.stated(data)
    kind.judge(data, b"", collateral=collateral, anchors=anchors, now=samples.NOW)


def seeds() -> list[bytes]:
    vm, chip, _, _ = made()
    report = vm.report(TDX, TDREPORT)
    return [
        b"\0" + report,
        b"\0" + vm.report(SNP, bytes(1184)),
        b"\1" + vm.runtime(),
        b"\2" + vm.evidence(chip.quote, QUALIFYING),
    ]


if __name__ == "__main__":
    run(one, seeds)
