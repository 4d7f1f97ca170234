"""pre: the tables of the engine, its components and its faces.

What each table is for stands in docs/explanation/engine.md. Slim tables that every job passes
through (`job_due`, `ready`, `leases`) leave room on their pages for updates in place and are
vacuumed early: a claim stays flat only while their indexes hold no dead heads. A set-wise update writes
every row of a page anew at once, so less than half of a page is filled at first: then 99 % of the updates of
`jobs` stay on their page and touch no index (at 80 % it was 70 %, and a claim cost a quarter more).
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: PandaIDs of one partition of the archive, of events, attempts and files.
PARTITION = 5_000_000

CLOCK = """
CREATE FUNCTION panda_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
    AS 'SELECT clock_timestamp()';

CREATE SEQUENCE panda_id_seq;
-- The first of n consecutive PandaIDs. A sequence, not a row: two submissions never wait for each
-- other's commit. Ids of a submission that rolls back are never used.
CREATE FUNCTION panda_take_ids(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE first bigint;
BEGIN
    PERFORM pg_advisory_lock(7000001);
    first := nextval('panda_id_seq');
    PERFORM setval('panda_id_seq', first + n - 1);
    PERFORM pg_advisory_unlock(7000001);
    RETURN first;
END $$;
"""

#: A rule of a domain is checked where a value is written; a CHECK of a hot table is read anew by every statement
#: that writes a row of it, which cost a fifth of each claim and report (B1).
JOBS = """
CREATE DOMAIN job_status AS text CHECK (VALUE IN ('pending', 'defined', 'assigned', 'activated', 'sent', 'starting',
    'running', 'holding', 'transferring', 'finished', 'failed', 'cancelled', 'closed'));
CREATE DOMAIN stage_name AS text CHECK (VALUE IN ('define', 'broker', 'stage_in', 'activate', 'dispatch', 'stage_out',
    'archive'));
CREATE DOMAIN wait_name AS text CHECK (VALUE IN ('parent', 'queue', 'data', 'pilot', 'lease', 'quota', 'operator'));
CREATE DOMAIN whole_number AS int CHECK (VALUE >= 0);

CREATE TABLE shapes (
    shape_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cores int NOT NULL, memory_mb int NOT NULL, disk_mb int NOT NULL, walltime_s int NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    UNIQUE (cores, memory_mb, disk_mb, walltime_s, tags)
);

CREATE TABLE jobsets (
    jobset_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL, owner text NOT NULL, share text NOT NULL,
    idempotency_key text NOT NULL, document_hash bytea NOT NULL, document jsonb NOT NULL, bindings jsonb NOT NULL,
    first_panda_id bigint NOT NULL, n_jobs int NOT NULL CHECK (n_jobs > 0),
    n_expanded int NOT NULL DEFAULT 0 CHECK (n_expanded <= n_jobs),
    n_open int NOT NULL CHECK (n_open >= 0),
    n_finished int NOT NULL DEFAULT 0, n_failed int NOT NULL DEFAULT 0, n_cancelled int NOT NULL DEFAULT 0,
    open_parents int NOT NULL DEFAULT 0 CHECK (open_parents >= 0),
    n_released int NOT NULL DEFAULT 0, released_at timestamptz, on_parent_failure text NOT NULL DEFAULT 'cancel',
    output_dataset_id bigint, output_storage text,
    created_at timestamptz NOT NULL, ended_at timestamptz,
    cancel_requested_at timestamptz, cancel_by text, cancel_reason text,
    UNIQUE (owner, idempotency_key),
    CHECK (n_open + n_finished + n_failed + n_cancelled = n_jobs)
);
CREATE INDEX jobsets_unexpanded ON jobsets (n_expanded, jobset_id) WHERE n_expanded < n_jobs;
CREATE INDEX jobsets_unreleased ON jobsets (jobset_id) WHERE released_at IS NULL AND open_parents = 0;
CREATE INDEX jobsets_cancelling ON jobsets (jobset_id) WHERE cancel_requested_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX jobsets_owner ON jobsets (owner, jobset_id);
CREATE INDEX jobsets_output ON jobsets (output_dataset_id);

-- Where each user's burst of jobs stands in virtual time (law 10).
CREATE TABLE fair_clock (owner text NOT NULL, share text NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (owner, share));

CREATE TABLE jobset_parents (
    jobset_id bigint NOT NULL REFERENCES jobsets, parent_id bigint NOT NULL REFERENCES jobsets,
    done_at timestamptz, PRIMARY KEY (parent_id, jobset_id)
);
CREATE INDEX jobset_parents_child ON jobset_parents (jobset_id);

CREATE TABLE jobs (
    panda_id bigint PRIMARY KEY,
    jobset_id bigint NOT NULL, parent_id bigint, seq int NOT NULL,
    name text NOT NULL, owner text NOT NULL, share text NOT NULL, priority int NOT NULL,
    status job_status NOT NULL,
    attempt_nr smallint NOT NULL DEFAULT 1, max_attempts smallint NOT NULL, from_stage text NOT NULL DEFAULT 'define',
    shape_id int NOT NULL, n_inputs int NOT NULL DEFAULT 0, n_outputs int NOT NULL DEFAULT 0,
    computing_site text, decision_id bigint, pilot_id text, node text,
    failed_stage text, error_code text, error_message text, exit_code int,
    wall_s real, cpu_s real, max_rss_mb int,
    kill_requested_at timestamptz, kill_delivered_at timestamptz, kill_confirmed_at timestamptz, kill_by text,
    kill_reason text,
    created_at timestamptz NOT NULL, changed_at timestamptz NOT NULL, sent_at timestamptz, started_at timestamptz,
    ended_at timestamptz, spec jsonb NOT NULL
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.05);
-- Newest first. Not by panda_id as it stands: a plan for `panda_id = ANY(...)` that is made while the table is
-- empty may take any index that holds it, and would walk through all of it ever after.
CREATE INDEX jobs_jobset ON jobs (jobset_id, (-panda_id));
CREATE INDEX jobs_owner ON jobs (owner, (-panda_id));

CREATE TABLE job_due (
    panda_id bigint PRIMARY KEY,
    stage stage_name NOT NULL,
    waits_for wait_name,
    final boolean NOT NULL DEFAULT false,
    due_at timestamptz NOT NULL,
    deliveries smallint NOT NULL DEFAULT 0, tries smallint NOT NULL DEFAULT 0,
    missing whole_number NOT NULL DEFAULT 0, error text,
    sent boolean NOT NULL DEFAULT false
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
-- `final` tells the lane (stage_out and archive go first). It is a column of its own because `stage`
-- moves with every commit of the fast road and must stand in no index.
CREATE INDEX job_due_road ON job_due (due_at) WHERE waits_for IS NULL AND NOT final;
CREATE INDEX job_due_final ON job_due (due_at) WHERE waits_for IS NULL AND final;
CREATE INDEX job_due_waiting ON job_due (due_at) WHERE waits_for IS NOT NULL;

CREATE TABLE ready (
    panda_id bigint PRIMARY KEY,
    queue text NOT NULL, share text NOT NULL, shape_id int NOT NULL, rank bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ready_claim ON ready (queue, share, shape_id, rank);

CREATE TABLE leases (
    panda_id bigint PRIMARY KEY, attempt_nr smallint NOT NULL,
    token_hash bytea NOT NULL, pilot_id text NOT NULL,
    lease_until timestamptz NOT NULL, reported_at timestamptz NOT NULL,
    cpu_s real, rss_mb int
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
"""

HISTORY = """
CREATE TABLE attempts (
    panda_id bigint NOT NULL, attempt_nr smallint NOT NULL, from_stage text NOT NULL,
    queue text, pilot_id text, node text,
    created_at timestamptz NOT NULL, started_at timestamptz, ended_at timestamptz,
    outcome text, failed_stage text, error_code text, error_message text, exit_code int,
    wall_s real, cpu_s real, max_rss_mb int,
    PRIMARY KEY (panda_id, attempt_nr)
) PARTITION BY RANGE (panda_id);

CREATE SEQUENCE job_event_seq;
CREATE TABLE job_events (
    panda_id bigint NOT NULL, event_id bigint NOT NULL DEFAULT nextval('job_event_seq'),
    at timestamptz NOT NULL, was text, now text NOT NULL, attempt_nr smallint NOT NULL,
    stage text, by text NOT NULL, reason text, chain_id text
) PARTITION BY RANGE (panda_id);
CREATE INDEX job_events_job ON job_events (panda_id);
-- For the feed, in order of number. `+ 0`: not an index that a question about one job could walk through.
CREATE INDEX job_events_feed ON job_events ((event_id + 0));

CREATE TABLE job_files (
    panda_id bigint NOT NULL, kind text NOT NULL CHECK (kind IN ('input', 'output', 'dataset')), lfn text NOT NULL,
    did text NOT NULL, dataset_id bigint, file_id bigint, status text NOT NULL,
    size_bytes bigint, adler32 text, guid text, attempt_nr smallint, storage text, path text,
    PRIMARY KEY (panda_id, kind, lfn)
) PARTITION BY RANGE (panda_id);

-- Everything of a job that ended; its events, attempts and files are already where they stay.
CREATE TABLE jobs_archive (LIKE jobs, archived_at timestamptz NOT NULL, PRIMARY KEY (panda_id))
    PARTITION BY RANGE (panda_id);
CREATE INDEX jobs_archive_jobset ON jobs_archive (jobset_id, (-panda_id));
CREATE INDEX jobs_archive_owner ON jobs_archive (owner, (-panda_id));
CREATE INDEX jobs_archive_site ON jobs_archive (computing_site, ended_at);
CREATE INDEX jobs_archive_failed ON jobs_archive (error_code, ended_at) WHERE status = 'failed';

-- Partitions up to the one that holds `last`. Attached, not created in place: that needs no lock
-- that readers and writers of the other partitions would wait for.
CREATE FUNCTION panda_ensure_partitions(last bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE parent text; part text; k bigint;
BEGIN
    IF to_regclass(format('jobs_archive_%s', last / PARTITION_SIZE)) IS NOT NULL THEN RETURN; END IF;
    PERFORM pg_advisory_xact_lock(7000003);
    FOR k IN 0 .. last / PARTITION_SIZE LOOP
        FOREACH parent IN ARRAY ARRAY['attempts', 'job_events', 'job_files', 'jobs_archive'] LOOP
            part := format('%s_%s', parent, k);
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                           parent, part, k * PARTITION_SIZE, (k + 1) * PARTITION_SIZE);
        END LOOP;
    END LOOP;
END $$;
SELECT panda_ensure_partitions(0);

-- Counters are appended here in the transaction of the move and folded by one process: no hot row.
CREATE TABLE job_count_deltas (status text NOT NULL, queue text NOT NULL, n int NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
CREATE TABLE job_counts (status text NOT NULL, queue text NOT NULL, n bigint NOT NULL, PRIMARY KEY (status, queue));
CREATE TABLE stage_run_deltas (at timestamptz NOT NULL, stage text NOT NULL, n int NOT NULL, n_failed int NOT NULL,
    busy_ms int NOT NULL);
CREATE TABLE stage_runs (minute timestamptz NOT NULL, stage text NOT NULL, n bigint NOT NULL, n_failed bigint NOT NULL,
    busy_ms bigint NOT NULL, max_ms int NOT NULL, PRIMARY KEY (minute, stage));
CREATE TABLE count_history (at timestamptz NOT NULL, status text NOT NULL, n bigint NOT NULL, PRIMARY KEY (at, status));
CREATE TABLE usage_deltas (day date NOT NULL, owner text NOT NULL, share text NOT NULL, queue text NOT NULL,
    n_finished int NOT NULL, n_failed int NOT NULL, n_cancelled int NOT NULL, wall_s real NOT NULL, cpu_s real NOT NULL,
    core_s real NOT NULL);
CREATE TABLE usage (day date NOT NULL, owner text NOT NULL, share text NOT NULL, queue text NOT NULL,
    n_finished bigint NOT NULL, n_failed bigint NOT NULL, n_cancelled bigint NOT NULL, wall_s double precision NOT NULL,
    cpu_s double precision NOT NULL, core_s double precision NOT NULL, PRIMARY KEY (day, owner, share, queue));
"""

DATA = """
CREATE TABLE sites (name text PRIMARY KEY, cloud text NOT NULL, description text NOT NULL DEFAULT '');
CREATE TABLE storages (
    name text PRIMARY KEY, site text NOT NULL REFERENCES sites, kind text NOT NULL, root text NOT NULL,
    status text NOT NULL DEFAULT 'online' CHECK (status IN ('online', 'offline'))
);
CREATE TABLE queues (
    name text PRIMARY KEY, site text NOT NULL REFERENCES sites, storage text NOT NULL REFERENCES storages,
    status text NOT NULL DEFAULT 'online' CHECK (status IN ('online', 'offline', 'test', 'brokeroff')),
    status_reason text NOT NULL DEFAULT '',
    cores int NOT NULL, memory_mb int NOT NULL, disk_mb int NOT NULL, walltime_s int NOT NULL,
    tags text[] NOT NULL DEFAULT '{}', submitter text NOT NULL DEFAULT 'none', max_pilots int NOT NULL DEFAULT 0,
    pilot_cores int NOT NULL DEFAULT 1, pilot_options text[] NOT NULL DEFAULT '{}', max_ready int NOT NULL DEFAULT 0
);
CREATE TABLE datasets (
    dataset_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL, name text NOT NULL, status text NOT NULL DEFAULT 'open', owner text NOT NULL,
    jobset_id bigint, n_files bigint NOT NULL DEFAULT 0, size_bytes bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL, closed_at timestamptz, UNIQUE (scope, name)
);
CREATE INDEX datasets_jobset ON datasets (jobset_id);
CREATE TABLE files (
    file_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, dataset_id bigint NOT NULL REFERENCES datasets,
    lfn text NOT NULL, guid text NOT NULL, size_bytes bigint NOT NULL CHECK (size_bytes >= 0), adler32 text NOT NULL,
    panda_id bigint, attempt_nr smallint, created_at timestamptz NOT NULL, UNIQUE (dataset_id, lfn)
);
CREATE TABLE replicas (
    file_id bigint NOT NULL REFERENCES files, storage text NOT NULL REFERENCES storages, path text NOT NULL,
    created_at timestamptz NOT NULL, PRIMARY KEY (file_id, storage)
);
CREATE TABLE transfers (
    transfer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, file_id bigint NOT NULL REFERENCES files,
    source text, destination text NOT NULL REFERENCES storages,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'moving', 'done', 'failed')),
    due_at timestamptz NOT NULL, tries smallint NOT NULL DEFAULT 0, lease_until timestamptz, error text,
    created_at timestamptz NOT NULL, ended_at timestamptz
);
CREATE UNIQUE INDEX transfers_one_active ON transfers (file_id, destination) WHERE status IN ('queued', 'moving');
CREATE INDEX transfers_due ON transfers (due_at) WHERE status = 'queued';
CREATE INDEX transfers_moving ON transfers (lease_until) WHERE status = 'moving';
CREATE TABLE transfer_waiters (transfer_id bigint NOT NULL, panda_id bigint NOT NULL,
    PRIMARY KEY (transfer_id, panda_id));
CREATE INDEX transfer_waiters_job ON transfer_waiters (panda_id);
CREATE TABLE quarantine (
    panda_id bigint NOT NULL, attempt_nr smallint NOT NULL, lfn text NOT NULL, path text NOT NULL,
    size_bytes bigint, adler32 text, reason text NOT NULL, at timestamptz NOT NULL,
    PRIMARY KEY (panda_id, attempt_nr, lfn)
);
CREATE TABLE brokerage_decisions (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, jobset_id bigint, at timestamptz NOT NULL,
    n_jobs int NOT NULL, funnel jsonb NOT NULL, weights jsonb NOT NULL, chosen jsonb NOT NULL
);
CREATE INDEX brokerage_decisions_at ON brokerage_decisions (at);
"""

PEOPLE = """
CREATE TABLE pilots (
    pilot_id text PRIMARY KEY, queue text NOT NULL, node text NOT NULL, version text NOT NULL,
    cores int NOT NULL, memory_mb int NOT NULL,
    started_at timestamptz NOT NULL, last_seen_at timestamptz NOT NULL,
    last_request_id text, last_panda_ids bigint[], n_jobs bigint NOT NULL DEFAULT 0, nothing_because text
) WITH (fillfactor = 50);
CREATE INDEX pilots_queue ON pilots (queue);
CREATE TABLE users (name text PRIMARY KEY, roles text[] NOT NULL, created_at timestamptz NOT NULL, banned_at timestamptz,
    ban_reason text);
CREATE TABLE tokens (token_hash bytea PRIMARY KEY, token_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE, owner text NOT NULL REFERENCES users, label text NOT NULL,
    roles text[] NOT NULL, created_at timestamptz NOT NULL, expires_at timestamptz, revoked_at timestamptz);
CREATE TABLE audit_log (audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text NOT NULL,
    action text NOT NULL, target text NOT NULL, reason text NOT NULL DEFAULT '', facts jsonb NOT NULL DEFAULT '{}',
    request_id text);
CREATE TABLE incidents (incident_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, component text NOT NULL,
    level text NOT NULL, key text NOT NULL, message text NOT NULL, context jsonb NOT NULL DEFAULT '{}',
    n bigint NOT NULL DEFAULT 1, first_at timestamptz NOT NULL, last_at timestamptz NOT NULL,
    acknowledged_at timestamptz, acknowledged_by text, closed_at timestamptz, closed_by text,
    comment text NOT NULL DEFAULT '');
CREATE INDEX incidents_key ON incidents (key, last_at);
CREATE INDEX incidents_last ON incidents (last_at);

CREATE TABLE spool_objects (sha256 text PRIMARY KEY, size_bytes bigint NOT NULL, owner text NOT NULL,
    created_at timestamptz NOT NULL);
CREATE TABLE job_logs (panda_id bigint NOT NULL, attempt_nr smallint NOT NULL, name text NOT NULL,
    size_bytes bigint NOT NULL, changed_at timestamptz NOT NULL, PRIMARY KEY (panda_id, attempt_nr, name));

CREATE TABLE engine_state (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE tick_leases (name text PRIMARY KEY, lease_until timestamptz NOT NULL, holder text NOT NULL,
    last_run_at timestamptz);
"""

SHARES = """
-- The tree of shares. `weight` is what counts; `file_weight` is what the file said last, so that a weight
-- that was set at run time stays until the file changes.
CREATE TABLE shares (
    name text PRIMARY KEY, parent text REFERENCES shares CHECK (parent <> name),
    weight double precision NOT NULL CHECK (weight > 0), file_weight double precision NOT NULL
);
INSERT INTO shares (name, weight, file_weight) VALUES ('default', 1, 1);
-- Running cores by share, `{"default": 12}`, as they were at `counted_at`; counting them took `took_s`.
-- `dealers`: the processes that hand out jobs, and when (seconds since 1970) each counted last.
CREATE TABLE share_usage (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    counted_at timestamptz NOT NULL, took_s real NOT NULL, cores jsonb NOT NULL,
    dealers jsonb NOT NULL
) WITH (fillfactor = 10);
INSERT INTO share_usage (counted_at, took_s, cores, dealers) VALUES ('epoch', 0, '{}', '{}');
"""

STARTS = """
-- A stage run that has begun and not ended: what a dead worker had in its hands. Lost in a crash, which does no
-- harm: then no delivery counts.
CREATE UNLOGGED TABLE stage_starts (
    run_id text PRIMARY KEY, worker text NOT NULL, panda_ids bigint[] NOT NULL, at timestamptz NOT NULL
);
"""

MONITOR = """
-- Failures by hour: deltas are appended where attempts fail and folded by one process, as all counters are.
CREATE TABLE error_deltas (hour timestamptz NOT NULL, error_code text NOT NULL, failed_stage text NOT NULL,
    queue text NOT NULL, n int NOT NULL, wall_s real NOT NULL);
CREATE TABLE error_hours (hour timestamptz NOT NULL, error_code text NOT NULL, failed_stage text NOT NULL,
    queue text NOT NULL, n bigint NOT NULL, wall_s double precision NOT NULL,
    PRIMARY KEY (hour, error_code, failed_stage, queue));
CREATE INDEX error_hours_code ON error_hours (error_code, hour);
-- What somebody did on a page, under the key that its form came with: a form that is sent twice acts once.
CREATE TABLE page_deeds (who text NOT NULL, key text NOT NULL, at timestamptz NOT NULL, outcome text NOT NULL,
    PRIMARY KEY (who, key));
CREATE INDEX page_deeds_at ON page_deeds (at);
CREATE INDEX audit_log_who ON audit_log (who, audit_id);
"""

UPSTREAM = """
-- What upstream's clients said when they submitted a job, in words that the engine has no use for: the attributes and
-- the files by upstream's names. A job that was submitted natively has a row here once somebody debugs it.
CREATE TABLE upstream_jobs (
    panda_id bigint PRIMARY KEY, attributes jsonb NOT NULL DEFAULT '{}', files jsonb NOT NULL DEFAULT '[]',
    is_debug boolean NOT NULL DEFAULT false
);
-- The newest value of every word that upstream's pilot said of an attempt.
CREATE TABLE upstream_reports (
    panda_id bigint NOT NULL, attempt_nr smallint NOT NULL, fields jsonb NOT NULL, changed_at timestamptz NOT NULL,
    PRIMARY KEY (panda_id, attempt_nr)
);
-- Uploads of panda-client by the name that they are fetched under; the bytes are a sandbox of the spool.
CREATE TABLE upstream_files (
    name text PRIMARY KEY, sha256 text NOT NULL, size_bytes bigint NOT NULL, checksum bigint, owner text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX upstream_files_content ON upstream_files (owner, size_bytes, checksum);
CREATE TABLE upstream_secrets (owner text NOT NULL, key text NOT NULL, value text NOT NULL, PRIMARY KEY (owner, key));
-- What harvesters report: of themselves, their workers, statistics, dialogs, metrics, nodes (`kind`).
CREATE TABLE upstream_notes (
    harvester_id text NOT NULL, kind text NOT NULL, key text NOT NULL, facts jsonb NOT NULL,
    changed_at timestamptz NOT NULL, PRIMARY KEY (harvester_id, kind, key)
);
CREATE TABLE upstream_commands (
    command_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, harvester_id text NOT NULL, command text NOT NULL,
    params jsonb NOT NULL, ack_requested boolean NOT NULL, created_at timestamptz NOT NULL,
    taken_at timestamptz, acknowledged_at timestamptz
);
CREATE INDEX upstream_commands_open ON upstream_commands (harvester_id, command_id) WHERE taken_at IS NULL;
"""

PILOTS = """
-- What an attempt used, as its pilot's heartbeats told: points `[at_s, wall_s, cpu_s, rss_mb, read_mb, written_mb,
-- disk_mb, n_processes]`, null where it is not known. Of `seen` heartbeats every `every`-th is kept, so that there
-- are never more than 200.
CREATE TABLE job_usage (
    panda_id bigint NOT NULL, attempt_nr smallint NOT NULL, seen int NOT NULL, every int NOT NULL, points jsonb NOT NULL,
    PRIMARY KEY (panda_id, attempt_nr)
) WITH (fillfactor = 70);
-- What a pilot said of its node when it began, and of its end, with the last of its own log.
CREATE TABLE pilot_notes (
    pilot_id text PRIMARY KEY, queue text NOT NULL, version text NOT NULL, facts jsonb NOT NULL, problems jsonb NOT NULL,
    warnings jsonb NOT NULL, began_at timestamptz NOT NULL, ended_at timestamptz, exit_code int, why text, log text
);
CREATE INDEX pilot_notes_began ON pilot_notes (began_at);
-- Somebody reads this log of a running job: its pilot sends it more often until then.
ALTER TABLE job_logs ADD COLUMN watched_until timestamptz;
"""


BULK = """
-- What an operator or an owner asked of many jobs at once; carried out in chunks, from the newest PandaID down.
-- `said` is the filter as it was asked, `filter` the same with its times settled.
CREATE TABLE bulk_actions (
    action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action text NOT NULL CHECK (action IN ('retry', 'cancel', 'priority')), stage text, priority int,
    said text NOT NULL, filter text NOT NULL, owner text, asked_by text NOT NULL, reason text NOT NULL,
    status text NOT NULL CHECK (status IN ('previewed', 'running', 'done', 'stopped')), note text NOT NULL DEFAULT '',
    token_hash bytea UNIQUE, expires_at timestamptz, n_previewed bigint,
    after_panda_id bigint NOT NULL, n_done bigint NOT NULL DEFAULT 0, n_refused bigint NOT NULL DEFAULT 0,
    refused jsonb NOT NULL DEFAULT '{}', request_id text,
    created_at timestamptz NOT NULL, confirmed_at timestamptz, advanced_at timestamptz, ended_at timestamptz
);
CREATE INDEX bulk_actions_running ON bulk_actions (advanced_at) WHERE status = 'running';
CREATE INDEX tokens_owner ON tokens (owner, token_id);
CREATE INDEX pilots_node ON pilots (node);
"""

TRANSFERS = """
-- Limits and distances, as `sites.toml` has them; 0: any number at once.
ALTER TABLE storages ADD COLUMN max_transfers int NOT NULL DEFAULT 0;
CREATE TABLE links (
    name text PRIMARY KEY, source text NOT NULL REFERENCES sites, destination text NOT NULL REFERENCES sites,
    distance int NOT NULL, max_transfers int NOT NULL DEFAULT 0, UNIQUE (source, destination)
);
-- The storage that a transfer was admitted for; `source` is the one that its carrier took.
ALTER TABLE transfers ADD COLUMN planned text;
CREATE INDEX transfers_due_to ON transfers (destination, due_at) WHERE status = 'queued';
CREATE INDEX transfers_ended ON transfers (ended_at) WHERE ended_at IS NOT NULL;
"""

DELETION = """
ALTER TABLE datasets ADD COLUMN pinned boolean NOT NULL DEFAULT false, ADD COLUMN expires_at timestamptz,
    ADD COLUMN deleting_at timestamptz;
CREATE INDEX datasets_expire ON datasets (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX datasets_deleting ON datasets (deleting_at) WHERE status = 'deleting';
-- Replicas whose files left the catalogue, until their bytes are gone; `due_at` is a lease while one is removed.
CREATE TABLE deletions (
    deletion_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, dataset_id bigint NOT NULL REFERENCES datasets,
    storage text NOT NULL REFERENCES storages, path text NOT NULL, due_at timestamptz NOT NULL,
    tries int NOT NULL DEFAULT 0, error text
);
CREATE INDEX deletions_due ON deletions (due_at);
CREATE INDEX deletions_dataset ON deletions (dataset_id);
CREATE INDEX transfers_file ON transfers (file_id);
-- Who read a file.
-- As expressions: a plan made on an empty table may take any index that holds a column that it asks about.
CREATE INDEX job_files_read ON job_files ((file_id + 0), (-panda_id));
"""


def upgrade() -> None:
    for part in (
        CLOCK,
        JOBS,
        HISTORY.replace("PARTITION_SIZE", str(PARTITION)),
        DATA,
        PEOPLE,
        SHARES,
        STARTS,
        MONITOR,
        UPSTREAM,
        PILOTS,
        BULK,
        TRANSFERS,
        DELETION,
    ):
        op.get_bind().execution_options(no_parameters=True).exec_driver_sql(part)


def downgrade() -> None:
    raise RuntimeError("the first revision has nothing below it; drop the database instead")
