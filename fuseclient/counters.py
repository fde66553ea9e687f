"""What a mount counts: how often its copies answered, and how many bytes went where.

Plain numbers that only grow, written where things happen and read by `fuseclient.report`. A hit is an answer without
asking the server; what the kernel answers by itself is never seen here.
"""

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Answers:
    """How often something was asked for, and how often the server had to be asked.

    Attributes:
        asked: questions.
        missed: those of them that the copies could not answer.
    """

    asked: int = 0
    missed: int = 0

    @property
    def hits(self) -> int:
        """Questions that the copies answered; one that is still under way counts as such."""
        return self.asked - self.missed


@dataclass(slots=True, eq=False)
class Counters:
    """What was done for one datacenter.

    Attributes:
        attributes: what stands at a path, or that nothing does.
        listings: all names of a directory.
        contents: small files, whole.
        fetched_bytes: contents that came from the server.
        sent_bytes: contents that the server has confirmed.
    """

    attributes: Answers = field(default_factory=Answers)
    listings: Answers = field(default_factory=Answers)
    contents: Answers = field(default_factory=Answers)
    fetched_bytes: int = 0
    sent_bytes: int = 0


@dataclass(slots=True, eq=False)
class Traffic:
    """What programs had through the mount, beside what the kernel gave them from its own memory.

    Attributes:
        read_bytes: given to the kernel.
        written_bytes: taken from it.
    """

    read_bytes: int = 0
    written_bytes: int = 0
