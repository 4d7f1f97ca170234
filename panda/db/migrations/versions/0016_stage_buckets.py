"""pre: counters for Prometheus that only grow: runs of stages by how long they took, failures, transfers."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

METERS = """
-- By meter and the values of its labels: how often, and how much of it (seconds, bytes). Small, and written by one
-- process that folds; what others count in their own transactions comes as deltas.
CREATE TABLE meters (meter text NOT NULL, labels text[] NOT NULL, n bigint NOT NULL, amount double precision NOT NULL,
    changed_at timestamptz NOT NULL, PRIMARY KEY (meter, labels)) WITH (fillfactor = 50);
CREATE TABLE meter_deltas (meter text NOT NULL, labels text[] NOT NULL, n bigint NOT NULL,
    amount double precision NOT NULL DEFAULT 0);
"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(METERS)


def downgrade() -> None:
    op.execute("DROP TABLE meter_deltas, meters")
