"""Bytes that need no more memory than was written: what files of many gigabytes are in memory."""

PAGE_BYTES = 4096


class Sparse:
    """The bytes of a file; what was never written is zeros and takes no room.

    Args:
        data: what is in it at first.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._pages: dict[int, bytearray] = {}
        self.size = 0
        self.write(0, data)

    def __bytes__(self) -> bytes:
        return self.read(0, self.size)

    @property
    def blocks(self) -> int:
        """Return the room taken, in units of 512 bytes."""
        return len(self._pages) * PAGE_BYTES // 512

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer at the end."""
        end, pieces = min(self.size, offset + size), list[bytes]()
        while offset < end:
            number, start = divmod(offset, PAGE_BYTES)
            count = min(PAGE_BYTES - start, end - offset)
            page = self._pages.get(number)
            pieces.append(bytes(count) if page is None else bytes(page[start : start + count]))
            offset += count
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`; a gap before it is a hole."""
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, PAGE_BYTES)
            piece = data[done : done + PAGE_BYTES - start]
            page = self._pages.setdefault(number, bytearray(PAGE_BYTES))
            page[start : start + len(piece)] = piece
            done += len(piece)
        if data:
            self.size = max(self.size, offset + len(data))

    def resize(self, size: int) -> None:
        """Cut or extend; what it is extended by is a hole."""
        if size < self.size:
            last, start = divmod(size, PAGE_BYTES)
            for number in [number for number in self._pages if number > last or (number == last and not start)]:
                del self._pages[number]
            if last in self._pages:
                self._pages[last][start:] = bytes(PAGE_BYTES - start)
        self.size = size
