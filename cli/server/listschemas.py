"""How the lists look that the shipped client of PaddleCloud reads (`jobd.rest.lists`), for the OpenAPI document."""

from pfs.protocol.wire import Json
from pfs.server.doors import an_object
from pfs.server.rest import NUMBER, TEXT, an_array

_TOLD = {"type": ["string", "null"]}
_TEXTS = {"type": "object", "additionalProperties": TEXT}


def _or_null(schema: Json) -> Json:
    return schema | {"type": ["object", "null"]}


def _items(**parts: Json) -> Json:
    told = {"uid": _TOLD, "creation_timestamp": _TOLD, "labels": _or_null(_TEXTS)}
    return an_array(an_object({"metadata": an_object({"name": TEXT, "namespace": TEXT, **told}), **parts}))


_COUNTS = dict.fromkeys(("active", "succeeded", "failed"), NUMBER)
_READY = dict.fromkeys(("replicas", "ready_replicas", "available_replicas"), NUMBER)
_ENDED = {
    "exit_code": {"type": ["integer", "null"]},
    "message": _TOLD,
    "reason": TEXT,
    "started_at": _TOLD,
    "finished_at": _TOLD,
}
_STATE = an_object({"running": _or_null(an_object({"started_at": _TOLD})), "terminated": _or_null(an_object(_ENDED))})
_CONTAINER = an_object({"name": TEXT, "ready": {"type": "boolean"}, "state": _STATE})

JOB_ITEMS = _items(
    spec=an_object({"parallelism": NUMBER, "completions": NUMBER}),
    status=an_object({**_COUNTS, "start_time": _TOLD, "completion_time": _TOLD}),
)
SERVER_ITEMS = _items(spec=an_object({"replicas": NUMBER}), status=an_object(_READY))
POD_ITEMS = _items(
    spec=an_object({"node_name": _TOLD}),
    status=an_object(
        {"phase": TEXT, "host_ip": _TOLD, "start_time": _TOLD, "container_statuses": an_array(_CONTAINER)}
    ),
)
QUOTA_ITEMS = _items(spec=an_object({"hard": _TEXTS}), status=an_object({"hard": _TEXTS, "used": _TEXTS}))
REGISTRY_ITEMS = _items(type=TEXT)
