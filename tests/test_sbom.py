"""The bill of materials: it is checked in, names what is pinned and nothing else, and has the form of CycloneDX 1.5."""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "script"
LOCK = (SCRIPT / "requirements.lock").read_text()
TEXT = (SCRIPT / "sbom.cdx.json").read_text()
PROJECT = {"name": "pfs-jobs", "version": "1", "description": "d", "license": "Apache-2.0"}
A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", SCRIPT / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["sbom"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bill() -> Any:
    return json.loads(TEXT)


def test_it_names_what_is_pinned_with_all_its_hashes_and_nothing_else() -> None:
    entries = re.split(r"\n(?=[A-Za-z])", re.sub(r"^ *#.*\n?", "", LOCK, flags=re.MULTILINE).strip())
    pinned = {
        re.sub(r"[ ;].*", "", entry.splitlines()[0]): set(re.findall(r"sha256:(\w{64})", entry)) for entry in entries
    }
    named = {
        f"{each['name']}=={each['version']}": {
            found["content"] for reference in each["externalReferences"] for found in reference["hashes"]
        }
        for each in bill()["components"]
    }
    assert named == pinned, "write it anew: script/sbom"
    assert len(named) == len(bill()["components"])


def test_it_is_what_the_script_makes_of_what_is_installed(sbom: ModuleType) -> None:
    project = tomllib.loads((SCRIPT.parent / "pyproject.toml").read_text())["project"]
    made = sbom.bill(project, sbom.pinned(LOCK), sbom.installed_licence)
    assert json.dumps(made, indent=1, ensure_ascii=False) + "\n" == TEXT, "write it anew: script/sbom"


def test_each_has_a_licence_but_what_is_for_another_platform() -> None:
    without = [each for each in bill()["components"] if "licenses" not in each]
    assert [each["properties"][0]["value"] for each in without] == ["sys_platform == 'win32'"]


def test_it_has_the_form_of_cyclonedx() -> None:
    made = bill()
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", made["serialNumber"])
    assert set(made) == {
        *("$schema", "bomFormat", "specVersion", "serialNumber", "version"),
        *("metadata", "components", "dependencies"),
    }
    whole = made["metadata"]["component"]
    known = {"type", "bom-ref", "name", "version", "purl", "description", "licenses"}
    for each in (whole, *made["components"]):
        assert set(each) <= known | {"externalReferences", "properties"}
        assert each["type"] in ("application", "library")
        assert each["purl"] == each["bom-ref"] == f"pkg:pypi/{each['name']}@{each['version']}"
        for licence in each.get("licenses", []):
            assert "expression" in licence or licence["license"]["name"]
        for reference in each.get("externalReferences", []):
            assert (reference["type"], reference["url"]) == ("distribution", each["purl"])
            assert {found["alg"] for found in reference["hashes"]} == {"SHA-256"}
    refs = [whole["bom-ref"], *(each["bom-ref"] for each in made["components"])]
    needs = {each["ref"]: each["dependsOn"] for each in made["dependencies"]}
    assert sorted(needs) == sorted(refs)
    assert {ref for needed in needs.values() for ref in needed} == set(refs[1:])  # nothing is there for nobody


def test_what_an_entry_of_the_lock_becomes(sbom: ModuleType) -> None:
    lock = f"""# made by a program
one==1.0 ; sys_platform == 'x' \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via pfs-jobs (pyproject.toml)
two-b==2 \\
    --hash=sha256:{B}
    # via
    #   one
    #   three
three==3 \\
    --hash=sha256:{A}
    # via one
"""
    one, two, three = sbom.pinned(lock)
    assert (one.name, one.version, one.marker, one.sha256) == ("one", "1.0", "sys_platform == 'x'", (A, B))
    assert (one.needed_by, two.needed_by, three.needed_by) == (("pfs-jobs",), ("one", "three"), ("one",))
    licences = {"one": None, "two-b": "MIT License", "three": "mit"}
    made = sbom.bill(PROJECT, [one, two, three], lambda each: licences[each.name])
    assert [each.get("licenses") for each in made["components"]] == [
        None,
        [{"license": {"name": "MIT License"}}],
        [{"expression": "MIT"}],
    ]
    assert [each["dependsOn"] for each in made["dependencies"]] == [
        ["pkg:pypi/three@3", "pkg:pypi/two-b@2"],
        ["pkg:pypi/one@1.0"],
        ["pkg:pypi/two-b@2"],
        [],
    ]


def test_what_is_not_pinned_with_a_hash_makes_none(sbom: ModuleType) -> None:
    for lock in ("one==1.0\n", f"one>=1 \\\n    --hash=sha256:{A}\n"):
        with pytest.raises(ValueError, match="no entry with a version and hashes"):
            sbom.pinned(lock)


def test_what_is_not_installed_as_it_is_locked_makes_none(sbom: ModuleType) -> None:
    with pytest.raises(ValueError, match="is installed, not 0: script/bootstrap"):
        sbom.installed_licence(sbom.Pinned("trio", "0", "", (A,), ()))
    with pytest.raises(ValueError, match="is not installed: script/bootstrap"):
        sbom.installed_licence(sbom.Pinned("no-such-thing-of-ours", "0", "", (A,), ()))
    assert sbom.installed_licence(sbom.Pinned("no-such-thing-of-ours", "0", "os_name == 'x'", (A,), ())) is None
