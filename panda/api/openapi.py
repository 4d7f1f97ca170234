"""The OpenAPI 3.1 document, made from what runs: the routes, the responders' marks, the structs.

Nothing is written here twice: a path comes from the router, who may call it from `@allowed`, messages from
`@gives` and their schemas from msgspec, a sentence about each field from the docstring below it.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import falcon
import msgspec

from panda import __version__
from panda.api import parameters, schemas
from panda.api.access import access_of
from panda.api.described import Description, Page, Raw, description_of
from panda.api.errors import PROBLEM

App = falcon.App[falcon.Request, falcon.Response]
Document = dict[str, Any]

ABOUT = """
PanDA's own API. A call carries `Authorization: Bearer TOKEN` unless everybody may make it;
`Idempotency-Key` goes with every submission. A list is `{"data": […], "page": {"next": cursor}}`; the cursor
goes into `after` of the next call. An error is a problem document (RFC 9457) with a stable `code`. Every
answer has an `X-Request-Id`, and takes over one that the request brings. Sizes are bytes or MB (10^6), times are
seconds or ISO 8601 in UTC. What comes back only ever gains fields: leave unknown ones alone.
""".strip().replace("\n", " ")

#: Request headers that responders name in `@gives`: (required, schema, about).
HEADERS: Mapping[str, tuple[bool, Mapping[str, Any], str]] = {
    "Idempotency-Key": (
        True,
        {"type": "string", "pattern": "^[!-~]{1,200}$"},
        "A word of yours. The same request with the same key is done once; the repeat gets the first answer.",
    ),
    "X-Lease-Token": (True, {"type": "string", "pattern": "^[!-~]+$"}, "The token that the job came with."),
    "X-Adler32": (False, {"type": "string", "pattern": "^[0-9a-f]{8}$"}, "Checksum that the bytes must have."),
    "X-Sha256": (False, {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "The same."),
    "X-Md5": (False, {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "The same; it is kept with the file."),
    "X-Guid": (
        False,
        {"type": "string", "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"},
        "The file's GUID, if it has one already.",
    ),
    "Range": (False, {"type": "string", "pattern": "^bytes=[0-9]+-[0-9]*$"}, "Bytes that are wanted; 206 tells which."),
    "Last-Event-ID": (False, {"type": "string", "pattern": "^[0-9]{1,18}$"}, "The last event that was seen."),
}
#: What a body may look like, by the name of its struct.
EXAMPLES: Mapping[str, Any] = {
    "JobSetRequest": {
        "name": "hello",
        "template": {"command": ["echo", "Hello from ${place}"], "matrix": {"place": ["Geneva", "Upton"]}},
    },
    "RetryRequest": {"reason": "the storage is back"},
    "CancelRequest": {"reason": "wrong input"},
    "HoldRequest": {"reason": "the new calibration is not there yet"},
    "DatasetRequest": {"dataset": "user.anna:calibration"},
    "QueueStatusRequest": {"status": "offline", "reason": "the cooling failed"},
    "ShareWeightRequest": {"weight": 3, "reason": "conference in two weeks"},
    "IncidentReports": {
        "incidents": [{"component": "backup", "level": "error", "key": "backup:late", "message": "no backup today"}]
    },
    "IncidentAnswer": {"action": "acknowledge", "comment": "the disk is being changed"},
    "UserRequest": {"name": "anna", "roles": ["user"], "reason": "joined the group"},
    "BanRequest": {"reason": "floods the system", "running": "finish"},
    "QuotaRequest": {"reason": "campaign until Friday", "running_cores": 500},
    "RevokeRequest": {"reason": "the laptop was stolen"},
    "TokenRequest": {"owner": "anna", "roles": ["user"], "label": "laptop", "ttl_s": 2_592_000},
    "AcquireRequest": {
        "pilot_id": "pilot-1", "queue": "HOLLAND-CPU", "request_id": "ask-1", "n": 1, "cores": 4, "memory_mb": 8000,
        "disk_mb": 20000, "walltime_s": 86400, "node": "node-7",
    },
    "UpdateRequest": {
        "pilot_id": "pilot-1",
        "reports": [{"panda_id": 1, "attempt_nr": 1, "token": "LEASE-TOKEN", "status": "finished", "exit_code": 0}],
    },
    "HeartbeatRequest": {"pilot_id": "pilot-1", "beats": [{"panda_id": 1, "attempt_nr": 1, "token": "LEASE-TOKEN"}]},
}  # fmt: skip
#: Fields of paths that are no numbers.
PATH_FIELDS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "did": ({"type": "string", "minLength": 1}, "`scope:name` of a dataset."),
    "lfn": ({"type": "string", "minLength": 1}, "Name of a file."),
    "name": ({"type": "string", "minLength": 1}, "Its name."),
    "pilot_id": ({"type": "string", "minLength": 1}, "Id of a pilot."),
    "subject": ({"type": "string", "minLength": 1}, "`default`, `limited`, `user:NAME` or `group:NAME`."),
    "sha256": ({"type": "string", "minLength": 1}, "SHA-256 of the bytes, in lower-case hexadecimal."),
}
#: The same for those that are.
NUMBERS: Mapping[str, str] = {
    "panda_id": "PandaID of a job.",
    "jobset_id": "Number of a job set.",
    "token_id": "Number of a token, as lists show it.",
    "attempt_nr": "Number of the attempt, from 1.",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
#: A field of a path that is a number, as Falcon's router has it.
_FIELD = re.compile(r"\{(\w+)(?::int\(min=(\d+), max=(\d+)\))?\}")


class Operation(NamedTuple):
    """A responder and where it stands."""

    method: str
    template: str
    resource: Any
    responder: Any

    @property
    def path(self) -> str:
        """The path as OpenAPI writes it."""
        return _FIELD.sub(r"{\1}", self.template)

    @property
    def call(self) -> str:
        """`GET /v1/jobs/{panda_id}`"""
        return f"{self.method} {self.path}"


def operations(app: App) -> list[Operation]:
    """Everything that can be called, by path."""
    found: list[Operation] = []

    def walk(nodes: Any) -> None:
        for node in nodes:
            for method in METHODS if node.resource is not None else ():
                if hasattr(node.resource, f"on_{method.lower()}"):
                    found.append(Operation(method, node.uri_template, node.resource, node.method_map[method]))
            walk(node.children)

    walk(app._router._roots)
    return sorted(found, key=lambda each: (each.path, METHODS.index(each.method)))


def document(app: App) -> Document:
    """The whole description. Its cost is that of a few hundred small dictionaries; keep it."""
    found = operations(app)
    paths: dict[str, Document] = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "PanDA", "version": __version__, "description": ABOUT, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": tag} for tag in sorted({_tag(each.path) for each in found})],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "See POST /v1/tokens."}},
            "schemas": _schemas(found),
        },
    }


def problems_of(each: Operation) -> dict[int, set[str]]:
    """Codes by HTTP status that this call may be refused with."""
    access, told = access_of(each.responder), description_of(each.responder)
    found: dict[int, set[str]] = {400: {"invalid", "unknown_parameter"}, 503: {"unavailable"}}
    if access is not None and access.action is not None:
        found |= {401: {"unauthenticated"}, 403: {"forbidden"}, 429: {"too_many_requests"}}
    if "{" in each.template:
        found[404] = {"not_found", "no_such_path"}
    if told is not None and told.takes is not None:
        found[400] |= {"cut_short"}
        found[413] = {"too_large"}
        if not isinstance(told.takes, Raw):
            found |= {415: {"unsupported_media_type"}, 422: {"invalid"}}
    for status, codes in told.problems.items() if told is not None else ():
        found.setdefault(status, set()).update(codes)
    return found


def summary_of(responder: Any) -> str:
    """The first sentences of its docstring."""
    return " ".join((inspect.getdoc(responder) or "").partition("\n\n")[0].split())


def _operation(each: Operation) -> Document:
    access, told = access_of(each.responder), description_of(each.responder)
    rest = (inspect.getdoc(each.responder) or "").partition("\n\n")[2]
    made: Document = {
        "operationId": f"{each.method.lower()}{type(each.resource).__name__.removesuffix('Resource')}",
        "summary": summary_of(each.responder),
        "tags": [_tag(each.path)],
        "parameters": [*_path_fields(each), *_query(each), *_headers(told)],
        "responses": _responses(each, told),
    }
    if rest:
        made["description"] = rest
    if access is None or access.action is None:
        made["security"] = []
    else:
        made["x-needs-leave-to"] = access.action.value
    if told is not None and told.takes is not None:
        content = _content(told.takes)
        if not isinstance(told.takes, Raw) and told.takes.__name__ in EXAMPLES:
            content["application/json"]["example"] = EXAMPLES[told.takes.__name__]
        made["requestBody"] = {"required": not told.takes_nothing_too, "content": content}
    return made


def _tag(path: str) -> str:
    words = path.strip("/").split("/")
    return words[1] if words[0] == "v1" and len(words) > 1 else "system"


def _path_fields(each: Operation) -> Iterator[Document]:
    for name, low, high in _FIELD.findall(each.template):
        if low:
            schema: Mapping[str, Any] = {"type": "integer", "minimum": int(low), "maximum": int(high)}
            about = f"Number of the {name.removesuffix('_id')}." if name not in NUMBERS else NUMBERS[name]
        else:
            schema, about = PATH_FIELDS.get(name, PATH_FIELDS["name"])
        yield {"name": name, "in": "path", "required": True, "schema": schema, "description": about}


def _query(each: Operation) -> Iterator[Document]:
    access, told = access_of(each.responder), description_of(each.responder)
    for name in sorted(access.parameters) if access is not None else ():
        schema, about = parameters.SCHEMAS.get(name, ({"type": "string"}, ""))
        schema = told.parameters.get(name, schema) if told is not None else schema
        about = schema.get("description", about)
        yield {
            "name": name, "in": "query", "required": False, "description": about,
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }  # fmt: skip


def _headers(told: Description | None) -> Iterator[Document]:
    for name in told.headers if told is not None else ():
        required, schema, about = HEADERS[name]
        yield {"name": name, "in": "header", "required": required, "schema": schema, "description": about}


def _responses(each: Operation, told: Description | None) -> Document:
    made: dict[int, Document] = {}
    for status in told.statuses if told is not None else (200,):
        content = _content(told.gives) if told is not None and told.gives is not None else {}
        made[status] = {"description": HTTPStatus(status).phrase, "content": content}
    if each.method == "GET" and 200 in made:
        made[304] = {"description": "`If-None-Match` names the answer's `ETag`: it is the same still.", "content": {}}
    for status, codes in problems_of(each).items():
        known = [{"$ref": _ref(schemas.Problem)}, {"properties": {"code": {"enum": sorted(codes)}}}]
        answer = made.setdefault(
            status, {"description": " ".join(f"`{code}`" for code in sorted(codes)), "content": {}}
        )
        answer["content"] = answer["content"] | {PROBLEM: {"schema": {"allOf": known}}}
    if each.method == "HEAD":
        made = {status: {"description": answer["description"]} for status, answer in made.items()}
    return {str(status): made[status] for status in sorted(made)}


def _content(message: type[msgspec.Struct] | Page | Raw) -> Document:
    if isinstance(message, Raw):
        return {message.media: {"schema": {}}}
    if isinstance(message, Page):
        item: Document = {"$ref": _ref(message.item)}
        if message.is_list:
            some = {"type": "object", "description": "With `fields`: these alone."}
            item = {"anyOf": [item, some]}
        page = {
            "type": "object",
            "required": ["data", "page"],
            "properties": {
                "data": {"type": "array", "items": item},
                "page": {"$ref": _ref(schemas.PageEnd)},
            },
        }
        as_csv: Document = {"text/csv": {"schema": {}}} if message.is_list else {}
        return {"application/json": {"schema": page}} | as_csv
    return {"application/json": {"schema": {"$ref": _ref(message)}}}


def _ref(struct: type[msgspec.Struct]) -> str:
    return f"#/components/schemas/{struct.__name__}"


def structs_of(found: list[Operation]) -> list[type[msgspec.Struct]]:
    """Every message that is named, once."""
    named: dict[str, type[msgspec.Struct]] = {
        each.__name__: each for each in (schemas.Problem, schemas.PageEnd, schemas.JobMoved)
    }
    for each in found:
        told = description_of(each.responder)
        for message in (told.takes, told.gives) if told is not None else ():
            struct = message.item if isinstance(message, Page) else message
            if struct is not None and not isinstance(struct, Raw):
                named[struct.__name__] = struct
    return list(named.values())


def _schemas(found: list[Operation]) -> Document:
    structs = structs_of(found)
    _, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for kind in _with_inner(structs):
        made = components.get(kind.__name__, {})
        if made.get("description"):
            made["description"] = inspect.cleandoc(made["description"])
        for name, note in _notes(kind).items():
            if name in made.get("properties", {}):
                # Beside a `$ref` a description stands as well: 3.1 is JSON Schema 2020-12.
                made["properties"][name] = made["properties"][name] | {"description": note}
    return dict(sorted(components.items()))


def _with_inner(structs: list[type[msgspec.Struct]]) -> Iterator[type[msgspec.Struct]]:
    """These structs, and those that their fields hold."""
    todo: list[Any] = [msgspec.inspect.type_info(struct) for struct in structs]
    seen: set[type] = set()
    while todo:
        info = todo.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls not in seen:
                seen.add(info.cls)
                yield info.cls
                todo += [field.type for field in info.fields]
        else:
            todo += getattr(info, "types", ())
            inner = [getattr(info, name, None) for name in ("item_type", "key_type", "value_type", "type")]
            todo += [each for each in inner if isinstance(each, msgspec.inspect.Type)]


def _notes(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring below each field, of the struct and of those that it extends."""
    notes: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if not (isinstance(base, type) and issubclass(base, msgspec.Struct)) or base is msgspec.Struct:
            continue
        [body] = ast.parse(inspect.getsource(base)).body
        assert isinstance(body, ast.ClassDef)
        for field, following in zip(body.body, body.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                notes[field.target.id] = " ".join(str(following.value.value).split())
    return notes
