"""What PaddleCloud's client prints of jobs and their processes, made of what the server's REST v1 tells.

It has no word but `<nil>` for what is not known, and calls a job that is being stopped `Terminating`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jobd.rest.words import meaning_of, namespace_of

Row = Mapping[str, Any]

GAP = 3  # blanks between its columns
NIL = "<nil>"
OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_LOST"})
JOBS = ("NAME", "ACTIVE", "SUCC", "FAIL", "START", "COMP", "PS_READY", "PS_TOTAL")
LISTED = ("NAMESPACE", "NAME", "DESIRED", "SUCCESSFUL", "AGE")
WORKERS = ("NAME", "STATUS", "START", "EXIT_CODE", "MSG")
LISTED_MORE = ("ID", "STATE", "ACTIVE", "FAILED", "START", "COMP")
PODS = ("JOB", "NAME", "STATUS", "NODE", "START")
PODS_MORE = ("ADDRESS", "EXIT_CODE", "MSG")
REGISTRIES = ("ID", "NAME", "DATA")


def job_cells(job: Row, servers: Row) -> list[str]:
    """Return a job as `get jobs` has it.

    Args:
        servers: how many parameter servers it has, and how many run.
    """
    status = job["status"]
    active = "Terminating" if job["state"] == "STOPPING" else str(status["active"])
    times = (_known(status["startTime"]), _known(status["completionTime"]))
    return [job["name"], active, str(status["succeeded"]), str(status["failed"]), *times, *_servers(servers)]


def _servers(servers: Row) -> tuple[str, str]:
    return str(servers.get("ready", 0)), str(servers.get("total", 0))


def listed_cells(job: Row, user: str, age: str) -> list[str]:
    """Return a job as `jobs` has it.

    Args:
        user: who it is of: the namespace is made of that.
    """
    return [namespace_of(user), job["name"], str(job["parallelism"]), str(job["status"]["succeeded"]), age]


def more_cells_of_job(job: Row) -> list[str]:
    """Return what `jobs -v` has more of a job."""
    status = job["status"]
    counts = (status["active"], status["failed"], status["startTime"], status["completionTime"])
    return [str(job["id"]), job["state"], *map(_known, counts)]


def worker_cells(worker: Row) -> list[str]:
    """Return a process as `get workers` has it."""
    return [worker["name"], worker["status"], *map(_known, (worker["start"], worker["exit_code"])), reason(worker)]


def pod_cells(worker: Row) -> list[str]:
    """Return a process as `pods` has it."""
    return [str(worker["job"]), worker["name"], worker["status"], worker["node"] or NIL, _known(worker["start"])]


def more_cells_of_pod(worker: Row) -> list[str]:
    """Return what `pods -v` has more of a process."""
    return [worker["address"] or NIL, _known(worker["exit_code"]), reason(worker)]


def reason(worker: Row) -> str:
    """Return why a process ended, in words; "" where there is nothing to tell."""
    return str(worker["msg"]) or meaning_of(worker["exit_code"])


def pod_list(workers: Sequence[Row]) -> str:
    """Return the line that stands above the log of a job that nobody named."""
    pods = [(str(worker["status"]), str(worker["address"] or worker["node"])) for worker in workers]
    return f"running pod list:  {pods}"


def _known(value: object) -> str:
    return NIL if value is None else str(value)
