"""Files of a launch: programs of UEFI, unified and enclave images, firmware, variables, kernels; the specification itself."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    from strongroom.errors import StrongroomError
    from strongroom.launch.measure import eif, firmware, linux, pe, snp, tdx, uki
    from strongroom.launch.spec import from_toml, to_toml
    from strongroom.records.launch import Boot, Firmware, LaunchSpec, Machine, PinnedFile
    from strongroom_sim import images

FILE = PinnedFile("image", "sha256:" + "ab" * 32)


def one(data: bytes) -> None:
    with suppress(StrongroomError):
        image = eif.parse_eif(data)
        eif.command_line(image)
        eif.pcrs(image)
    with suppress(StrongroomError):
        pe.authenticode(pe.parse_program(data), "sha256")
    with suppress(StrongroomError):
        found = uki.parse_uki(data)
        _ = found.command_line, found.kernel, found.initrd
    with suppress(StrongroomError):
        linux.patched(data, 5000, 2 << 30)
    with suppress(StrongroomError):
        firmware.read_variables(data)
    with suppress(StrongroomError):
        tdx.mrtd(data, "10.1")
    with suppress(StrongroomError):
        for memory in (2 << 30, 4 << 30):
            tdx.hand_off(firmware.tdx_sections(data), memory)
    with suppress(StrongroomError):
        snp.measurement(SNP, data, b"kernel", b"initrd", "quiet")
    with suppress(StrongroomError):
        spec = from_toml(data.decode("utf-8", "replace"))
        if from_toml(to_toml(spec)) != spec:
            raise AssertionError("a launch specification does not survive being written and read again")


SNP = LaunchSpec(
    name="fuzz",
    tee="snp",
    machine=Machine("10.1", "EPYC-Milan", 2, 2048, 1),
    boot=Boot("linux", FILE, None, "quiet", ()),
    firmware=Firmware(FILE, None, "absent", {}),
    devices=(),
    gpus=None,
    workload=None,
)


def seeds() -> list[bytes]:
    return [
        images.kernel(),
        images.unified(),
        images.program({".text": b"code"}, signature=b"signature"),
        images.firmware(),
        images.variables({("8be4df61-93ca-11d2-aa0d-00e098032b8c", "PK"): b"key"}),
        images.enclave(),
        to_toml(SNP).encode(),
    ]


if __name__ == "__main__":
    run(one, seeds)
