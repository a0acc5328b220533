"""The documents that Intel signs, for TDX and SGX: TCB info and the identity of the quoting enclave."""

import json
from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.tee.dcap.documents import QE, SGX, TD_QE, TDX, parse_qe_identity, parse_tcb_info


def one(data: bytes) -> None:
    for text in (data, data.decode("utf-8", "surrogateescape")):
        for kind in (TDX, SGX):
            with suppress(StrongroomError):
                parse_tcb_info(text, kind)
        for enclave in (TD_QE, QE):
            with suppress(StrongroomError):
                parse_qe_identity(text, enclave)


def seeds() -> list[bytes]:
    made = [samples.installation().collateral(samples.NOW, kind=kind) for kind in ("tdx", "sgx")]
    return [text.encode() for found in made for text in (found.tcb_info, found.qe_identity)] + [version_2()]


def version_2() -> bytes:
    """TCB info of SGX as it was written before version 3."""
    document = json.loads(samples.installation().collateral(samples.NOW, kind="sgx").tcb_info)
    del document["id"]
    for level in document["tcbLevels"]:
        components = enumerate(level["tcb"].pop("sgxtcbcomponents"), start=1)
        level["tcb"] |= {f"sgxtcbcomp{index:02}svn": item["svn"] for index, item in components}
    return json.dumps(document | {"version": 2}).encode()


if __name__ == "__main__":
    run(one, seeds)
