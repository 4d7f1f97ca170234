"""pre: what is known about places grows: limits and capabilities of queues, versions, downtimes, rules, nodes.

Tables of places are small; only `node_minutes` grows with the jobs, by minute, and is swept each hour.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

QUEUES = """
-- A status with an end goes over to `status_then` by itself. `status_rule`: the rule that set it, if one did.
ALTER TABLE queues
    ADD COLUMN status_by text NOT NULL DEFAULT '',
    ADD COLUMN status_rule text NOT NULL DEFAULT '',
    ADD COLUMN status_at timestamptz NOT NULL DEFAULT panda_now(),
    ADD COLUMN status_until timestamptz,
    ADD COLUMN status_then text CHECK (status_then IN ('online', 'offline', 'test', 'brokeroff')),
    ADD CONSTRAINT queues_status_has_both_or_none CHECK ((status_until IS NULL) = (status_then IS NULL)),
    -- Somebody asked for its end: it is offline, and goes when no job can speak of it any more, which is some time
    -- after the last one that was under way there.
    ADD COLUMN removed_at timestamptz, ADD COLUMN empty_since timestamptz;

-- What its nodes are, beyond their size; 0 or empty: nothing is said.
ALTER TABLE queues
    ADD COLUMN min_cores int NOT NULL DEFAULT 0 CHECK (min_cores BETWEEN 0 AND cores),
    ADD COLUMN min_memory_mb int NOT NULL DEFAULT 0 CHECK (min_memory_mb BETWEEN 0 AND memory_mb),
    ADD COLUMN min_walltime_s int NOT NULL DEFAULT 0 CHECK (min_walltime_s BETWEEN 0 AND walltime_s),
    ADD COLUMN corepower double precision NOT NULL DEFAULT 10 CHECK (corepower > 0),
    ADD COLUMN architecture text NOT NULL DEFAULT '',
    ADD COLUMN gpus int NOT NULL DEFAULT 0 CHECK (gpus >= 0),
    ADD COLUMN gpu_model text NOT NULL DEFAULT '',
    ADD COLUMN software text[] NOT NULL DEFAULT '{}',
    ADD COLUMN containers text[] NOT NULL DEFAULT '{}',
    -- Who may use it; empty: everybody.
    ADD COLUMN vos text[] NOT NULL DEFAULT '{}',
    ADD COLUMN working_groups text[] NOT NULL DEFAULT '{}',
    -- Jobs that may run at once; 0: any number.
    ADD COLUMN max_running int NOT NULL DEFAULT 0 CHECK (max_running >= 0),
    ADD COLUMN read_storages text[] NOT NULL DEFAULT '{}',
    ADD COLUMN write_storage text REFERENCES storages,
    ADD COLUMN parameters jsonb NOT NULL DEFAULT '{}';
ALTER TABLE sites ADD COLUMN max_running int NOT NULL DEFAULT 0 CHECK (max_running >= 0);

-- Its tags, and what it is as tags: jobs may ask for `arch:aarch64`, `gpu`, `gpu:A100`, `software:ROOT-6.32`,
-- `container:apptainer`.
CREATE FUNCTION panda_offers(tags text[], architecture text, gpus int, gpu_model text, software text[],
    containers text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT tags
    || CASE WHEN architecture <> '' THEN ARRAY['arch:' || architecture] ELSE '{}' END
    || CASE WHEN gpus > 0 THEN ARRAY['gpu'] ELSE '{}' END
    || CASE WHEN gpus > 0 AND gpu_model <> '' THEN ARRAY['gpu:' || gpu_model] ELSE '{}' END
    || ARRAY(SELECT 'software:' || each FROM unnest(software) AS each)
    || ARRAY(SELECT 'container:' || each FROM unnest(containers) AS each)
$$;
ALTER TABLE queues ADD COLUMN offers text[] NOT NULL
    GENERATED ALWAYS AS (panda_offers(tags, architecture, gpus, gpu_model, software, containers)) STORED;
"""

VERSIONS = """
-- Each change of places is a version; a thing's document is written down when it changed, null: it was taken away.
-- The state at a version is, for each thing, its newest document up to there.
CREATE TABLE site_versions (
    version_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL,
    who text NOT NULL, source text NOT NULL, why text NOT NULL DEFAULT '', n_changed int NOT NULL, request_id text
);
CREATE TABLE site_revisions (
    kind text NOT NULL, name text NOT NULL, version_id bigint NOT NULL REFERENCES site_versions,
    document jsonb, PRIMARY KEY (kind, name, version_id)
);
CREATE INDEX site_revisions_version ON site_revisions (version_id);
-- What a source (the file, a collector) said last of a thing: what it says the same again does not undo what somebody
-- changed meanwhile, and a thing has one source.
CREATE TABLE site_sources (
    kind text NOT NULL, name text NOT NULL, source text NOT NULL, document jsonb NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX site_sources_source ON site_sources (source);
"""

DOWNTIMES = """
CREATE TABLE downtimes (
    name text PRIMARY KEY, kind text NOT NULL CHECK (kind IN ('site', 'queue', 'storage')), target text NOT NULL,
    starts_at timestamptz NOT NULL, ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    reason text NOT NULL DEFAULT '', made_by text NOT NULL, made_at timestamptz NOT NULL DEFAULT panda_now(),
    -- The clock saw its end, and let the jobs that wait for a queue look again.
    seen_end boolean NOT NULL DEFAULT false
);
CREATE INDEX downtimes_end ON downtimes (ends_at);
"""

RULES = """
-- Named rules as the file has them, and what each did last.
CREATE TABLE site_rules (
    name text PRIMARY KEY, document jsonb NOT NULL, n_acted bigint NOT NULL DEFAULT 0, acted_at timestamptz,
    acted_on text NOT NULL DEFAULT ''
);
-- Ends of attempts by minute and node; an empty error: it finished. Counted from the feed of events.
CREATE TABLE node_minutes (
    minute timestamptz NOT NULL, queue text NOT NULL, node text NOT NULL, error_code text NOT NULL,
    n int NOT NULL, wall_s double precision NOT NULL, PRIMARY KEY (minute, queue, node, error_code)
);
-- Nodes that get no jobs until a time.
CREATE TABLE node_exclusions (
    queue text NOT NULL, node text NOT NULL, rule text NOT NULL DEFAULT '', reason text NOT NULL, made_by text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT panda_now(), until_at timestamptz NOT NULL, PRIMARY KEY (queue, node)
);
-- Test jobs that were sent to a queue.
CREATE TABLE queue_tests (
    jobset_id bigint PRIMARY KEY, queue text NOT NULL, rule text NOT NULL, n_jobs int NOT NULL,
    sent_at timestamptz NOT NULL, judged_at timestamptz, n_finished int
);
CREATE INDEX queue_tests_queue ON queue_tests (queue, sent_at);
"""


def upgrade() -> None:
    for part in (QUEUES, VERSIONS, DOWNTIMES, RULES):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    raise RuntimeError("there is no way back; restore the backup that was made before")
