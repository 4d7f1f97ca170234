"""pre: which jobs wait for room at which queues, so that as many look again as there is room for."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ROOM = """
-- One row for each set of queues that jobs wait for room at. `key` is a hash of policy and queues; `woken`: jobs that
-- were woken, and that brokerage had not looked at yet when somebody looked last.
CREATE TABLE room_groups (
    room_group int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key bytea NOT NULL UNIQUE, policy text NOT NULL,
    queues text[] NOT NULL, seen_at timestamptz NOT NULL, woken bigint[] NOT NULL DEFAULT '{}'
);
-- Of a job that waits for a queue, and that some queue refused for want of room alone.
ALTER TABLE job_due ADD COLUMN room_group int, ADD COLUMN room_rank bigint;
CREATE INDEX job_due_room ON job_due (room_group, room_rank) WHERE waits_for = 'queue' AND room_group IS NOT NULL;
"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(ROOM)


def downgrade() -> None:
    raise RuntimeError("there is no way back; restore the backup that was made before")
