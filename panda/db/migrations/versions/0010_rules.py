"""pre: what rules did to queues and nodes. The rules themselves stand in a file, nodes are taken out by `switches`."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ACTS = """
DROP TABLE node_exclusions, site_rules;
-- A rule acts on a thing once for the same evidence: ends of attempts before its last act count no more.
CREATE TABLE site_rule_acts (
    act_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL,
    rule text NOT NULL, queue text NOT NULL, node text NOT NULL DEFAULT '',
    did text NOT NULL, is_passive boolean NOT NULL, because text NOT NULL
);
CREATE INDEX site_rule_acts_target ON site_rule_acts (rule, queue, node, at);
CREATE INDEX site_rule_acts_at ON site_rule_acts (at);
"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(ACTS)


def downgrade() -> None:
    raise RuntimeError("there is no way back; restore the backup that was made before")
