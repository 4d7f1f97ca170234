"""The columns of the table that a page is with `?csv`, in order; the same whatever its first row holds.

Lists have blanks between their words."""

_JOB = """
    panda_id jobset_id name owner status attempt_nr max_attempts computing_site failed_stage error_code
    error_message wall_s created_at changed_at started_at ended_at
"""
_JOBSET = """
    jobset_id name owner share first_panda_id n_jobs n_expanded n_open n_finished n_failed n_cancelled
    open_parents released_at created_at ended_at cancel_requested_at status eta_s
"""
_QUEUE = """
    name site status status_reason status_by status_at status_until storage cores memory_mb disk_mb walltime_s
    submitter max_pilots pilot_cores cloud description running ready pilots pilot_cores_now n_failed n_finished
    failure_rate cpu_s core_s cpu_efficiency
"""
_PILOT = """
    pilot_id queue node version cores memory_mb started_at last_seen_at n_jobs nothing_because silent_s
"""

_WORDS = {
    "jobset.html": _JOB,
    "node.html": _JOB + " node",
    "error.html": _JOB + " node",
    "jobsets.html": _JOBSET,
    "me.html": _JOBSET,
    "queues.html": _QUEUE,
    "site.html": _QUEUE,
    "queue.html": _PILOT,
    "pilots.html": _PILOT,
    "jobs.html": """
        panda_id jobset_id name owner status stage waits_for due_at attempt_nr max_attempts priority share
        cores memory_mb disk_mb walltime_s gpus site pilot_id node failed_stage error_code error_message
        exit_code wall_s cpu_s max_rss_mb created_at changed_at started_at ended_at kill_requested_at
        kill_delivered_at kill_confirmed_at kill_state parent_id archived computing_site
    """,
    "actions.html": """
        action_id action filter asked_by reason status n_previewed n_done n_refused created_at ended_at
    """,
    "pilot.html": "panda_id attempt_nr lease_until reported_at cpu_s rss_mb",
    "transfers.html": """
        transfer_id status dataset lfn size_bytes source destination tries n_waiting error due_at created_at
        ended_at owner held_because
    """,
    "datasets.html": "dataset_id scope name kind status owner jobset_id n_files size_bytes created_at closed_at",
    "dataset.html": """
        file_id lfn guid size_bytes adler32 panda_id attempt_nr created_at storages dataset sha256 md5
    """,
    "files.html": """
        file_id dataset lfn size_bytes adler32 sha256 md5 guid panda_id attempt_nr created_at storages
    """,
    "file.html": "file_id storage path created_at",
    "tokens.html": "token_id owner label roles created_at expires_at revoked_at is_over",
    "users.html": "name roles created_at banned_at ban_reason limited_at limit_reason",
    "usage.html": "day name is_rest core_s cpu_s wall_s n_finished n_failed n_cancelled in_bytes out_bytes",
    "errors.html": "error_code failed_stage n wall_s n_queues queue per_hour last_at meaning mark since",
    "incidents.html": """
        incident_id component level key message n first_at last_at acknowledged_at acknowledged_by closed_at
        closed_by comment
    """,
    "search.html": "kind name about link",
    "celery.html": "name is_alive n_active",
    "admin.html": "failed_stage error_code n n_owners n_queues first_at last_at",
    "troubles.html": "kind key title is_bad since hits told link",
    "audit.html": "audit_id at who action target reason request_id",
}
#: Template of a page -> columns of its list.
COLUMNS = {template: words.split() for template, words in _WORDS.items()}
