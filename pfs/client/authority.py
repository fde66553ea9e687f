"""Who vouches for a server: the authorities of this system, one in a file, or the one that a key names; and for us.

A key may hold the hash of a certificate (`pfs.keys`). The certificate itself the server tells to everybody: it is asked
for over a connection on which nothing is trusted and nothing secret is said. What has that hash, and nothing else, is
then trusted; so the answer may come from anybody. This blocks: callers with an event loop use a thread.
"""

import http.client
import ssl

from pfs.client.reasons import why_of
from pfs.errors import Kind, PfsError
from pfs.keys import Pair, address_of, authority_of_key, bearer, hash_of
from pfs.protocol.wire import AUTHORITY_PATH

TIMEOUT_S = 10.0
PEM_BYTES_MAX = 64 * 1024
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_OTHER_NAME, _ENDED = (62, 64), 10  # X509_V_ERR_…
_OTHER_SERVER = "another server answers there, or it was made anew and its administrator has new keys"

# by hash: what a hash stands for never changes
_known: dict[str, str] = {}


class StrangerError(PfsError):
    """Another server answers than the one that is meant, as far as its certificate tells; of kind UNREACHABLE."""

    def __init__(self, message: str) -> None:
        super().__init__(Kind.UNREACHABLE, message)


def trust(url: str, token: str, ca: str | None, own: Pair | None = None) -> ssl.SSLContext | None:
    """Return what tells whether the server at `url` is the one that it says; None where it speaks no TLS.

    Args:
        token: a key may name the one certificate to trust; "" for none.
        ca: file with the authority to trust instead.
        own: tells the server who we are.

    Raises:
        PfsError: INVALID when the address is none or a file cannot be read, or when a key that names a certificate,
            or a certificate, would be shown without TLS; UNREACHABLE when the server does not tell the certificate that
            the key names.
    """
    named = authority_of_key(token)
    if not address_of(url).secure:
        if named or own is not None:
            what = "key" if named else "certificate"
            raise PfsError(Kind.INVALID, f"the {what} is for a server with TLS, and {url} has none; write https://")
        return None
    context = _trusting(url, named, ca, own)
    if own is not None:
        _show(context, own)
    return context


def _trusting(url: str, named: str, ca: str | None, own: Pair | None) -> ssl.SSLContext:
    if ca is None and named:
        if named not in _known:
            _known[named] = _asked(url, named)
        context = ssl.create_default_context(cadata=_known[named])
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be a root
        return context
    try:
        return ssl.create_default_context(cafile=ca, cadata=None if ca or own is None else _authorities(own) or None)
    except OSError as error:
        raise PfsError(Kind.INVALID, f"the certificate authority {ca} cannot be read: {why_of(error)}") from None


def _show(context: ssl.SSLContext, own: Pair) -> None:
    try:
        context.load_cert_chain(own.certfile, own.keyfile, password=lambda: b"")
    except OSError as error:
        files = f"the certificate {own.certfile} with the key {own.keyfile}"
        raise PfsError(Kind.INVALID, f"{files} cannot be used: {error.strerror or why_of(error)}") from None


def _authorities(own: Pair) -> str:
    """Return what stands behind the first certificate in a file."""
    try:
        return "".join(f"{BEGIN}{each}" for each in _text(own.certfile).split(BEGIN)[2:])
    except OSError as error:
        raise PfsError(Kind.INVALID, f"the certificate {own.certfile} cannot be read: {error.strerror}") from None


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def authorization(token: str, own: Pair | None) -> list[tuple[str, str]]:
    """Return the headers that tell who we are; none where a certificate alone does.

    Raises:
        PfsError: UNAUTHENTICATED when the token cannot be one.
    """
    return [] if own is not None and not token else [("authorization", bearer(token))]


def about_hanging_up(own: Pair | None) -> str:
    """Return what else is to be said of a server that hung up: it may not even say why it takes no certificate."""
    return "" if own is None else f", as one does that does not accept the certificate {own.certfile}"


def is_strange(error: BaseException) -> bool:
    """Tell whether there is no connection to a server because of its certificate."""
    return isinstance(_first(error), ssl.SSLCertVerificationError)


def _first(error: BaseException) -> BaseException:
    while isinstance(error.__cause__, BaseException):
        error = error.__cause__
    return error


def why_unreachable(url: str, token: str, ca: str | None, error: BaseException) -> str:
    """Return why there is no connection to a server, for people; it may be asked who vouches for it."""
    error = _first(error)
    if not isinstance(error, ssl.SSLCertVerificationError):
        return why_of(error)
    if error.verify_code in _OTHER_NAME:
        host = address_of(url).host
        return f"its certificate is not for the name {host}; the server gets one for that with: jobd url --name {host}"
    if error.verify_code == _ENDED:
        return "its certificate has ended, or a clock is wrong; the server's administrator has to renew it"
    try:
        expected = authority_of_key(token) if ca is None else _hash(_text(ca))
        shown = _hash(_told(url))
    except (PfsError, OSError, ValueError):
        return why_of(error)
    if not shown or shown == expected:
        return why_of(error)
    if not expected:
        cure = "`ca` (--ca) names the file with that one's certificate"
        return f"no authority that this machine trusts vouches for it, but sha256:{shown} does; {cure}"
    return f"sha256:{shown} vouches for it, and {ca or 'the key'} trusts sha256:{expected}: {_OTHER_SERVER}"


def is_known(token: str) -> bool:
    """Tell whether `trust` needs no server for this token."""
    named = authority_of_key(token)
    return not named or named in _known


def _asked(url: str, named: str) -> str:
    """Ask the server for the certificate with a hash; return it (PEM)."""
    text = _told(url)
    told = _hash(text)
    if told != named:
        shown = f"sha256:{told} vouches for it" if told else "it names nobody who vouches for it"
        why = f"{shown}, and the key trusts sha256:{named}"
        raise StrangerError(f"the server at {url} is not the one that the key is for: {why}: {_OTHER_SERVER}")
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(text))


def _told(url: str) -> str:
    """Return what the server says of who vouches for it (PEM); whether that is true, the caller has to find out."""
    address = address_of(url)
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address.host, address.port, timeout=TIMEOUT_S, context=anybody)
    try:
        connection.request("GET", AUTHORITY_PATH)
        with connection.getresponse() as answer:
            return answer.read(PEM_BYTES_MAX).decode("ascii")
    except UnicodeDecodeError:
        return ""
    except (OSError, http.client.HTTPException) as error:
        raise PfsError(Kind.UNREACHABLE, f"no connection to the server at {url}: {why_of(error)}") from None
    finally:
        connection.close()


def _hash(pem: str) -> str:
    """Return the hash of the first certificate in a text; "" where there is none."""
    try:
        der = ssl.PEM_cert_to_DER_cert(BEGIN + pem.partition(BEGIN)[2].partition(END)[0] + END)
    except ValueError:
        return ""
    return hash_of(der) if der else ""
