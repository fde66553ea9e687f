"""The door for what everybody may know of all jobs (`jobd.rest.survey`).

    GET    /api/v1/joblist     the newest 100 jobs, or those that `order` puts first: user=, title= (% and _ as in SQL),
                               since=, till= (seconds since the epoch), order=, limit=, offset=
           /api/v1/joblist?id=17    this job alone, also a task

`order` has words with commas between them, `date`, `user`, `title` or `state`, each with `-` before it for downward.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from jobd.rest.desk import Desk
from jobd.rest.survey import LISTED_MAX, number_of, search_of
from pfs.accounts.store import Identity
from pfs.server.doors import NOTHING, Asks, Door, an_object
from pfs.server.rest import REST, TEXT, an_array, done, tells
from pfs.server.routes import Gate

LIST_PATH = "/api/v1/joblist"
_FACTS = ("id", "user", "title", "state", "changed", "request", "place", "gpu_util_mean", "gpu_memory_mean")


class SurveyRoutes:
    """Answers the route of this module's docstring."""

    def __init__(self, gate: Gate, desk: Desk) -> None:
        self._gate = gate
        self._desk = desk

    def routes(self) -> Sequence[Door]:
        """Return the route of this module's docstring."""
        asks = Asks(
            {
                "id": "the number of one job",
                "user": "whose they are",
                "title": "what their titles are like: % is anything, _ one character",
                "since": "changed then or later, in seconds since the epoch",
                "till": "changed then or before",
                "order": "date, user, title, state, with commas; - before one: downward",
                "limit": f"how many: {LISTED_MAX}",
                "offset": "how many of the first ones not",
            }
        )
        told, about = tells(an_array(an_object(dict.fromkeys(_FACTS, TEXT)))), "what everybody may know of jobs"
        door = self._gate.door
        return [door("GET", LIST_PATH, self._list, about=about, body=NOTHING, tells=told, asks=asks, face=REST)]

    async def _list(self, request: Request, identity: Identity) -> Response:
        said = request.query_params
        if "id" in said:
            return done(await self._desk.survey.job(number_of(said["id"])))
        return done(await self._desk.survey.jobs(search_of(said)))
