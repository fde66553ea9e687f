"""Keys of running jobs, which open what a job may have to the mounts that nodes make for it.

A key is kept nowhere: it is worked out from the server's secret, the same each time that a node is told of it, and it
proves itself. Whether its job runs is asked elsewhere (`jobd.engine.jobmounts`).

    pfs1.<where>.job-17-2-<mac>        the second attempt of job 17
"""

import hashlib
import hmac
import re

from pfs.keys import make_key

_SECRET = re.compile(r"job-([1-9]\d{0,17})-([1-9]\d{0,8})-([0-9a-f]{64})")


def job_key(url: str, secret: str, job_id: int, attempt: int) -> str:
    """Return the key of one attempt of a job.

    Args:
        url: of the server.
        secret: the server's own, at least 32 bytes that nobody can guess, in hexadecimal digits.
    """
    return make_key(url, f"job-{job_id}-{attempt}-{_mac(secret, job_id, attempt)}")


def proven_by(key: str, secret: str) -> tuple[int, int] | None:
    """Return (job, attempt) that a key proves; None where it is no key of a job, or not of this server."""
    found = _SECRET.fullmatch(key.rpartition(".")[2])
    if found is None:
        return None
    job_id, attempt = int(found[1]), int(found[2])
    return (job_id, attempt) if hmac.compare_digest(_mac(secret, job_id, attempt), found[3]) else None


def _mac(secret: str, job_id: int, attempt: int) -> str:
    return hmac.new(bytes.fromhex(secret), f"job {job_id} {attempt}".encode(), hashlib.sha256).hexdigest()
