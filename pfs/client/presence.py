"""Whether the server is there, as far as its client can know, and what follows for whoever asks.

    there     it has answered a short while ago: leases hold
    missed    they hold no more. It may be a restart, which is over in seconds: whoever wants something waits
    away      that was no short restart, or the server has been silent all the time that leases are trusted:
              what was known when it was last heard may be told as it was then
    absent    it has not been there yet: whoever asks is told so at once

Whoever needs the server waits for it, but only once: all who ask give up when it has been missed for so long as one
question may take, and from then on at once. When it answers again, it is there.
"""

from math import inf

TRUST_S = 8.0  # after we last said that we are here; the server keeps its word for 10 s after it heard that
PATIENCE_S = 5.0


class Presence:
    """What a client knows of its server. Times are seconds of one clock that only grows."""

    def __init__(self) -> None:
        self.trusted_until_s = 0.0
        self._missed_s: float | None = None
        self._away_from_s = inf
        self._absent = False

    @property
    def missed(self) -> bool:
        """True when the server is known not to be heard."""
        return self._missed_s is not None

    def missed_for(self, now_s: float) -> float:
        """Return for how many seconds it has been missed; 0 when it is there."""
        return 0.0 if self._missed_s is None else now_s - self._missed_s

    def heard(self, said_s: float) -> None:
        """The server has answered what we said at `said_s`."""
        self.trusted_until_s = said_s + TRUST_S
        self._missed_s, self._away_from_s, self._absent = None, inf, False

    def lost(self, now_s: float) -> None:
        """The connection has ended."""
        self._miss(now_s, now_s + PATIENCE_S)

    def silent(self, now_s: float) -> None:
        """The server has not answered as long as leases are trusted."""
        self._miss(now_s, now_s)

    def not_there(self, now_s: float) -> None:
        """The server is looked for, and has not been there yet."""
        self._miss(now_s, now_s)
        self._absent = True

    def trusted(self, now_s: float) -> bool:
        """Tell whether leases hold."""
        return now_s < self.trusted_until_s

    def away(self, now_s: float) -> bool:
        """Tell whether what is remembered may be told."""
        return now_s >= self._away_from_s

    def decided_s(self, now_s: float) -> float:
        """Return when it will be known, at the latest, whether it is there or away: `now_s` when it is known."""
        return now_s if self._missed_s is None else max(now_s, self._away_from_s)

    def deadline_s(self, now_s: float, question_s: float) -> float:
        """Return until when somebody waits who asks now.

        Args:
            question_s: how long a question may take.
        """
        if self._absent:
            return now_s
        return (now_s if self._missed_s is None else min(now_s, self._missed_s)) + question_s

    def _miss(self, now_s: float, away_from_s: float) -> None:
        self.trusted_until_s = 0.0
        self._missed_s = now_s if self._missed_s is None else self._missed_s
        self._away_from_s = min(self._away_from_s, away_from_s)
