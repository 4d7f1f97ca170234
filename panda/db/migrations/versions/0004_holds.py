"""Jobs that a person holds, and users whom somebody else vouches for.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HOLDS = """
-- Who holds a job, and why; a row for each that is held, and none for all others.
CREATE TABLE holds (
    panda_id bigint PRIMARY KEY, held_by text NOT NULL, reason text NOT NULL, held_at timestamptz NOT NULL,
    parents_until timestamptz
);
ALTER TABLE bulk_actions DROP CONSTRAINT bulk_actions_action_check;
ALTER TABLE bulk_actions ADD CONSTRAINT bulk_actions_action_check
    CHECK (action IN ('retry', 'cancel', 'priority', 'hold', 'release'));
"""

IDENTITIES = """
-- Who vouches for a user (an OpenID Connect issuer), and under which name; a user of our own has neither.
ALTER TABLE users ADD COLUMN issuer text, ADD COLUMN subject text;
CREATE UNIQUE INDEX users_identity ON users (issuer, subject) WHERE issuer IS NOT NULL;
"""


def upgrade() -> None:
    for part in (HOLDS, IDENTITIES):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    raise RuntimeError("jobs that are held would be forgotten; restore a backup instead")
