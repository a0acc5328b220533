"""Blind RSA: the vector of RFC 9474, `cryptography`'s own RSA-PSS as oracle, unlinkability by arithmetic, refusals."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import blind_rsa
from strongroom.errors import MalformedMessage, SignatureInvalid

P = int(
    "e1f4d7a34802e27c7392a3cea32a262a34dc3691bd87f3f310dc75673488930559c120fd0410194fb8a0da55bd0b81227e843fdca6692ae80e5a5d"
    "414116d4803fca7d8c30eaaae57e44a1816ebb5c5b0606c536246c7f11985d731684150b63c9a3ad9e41b04c0b5b27cb188a692c84696b742a80d3"
    "cd00ab891f2457443dadfeba6d6daf108602be26d7071803c67105a5426838e6889d77e8474b29244cefaf418e381b312048b457d73419213063c6"
    "0ee7b0d81820165864fef93523c9635c22210956e53a8d96322493ffc58d845368e2416e078e5bcb5d2fd68ae6acfa54f9627c42e84a9d3f277401"
    "7e32ebca06308a12ecc290c7cd1156dcccfb2311",
    16,
)
Q = int(
    "c601a9caea66dc3835827b539db9df6f6f5ae77244692780cd334a006ab353c806426b60718c05245650821d39445d3ab591ed10a7339f15d83fe1"
    "3f6a3dfb20b9452c6a9b42eaa62a68c970df3cadb2139f804ad8223d56108dfde30ba7d367e9b0a7a80c4fdba2fd9dde6661fc73fc2947569d2029"
    "f2870fc02d8325acf28c9afa19ecf962daa7916e21afad09eb62fe9f1cf91b77dc879b7974b490d3ebd2e95426057f35d0a3c9f45f79ac727ab81a"
    "519a8b9285932d9b2e5ccd347e59f3f32ad9ca359115e7da008ab7406707bd0e8e185a5ed8758b5ba266e8828f8d863ae133846304a2936ad7bc7c"
    "9803879d2fc4a28e69291d73dbd799f8bc238385",
    16,
)
FACTOR = bytes.fromhex(
    "80682c48982407b489d53d1261b19ec8627d02b8cda5336750b8cee332ae260de57b02d72609c1e0e9f28e2040fc65b6f02d56dbd6aa9af8fde656"
    "f70495dfb723ba01173d4707a12fddac628ca29f3e32340bd8f7ddb557cf819f6b01e445ad96f874ba235584ee71f6581f62d4f43bf03f910f6510"
    "deb85e8ef06c7f09d9794a008be7ff2529f0ebb69decef646387dc767b74939265fec0223aa6d84d2a8a1cc912d5ca25b4e144ab8f6ba054b54910"
    "176d5737a2cff011da431bd5f2a0d2d66b9e70b39f4b050e45c0d9c16f02deda9ddf2d00f3e4b01037d7029cd49c2d46a8e1fc2c0c17520af1f4b5"
    "e25ba396afc4cd60c494a4c426448b35b49635b337cfb08e7c22a39b256dd032c00adddafb51a627f99a0e1704170ac1f1912e49d9db10ec04c19c"
    "58f420212973e0cb329524223a6aa56c7937c5dffdb5d966b6cd4cbc26f3201dd25c80960a1a111b32947bb78973d269fac7f5186530930ed19f68"
    "507540eed9e1bab8b00f00d8ca09b3f099aae46180e04e3584bd7ca054df18a1504b89d1d1675d0966c4ae1407be325cdf623cf13ff13e4a28b594"
    "d59e3eadbadf6136eee7a59d6a444c9eb4e2198e8a974f27a39eb63af2c9af3870488b8adaad444674f512133ad80b9220e09158521614f1faadfe"
    "8505ef57b7df6813048603f0dd04f4280177a11380fbfc861dbcbd7418d62155248dad5fdec0991f"
)
MESSAGE = bytes.fromhex(
    "8f3dc6fb8c4a02f4d6352edf0907822c1210a9b32f9bdda4c45a698c80023aa6b59f8cfec5fdbb36331372ebefedae7d"
)
PREFIX = bytes.fromhex("6326d77e43decab132aedf4442fa270a72fd4d604ba39af0ec3823d61d5653e5")
SALT = bytes.fromhex("051722b35f458781397c3a671a7d3bd3096503940e4c4f1aaa269d60300ce449555cd7340100df9d46944c5356825abf")
BLINDED = ("9e4dbdbca099f90884f3f3eae2edcdf5d3340c7ae4efef80475287a7437209b4", "acd1b51a7b2b8958155f615e208839")
SIGNED = ("118be569569a61578bcddeb9c7d4ffd47519208476e4cb061819906247d3b785", "a9543b8ee2a22733284812eb47")
SIGNATURE = ("80652cfb9f82c43e3c81c32ef41e7f41f36d74c6024cd9dab9d5d35cd4b027e7", "86f4b91cf78abfc04b5")
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return blind_rsa.generate()


def vector_key() -> rsa.RSAPrivateKey:
    public = rsa.RSAPublicNumbers(65537, P * Q)
    d = pow(65537, -1, (P - 1) * (Q - 1))
    numbers = rsa.RSAPrivateNumbers(P, Q, d, d % (P - 1), d % (Q - 1), pow(Q, -1, P), public)
    return numbers.private_key()


def test_the_vector_of_the_specification_comes_out_at_every_step():
    key = vector_key()
    drawn = iter([PREFIX, SALT, FACTOR])
    prepared = blind_rsa.prepare(MESSAGE, lambda _: next(drawn))
    blinded = blind_rsa.blind(key.public_key(), prepared, lambda _: next(drawn))
    signed = blind_rsa.blind_sign(key, blinded.request)
    signature = blind_rsa.finalize(key.public_key(), prepared, signed, blinded.inverse)
    assert prepared == PREFIX + MESSAGE
    for value, (head, tail) in ((blinded.request, BLINDED), (signed, SIGNED), (signature, SIGNATURE)):
        assert len(value) == 512
        assert (value.hex().startswith(head), value.hex().endswith(tail)) == (True, True)


@given(message=st.binary(max_size=100))
@settings(max_examples=20, deadline=None)
def test_what_comes_out_is_an_ordinary_signature_of_the_message_and_of_no_other(key, message):
    public = key.public_key()
    prepared = blind_rsa.prepare(message)
    blinded = blind_rsa.blind(public, prepared)
    signature = blind_rsa.finalize(public, prepared, blind_rsa.blind_sign(key, blinded.request), blinded.inverse)
    public.verify(signature, prepared, PSS, hashes.SHA384())
    with pytest.raises(SignatureInvalid):
        blind_rsa.verify(public, prepared + b"x", signature)
    blind_rsa.verify(public, b"others", key.sign(b"others", PSS, hashes.SHA384()))


def test_every_signature_fits_every_request_so_the_signer_cannot_tell_which_it_was(key):
    """For each request seen and each signature found there is one blinding factor that joins them, so all are as likely."""
    public, n = key.public_key(), key.public_key().public_numbers().n
    seen, found = [], []
    for number in range(3):
        prepared = blind_rsa.prepare(bytes([number]))
        blinded = blind_rsa.blind(public, prepared)
        seen.append(blinded.request)
        found.append(blind_rsa.finalize(public, prepared, blind_rsa.blind_sign(key, blinded.request), blinded.inverse))
    for request in seen:
        for signature in found:
            encoded = pow(int.from_bytes(signature), 65537, n)
            factor_to_e = int.from_bytes(request) * pow(encoded, -1, n) % n
            factor = int.from_bytes(blind_rsa.blind_sign(key, factor_to_e.to_bytes(256)))
            assert encoded * pow(factor, 65537, n) % n == int.from_bytes(request)


def test_a_signer_that_signs_something_else_is_noticed(key):
    public = key.public_key()
    prepared = blind_rsa.prepare(b"m")
    blinded = blind_rsa.blind(public, prepared)
    signed = blind_rsa.blind_sign(key, blinded.request)
    other = blind_rsa.blind_sign(blind_rsa.generate(), bytes(255) + b"\x05")
    for wrong in (other, bytes(256), signed[:-1] + bytes([signed[-1] ^ 1])):
        with pytest.raises(SignatureInvalid):
            blind_rsa.finalize(public, prepared, wrong, blinded.inverse)
    for wrong in (signed[:-1], signed + b"\x00", b""):
        with pytest.raises(MalformedMessage):
            blind_rsa.finalize(public, prepared, wrong, blinded.inverse)


def test_a_request_that_does_not_fit_the_key_is_not_signed(key):
    n = key.public_key().public_numbers().n
    for wrong in (b"", bytes(256), n.to_bytes(256), bytes(255), bytes(257), b"\xff" * 256):
        with pytest.raises(MalformedMessage):
            blind_rsa.blind_sign(key, wrong)


def test_only_keys_of_these_sizes_and_this_exponent_are_used(key):
    public = key.public_key()
    assert blind_rsa.public_from_der(blind_rsa.public_to_der(public)) == public
    small, odd = rsa.generate_private_key(65537, 1024), rsa.generate_private_key(3, 2048)  # noqa: S505 (refused)
    for wrong in (small.public_key(), odd.public_key(), ec.generate_private_key(ec.SECP256R1()).public_key(), None):
        with pytest.raises(MalformedMessage):
            blind_rsa.check(wrong)
    for data in (b"", b"\x30\x03\x02\x01\x00", blind_rsa.public_to_der(public)[:-1]):
        with pytest.raises(MalformedMessage):
            blind_rsa.public_from_der(data)


def test_secrets_are_not_shown(key):
    blinded = blind_rsa.blind(key.public_key(), blind_rsa.prepare(b"m"))
    assert str(blinded.inverse) not in repr(blinded)
