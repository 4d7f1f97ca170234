"""pre: jobs brokered anew, and where they must not go."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

REBROKERAGE = """
-- Sites and queues (patterns) that a job was brokered away from for good.
CREATE TABLE job_avoids (
    panda_id bigint NOT NULL, place text NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (panda_id, place)
);
CREATE INDEX job_avoids_at ON job_avoids (at);
ALTER TABLE bulk_actions ADD COLUMN exclude text[] NOT NULL DEFAULT '{}';
"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(REBROKERAGE)


def downgrade() -> None:
    raise RuntimeError("there is no way back; restore the backup that was made before")
