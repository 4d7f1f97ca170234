"""pre: where quarantined outputs lie, and their way out; a deletion need not be of a dataset."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

QUARANTINE = """
-- Null: nobody knows (`path` is empty then), or it was written down by an earlier release.
ALTER TABLE quarantine ADD COLUMN storage text;
CREATE INDEX quarantine_at ON quarantine (at, panda_id, attempt_nr, lfn);
-- Null: bytes that were in no catalogue.
ALTER TABLE deletions ALTER COLUMN dataset_id DROP NOT NULL;
"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(QUARANTINE)


def downgrade() -> None:
    raise RuntimeError("deletions of outputs would be lost; restore a backup instead")
