"""pre: room on storages and quotas, tape, copies that go again, containers, rules, further checksums."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SPACE = """
-- As `sites.toml` has them; 0 or empty: nothing is said. `stager`: the plug-in that brings files online; it is a tape.
ALTER TABLE storages ADD COLUMN limit_mb int NOT NULL DEFAULT 0 CHECK (limit_mb >= 0),
    ADD COLUMN keep_free_mb int NOT NULL DEFAULT 0 CHECK (keep_free_mb >= 0),
    ADD COLUMN stager text NOT NULL DEFAULT '';
-- `free_bytes`, `total_bytes`: what the storage said of itself at `asked_at`, when `used_when_asked` bytes of ours were
-- on it. `room_bytes` is worked out from these and its limits (null: nobody knows of one); `full_because` says why
-- nothing more may come, null: it may.
CREATE TABLE storage_space (
    storage text PRIMARY KEY, free_bytes bigint, total_bytes bigint, used_when_asked bigint NOT NULL DEFAULT 0,
    asked_at timestamptz, ask_error text, room_bytes bigint, full_because text
);
-- What lies on each storage, by the owner of its dataset; the copies that jobs need for a while are nobody's (''): counted
-- by deltas, as everything is.
CREATE TABLE storage_use_deltas (storage text NOT NULL, owner text NOT NULL, n_files int NOT NULL, n_bytes bigint NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
CREATE TABLE storage_use (storage text NOT NULL, owner text NOT NULL, n_files bigint NOT NULL, n_bytes bigint NOT NULL,
    PRIMARY KEY (storage, owner));
INSERT INTO storage_use (storage, owner, n_files, n_bytes)
SELECT r.storage, d.owner, count(*), sum(f.size_bytes)
FROM replicas r JOIN files f USING (file_id) JOIN datasets d USING (dataset_id) GROUP BY 1, 2;
-- As `storage.toml` has them; patterns as LIKE wants them. `each`: every owner has as much, not all of them together.
CREATE TABLE storage_quotas (
    name text PRIMARY KEY, owners text[] NOT NULL, storages text[] NOT NULL, owners_like text[] NOT NULL,
    storages_like text[] NOT NULL, each boolean NOT NULL, limit_bytes bigint NOT NULL
);
-- Who may put no more where, and why.
CREATE TABLE storage_quotas_reached (storage text NOT NULL, owner text NOT NULL, because text NOT NULL,
    PRIMARY KEY (storage, owner));
"""

COPIES = """
-- A copy was brought for jobs, and goes when none needs it: last needed, as far as is known, at `needed_at`; from
-- `going_at` on no job is told that it is there.
ALTER TABLE replicas ADD COLUMN is_copy boolean NOT NULL DEFAULT false, ADD COLUMN needed_at timestamptz,
    ADD COLUMN going_at timestamptz;
CREATE INDEX replicas_copies ON replicas (needed_at) WHERE is_copy AND going_at IS NULL;
CREATE INDEX replicas_going ON replicas (going_at) WHERE going_at IS NOT NULL;
-- `owner`: who pays for what arrives; null: it is a copy for jobs. `is_ruled`: wanted also when no job waits for it.
-- `jobset_id`: the set whose job asked first.
ALTER TABLE transfers ADD COLUMN owner text, ADD COLUMN is_ruled boolean NOT NULL DEFAULT false,
    ADD COLUMN jobset_id bigint;
CREATE INDEX transfers_jobset ON transfers (jobset_id) WHERE jobset_id IS NOT NULL;
"""

TAPE = """
-- Files that are wanted from a tape: asked for in bulk, online until their pin ends, given back when nobody moves them.
-- `wanted_until`: somebody wants it without a transfer.
CREATE TABLE recalls (
    file_id bigint NOT NULL REFERENCES files, storage text NOT NULL REFERENCES storages,
    status text NOT NULL DEFAULT 'wanted' CHECK (status IN ('wanted', 'asked', 'online', 'failed')),
    request text, due_at timestamptz NOT NULL, tries int NOT NULL DEFAULT 0, error text,
    created_at timestamptz NOT NULL, asked_at timestamptz, pinned_until timestamptz, wanted_until timestamptz,
    PRIMARY KEY (file_id, storage)
);
CREATE INDEX recalls_due ON recalls (due_at);
"""

QUEUES = """
-- Where outputs go when the storage for them does not take them; whether a payload may read its inputs where they lie.
ALTER TABLE queues ADD COLUMN second_storage text REFERENCES storages,
    ADD COLUMN direct_read boolean NOT NULL DEFAULT false;
"""

DATASETS = """
ALTER TABLE datasets ADD COLUMN kind text NOT NULL DEFAULT 'dataset' CHECK (kind IN ('dataset', 'container')),
    ADD COLUMN has_rules boolean;
CREATE TABLE dataset_members (
    container_id bigint NOT NULL REFERENCES datasets, dataset_id bigint NOT NULL REFERENCES datasets,
    PRIMARY KEY (container_id, dataset_id)
);
CREATE INDEX dataset_members_of ON dataset_members (dataset_id);
-- A dataset to a storage. `after_lfn`: how far its files were looked through; `done_at`: all of it is there.
CREATE TABLE dataset_rules (
    dataset_id bigint NOT NULL REFERENCES datasets, storage text NOT NULL REFERENCES storages, made_by text NOT NULL,
    created_at timestamptz NOT NULL, due_at timestamptz NOT NULL, after_lfn text NOT NULL DEFAULT '',
    n_lacking bigint NOT NULL DEFAULT 0, error text, done_at timestamptz,
    PRIMARY KEY (dataset_id, storage)
);
CREATE INDEX dataset_rules_due ON dataset_rules (due_at) WHERE done_at IS NULL;
-- As `storage.toml` has them: datasets of such a name go to the storage when they close. `has_rules` of a dataset is null
-- until that was looked at.
CREATE TABLE archiving (name text PRIMARY KEY, datasets text NOT NULL, storage text NOT NULL REFERENCES storages);
CREATE INDEX datasets_unruled ON datasets (closed_at) WHERE has_rules IS NULL AND closed_at IS NOT NULL;
UPDATE datasets SET has_rules = false WHERE closed_at IS NOT NULL;
ALTER TABLE files ADD COLUMN sha256 text, ADD COLUMN md5 text;
ALTER TABLE job_files ADD COLUMN sha256 text, ADD COLUMN md5 text;
-- Where the next chunk of a set goes on in the datasets of its inputs.
ALTER TABLE jobsets ADD COLUMN cursors jsonb;
"""


def upgrade() -> None:
    for part in (SPACE, COPIES, TAPE, QUEUES, DATASETS):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    raise RuntimeError("counters and copies would be lost; restore a backup instead")
