"""Files as people have them: evidence in every container, pieces of collateral, anchors, our wrapper; the first byte chooses."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.appraisal import cmw, formats
    from strongroom.appraisal.cmw import Attestation
    from strongroom.appraisal.formats import Presented
    from strongroom.appraisal.gather import read_anchors
    from strongroom.appraisal.pile import Pile
    from strongroom.crypto.signatures import public_to_pem
    from strongroom.errors import StrongroomError
    from strongroom.records import codec


def read_evidence(data: bytes) -> None:
    """Whatever is recognised as evidence is asked for what it says and for what belongs to it."""
    found: Presented = formats.read(data)
    pile = Pile(now=samples.NOW)
    formats.collateral_of(found, pile)


def read_pile(data: bytes) -> None:
    pile = Pile(now=samples.NOW)
    pile.add(data)
    for certificate in pile.certificates:
        pile.path_from(certificate)
        pile.crl_of(certificate)


def read_wrapper(data: bytes) -> None:
    found = cmw.unwrap(data)
    if cmw.unwrap(cmw.wrap(found)) != found:
        raise AssertionError("a wrapper does not survive being written and read again")


READERS = (read_evidence, read_pile, read_anchors, read_wrapper)


def one(data: bytes) -> None:
    if data:
        with suppress(StrongroomError):
            READERS[data[0] % len(READERS)](data[1:])


def seeds() -> list[bytes]:
    bundle, intel = samples.bundle(), samples.collateral()
    quote = bundle.evidence.quote
    root = samples.installation().root_pem
    document = f'{{"tcbInfo":{intel.tcb_info},"signature":"{intel.tcb_info_signature.hex()}"}}'.encode()
    return [
        b"\0" + codec.encode(bundle),
        b"\0" + quote,
        b"\0" + quote.hex().encode(),
        b'\0{"quote":"' + quote.hex().encode() + b'"}',
        b"\1" + codec.encode(bundle.collateral),
        b"\1" + intel.pck_crl,
        b"\1" + intel.tcb_info_chain.encode(),
        b"\1" + document,
        b"\2" + root,
        b"\2" + public_to_pem(samples.P384.public_key()),
        b"\3" + cmw.wrap(Attestation(bundle, "token")),
    ]


if __name__ == "__main__":
    run(one, seeds)
