"""What the ends of a line in tests have in common: messages travel as they are, and nothing is sent or seen at once."""

import trio


class PlainTransport:
    """The part of `pfs.protocol.channel.Transport` that the line itself does not matter for."""

    def frame(self, message: bytes) -> bytes:
        return message

    def send_now(self, data: bytes) -> int:
        return 0

    async def pulse(self) -> bytes | None:
        await trio.sleep_forever()
        return None

    def pays_to_look(self, *, alone: bool) -> bool:
        return False

    def look(self) -> list[bytes]:
        return []
