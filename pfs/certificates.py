"""A small certificate authority: one for a datacenter, which vouches for its server and for users.

    authority   made once, for 20 years: whoever holds a key of the datacenter trusts it, by its hash
    server      for the names and addresses by which it is dialled; renewed a month before it ends
    user        tells who somebody is; that it is known, and still good, the database says (`pfs.accounts.keyring`)

What is here makes and reads them; where they are kept is the caller's business, and so is the time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pfs.errors import Kind, PfsError

AUTHORITY_DAYS = 20 * 365
SERVER_DAYS = 397  # more is not believed everywhere
RENEW_DAYS = 30
EARLIER = timedelta(hours=1)  # clocks differ
COMMON_NAME_MAX = 64

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """What a certificate says.

    Attributes:
        der: the certificate itself.
        names: hosts and addresses that it is for.
        ends_at_ns: when it ends, since the epoch.
    """

    der: bytes
    names: frozenset[str]
    ends_at_ns: int


def make_authority(title: str, now_ns: int) -> Issued:
    """Return a new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(title)
    builder = (
        _builder(name, name, key.public_key(), now_ns, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return _signed(builder, key, key)


def issue_server(authority: Issued, names: Sequence[str], now_ns: int) -> Issued:
    """Return a new certificate for a server.

    Args:
        names: hosts and addresses by which it is dialled.

    Raises:
        PfsError: INVALID for what cannot be a host.
    """
    known: list[x509.GeneralName] = []
    for name in names:
        address = _address(check_host(name))
        known.append(x509.DNSName(name) if address is None else x509.IPAddress(address))
    alternative = x509.SubjectAlternativeName(known)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH
    return _issue(authority, "pfs server", purpose, now_ns, days=SERVER_DAYS, alternative=alternative)


def issue_user(authority: Issued, user: str, now_ns: int, days: int) -> Issued:
    """Return a new certificate of somebody."""
    return _issue(authority, user, ExtendedKeyUsageOID.CLIENT_AUTH, now_ns, days=days)


def read_certificate(pem: bytes) -> Read:
    """Return what the first certificate in a text says.

    Raises:
        PfsError: INVALID when there is none.
    """
    found = _loaded(pem)
    names: list[str] = []
    try:
        alternative = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternative.get_values_for_type(x509.DNSName)
        names += map(str, alternative.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        pass
    ends_at_ns = int(found.not_valid_after_utc.timestamp()) * 10**9
    return Read(found.public_bytes(serialization.Encoding.DER), frozenset(names), ends_at_ns)


def is_good_for(pem: bytes, authority: bytes, names: Sequence[str], now_ns: int) -> bool:
    """Tell whether a server's certificate is of that authority, for all these names, and not near its end."""
    read = read_certificate(pem)
    soon_ns = now_ns + int(timedelta(days=RENEW_DAYS).total_seconds()) * 10**9
    try:
        _loaded(pem).verify_directly_issued_by(_loaded(authority))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return read.names >= frozenset(names) and read.ends_at_ns > soon_ns


def check_host(name: str) -> str:
    """Return a host or an address.

    Raises:
        PfsError: INVALID for what cannot be one.
    """
    if _address(name) is None and not _HOST.fullmatch(name):
        raise PfsError(
            Kind.INVALID, f"{name!r} is no host and no address; a certificate is for such as dc1.example.org"
        )
    return name


def _issue(
    authority: Issued,
    title: str,
    purpose: x509.ObjectIdentifier,
    now_ns: int,
    *,
    days: int,
    alternative: x509.SubjectAlternativeName | None = None,
) -> Issued:
    issuer = _loaded(authority.certificate)
    signing = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_name(title), issuer.subject, key.public_key(), now_ns, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if alternative is not None:
        builder = builder.add_extension(alternative, critical=False)
    return _signed(builder, signing, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now_ns: int, days: int
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(now_ns // 10**9, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, signing: CertificateIssuerPrivateKeyTypes, key: ec.EllipticCurvePrivateKey
) -> Issued:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    certificate = builder.sign(signing, hashes.SHA256())
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form))


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:COMMON_NAME_MAX])])


def _loaded(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise PfsError(Kind.INVALID, "there is no certificate (PEM) here that can be read") from None


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
