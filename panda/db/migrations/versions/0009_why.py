"""pre: what `panda why` rests on: what pilots could not take, how many jobs queues start, past estimates."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

DISPATCH = """
-- How pilots' asks ended, by hour: `word` is an outcome for a queue (shape 0), or what a pilot had too little of for
-- jobs of a shape; `most` is the most that one of these pilots had. Each process adds up for itself, and writes every
-- few seconds.
CREATE TABLE dispatch_counts (
    hour timestamptz NOT NULL, queue text NOT NULL, shape_id int NOT NULL, word text NOT NULL,
    n bigint NOT NULL, most bigint NOT NULL, last_at timestamptz NOT NULL, PRIMARY KEY (queue, shape_id, hour, word)
);
CREATE INDEX dispatch_counts_hour ON dispatch_counts (hour);
"""

STARTS = """
-- Jobs that pilots took, by queue and five minutes: counted where the deltas of the move are folded.
CREATE TABLE queue_starts (
    queue text NOT NULL, bucket timestamptz NOT NULL, n bigint NOT NULL, PRIMARY KEY (queue, bucket)
);
CREATE INDEX queue_starts_bucket ON queue_starts (bucket);
-- When some waiting jobs were predicted to start, and when they did.
CREATE TABLE start_predictions (
    panda_id bigint PRIMARY KEY, made_at timestamptz NOT NULL, looked_at timestamptz NOT NULL, queue text NOT NULL,
    base_s double precision NOT NULL, low_at timestamptz NOT NULL, high_at timestamptz NOT NULL,
    started_at timestamptz, is_gone boolean NOT NULL DEFAULT false
);
CREATE INDEX start_predictions_made ON start_predictions (made_at);
CREATE INDEX start_predictions_open ON start_predictions (looked_at) WHERE started_at IS NULL AND NOT is_gone;
"""


def upgrade() -> None:
    for part in (DISPATCH, STARTS):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    raise RuntimeError("there is no way back; restore the backup that was made before")
