"""Saved runs of `bench platform`, made and not measured."""

from strongroom.bench.platform.saved import Saved, measured

CODE = {"benchmark": "sha256:00", "model": "none", "python": "3.11.7", "numpy": "2.0"}
SETTINGS = {"copy_mib": 512, "calls": 100}
PLAIN = {"cpu": "EPYC", "tee": "none seen", "kernel": "6.17"}
PROTECTED = PLAIN | {"tee": "snp"}
STEADY = (9.9, 9.95, 10.0, 10.0, 10.0, 10.05, 10.1)


def saved(
    *,
    factor=1.0,
    code=CODE,
    settings=SETTINGS,
    environment=PLAIN,
    samples=STEADY,
    without=(),
    what="copies",
    unit="GB/s",
):
    """A run on a machine that needs `factor` times as long."""
    made = (
        measured("memory.copy", unit, "more", what, [sample / factor for sample in samples]),
        measured("kernel.call", "µs", "less", "calls", [sample * factor for sample in samples]),
    )
    return Saved(
        machine="a machine",
        date="2026-11-26",
        measured=tuple(each for each in made if each.figure.id not in without),
        skipped=("pcie.to_device: not measured: no GPU",),
        code=code,
        settings=settings,
        environment=environment,
    )
