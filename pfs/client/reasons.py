"""Why there is no connection to a server, for people."""

import os
import re
import ssl


def why_of(error: BaseException) -> str:
    """Return what is at the bottom of a failed connection, for people."""
    while isinstance(error.__cause__, BaseException):
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; `ca` names the file of another authority"
    if isinstance(error, ssl.SSLError) and re.search("_ALERT_.*(CERTIFICATE|UNKNOWN_CA)", error.reason or ""):
        return "it does not accept the certificate that it was shown (`usercert`)"
    if isinstance(error, ssl.SSLError):
        plain = error.reason == "WRONG_VERSION_NUMBER"
        return "it does not speak TLS; without TLS an address begins with http://" if plain else str(error)
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
