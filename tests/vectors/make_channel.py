"""Make `channel-v2.json` anew: sealed requests and answers, good and bad, for whoever writes an end of version 2.

Run it only when the version changes: `python tests/vectors/make_channel.py`. Encapsulating is never the same twice.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from strongroom.channel import heads, v2
from strongroom.crypto.hpke import ReleaseKey
from strongroom.records import codec
from strongroom.records.digest import digest_bytes

PRIVATE = ReleaseKey.from_bytes(bytes(range(96)))
KEYSET = digest_bytes(b"the keyset of the vectors")
NONCE = bytes(range(100, 132))
HEADERS = ((b"Authorization", b"Bearer a-key"), (b"Content-Type", b"application/json"))
HEAD = codec.encode(heads.RequestHead("POST", "/v1/chat/completions?x=1", heads.inner(HEADERS)))
BODY = b'{"messages":[{"role":"user","content":"Guten Tag"}]}'
ANSWER_HEAD = codec.encode(heads.AnswerHead(200, heads.inner([(b"content-type", b"text/event-stream")])))
EVENTS = (b"data: one\n\n", b"data: two\n\n", b"")


def vectors() -> Iterator[dict[str, str]]:
    secret = bytes(range(32))
    sealer = v2.RequestSealer.to(v2.Peer(PRIVATE.public, KEYSET), random=lambda _: secret)

    def request(comment: str, expect: str, body: bytes, head: bytes = HEAD, content: bytes = BODY) -> dict[str, str]:
        return vector("request", comment, expect, body, head, content)

    def vector(kind: str, comment: str, expect: str, body: bytes, head: bytes, content: bytes) -> dict[str, str]:
        found = {"kind": kind, "comment": comment, "expect": expect, "secret": secret.hex(), "body": body.hex()}
        if kind == "answer":
            found["request_head"] = sealer.head.hex()
        if expect == "success":
            found |= {"head": head.decode(), "content": content.hex()}
        return found

    whole = sealer.seal(HEAD, BODY)
    yield request("a head and a body", "success", whole)
    bodyless = codec.encode(heads.RequestHead("GET", "/v1/models", ()))
    yield request("no body: the head's frame is the final one", "success", sealer.seal(bodyless, b""), bodyless, b"")
    yield request("padded to another bucket", "success", sealer.seal(HEAD, BODY, bucket=64))
    first = v2.PREFIX_BYTES + int.from_bytes(whole[v2.HEAD_BYTES : v2.HEAD_BYTES + 4]) + v2.HEAD_BYTES
    yield request("cut after the head's frame", "channel.truncated", whole[:first])
    yield request("cut inside a frame", "channel.truncated", whole[:-1])
    yield request("bytes after the final frame", "channel.malformed", whole + b"\0")
    flagged = bytearray(whole[:first])
    flagged[v2.HEAD_BYTES + 4] = 1
    yield request("the final flag put where it was not", "channel.refused", bytes(flagged))
    yield request("the encapsulation changed", "channel.refused", bytes([whole[0] ^ 1]) + whole[1:])
    frames = whole[v2.HEAD_BYTES : first], whole[first:]
    yield request("frames in another order", "channel.refused", whole[: v2.HEAD_BYTES] + frames[1] + frames[0])

    answer = v2.RequestOpener(PRIVATE, KEYSET, whole).respond(NONCE)
    parts = [NONCE, answer.seal(ANSWER_HEAD), *(answer.seal(event, final=not event) for event in EVENTS)]
    said = ANSWER_HEAD, b"".join(EVENTS)
    yield vector("answer", "a stream of two events", "success", b"".join(parts), *said)
    yield vector("answer", "without its final frame", "channel.truncated", b"".join(parts[:-1]), *said)
    yield vector("answer", "an event left out", "channel.refused", b"".join(parts[:2] + parts[3:]), *said)
    yield vector("answer", "another nonce", "channel.refused", bytes(32) + b"".join(parts[1:]), *said)


def document() -> dict[str, object]:
    return {
        "version": v2.VERSION,
        "private": PRIVATE.to_bytes().hex(),
        "public": PRIVATE.public.hex(),
        "keyset": KEYSET,
        "vectors": list(vectors()),
    }


if __name__ == "__main__":
    Path(__file__).with_name("channel-v2.json").write_text(json.dumps(document(), indent=1) + "\n")
