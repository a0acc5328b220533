import hashlib

from strongroom.receipts.chain import chain_head, token_digest


def test_the_chain_is_what_the_page_says():
    """Written out by hand: u16 tag length, tag, u64 payload length, canonical JSON."""
    token = "a.b.c"
    payload = b'{"previous":null,"token_sha256":"sha256:%s"}' % hashlib.sha256(b"a.b.c").hexdigest().encode()
    framed = b"\x00\x13strongroom/chain/v1" + len(payload).to_bytes(8, "big") + payload
    assert chain_head(None, token) == "sha256:" + hashlib.sha256(framed).hexdigest()


def test_order_and_content_of_tokens_decide_the_head():
    first, second = chain_head(None, "a"), chain_head(None, "b")
    heads = {first, second, chain_head(first, "b"), chain_head(second, "a"), chain_head(first, "a")}
    assert len(heads) == 5
    assert token_digest("a") not in heads
