"""What a pit answers to who asks for jobs that everybody may know of."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from urllib.parse import parse_qsl

from cli.snakepit.states import ORDER, letters_of
from cli.snakepit.status import changed, jobs_of
from pfs.client.web import facts

PATH = "/api/v1/joblist"
Job = Mapping[str, str]


def answer(url: str, files: Mapping[str, str]) -> dict[str, list[Job]]:
    """Answer as the server does: with the jobs of the text `status`, and those that have directories."""
    told = {key: text for key, text in files.items() if re.fullmatch("jobs/[0-9]+/status", key)}
    jobs = {job["id"]: job for job in jobs_of(files.get("status", ""))}
    jobs = {each["id"]: dict(each) for each in map(facts, told.values())} | jobs
    said = dict(parse_qsl(url.partition("?")[2]))
    if "id" in said:
        return {"msg": [job for job in jobs.values() if job["id"] == said["id"]]}
    found = [job for job in jobs.values() if _fits(job, said)]
    for word in reversed([*filter(None, said.get("order", "").split(",")), "-date"]):
        found.sort(key=_KEYS[word.removeprefix("-")], reverse=word.startswith("-"))
    offset = int(said.get("offset", "0"))
    return {"msg": found[offset : offset + int(said.get("limit", "100"))]}


def _fits(job: Job, said: Mapping[str, str]) -> bool:
    title = re.escape(said.get("title", "%")).replace("%", ".*").replace("_", ".")
    is_then = int(said.get("since", "0")) <= _at_s(job) <= int(said.get("till", "9000000000"))
    return is_then and said.get("user", job["user"]) == job["user"] and bool(re.fullmatch(title, job["title"]))


def _at_s(job: Job) -> float:
    return datetime.fromisoformat(changed(job)).timestamp()


_KEYS: Mapping[str, Callable[[Job], Sequence[object]]] = {
    "date": lambda job: (_at_s(job), int(job["id"])),
    "user": lambda job: (job["user"],),
    "title": lambda job: (job["title"],),
    "state": lambda job: (ORDER.index(letters_of(job["state"])),),
}
