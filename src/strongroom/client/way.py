"""How connections leave a user's machine: through the proxy that its surroundings name, trusting the authorities that its owner trusts.

Knows: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY; SSL_CERT_FILE and SSL_CERT_DIR (httpx2 reads these); a file of authorities. Does
not know: workers. Each request goes the same way, the question for evidence too. Loopback is never asked of a proxy.

Safety: a proxy carries what it carries: TLS through it (CONNECT) ends where it would have ended without it, at the pinned key if there
is one; authorities, a company's own too, count only where no evidence names a key. Not covered: SOCKS, proxy auto-configuration.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from strongroom.errors import FileUnreadable, UsageError

_PROXIES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Way:
    """`proxy` is an httpx2 proxy or None; `authorities` a TLS context for keys that no evidence names, None for the usual one."""

    proxy: httpx2.Proxy | None = None
    authorities: ssl.SSLContext | None = None

    def options(self, pin: ssl.SSLContext | None) -> dict[str, Any]:
        """For an httpx2 transport whose TLS is judged by `pin`, or by authorities where that is None."""
        context = pin if pin is not None else self.authorities
        verify: dict[str, Any] = {} if context is None else {"verify": context}
        return verify if self.proxy is None else {**verify, "proxy": self.proxy}


DIRECT = Way()


def way_to(url: str, *, ca: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Way:
    """The way to `url` in surroundings `environ` (this process's if None), with the authorities in the PEM file `ca`.

    Raises `FileUnreadable` for a file without certificates, `UsageError` for a proxy that is not spoken to.
    """
    authorities = None if ca is None else _authorities(ca)
    named = _named(httpx2.URL(url), os.environ if environ is None else environ)
    return Way(None if named is None else _proxy(named, authorities), authorities)


def _authorities(path: str | Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else "no certificates in PEM"
        raise FileUnreadable(f"{path}: {reason}") from None


def _proxy(url: str, authorities: ssl.SSLContext | None) -> httpx2.Proxy:
    """Messages do not repeat the address: it may hold a password."""
    try:
        found = httpx2.URL(url if "://" in url else f"http://{url}")
        good = found.scheme in _PROXIES and bool(found.host)
    except httpx2.InvalidURL:
        good = False
    if not good:
        raise UsageError(
            "the environment names a proxy that is neither http:// nor https://",
            remedy="Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or except the worker by NO_PROXY.",
        )
    return httpx2.Proxy(found, ssl_context=authorities if found.scheme == "https" else None)


def _named(url: httpx2.URL, environ: Mapping[str, str]) -> str | None:
    if _excepted(url, _of("no_proxy", environ)):
        return None
    return _of(f"{url.scheme}_proxy", environ) or _of("all_proxy", environ) or None


def _of(name: str, environ: Mapping[str, str]) -> str:
    """Lower case first. In a CGI program HTTP_PROXY is what a stranger wrote into a header `Proxy`."""
    if name in environ:
        return environ[name].strip()
    return "" if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper(), "").strip()


def _excepted(url: httpx2.URL, listed: str) -> bool:
    """Whether NO_PROXY names the host: `*`, a name and all below it, an address, a network, each perhaps with a port."""
    host, address = url.host.lower().rstrip("."), _address(url.host)
    if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
        return True
    port = url.port or {"https": 443}.get(url.scheme, 80)
    return any(_matches(entry.strip().lower(), host, address, port) for entry in listed.split(",") if entry.strip())


def _matches(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdecimal() and (":" not in name or name.endswith("]")):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    entry = entry.removeprefix("*").strip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
