"""What the mount and the kernel agree on at the start, beyond what libfuse asks for.

libfuse 3.14 leaves out of its answer to FUSE_INIT some things that pyfuse3 has no way to ask for. They are added
here, in the bytes of the answer. What is agreed on, and why:

    PARALLEL_DIROPS       lookups and listings of one directory do not wait for each other
    HANDLE_KILLPRIV_V2    the kernel asks for no `security.capability` before each write. In return it is the file
                          system that takes setuid and setgid bits from a file that is written to, and pyfuse3 does
                          not pass on when to do so. So this is right where no file can have such bits, as on a
                          squashed mount, and wrong where modes are carried through: there it is refused.
    DIRECT_IO_ALLOW_MMAP  programs can map files that are not kept in the kernel
    max_background        64 reads ahead and direct reads under way at once, not 12

Not asked for: CACHE_SYMLINKS. The kernel drops the target of a link only when it is told so, and the server has
links that lead elsewhere from one moment to the next.
"""

import struct
from enum import IntFlag

MAX_BACKGROUND = 64
CONGESTION_THRESHOLD = 48

_FUSE_INIT = 26
_MAJOR = 7
_EXT = 1 << 30  # the upper 32 flags are there, too
_IN_HEADER = struct.Struct("=IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
_INIT_IN = struct.Struct("=IIIII")  # major, minor, max_readahead, flags, flags2
_OUT_HEADER = struct.Struct("=IiQ")  # length, error, unique
_INIT_OUT = struct.Struct("=IIIIHHIIHHI")  # …, flags, max_background, congestion_threshold, …, flags2


class Feature(IntFlag):
    """The bits of FUSE_INIT that matter here."""

    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    HANDLE_KILLPRIV_V2 = 1 << 28
    DIRECT_IO_ALLOW_MMAP = 1 << 36


def agreed(request: bytes, reply: bytes, *, set_id_bits: bool) -> bytes:
    """Return the answer for the kernel.

    Args:
        request: what the kernel has sent first.
        reply: what libfuse answers.
        set_id_bits: files may have setuid and setgid bits, which the kernel then takes away.

    Returns:
        `reply` with what is wanted besides, as far as the kernel offers it; unchanged if this is no
        FUSE_INIT as it is known here.
    """
    offered = _offered(request)
    if offered is None or len(reply) < _OUT_HEADER.size + _INIT_OUT.size:
        return reply
    length, error, unique = _OUT_HEADER.unpack_from(reply)
    if length != len(reply) or error != 0 or unique != _IN_HEADER.unpack_from(request)[2]:
        return reply
    fields = list(_INIT_OUT.unpack_from(reply, _OUT_HEADER.size))
    if fields[0] != _MAJOR:
        return reply
    flags = fields[3] | fields[10] << 32 if fields[3] & _EXT else fields[3]
    wanted = Feature.PARALLEL_DIROPS | Feature.DIRECT_IO_ALLOW_MMAP
    killing = Feature.HANDLE_KILLPRIV | Feature.HANDLE_KILLPRIV_V2
    flags &= ~killing
    if not set_id_bits:
        wanted |= Feature.HANDLE_KILLPRIV_V2
    flags |= wanted & offered
    if flags >> 32:
        flags |= _EXT
    fields[3], fields[10] = flags & 0xFFFF_FFFF, flags >> 32
    fields[4], fields[5] = max(fields[4], MAX_BACKGROUND), max(fields[5], CONGESTION_THRESHOLD)
    start = _OUT_HEADER.size
    return reply[:start] + _INIT_OUT.pack(*fields) + reply[start + _INIT_OUT.size :]


def _offered(request: bytes) -> int | None:
    """Return the flags that the kernel offers; None when this is no FUSE_INIT that is understood here."""
    if len(request) < _IN_HEADER.size + _INIT_IN.size:
        return None
    length, opcode = _IN_HEADER.unpack_from(request)[:2]
    major, _minor, _readahead, flags, flags2 = _INIT_IN.unpack_from(request, _IN_HEADER.size)
    if length != len(request) or opcode != _FUSE_INIT or major != _MAJOR:
        return None
    return int(flags | flags2 << 32 if flags & _EXT else flags & 0xFFFF_FFFF)
