"""What the server tells of jobs and files, as it travels: each is a dictionary with these keys.

Times are as `2017-05-15T05:44:19Z`.
"""

from typing import TypedDict


class JobCounts(TypedDict):
    """How many trainers of a job stand where, and since when; None for what has not come yet."""

    active: int
    succeeded: int
    failed: int
    submitTime: str
    startTime: str | None
    completionTime: str | None


class Job(TypedDict):
    """One of your jobs: the fields of PaddleCloud, and where it stands, such as RUNNING."""

    id: int
    name: str
    state: str
    status: JobCounts
    job_package: str
    parallelism: int
    cpu: float | None
    memory: str | None
    gpu: int
    pservers: int
    pscpu: float | None
    psmemory: str | None
    topology: str
    entry: str
    image: str
    passes: int
    faulttolerant: bool


class Worker(TypedDict):
    """One process of a job: `process` is the name of its folder, `exit_code` is None while it runs.

    `address` is where its node can be reached, "" where that is not known.
    """

    name: str
    job: int
    process: str
    role: str
    status: str
    node: str
    address: str
    start: str | None
    exit_code: int | None
    msg: str


class Servers(TypedDict):
    """How many parameter servers a job has, and how many run."""

    id: int
    name: str
    ready: int
    total: int


class Credential(TypedDict):
    """A credential for a registry of images, and when it was written."""

    id: int
    name: str
    data: str


class Entry(TypedDict):
    """What is in a directory: `type` is file, directory, symlink …, `size` in bytes."""

    name: str
    type: str
    size: int
    mtime_ns: int
