"""From what a client of PaddleCloud posts to the text of a spec: the parser of specs takes its fields as they are.

What only those clients do is mended here: they send every field, empty where nothing was said; they name the folder of
their own machine that they have just uploaded to `home/<user>/jobs/<name>`; they may leave the name out; and they keep
the credential `corp` as `pcloud-registry-corp`, which jobs name as `corp`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobd.spec.values import name_problem
from pfs.errors import AllowanceError, Kind, PfsError

NAME = "paddle-cluster-job"
REGISTRY_PREFIX = "pcloud-registry-"
PACKAGE = ("job_package", "jobPackage")
FIRST_LINE = 2  # of the first field
_PLACE = re.compile(r"^line ([0-9]+), column [0-9]+: ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Posted:
    """A job that was posted.

    Attributes:
        text: its spec, in which each field has a line.
        fields: the names of these, in that order.
        package: the folder that it runs in, `/pfs/<datacenter>/…`; "" where its files come from elsewhere.
    """

    name: str
    text: bytes
    fields: tuple[str, ...]
    package: str

    def plainly(self, message: str) -> str:
        """Return what is wrong with the spec, with fields in the place of lines: nobody has seen these."""

        def field(place: re.Match[str]) -> str:
            line = int(place[1]) - FIRST_LINE
            return f"{self.fields[line]}: " if 0 <= line < len(self.fields) else ""

        return _PLACE.sub(field, message)


def spec_of(said: Mapping[str, Any], user: str, datacenter: str) -> Posted:
    """Return the job that `user` posted.

    Raises:
        PfsError: INVALID, in the words of PaddleCloud's server. All else that may be wrong the parser says.
    """
    fields = {name: value for name, value in said.items() if value not in (None, "")}
    if not {"entry", "topology", "command"} & fields.keys():
        raise PfsError(Kind.INVALID, "no topology or entry specified")
    if (there := fields.get("datacenter", datacenter)) != datacenter:
        raise PfsError(Kind.INVALID, f"no datacenter {str(there)[:80]}; this is {datacenter}")
    name = fields.setdefault("name", NAME)
    problem = name_problem(name) if isinstance(name, str) else f"{str(name)[:80]!r} is no name"
    if problem is not None:
        raise PfsError(Kind.INVALID, problem)
    package = _package(fields, f"/pfs/{datacenter}/home/{user}/jobs/{name}")
    if isinstance(kept := fields.get("registry"), str):
        fields["registry"] = registry_name(kept)
    lines = ",\n".join(f"{json.dumps(field)}: {json.dumps(value)}" for field, value in fields.items())
    return Posted(name, f"{{\n{lines}\n}}\n".encode(), tuple(fields), package)


def _package(fields: dict[str, Any], uploaded: str) -> str:
    """Return the folder of a job, which is named in its fields from here on."""
    given = [field for field in PACKAGE if field in fields]
    if not given and ({"src", "git"} & fields.keys() or not {"entry", "topology"} & fields.keys()):
        return ""
    for field in given or PACKAGE[:1]:
        value = fields.get(field)
        if value is None or (isinstance(value, str) and not value.startswith("/pfs/")):
            fields[field] = uploaded
    return str(fields[(given or PACKAGE)[0]])


def registry_name(said: str) -> str:
    """Return how a credential is called here that a client says."""
    return said.removeprefix(REGISTRY_PREFIX)


def check_gpus(asked: int, used: int, limit: int | None) -> None:
    """Refuse a job that alone wants more GPUs than its owner may have.

    Raises:
        PfsError: QUOTA.
    """
    if limit is not None and asked > limit:
        text = f"You don't have enought GPU quota,request: {asked}, usage: {used}, limit: {limit}"
        raise AllowanceError(Kind.QUOTA, text)
