import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import x509
from strongroom.errors import SignatureInvalid
from strongroom_sim import Installation

NOW = 1_790_000_000
CA, SIGNER = {"Intel SGX PCK Platform CA"}, {"Intel SGX TCB Signing"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    return Installation.create(tmp_path_factory.mktemp("authority") / "installation", now=NOW)


@pytest.fixture(scope="module")
def chain(installation):
    return x509.load_chain(installation.pck_chain)


def test_a_path_to_a_ca_holds_and_so_does_the_root_alone(chain):
    root = x509.certificate_digest(chain[2])
    assert x509.check_authority(chain[1:], root=root, roles=(CA,), now=NOW) is chain[1]
    assert x509.check_authority(chain[2:], root=root, roles=(), now=NOW) is chain[2]


def test_a_leaf_is_no_authority(chain, installation):
    root = x509.certificate_digest(chain[2])
    signer = [installation.certificates["tcb-signing"], chain[2]]
    for path, roles in ((signer, (SIGNER,)), (chain, ({"Intel SGX PCK Certificate"}, CA))):
        with pytest.raises(SignatureInvalid, match="may not issue"):
            x509.check_authority(path, root=root, roles=roles, now=NOW)


def test_the_length_of_a_path_counts_the_authority_itself(chain):
    """The platform CA may have no CA below it; a path that ends at a CA there is one too long."""
    root = x509.certificate_digest(chain[1])
    with pytest.raises(SignatureInvalid):
        x509.check_authority([chain[0], chain[1]], root=root, roles=({"Intel SGX PCK Certificate"},), now=NOW)


def test_roles_root_time_and_order_count(chain, tmp_path):
    root = x509.certificate_digest(chain[2])
    other = Installation.create(tmp_path / "other", now=NOW)
    foreign = x509.load_chain(other.certificates["root"].public_bytes(Encoding.PEM))[0]
    for path, pin, roles, now in (
        (chain[1:], root, ({"Intel SGX PCK Processor CA"},), NOW),
        (chain[1:], x509.certificate_digest(foreign), (CA,), NOW),
        ([chain[1], foreign], x509.certificate_digest(foreign), (CA,), NOW),
        (chain[1:], root, (CA,), NOW + 20 * 365 * 86_400),
        (chain[1:], root, (), NOW),
        (list(reversed(chain[1:])), root, (CA,), NOW),
        ([], root, (), NOW),
    ):
        with pytest.raises(SignatureInvalid):
            x509.check_authority(path, root=pin, roles=roles, now=now)
