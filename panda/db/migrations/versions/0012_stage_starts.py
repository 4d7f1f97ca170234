"""pre: what stages have in their hands is written as it is; packing a thousand numbers took longer than writing them."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE stage_starts ALTER COLUMN panda_ids SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("ALTER TABLE stage_starts ALTER COLUMN panda_ids SET STORAGE EXTENDED")
