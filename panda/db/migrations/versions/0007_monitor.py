"""pre: what operators pause, the history of each queue, saved views, and notices to people."""

from alembic import op

revision = "0007"
down_revision = "0005"
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
-- What somebody wants to hear of: the end of their job sets, failures above a share, trouble (for operators).
CREATE TABLE notice_rules (
    rule_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL REFERENCES users,
    kind text NOT NULL CHECK (kind IN ('set_ended', 'set_failing', 'trouble')), above_percent int,
    channel text NOT NULL CHECK (channel IN ('feed', 'webhook', 'mail')), target text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL, last_set_id bigint NOT NULL DEFAULT 0
);
CREATE INDEX notice_rules_owner ON notice_rules (owner);
CREATE TABLE notices (
    notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL, at timestamptz NOT NULL,
    key text NOT NULL, message text NOT NULL, link text NOT NULL, read_at timestamptz,
    channel text NOT NULL, target text NOT NULL DEFAULT '', due_at timestamptz, tries int NOT NULL DEFAULT 0,
    sent_at timestamptz, error text, UNIQUE (owner, channel, target, key)
);
CREATE INDEX notices_owner ON notices (owner, notice_id);
CREATE INDEX notices_due ON notices (due_at) WHERE due_at IS NOT NULL;
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
