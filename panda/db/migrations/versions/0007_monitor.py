"""pre: what operators pause, the history of each queue, saved views, and notices to people."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SWITCHES = """
-- What is paused: everywhere (no place), at a site, at a queue, or on one node of a queue. Dispatchers and brokerage
-- know them from a picture of half a second.
CREATE TABLE switches (
    what text NOT NULL CHECK (what IN ('brokerage', 'dispatch')),
    site text NOT NULL DEFAULT '', queue text NOT NULL DEFAULT '', node text NOT NULL DEFAULT '',
    set_by text NOT NULL, reason text NOT NULL, set_at timestamptz NOT NULL, until timestamptz,
    PRIMARY KEY (what, site, queue, node),
    CHECK (site = '' OR queue = ''), CHECK (node = '' OR (queue <> '' AND what = 'dispatch'))
);
"""

HISTORY = """
-- Jobs of a queue by status, every five minutes: `{"running": 12}`. For its chart, kept a fortnight.
CREATE TABLE queue_history (queue text NOT NULL, at timestamptz NOT NULL, counts jsonb NOT NULL, PRIMARY KEY (queue, at));
CREATE INDEX queue_history_at ON queue_history (at);
"""

NODES = """
-- Failures of each node by hour: black holes stand out. They come with the deltas of errors.
ALTER TABLE error_deltas ADD COLUMN node text NOT NULL DEFAULT '';
CREATE TABLE node_failures (hour timestamptz NOT NULL, queue text NOT NULL, node text NOT NULL, n bigint NOT NULL,
    wall_s double precision NOT NULL, PRIMARY KEY (queue, hour, node));
"""

PEOPLE = """
-- A filter of jobs under a name: `@NAME` stands for it wherever a filter does.
CREATE TABLE saved_views (
    owner text NOT NULL REFERENCES users, name text NOT NULL, filter text NOT NULL, created_at timestamptz NOT NULL,
    PRIMARY KEY (owner, name)
);
-- What somebody wants to hear of: the end of their job sets, failures above a share, incidents (for operators).
CREATE TABLE notice_rules (
    rule_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL REFERENCES users,
    kind text NOT NULL CHECK (kind IN ('set_ended', 'set_failing', 'incident')), above_percent int,
    created_at timestamptz NOT NULL, UNIQUE (owner, kind)
);
-- What they heard. `key` tells what it is about: nobody hears of it twice.
CREATE TABLE notices (
    notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL, at timestamptz NOT NULL,
    key text NOT NULL, message text NOT NULL, link text NOT NULL, read_at timestamptz, UNIQUE (owner, key)
);
CREATE INDEX notices_owner ON notices (owner, notice_id);
CREATE INDEX notices_at ON notices (at);
"""

ACTIONS = """
ALTER TABLE bulk_actions DROP CONSTRAINT bulk_actions_action_check, ADD CONSTRAINT bulk_actions_action_check
    CHECK (action IN ('retry', 'cancel', 'priority', 'hold', 'release', 'rebroker'));
"""


def upgrade() -> None:
    for part in (SWITCHES, HISTORY, NODES, PEOPLE, ACTIONS):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    op.execute("DROP TABLE notices, notice_rules, saved_views, node_failures, queue_history, switches")
