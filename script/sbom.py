"""Writes what this program consists of beside its own code: script/sbom.cdx.json, in the form of CycloneDX 1.5.

It names what script/requirements.lock pins, each with the hashes of the files that an installation accepts, with what
it is needed by, and with the licence that its own metadata tells; so what is locked has to be installed, and what is
for another platform alone has no licence here. The same lock makes the same text: no time and no dice are in it.
"""

import importlib.metadata
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

HERE = Path(__file__).parent
LOCK, SBOM = HERE / "requirements.lock", HERE / "sbom.cdx.json"
_HEAD = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; (?P<marker>.*?))? \\")


@dataclass(frozen=True, slots=True)
class Pinned:
    """An entry of a lock file.

    Attributes:
        marker: where it is wanted; "" for everywhere.
        sha256: of the files that may be installed.
        needed_by: names.
    """

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]
    needed_by: tuple[str, ...]

    @property
    def purl(self) -> str:
        """By what name all the world knows it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def pinned(lock: str) -> list[Pinned]:
    """Return the entries of a lock file, in its order.

    Raises:
        ValueError: an entry cannot be understood, or has no hash.
    """
    entries = re.split(r"\n(?=\S)", re.sub(r"\A(#.*\n)+", "", lock).strip())
    return [_entry(text) for text in entries]


def _entry(text: str) -> Pinned:
    head = _HEAD.match(text)
    hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", text)
    if head is None or not hashes:
        raise ValueError(f"this is no entry with a version and hashes: {text[:80]!r}")
    said = " ".join(line.strip().lstrip("#") for line in text.splitlines() if line.strip().startswith("#"))
    needed_by = [word for word in said.split()[1:] if not word.startswith("(")]
    return Pinned(head["name"], head["version"], head["marker"] or "", tuple(hashes), tuple(needed_by))


def bill(
    project: Mapping[str, str], entries: Sequence[Pinned], licence: Callable[[Pinned], str | None]
) -> dict[str, object]:
    """Return the bill of materials.

    Args:
        project: name, version, description and license of the whole.
        licence: tells the licence of an entry; None where nobody knows.
    """
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    refs = {project["name"]: own, **{each.name: each.purl for each in entries}}
    needs: dict[str, list[str]] = {ref: [] for ref in refs.values()}
    for each in entries:
        for name in each.needed_by:
            needs[refs[name]].append(each.purl)
    content: dict[str, object] = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": _licences(project["license"]),
                "purl": own,
            }
        },
        "components": [_component(each, licence(each)) for each in entries],
        "dependencies": [{"ref": ref, "dependsOn": sorted(needed)} for ref, needed in sorted(needs.items())],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    form = {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return {"$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", **form, **content}


def _component(each: Pinned, licence: str | None) -> dict[str, object]:
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": each.purl,
        "name": each.name,
        "version": each.version,
        "purl": each.purl,
        "externalReferences": [
            {
                "type": "distribution",
                "url": each.purl,  # of whatever index it is taken from
                "hashes": [{"alg": "SHA-256", "content": content} for content in each.sha256],
            }
        ],
    }
    if licence is not None:
        component["licenses"] = _licences(licence)
    if each.marker:
        component["properties"] = [{"name": "python:marker", "value": each.marker}]
    return component


def _licences(text: str) -> list[dict[str, object]]:
    """Return a licence as CycloneDX has it: what is no expression of SPDX is a name."""
    try:
        return [{"expression": canonicalize_license_expression(text)}]
    except InvalidLicenseExpression:
        return [{"license": {"name": text}}]


def installed_licence(each: Pinned) -> str | None:
    """Return what the metadata of an installed package says of its licence; None where it is not installed.

    Raises:
        ValueError: another version is installed, or it says nothing.
    """
    try:
        metadata = importlib.metadata.metadata(each.name).json
    except importlib.metadata.PackageNotFoundError:
        if not each.marker:
            raise ValueError(f"{each.name} is not installed: script/bootstrap --test") from None
        return None
    if metadata["version"] != each.version:
        raise ValueError(f"{each.name} {metadata['version']} is installed, not {each.version}: script/bootstrap --test")
    said = metadata.get("license_expression") or metadata.get("license")
    if not said:
        raise ValueError(f"the metadata of {each.name} tell no licence")
    return str(said).splitlines()[0]


def main() -> None:
    """Write the file."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    try:
        made = bill(project, pinned(LOCK.read_text()), installed_licence)
    except ValueError as error:
        sys.exit(f"script/sbom: {error}")
    SBOM.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
