"""pre: who is logged in at the web pages, over a restart of the monitor."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SESSIONS = """
CREATE TABLE page_sessions (
    key_hash bytea PRIMARY KEY, token_hash bytea NOT NULL REFERENCES tokens (token_hash) ON DELETE CASCADE,
    seal text NOT NULL, until timestamptz NOT NULL
)
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SESSIONS)


def downgrade() -> None:
    raise RuntimeError("there is no way back; restore the backup that was made before")
