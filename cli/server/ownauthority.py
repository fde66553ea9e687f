"""The datacenter's own authority, where it is kept: `server/tls` in the data root, which only the server may enter.

authority.pem       the certificate that keys name, told to everybody
authority-key.pem   its key
server.pem          the server's certificate and its key in one file: no reader sees two that do not belong together
"""

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from pfs.certificates import Issued

FOLDER = "tls"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class OwnAuthority:
    """The folder with authority and server's certificate.

    Args:
        private: the server's own folder.
    """

    def __init__(self, private: str) -> None:
        self.folder = os.path.join(private, FOLDER)
        self.certificate_file = os.path.join(self.folder, "authority.pem")
        self._key_file = os.path.join(self.folder, "authority-key.pem")
        self.server_file = os.path.join(self.folder, "server.pem")

    @property
    def is_there(self) -> bool:
        """Whether it was made."""
        return os.path.exists(self.certificate_file)

    def certificate(self) -> bytes:
        """Return the authority's certificate (PEM)."""
        return _read(self.certificate_file)

    def make(self, datacenter: str, now_ns: int) -> None:
        """Make the authority, where there is none."""
        from pfs.certificates import make_authority

        if self.is_there:
            return
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        made = make_authority(f"pfs authority of {datacenter}", now_ns)
        write_private(self._key_file, made.key)
        write_private(self.certificate_file, made.certificate)  # last: it is what tells that all is there

    def certify_server(self, names: Sequence[str], now_ns: int) -> bool:
        """Make or renew the server's certificate where that is needed; return whether it was.

        Args:
            names: hosts and addresses that it has to be for; those that it is for already it keeps.
        """
        from pfs.certificates import is_good_for, issue_server, read_certificate

        authority, kept = self._authority(), []
        if os.path.exists(self.server_file):
            before = _read(self.server_file)
            if is_good_for(before, authority.certificate, names, now_ns):
                return False
            kept = sorted(read_certificate(before).names)
        made = issue_server(authority, list(dict.fromkeys([*names, *kept])), now_ns)
        write_private(self.server_file, made.certificate + made.key)
        return True

    def certify_user(self, user: str, now_ns: int, days: int) -> "Issued":
        """Return a new certificate of somebody, which proves nothing before the keyring knows it."""
        from pfs.certificates import issue_user

        return issue_user(self._authority(), user, now_ns, days)

    def _authority(self) -> "Issued":
        from pfs.certificates import Issued

        return Issued(self.certificate(), _read(self._key_file))


def own_names() -> list[str]:
    """Return the names by which this machine knows itself; a name server is not waited for."""
    from pfs.certificates import check_host

    try:
        return list(dict.fromkeys((*LOCAL_NAMES, check_host(socket.gethostname().lower()))))
    except PfsError:
        return [*LOCAL_NAMES]


def check_free(paths: Sequence[str]) -> None:
    """Make sure that new files can be written there, and that nothing is overwritten.

    Raises:
        PfsError: EXISTS, NOT_FOUND or DENIED.
    """
    for path in paths:
        folder = os.path.dirname(path)
        if os.path.lexists(path):
            raise PfsError(Kind.EXISTS, f"{path} is there already; move it away, or name another folder")
        if not os.path.isdir(folder):
            raise PfsError(Kind.NOT_FOUND, f"there is no folder {folder}; make it, or name another one")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PfsError(Kind.DENIED, f"{folder} cannot be written to; name another folder")


def write_private(path: str, data: bytes) -> None:
    """Write a file that only its owner reads; whoever reads it sees the old or the new one whole."""
    part = f"{path}.new"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        cure = "restore it with the rest of the data root"
        raise PfsError(Kind.IO, f"the server's own {path} cannot be read: {error.strerror}; {cure}") from None
