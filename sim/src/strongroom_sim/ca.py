"""An installation: the root, the CAs and the one simulated machine that a developer makes for themselves.

Knows: which keys there are, where they lie, and which collateral they sign. Does not know: quotes (`chip`).

    DIR/root.pem           the trust anchor to name to a verifier, of class `installation`
    DIR/collateral.json    collateral, signed for 30 days; `renew` signs it anew
    DIR/platform.json, *.crt.pem, keys/*.pem (mode 0600)
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import signatures
from strongroom.errors import FileUnreadable, StrongroomError, UsageError
from strongroom.records import codec
from strongroom.records.evidence import Collateral, IntelCollateral
from strongroom_sim import certificates, tcb
from strongroom_sim.certificates import Platform

ROLES = {
    "root": "strongroom-sim Root CA",
    "platform-ca": "Intel SGX PCK Platform CA",
    "pck": "Intel SGX PCK Certificate",
    "tcb-signing": "Intel SGX TCB Signing",
}
"""File name -> common name. Below the root, names are the roles that a verifier demands."""

ISSUERS = {"root": "root", "platform-ca": "root", "tcb-signing": "root", "pck": "platform-ca"}
CAS_BELOW = {"root": 1, "platform-ca": 0}
"""How many CAs may stand below a CA."""

COLLATERAL_LIFE = 30 * 86_400
CLOCK_SKEW = 3_600


@dataclass(frozen=True)
class Installation:
    """Keys and certificates by the names in `ROLES`, and the simulated machine."""

    directory: Path
    platform: Platform
    keys: dict[str, EllipticCurvePrivateKey]
    certificates: dict[str, x509.Certificate]

    def __repr__(self) -> str:
        return f"Installation({self.directory})"

    @classmethod
    def create(cls, directory: Path, *, now: int) -> Installation:
        """Make a new installation in `directory`, which must not exist or be empty; all of it or nothing.

        Raises `UsageError`.
        """
        if directory.exists() and any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty", remedy="Name a new directory for the installation.")
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".strongroom-sim-", dir=directory.parent))
        try:
            installation = cls._generate(draft, now)
            installation.write(now)
            draft.rename(directory)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path) -> Installation:
        """Read an installation. Raises `FileUnreadable`."""
        try:
            stored = json.loads((directory / "platform.json").read_bytes())
            keys = {name: _private(directory / "keys" / f"{name}.pem") for name in ROLES}
            found = {name: x509.load_pem_x509_certificate(_crt(directory, name).read_bytes()) for name in ROLES}
            return cls(directory, _platform(stored), keys, found)
        except (OSError, ValueError, TypeError, KeyError, StrongroomError):
            raise FileUnreadable(
                f"{directory} holds no installation of strongroom-sim",
                remedy="Make one: python -m strongroom_sim init DIR",
            ) from None

    @property
    def root_pem(self) -> bytes:
        """The root certificate: the trust anchor."""
        return _pem(self.certificates["root"])

    @property
    def pck_chain(self) -> bytes:
        """What a quote carries: PCK certificate, platform CA, root."""
        return b"".join(_pem(self.certificates[name]) for name in ("pck", "platform-ca", "root"))

    def collateral(
        self, now: int, *, kind: str = "tdx", life: int = COLLATERAL_LIFE, revoked: tuple[str, ...] = ()
    ) -> IntelCollateral:
        """Collateral of a kind, issued an hour before `now`, good for `life` seconds; its CRLs list the roles `revoked`."""
        issued, until = now - CLOCK_SKEW, now + life
        signing_chain = (_pem(self.certificates["tcb-signing"]) + self.root_pem).decode("ascii")
        make_info, make_identity = tcb.DOCUMENTS[kind]
        tcb_info = json.dumps(make_info(self.platform, _time(issued), _time(until)), separators=(",", ":"))
        identity = json.dumps(make_identity(_time(issued), _time(until)), separators=(",", ":"))
        return IntelCollateral(
            tcb_info=tcb_info,
            tcb_info_signature=sign_raw(self.keys["tcb-signing"], tcb_info.encode()),
            tcb_info_chain=signing_chain,
            qe_identity=identity,
            qe_identity_signature=sign_raw(self.keys["tcb-signing"], identity.encode()),
            qe_identity_chain=signing_chain,
            root_ca_crl=self.crl("root", revoked, issued=issued, until=until),
            pck_crl=self.crl("platform-ca", revoked, issued=issued, until=until),
            pck_crl_chain=(_pem(self.certificates["platform-ca"]) + self.root_pem).decode("ascii"),
        )

    def bundle(self, now: int) -> Collateral:
        """The same as evidence brings it along."""
        return Collateral(intel=self.collateral(now))

    def renew(self, now: int) -> None:
        """Sign `collateral.json` anew; a reader sees the old or the new file, never a part."""
        draft = self.directory / ".collateral.json"
        draft.write_bytes(codec.encode(self.bundle(now)))
        draft.replace(self.directory / "collateral.json")

    def resigned(self, collateral: IntelCollateral, document: str, **changed: Any) -> IntelCollateral:
        """`collateral` with members of `tcb_info` or `qe_identity` changed, signed anew by its rightful signer."""
        content = json.loads(getattr(collateral, document)) | changed
        text = json.dumps({name: value for name, value in content.items() if value is not None}, separators=(",", ":"))
        signature = sign_raw(self.keys["tcb-signing"], text.encode())
        if document == "tcb_info":
            return replace(collateral, tcb_info=text, tcb_info_signature=signature)
        return replace(collateral, qe_identity=text, qe_identity_signature=signature)

    def reissued(self, role: str, now: int, *, platform: Platform | None = None, bare: bool = False) -> Installation:
        """The same installation, whose certificate of one role was issued at `now`.

        That of the PCK says what `platform` says, or, if `bare`, nothing.
        """
        issuer = ISSUERS[role]
        stated = platform or self.platform
        made = certificates.certificate(
            self.certificates[role].subject,
            self.keys[role].public_key(),
            self.certificates[issuer].subject,
            self.keys[issuer],
            now=now,
            ca_below=CAS_BELOW.get(role),
            extension=certificates.sgx_extension(stated) if role == "pck" and not bare else None,
        )
        return replace(self, platform=stated, certificates=self.certificates | {role: made})

    def crl(self, issuer: str, revoked: tuple[str, ...] = (), *, issued: int, until: int) -> bytes:
        """The list of one CA's revoked certificates (DER), out of the roles `revoked`."""
        below = [name for name, above in ISSUERS.items() if above == issuer and name in revoked and name != issuer]
        serials = [self.certificates[name].serial_number for name in below]
        subject = self.certificates[issuer].subject
        crl = certificates.revocation_list(subject, self.keys[issuer], serials, issued=issued, until=until)
        return crl.public_bytes(Encoding.DER)

    @classmethod
    def ephemeral(cls, now: int) -> Installation:
        """An installation that is never written: for tests."""
        return cls._generate(Path("/dev/null"), now)

    @classmethod
    def _generate(cls, directory: Path, now: int) -> Installation:
        keys = {name: signatures.generate_p256() for name in ROLES}
        platform = Platform(
            ppid=secrets.token_bytes(16),
            instance_id=secrets.token_bytes(16),
            fmspc=tcb.FMSPC,
            pceid=bytes(2),
            components=tcb.COMPONENTS,
            pcesvn=tcb.PCESVN,
        )
        root_name = certificates.name(f"{ROLES['root']} {secrets.token_hex(4)}")
        names = {name: certificates.name(common_name) for name, common_name in ROLES.items()} | {"root": root_name}
        made = {
            name: certificates.certificate(
                names[name],
                keys[name].public_key(),
                names[issuer],
                keys[issuer],
                now=now,
                ca_below=CAS_BELOW.get(name),
                extension=certificates.sgx_extension(platform) if name == "pck" else None,
            )
            for name, issuer in ISSUERS.items()
        }
        return cls(directory, platform, keys, made)

    def write(self, now: int) -> None:
        """Write all of it into its directory, which must be new."""
        (self.directory / "keys").mkdir(mode=0o700)
        for name, key in self.keys.items():
            _write_private(self.directory / "keys" / f"{name}.pem", signatures.private_to_pem(key))
            _crt(self.directory, name).write_bytes(_pem(self.certificates[name]))
        stored = {
            name: value.hex() if isinstance(value, bytes) else value for name, value in asdict(self.platform).items()
        }
        (self.directory / "platform.json").write_text(json.dumps(stored), "ascii")
        self.renew(now)


def sign_raw(key: EllipticCurvePrivateKey, data: bytes) -> bytes:
    """An ECDSA P-256 signature as 64 bytes, r and s, as Intel writes them."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _platform(stored: dict[str, Any]) -> Platform:
    ppid, instance, fmspc, pceid = (bytes.fromhex(stored[name]) for name in ("ppid", "instance_id", "fmspc", "pceid"))
    configuration = (bool(stored.get(name)) for name in ("dynamic", "cached_keys", "smt"))
    return Platform(ppid, instance, fmspc, pceid, tuple(stored["components"]), stored["pcesvn"], *configuration)


def _private(path: Path) -> EllipticCurvePrivateKey:
    key = signatures.private_from_pem(path.read_bytes())
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TypeError(path.name)
    return key


def _write_private(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _crt(directory: Path, name: str) -> Path:
    return directory / ("root.pem" if name == "root" else f"{name}.crt.pem")


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
