"""pre: brokerage by policies; requirements of queues, GPUs of jobs, what a weight is made of."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DECISIONS = """
ALTER TABLE brokerage_decisions
    ADD COLUMN policy text NOT NULL DEFAULT '',
    ADD COLUMN terms jsonb NOT NULL DEFAULT '{}';
-- What a queue asks of jobs, in the language of `panda.requirements`.
ALTER TABLE queues ADD COLUMN requirements text NOT NULL DEFAULT '';
"""

SHAPES = """
ALTER TABLE shapes ADD COLUMN gpus int NOT NULL DEFAULT 0 CHECK (gpus >= 0);
ALTER TABLE shapes DROP CONSTRAINT shapes_cores_memory_mb_disk_mb_walltime_s_tags_key,
    ADD UNIQUE (cores, memory_mb, disk_mb, walltime_s, tags, gpus);
"""


def upgrade() -> None:
    for part in (DECISIONS, SHAPES):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    raise RuntimeError("there is no way back; restore the backup that was made before")
