"""What a door takes and tells, what is told where there is none, and how all of them are described."""

import json
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pfs.accounts.store import KeyKind
from pfs.errors import AllowanceError, Kind, PfsError
from pfs.server.bodies import body_of
from pfs.server.doors import (
    BYTES,
    JSON,
    NOTHING,
    STATUS_OF_KIND,
    TEXT,
    Asks,
    Body,
    Door,
    Face,
    Tells,
    an_object,
    application,
)
from pfs.server.openapi import document
from tests.pfs.served import NO_TLS, served

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def take(request: Request) -> Response:
    return PlainTextResponse(str(sum([len(chunk) async for chunk in body_of(request)])))


async def break_(request: Request) -> Response:
    raise PfsError(Kind.QUOTA, "too much", "home/ann")


async def refuse(request: Request) -> Response:
    raise AllowanceError(Kind.QUOTA, "one").saying("one job too many")


DOORS = [
    Door("DELETE", "/jobs", refuse, about="refuse", body=NOTHING, tells=[Tells(204, "gone")]),
    Door("GET", "/x", take, about="look", body=NOTHING, tells=[Tells(200, "it", TEXT)]),
    Door("PUT", "/x", take, about="put", body=Body(10), tells=[Tells(200, "done", TEXT)]),
    Door("DELETE", "/x/{name}", break_, about="remove", body=NOTHING, tells=[Tells(204, "gone")], kinds=[KeyKind.USER]),
]


OTHER = Face(
    lambda error, status: {"said": error.message, "status": status},
    {"type": "object"},
    lambda pattern: pattern.replace("/o", "/[ou]"),
    ("/others", "/z/others"),
)
FORM = "multipart/form-data"
OTHERS = [
    Door("DELETE", "/o", break_, about="remove", body=NOTHING, tells=[Tells(204, "gone")], face=OTHER),
    Door("POST", "/o", take, about="add", body=Body(10, media=(FORM,)), tells=[Tells(200, "it", TEXT)], face=OTHER),
]


def asked(run: Run, method: str, path: str, **how: object) -> httpx.Response:
    found: list[httpx.Response] = []

    async def main() -> None:
        async with (
            served(application([*DOORS, *OTHERS])) as server,
            httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client,
        ):
            found.append(await client.request(method, server.url + path, **how))  # type: ignore[arg-type]

    run(main)
    return found[0]


async def pieces(*sizes: int):
    for size in sizes:
        await trio.lowlevel.checkpoint()
        yield bytes(size)


@pytest.mark.parametrize(
    ("method", "content", "status"),
    [
        ("PUT", bytes(10), 200),
        ("PUT", bytes(11), 413),
        ("GET", None, 200),
        ("GET", b"x", 413),
        ("PUT", pieces(5, 5), 200),
        ("PUT", pieces(5, 5, 1), 413),
        ("GET", pieces(1), 413),
    ],
)
def test_a_body_is_bounded_whether_its_length_is_told_or_not(
    run: Run, method: str, content: object, status: int
) -> None:
    response = asked(run, method, "/x", content=content)
    assert response.status_code == status
    if status == 413:
        assert response.json()["error"]["kind"] == "too-large"


@pytest.mark.parametrize("path", ["/o", "/u"])
def test_doors_with_another_face_speak_in_its_words_at_all_its_addresses(run: Run, path: str) -> None:
    response = asked(run, "DELETE", path)
    assert (response.status_code, response.json()) == (507, {"said": "too much", "status": 507})
    assert asked(run, "POST", path, content=bytes(11)).json()["said"] == "at most 10 bytes are taken here"
    assert asked(run, "PUT", path).headers["allow"] == "DELETE, POST"
    described = document(OTHERS)["paths"]["/o"]
    assert described["post"]["responses"]["default"]["content"] == {JSON: {"schema": {"type": "object"}}}
    assert list(described["post"]["requestBody"]["content"]) == [FORM]


def test_what_is_refused_is_a_document(run: Run) -> None:
    response = asked(run, "DELETE", "/x/y")
    assert response.status_code == STATUS_OF_KIND[Kind.QUOTA]
    assert response.json() == {"error": {"kind": "quota", "message": "too much", "path": "home/ann"}}


def test_where_there_is_no_door_that_is_told_as_errors_are(run: Run) -> None:
    nowhere = asked(run, "GET", "/y")
    assert (nowhere.status_code, nowhere.json()["error"]["kind"]) == (404, "not-found")
    wrong = asked(run, "PATCH", "/x")
    assert (wrong.status_code, wrong.json()["error"]["kind"]) == (405, "unsupported")
    assert wrong.headers["allow"] == "GET, HEAD, PUT"


@pytest.mark.parametrize(
    "path", ["/u/x", "/o/x/y/z", "/others", "/others/", "/others/x/y", "/z/others/y", "/o" + "/x" * 2000]
)
def test_below_doors_with_another_face_and_its_roots_a_wrong_address_is_told_in_its_words(run: Run, path: str) -> None:
    response = asked(run, "GET", path)
    assert response.status_code == 404
    assert response.json() == {"said": "there is nothing at this address", "status": 404}


def test_a_wrong_method_is_told_in_the_words_of_the_doors_that_are_there(run: Run) -> None:
    response = asked(run, "PATCH", "/u")
    assert response.status_code == 405
    assert response.json() == {"said": "this method is not for this address", "status": 405}


@pytest.mark.parametrize("path", ["/", "//", "/other", "/x/others", "/z/other", "/x/y/z", "/y/o", "/y" * 1000 + "/o"])
def test_every_other_wrong_address_is_told_in_our_own_words(run: Run, path: str) -> None:
    response = asked(run, "GET", path)
    assert "error" in response.json(), response.json()


def test_a_quota_that_is_none_of_storage_is_told_with_another_status_and_the_same_kind(run: Run) -> None:
    response = asked(run, "DELETE", "/jobs")
    assert response.status_code == 403
    assert response.json()["error"] == {"kind": "quota", "message": "one job too many", "path": None}


def test_a_door_becomes_an_operation_of_the_document() -> None:
    schema = an_object({"a": {"type": "string"}}, {"b": {"type": "integer"}})
    door = Door(
        "POST",
        "/x/{name}",
        take,
        about="do it",
        body=Body(10, schema),
        tells=[Tells(200, "bytes", BYTES), Tells(200, "", JSON, schema), Tells(204, "nothing")],
        asks=Asks(query={"q": "a query"}, headers={"h": "a header"}),
        kinds=[KeyKind.USER],
    )
    told = document([door, *DOORS])
    assert json.loads(json.dumps(told)) == told
    assert set(told["paths"]) == {"/x/{name}", "/x", "/jobs"}
    assert set(told["paths"]["/x"]) == {"get", "put"}
    found = told["paths"]["/x/{name}"]["post"]
    assert found["requestBody"]["content"] == {JSON: {"schema": schema}}
    assert "at most 10 bytes" in found["requestBody"]["description"]
    assert found["responses"]["200"] == {"description": "bytes", "content": {BYTES: {}, JSON: {"schema": schema}}}
    assert found["responses"]["204"] == {"description": "nothing"}
    assert found["responses"]["default"]["content"][JSON]["schema"]["required"] == ["error"]
    assert [(each["in"], each["name"], each["required"]) for each in found["parameters"]] == [
        ("path", "name", True),
        ("query", "q", False),
        ("header", "h", False),
    ]
    assert found["security"] == [{"token": []}]
    assert schema["required"] == ["a"]
    get = told["paths"]["/x"]["get"]
    assert "requestBody" not in get
    assert "security" not in get
