"""pre: a submission that is cut off while it takes its PandaIDs lets go of the lock around them.

The lock is the session's, so that two submissions never wait for each other's commit. A rollback does not release
such a lock, and a pool keeps its sessions: a statement that ran into its time limit between the lock and its
release kept everybody else from submitting until its process ended. A query that is cancelled is not among
`OTHERS` and has to be named.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TAKE_IDS = """
CREATE OR REPLACE FUNCTION panda_take_ids(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE first bigint;
BEGIN
    BEGIN
        PERFORM pg_advisory_lock(7000001);
        first := nextval('panda_id_seq');
        PERFORM setval('panda_id_seq', first + n - 1);
        PERFORM pg_advisory_unlock(7000001);
    EXCEPTION WHEN query_canceled OR OTHERS THEN
        -- Of a lock that is not held, or not any more, this only says so.
        PERFORM pg_advisory_unlock(7000001);
        RAISE;
    END;
    RETURN first;
END $$;
"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(TAKE_IDS)


def downgrade() -> None:
    raise RuntimeError("what 0001 had in its place could block every submission")
