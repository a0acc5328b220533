"""What registries answer and what Docker's files hold: challenges, ranges, errors, lists; credentials; references."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import httpx2

    from strongroom.errors import StrongroomError
    from strongroom.sealed.registries.layout import parse_index, referrers_of
    from strongroom.sealed.registries.oci.address import parse_reference
    from strongroom.sealed.registries.oci.blobs import check_range, taken_of
    from strongroom.sealed.registries.oci.challenge import parse_challenges
    from strongroom.sealed.registries.oci.credentials import from_config
    from strongroom.sealed.registries.oci.registry import next_page
    from strongroom.sealed.registries.oci.repository import code_of
    from strongroom.sealed.registries.oci.transport import Answer, retry_after


def one(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with suppress(StrongroomError):
        parse_challenges(text)
    with suppress(StrongroomError):
        parse_reference(text, {})
    with suppress(StrongroomError):
        parse_reference(
            "oci://host/name", {"STRONGROOM_REGISTRY_MIRRORS": text, "STRONGROOM_INSECURE_REGISTRIES": text}
        )
    with suppress(StrongroomError):
        from_config(data, "host", "name", helper=lambda *_: data)
    with suppress(StrongroomError):
        referrers_of(parse_index(data), "type")
    code_of(data)
    names = ("content-range", "range", "link", "retry-after", "date", "location")
    headers = httpx2.Headers([(name.encode(), data[:8192]) for name in names])
    answer = Answer(200, headers, b"", "https://host/v2/name/")
    retry_after(headers)
    taken_of(answer)
    with suppress(StrongroomError):
        check_range(headers, (0, 9, 10), "here")
    with suppress(StrongroomError):
        next_page(answer)


def seeds() -> list[bytes]:
    return [
        b'Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull", Basic realm=x',
        b"oci://registry.example:5000/team/model@sha256:" + b"0" * 64,
        b"docker.io=mirror.example/hub,ghcr.io=localhost:5000",
        b'{"auths":{"https://index.docker.io/v1/":{"auth":"YW5uOnJhaW4="},"host/name":{"identitytoken":"t"}}}',
        b'{"credHelpers":{"host":"pass"},"credsStore":"osxkeychain"}',
        b'{"Username":"<token>","Secret":"t"}',
        b'{"errors":[{"code":"BLOB_UNKNOWN","message":"no"}]}',
        b'{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:' + b"0" * 64 + b'","size":1}]}',
        b"bytes 0-9/10",
        b"0-9",
        b'</v2/name/referrers/x?n=2>; rel="next"',
        b"Thu, 01 Jan 2026 00:00:00 GMT",
    ]


if __name__ == "__main__":
    run(one, seeds)
