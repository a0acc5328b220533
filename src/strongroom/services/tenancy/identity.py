"""From a credential to a tenant: API keys by their digest, OIDC tokens by signature and claims (OpenID Connect Core, 3.1.3.7).

Knows: what makes a credential somebody's. Does not know: HTTP, limits. Errors name the check that failed and nothing of the credential.
Not covered: revocation of a token before its end; short lives are the issuer's to choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strongroom.channel.credential import MAX_CREDENTIAL, key_digest
from strongroom.crypto import jwks
from strongroom.errors import CredentialRefused, MalformedRecord, SignatureInvalid, TenantRefused
from strongroom.services.tenancy.file import Issuer, Tenant, Tenants

LEEWAY = 30
"""Seconds by which an issuer's clock may differ from ours."""


class Register:
    """Who is who."""

    def __init__(self, tenants: Tenants) -> None:
        self._by_key = {key: tenant for tenant in tenants.tenants for key in tenant.keys}
        self._issuers = {issuer.url: (name, issuer) for name, issuer in tenants.issuers.items()}
        self._tenants = tenants.tenants

    def identify(self, credential: str, now: float) -> Tenant:
        """Whose credential it is at `now` (Unix seconds).

        Raises `CredentialRefused` for a credential that is nobody's, and `TenantRefused` for somebody who is no tenant here.
        """
        if len(credential) > MAX_CREDENTIAL:
            raise CredentialRefused("this credential is too long to be one")
        digest = key_digest(credential)
        if digest is None:
            return self._by_token(credential, now)
        tenant = self._by_key.get(digest)
        if tenant is None:
            raise CredentialRefused("this API key is not known here")
        return tenant

    def _by_token(self, token: str, now: float) -> Tenant:
        try:
            claimed = jwks.unverified_claims(token).get("iss")
            name, issuer = self._issuers.get(claimed, (None, None)) if isinstance(claimed, str) else (None, None)
            if name is None or issuer is None:
                raise CredentialRefused(
                    "this credential is neither an API key nor a token of an issuer that counts here"
                )
            claims = jwks.verify(token, issuer.keys, issuer.algorithms)
        except (MalformedRecord, SignatureInvalid) as error:
            raise CredentialRefused(
                "this credential is neither an API key nor a genuine token", detail=error.detail
            ) from None
        check_claims(claims, issuer, now)
        return self._member(name, claims)

    def _member(self, issuer: str, claims: Mapping[str, Any]) -> Tenant:
        found = [
            tenant
            for tenant in self._tenants
            if any(
                member.issuer == issuer and _holds(claims.get(member.claim), member.value) for member in tenant.members
            )
        ]
        if len(found) != 1:
            raise TenantRefused("this token is genuine, and its owner is not exactly one tenant here")
        return found[0]


def check_claims(claims: Mapping[str, Any], issuer: Issuer, now: float) -> None:
    """Raises `CredentialRefused` unless the claims of a genuine token are for here and for now."""
    if claims.get("iss") != issuer.url:
        raise CredentialRefused("this token is of another issuer", detail="iss")
    if not _holds(claims.get("aud"), issuer.audience):
        raise CredentialRefused("this token is for another audience", detail="aud")
    expiry, begin = claims.get("exp"), claims.get("nbf", now)
    if type(expiry) not in (int, float) or not now < float(expiry or 0) + LEEWAY:
        raise CredentialRefused("this token has ended, or does not say when it ends", detail="exp")
    if type(begin) not in (int, float) or not float(begin) - LEEWAY <= now:
        raise CredentialRefused("this token is not valid yet", detail="nbf")


def _holds(found: Any, wanted: str) -> bool:
    return wanted in found if isinstance(found, list) else found == wanted
