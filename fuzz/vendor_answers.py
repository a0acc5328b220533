"""What vendors' services answer, before anything of it is verified: signed documents, headers, CRLs, chains, kept entries."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples
    from httpx2 import Headers

    from strongroom.collateral.cache import Entry, Floors
    from strongroom.collateral.fetchers.intel import TCB_CHAIN, cut_signed, der_of, issuer_chain
    from strongroom.collateral.http import Answer
    from strongroom.errors import StrongroomError
    from strongroom.records import codec
    from strongroom.tee.snp.endorsement import authorities


def one(data: bytes) -> None:
    printable = "".join(filter(str.isprintable, data.decode("ascii", "ignore")))
    for read in (
        lambda: cut_signed(data, "tcbInfo"),
        lambda: der_of(data),
        lambda: issuer_chain(Answer(Headers({TCB_CHAIN: printable}), b""), TCB_CHAIN),
        lambda: authorities(data.decode("ascii", "replace")),
        lambda: codec.decode(Entry, data),
        lambda: codec.decode(Floors, data),
    ):
        with suppress(StrongroomError):
            read()


def seeds() -> list[bytes]:
    found = samples.installation().collateral(samples.NOW)
    document = f'{{"tcbInfo":{found.tcb_info},"signature":"{found.tcb_info_signature.hex()}"}}'
    floors = b'{"floors":[{"issued":5,"number":"18","series":"x"}],"type":"strongroom/collateral-floors/v1"}'
    chain = found.tcb_info_chain.replace("\n", "%0A").encode()
    return [document.encode(), found.root_ca_crl, found.root_ca_crl.hex().encode(), chain, floors]


if __name__ == "__main__":
    run(one, seeds)
