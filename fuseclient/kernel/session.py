"""The connection with the kernel behind a mount: made, agreed upon, and ended.

libfuse would mount by itself, and settle alone with the kernel how they speak. Here the mount is made first, and
libfuse is given one end of a socket pair under the number that the device will have. What the kernel says first goes
to libfuse through the other end, its answer comes back, is completed (`fuseclient.kernel.negotiation`) and goes to the
kernel; then the device takes the place of the socket, and libfuse has noticed nothing:

    kernel ── /dev/fuse ── here ── socket pair ── libfuse          until the first answer
    kernel ── /dev/fuse ───────────────────────── libfuse          from then on

Root mounts by mount(2), others have fusermount3 do it, as libfuse does. Where anything of this is not possible,
libfuse mounts as ever, and says what is wrong if that fails, too: all works the same, only slower.
"""

import contextlib
import ctypes
import errno
import logging
import os
import select
import socket
import stat
import subprocess
from collections.abc import Set

import pyfuse3
import trio

from fuseclient import mountpoints
from fuseclient.kernel import seam
from fuseclient.kernel.negotiation import agreed
from fuseclient.kernel.seam import Listener
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

DEVICE = "/dev/fuse"
READ_AHEAD_KB = 4096
HELLO_S = 5.0
_MESSAGE_BYTES = 1 << 17
_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "suid": 0, "dev": 0}  # mount(2)
_BY_DEFAULT = ("nosuid", "nodev")
_FOR_KERNEL = ("default_permissions", "allow_other")


class Session:
    """A mount and what serves it; made by `connect`.

    Args:
        point: where it is mounted.
        device: the connection with the kernel, while libfuse does not have it.
        kernel_side, libfuse_side: the socket pair; the number of the latter becomes that of the device.
        hello: what the kernel said first.
        set_id_bits: files may have setuid and setgid bits.
    """

    def __init__(
        self,
        point: str,
        device: int,
        kernel_side: socket.socket,
        libfuse_side: int,
        hello: bytes,
        *,
        set_id_bits: bool,
    ) -> None:
        self._point = point
        self._device: int | None = device
        self._kernel_side = kernel_side
        self._fd = libfuse_side
        self._hello = hello
        self._set_id_bits = set_id_bits

    async def main(
        self, *, tasks_min: int, tasks_max: int, look_first: bool = True, listener: Listener | None = None
    ) -> None:
        """Serve until it is unmounted.

        Args:
            tasks_min: how many requests are waited for at once, at least.
            tasks_max: how many requests are under way at once, at most.
            look_first: wait as `fuseclient.kernel.seam` does.
            listener: wants to hear of signals.
        """
        with seam.polling(enabled=look_first, listener=listener):
            await self._agree()
            await _answer(tasks_min, tasks_max)

    def close(self, *, unmount: bool) -> None:
        """End the connection.

        Args:
            unmount: take the mount away, if nobody has yet.
        """
        gone = _is_gone(self._fd if self._device is None else self._device)
        self._kernel_side.close()
        if self._device is not None:
            os.close(self._device)
        pyfuse3.close(unmount=False)  # closes the device: from here on the kernel answers, and nobody hangs
        if unmount and not gone:
            try:
                mountpoints.unmount(self._point, lazy=True)
            except PfsError as error:
                if error.kind is not Kind.NOT_FOUND:
                    log.warning("%s", error)

    async def _agree(self) -> None:
        device = self._device
        if device is None:
            return
        try:
            with trio.fail_after(HELLO_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pyfuse3.main, 1, 1)  # it waits at the socket after its answer: not for long
                    await trio.lowlevel.wait_readable(self._kernel_side)
                    nursery.cancel_scope.cancel()
        except trio.TooSlowError:
            raise PfsError(Kind.TIMED_OUT, f"cannot mount at {self._point}: libfuse does not answer") from None
        reply = self._kernel_side.recv(_MESSAGE_BYTES)
        try:
            os.write(device, agreed(self._hello, reply, set_id_bits=self._set_id_bits))
        except OSError as error:
            if not _is_gone(device):
                reason = f"the kernel does not take the answer to its first message: {error.strerror}"
                raise PfsError(Kind.IO, f"cannot mount at {self._point}: {reason}") from None
        os.dup2(device, self._fd, inheritable=False)
        os.close(device)
        self._device = None
        self._kernel_side.close()
        _widen_read_ahead(self._point)  # the agreement has set it


class PlainSession:
    """A mount that libfuse has made by itself."""

    async def main(
        self, *, tasks_min: int, tasks_max: int, look_first: bool = True, listener: Listener | None = None
    ) -> None:
        """Serve until it is unmounted; as `Session.main`."""
        with seam.polling(enabled=look_first, listener=listener):
            await _answer(tasks_min, tasks_max)

    def close(self, *, unmount: bool) -> None:
        """End the connection; as `Session.close`."""
        pyfuse3.close(unmount=unmount)


async def _answer(tasks_min: int, tasks_max: int) -> None:
    try:
        await pyfuse3.main(min_tasks=tasks_min, max_tasks=tasks_max)
    except* ConnectionAbortedError:  # what the kernel says of a mount that was taken away by force
        log.info("the kernel has ended the connection")


