"""What a program sees when something went wrong: one errno for each kind of error.

Never a plain EIO for "the network": programs take that for a broken disk. ENOTCONN is left to the kernel, whose
word for a mount without a daemon it is, and ENOSYS never appears: it would switch a request off for good.
"""

import errno
from collections.abc import Mapping
from types import MappingProxyType

from pfs.errors import Kind

KIND_TO_ERRNO: Mapping[Kind, int] = MappingProxyType(
    {
        Kind.NOT_FOUND: errno.ENOENT,
        Kind.EXISTS: errno.EEXIST,
        Kind.DENIED: errno.EACCES,
        Kind.FORBIDDEN: errno.EPERM,
        Kind.NOT_DIR: errno.ENOTDIR,
        Kind.IS_DIR: errno.EISDIR,
        Kind.NOT_EMPTY: errno.ENOTEMPTY,
        Kind.INVALID: errno.EINVAL,
        Kind.BUSY: errno.EBUSY,
        Kind.STALE: errno.ESTALE,  # makes the kernel look the path up afresh and try once more
        Kind.BAD_HANDLE: errno.ESTALE,  # what was opened is gone; EBADF would say that the program is wrong
        Kind.NAME_TOO_LONG: errno.ENAMETOOLONG,
        Kind.TOO_LARGE: errno.EFBIG,
        Kind.NO_SPACE: errno.ENOSPC,
        Kind.QUOTA: errno.EDQUOT,
        Kind.CROSS_DOMAIN: errno.EXDEV,  # mv then copies
        Kind.READ_ONLY: errno.EROFS,
        Kind.LOOP: errno.ELOOP,
        Kind.UNSUPPORTED: errno.EOPNOTSUPP,
        Kind.UNAUTHENTICATED: errno.EACCES,  # the token has ended: EPERM would say "nobody may"
        Kind.TIMED_OUT: errno.ETIMEDOUT,
        Kind.UNREACHABLE: errno.ETIMEDOUT,
        Kind.WOULD_BLOCK: errno.EAGAIN,
        Kind.TOO_MANY: errno.EMFILE,
        Kind.TOO_MANY_LINKS: errno.EMLINK,
        Kind.NO_DATA: errno.ENODATA,
        Kind.IO: errno.EIO,
        Kind.INTERNAL: errno.EIO,
    }
)
