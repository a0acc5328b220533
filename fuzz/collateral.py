"""The documents that Intel signs: TCB info and the identity of the quoting enclave."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.tee.tdx.documents import parse_qe_identity, parse_tcb_info


def one(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_tcb_info, parse_qe_identity):
        with suppress(StrongroomError):
            parse(text)


def seeds() -> list[bytes]:
    found = samples.bundle().collateral
    return [found.tcb_info.encode(), found.qe_identity.encode()]


if __name__ == "__main__":
    run(one, seeds)