def connect(
    operations: pyfuse3.Operations, point: str, options: Set[str], *, set_id_bits: bool, plain: bool = False
) -> Session | PlainSession:
    """Mount.

    Args:
        operations: what answers the requests.
        point: the canonical path of an empty directory.
        options: as pyfuse3 takes them.
        set_id_bits: files may have setuid and setgid bits: the kernel takes them away when they are written to.
        plain: let libfuse do everything.

    Raises:
        RuntimeError: it cannot be mounted; libfuse and fusermount3 have said why, on standard error.
    """
    session = None if plain else _connected(operations, point, options, set_id_bits=set_id_bits)
    if session is None:
        pyfuse3.init(operations, point, set(options))
        return PlainSession()
    return session


def _connected(operations: pyfuse3.Operations, point: str, options: Set[str], *, set_id_bits: bool) -> Session | None:
    device = _mounted(point, options)
    if device is None:
        return None
    kernel_side, libfuse_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        hello = _first_message(device)
        kernel_side.send(hello)
        kernel_side.setblocking(False)
        pyfuse3.init(operations, f"/dev/fd/{libfuse_side.fileno()}", set(options))
    except (OSError, RuntimeError) as error:
        log.debug("libfuse does not take over a mount that was made for it: %s", error)
        kernel_side.close()
        libfuse_side.close()
        os.close(device)
        mountpoints.unmount(point, lazy=True)
        return None
    return Session(point, device, kernel_side, libfuse_side.detach(), hello, set_id_bits=set_id_bits)


def _mounted(point: str, options: Set[str]) -> int | None:
    """Mount, and return the connection; None when this is not possible, or not known how."""
    named = dict(option.partition("=")[::2] for option in options if "=" in option)
    words = {option for option in options if "=" not in option}
    if named.keys() != {"fsname", "subtype"} or not words <= {*_FLAGS, *_FOR_KERNEL}:
        return None
    try:
        if os.geteuid() == 0:
            return _mount_as_root(point, words, f"fuse.{named['subtype']}", named["fsname"])
        return _mount_as_user(point, options)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("cannot mount at %s: %s; libfuse may", point, error)
        return None


def _mount_as_root(point: str, words: Set[str], kind: str, source: str) -> int:
    flags = 0
    for word in [word for word in _BY_DEFAULT if word.removeprefix("no") not in words] + sorted(words & _FLAGS.keys()):
        flags |= _FLAGS[word]
    root_mode = stat.S_IFMT(os.stat(point).st_mode)
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    data = [f"fd={device},rootmode={root_mode:o},user_id={os.getuid()},group_id={os.getgid()}"]
    data += [word for word in _FOR_KERNEL if word in words]
    libc = ctypes.CDLL(None, use_errno=True)
    said = libc.mount(
        source.encode(), os.fsencode(point), kind.encode(), ctypes.c_ulong(flags), ",".join(data).encode()
    )
    if said != 0:
        code = ctypes.get_errno()
        os.close(device)
        raise OSError(code, os.strerror(code), point)
    return device


def _mount_as_user(point: str, options: Set[str]) -> int:
    """Let fusermount3 mount: it sends the connection through the socket whose number it is told."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        command = ["fusermount3", "-o", ",".join(sorted({*options, *_BY_DEFAULT})), "--", point]
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        fds = [theirs.fileno()]
        subprocess.run(command, env=environment, pass_fds=fds, timeout=HELLO_S, check=True, stderr=subprocess.PIPE)
        ours.setblocking(False)
        _data, received, _flags, _address = socket.recv_fds(ours, 1, 1)
    if len(received) != 1:
        raise OSError(errno.EPROTO, "fusermount3 has sent no connection", point)
    os.set_inheritable(received[0], False)
    return received[0]


def _first_message(device: int) -> bytes:
    """Read what the kernel says as soon as it has mounted."""
    if not _events(device, select.POLLIN, HELLO_S):
        raise OSError(errno.ETIMEDOUT, "the kernel does not say hello")
    return os.read(device, _MESSAGE_BYTES)


def _is_gone(device: int) -> bool:
    """Tell whether the mount has been taken away."""
    return bool(_events(device, 0, 0.0) & select.POLLERR)


def _events(fd: int, wanted: int, timeout_s: float) -> int:
    poll = select.poll()
    poll.register(fd, wanted)
    return sum(events for _, events in poll.poll(timeout_s * 1000))


def _widen_read_ahead(point: str) -> None:
    """Let the kernel read further ahead than the 128 KiB that FUSE begins with; only root can say so."""
    if os.geteuid() != 0:
        return
    number = _device_number(point)
    path = f"/sys/class/bdi/{number}/read_ahead_kb"
    with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:  # /sys may be read-only
        file.write(str(READ_AHEAD_KB))


def _device_number(point: str) -> str | None:
    """Find out the number of the mount's device without opening anything of it, which would keep it in use."""
    listed, found = os.fsencode(point), None
    for letter in b"\\ \t\n":  # as the kernel writes them there
        listed = listed.replace(bytes([letter]), b"\\%03o" % letter)
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split(b" ", 5)
            if fields[4] == listed:
                found = fields[2].decode()
    return found
