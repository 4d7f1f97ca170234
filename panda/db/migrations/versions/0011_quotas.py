"""pre: quotas of users and groups, what owners used, and whose ready jobs dispatch has to know the owner of."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

QUOTAS = """
-- `subject`: default, limited, user:NAME or group:NAME. A limit that is null says nothing, 0 means any number.
-- `file_says` is what the file said last, so that what was set at run time stays until the file changes; null: the
-- file never spoke of it.
CREATE TABLE quotas (
    subject text PRIMARY KEY,
    queued_jobs bigint CHECK (queued_jobs >= 0), running_jobs bigint CHECK (running_jobs >= 0),
    running_cores bigint CHECK (running_cores >= 0), core_hours double precision CHECK (core_hours >= 0),
    beyond text CHECK (beyond IN ('refuse', 'hold')), members text[] NOT NULL DEFAULT '{}', file_says jsonb
);
-- When a quota, a ban or a limit changed last, and how far the walk through `ready` is that follows it.
CREATE TABLE quota_walk (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    changed_at timestamptz NOT NULL, began_at timestamptz NOT NULL, after_panda_id bigint
);
INSERT INTO quota_walk (changed_at, began_at) VALUES ('-infinity', '-infinity');
ALTER TABLE users ADD COLUMN limited_at timestamptz, ADD COLUMN limit_reason text;
CREATE INDEX users_held ON users (name) WHERE banned_at IS NOT NULL OR limited_at IS NOT NULL;
"""
DISPATCH = """
-- The owner, where a quota binds them; empty where none does, so that claims look at no more places than before.
ALTER TABLE ready ADD COLUMN who text NOT NULL DEFAULT '';
DROP INDEX ready_claim;
CREATE INDEX ready_claim ON ready (queue, share, who, shape_id, rank);
-- Running jobs and cores by owner, `{"ann": [3, 12]}`; null: nobody's quota wanted them counted.
ALTER TABLE share_usage ADD COLUMN owners jsonb;
"""
ADMISSION = """
-- Accepted beyond a quota: the jobs from `n_admitted` on wait until there is room.
ALTER TABLE jobsets ADD COLUMN held_at timestamptz, ADD COLUMN n_admitted int NOT NULL DEFAULT 0;
CREATE INDEX jobsets_held ON jobsets (owner, jobset_id) WHERE held_at IS NOT NULL;
CREATE INDEX jobsets_open ON jobsets (owner) WHERE ended_at IS NULL;
"""
HISTORY = """
CREATE TABLE owner_days (day date NOT NULL, owner text NOT NULL, core_s double precision NOT NULL,
    PRIMARY KEY (day, owner));
INSERT INTO owner_days SELECT day, owner, sum(core_s) FROM usage GROUP BY day, owner;
-- Made anew by the clock from `owner_days` and from what runs: the part of all that was used, in which what is long
-- ago counts less, what it costs in the order of jobs, and the core hours of the period.
CREATE TABLE owner_usage (owner text PRIMARY KEY, part double precision NOT NULL, late_ms bigint NOT NULL,
    core_hours double precision NOT NULL, at timestamptz NOT NULL);
"""


def upgrade() -> None:
    for part in (QUOTAS, DISPATCH, ADMISSION, HISTORY):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    raise RuntimeError("quotas are kept; restore a backup of before instead")
