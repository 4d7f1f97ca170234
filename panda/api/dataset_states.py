"""/v1/datasets/{did}/…: whether it grows, what a container holds, and where it is wanted."""

import falcon

from panda.api import data_schemas, schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.auth import policy
from panda.auth.policy import Action
from panda.dataservice import catalog, containers, rules
from panda.db.session import Begin


class DatasetCloseResource:
    """/v1/datasets/{did}/close"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.WRITE_DATA)
    @gives(schemas.Dataset, problems={422: "bad_name"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """No more files join it. Closing a closed one changes nothing."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            catalog.close(connection, did)
            dataset = catalog.show(connection, did)
        show(resp, schemas.Dataset(**dataset._asdict()))


class DatasetFreezeResource:
    """/v1/datasets/{did}/freeze"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.WRITE_DATA)
    @gives(schemas.Dataset, problems={409: "dataset_deleting", 422: "bad_name"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """No more files join it, for ever."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            catalog.freeze(connection, did)
            dataset = catalog.show(connection, did)
        show(resp, schemas.Dataset(**dataset._asdict()))


class DatasetReopenResource:
    """/v1/datasets/{did}/reopen"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.WRITE_DATA)
    @gives(schemas.Dataset, problems={409: "dataset_frozen dataset_deleting", 422: "bad_name"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """Files may join it again, unless it is frozen."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            catalog.reopen(connection, did)
            dataset = catalog.show(connection, did)
        show(resp, schemas.Dataset(**dataset._asdict()))


class MembersResource:
    """/v1/datasets/{did}/members"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(data_schemas.MembersRequest, max_mb)

    @allowed(Action.READ_DATA)
    @gives(Page(schemas.Dataset), problems={409: "no_container", 422: "bad_name"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """The datasets of a container, by name; there are no pages."""
        with self._begin() as connection:
            found = containers.members(connection, did)
        show_page(resp, [schemas.Dataset(**row._asdict()) for row in found], None)

    @allowed(Action.WRITE_DATA)
    @gives(
        schemas.Dataset,
        takes=data_schemas.MembersRequest,
        problems={409: "no_container is_container dataset_closed dataset_deleting", 422: "bad_name"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """Put datasets into a container; those that are in it stay. Anybody's datasets may be named."""
        said = self._body.read(req)
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            containers.add(connection, did, said.datasets)
            container = catalog.show(connection, did)
        show(resp, schemas.Dataset(**container._asdict()))


class MemberResource:
    """/v1/datasets/{did}/members/{member}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.WRITE_DATA)
    @gives(schemas.Dataset, problems={409: "no_container dataset_closed dataset_deleting", 422: "bad_name"})
    def on_delete(self, req: falcon.Request, resp: falcon.Response, did: str, member: str) -> None:
        """Take a dataset out of a container; the dataset itself stays."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            containers.remove(connection, did, member)
            container = catalog.show(connection, did)
        show(resp, schemas.Dataset(**container._asdict()))


class RulesResource:
    """/v1/datasets/{did}/rules"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA)
    @gives(Page(data_schemas.DatasetRule), problems={422: "bad_name"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """The storages that a dataset is wanted on, by name; there are no pages."""
        with self._begin() as connection:
            found = rules.of_dataset(connection, did)
        show_page(resp, [data_schemas.DatasetRule(**row._asdict()) for row in found], None)


class RuleResource:
    """/v1/datasets/{did}/rules/{storage}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.WRITE_DATA)
    @gives(Page(data_schemas.DatasetRule), problems={409: "is_container dataset_deleting", 422: "bad_name"})
    def on_put(self, req: falcon.Request, resp: falcon.Response, did: str, storage: str) -> None:
        """Have all files of a dataset on a storage, and keep them there."""
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            rules.make(connection, did, storage, by=identity.subject)
            found = rules.of_dataset(connection, did)
        show_page(resp, [data_schemas.DatasetRule(**row._asdict()) for row in found], None)

    @allowed(Action.WRITE_DATA)
    @gives(Page(data_schemas.DatasetRule), problems={422: "bad_name"})
    def on_delete(self, req: falcon.Request, resp: falcon.Response, did: str, storage: str) -> None:
        """Want it there no more; what is there stays."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            rules.drop(connection, did, storage)
            found = rules.of_dataset(connection, did)
        show_page(resp, [data_schemas.DatasetRule(**row._asdict()) for row in found], None)
