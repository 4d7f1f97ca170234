"""/v1/site-rules: by which rules queues and nodes are taken out, and what these did."""

from dataclasses import asdict

import falcon

from panda.api.access import allowed
from panda.api.described import Page, gives
from panda.api.listing import (
    CURSOR,
    LIST,
    LIST_PROBLEMS,
    SHORT_LIST,
    SHORT_LIST_PROBLEMS,
    show_list,
    show_short_list,
)
from panda.api.site_schemas import SiteRule, SiteRuleAct
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.errors import ConfigError, Invalid, Unavailable
from panda.settings import Settings
from panda.sites import judging, rules
from panda.sites.nouns import ACTS


class SiteRulesResource:
    """/v1/site-rules"""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings

    @allowed(Action.READ_SITES, *SHORT_LIST)
    @gives(Page(SiteRule, is_list=True), problems=SHORT_LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The rules as they are now, with all thresholds."""
        try:
            found = rules.current(self._settings)
        except (ConfigError, Invalid) as problem:
            raise Unavailable(f"the rules cannot be read: {problem}") from problem
        with self._begin() as connection:
            acted = judging.acts_of(connection, found)
        of = {kind: word for word, kind in rules.KINDS.items()}
        shown = []
        for rule in found.all:
            n, at = acted.get(rule.name, (0, None))
            settings = {key: value for key, value in asdict(rule).items() if key != "name"}
            shown.append(
                SiteRule(
                    name=rule.name, of=of[type(rule)], settings=settings, where=found.where, n_acted=n, acted_at=at
                )
            )
        show_short_list(req, resp, SiteRule, shown)


class SiteRuleActsResource:
    """/v1/site-rule-acts"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, *LIST)
    @gives(Page(SiteRuleAct, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """What rules did, newest first."""
        show_list(self._begin, req, resp, ACTS, SiteRuleAct)
