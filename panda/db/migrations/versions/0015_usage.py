"""pre: use by working group and kind, and bytes; see docs/decisions/0019."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

USAGE = """
-- Null: an earlier release accepted it, and its document says.
ALTER TABLE jobsets ADD COLUMN kind text, ADD COLUMN working_group text;
-- Null: an earlier release appended it.
ALTER TABLE usage_deltas ADD COLUMN jobset_id bigint,
    ADD COLUMN in_bytes bigint NOT NULL DEFAULT 0, ADD COLUMN out_bytes bigint NOT NULL DEFAULT 0;
-- `working_group` and `kind` as the job sets named them; empty: not named, or not known.
CREATE TABLE usage_days (day date NOT NULL, owner text NOT NULL, share text NOT NULL, queue text NOT NULL,
    working_group text NOT NULL, kind text NOT NULL,
    n_finished bigint NOT NULL, n_failed bigint NOT NULL, n_cancelled bigint NOT NULL, wall_s double precision NOT NULL,
    cpu_s double precision NOT NULL, core_s double precision NOT NULL,
    in_bytes bigint NOT NULL, out_bytes bigint NOT NULL,
    PRIMARY KEY (day, owner, share, queue, working_group, kind));
-- `usage` keeps what was folded before, and what processes of an earlier release fold while both kinds run.
CREATE VIEW usage_all AS
    SELECT day, owner, share, queue, working_group, kind, n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s,
        in_bytes, out_bytes FROM usage_days
    UNION ALL SELECT day, owner, share, queue, '', '', n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s, 0, 0
    FROM usage;
"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(USAGE)


def downgrade() -> None:
    raise RuntimeError("what was used since would be lost; restore a backup instead")
