"""Every call of upstream's that is answered, with who may make it. What is not here is forbidden, in upstream's words.

docs/how-to/coming-from-panda.md says of each whether it is the same as upstream's.
"""

from panda.auth.policy import Action
from panda.upstream import descriptions, files, harvesters, jobs, pilots, simple
from panda.upstream.calls import Asked, Call, Handler

A = Action


def _told(handler: Handler) -> Handler:
    """A harvester's call as older ones hear it."""

    def legacy(asked: Asked) -> object:
        return harvesters.told(handler(asked))

    legacy.__doc__ = handler.__doc__
    return legacy


HARVESTER = {"harvesterID": "harvester_id"}
STATISTICS = HARVESTER | {"siteName": "panda_queue", "paramsList": "statistics"}
WORKER = HARVESTER | {"workerID": "worker_id"}

LEGACY_CALLS = [
    Call("GET", "isAlive", None, simple.is_alive),
    # pilots
    Call("POST", "getJob", A.PILOT, pilots.get_job),
    Call("POST", "updateJob", A.PILOT, pilots.update_job_legacy),
    Call("POST", "updateJobsInBulk", A.PILOT, pilots.update_jobs_in_bulk),
    Call("POST", "getStatus", A.PILOT, pilots.get_status),
    Call("POST", "checkJobStatus", A.PILOT, pilots.check_job_status),
    Call("POST", "updateWorkerPilotStatus", A.PILOT, harvesters.update_worker_status, WORKER),
    Call("POST", "getResourceTypes", A.READ_SITES, simple.get_resource_types_legacy),
    Call("POST", "getProxy", A.PILOT, simple.no_credential_legacy),
    Call("GET", "get_access_token", A.PILOT, simple.no_credential_legacy),
    Call("POST", "get_token_key", A.PILOT, simple.no_credential_legacy),
    Call("POST", "getKeyPair", A.PILOT, simple.no_credential_legacy),
    Call("POST", "getEventRanges", A.PILOT, simple.no_event_ranges),
    Call("POST", "updateEventRanges", A.PILOT, simple.update_event_ranges, {"eventRanges": "event_ranges"}),
    Call("POST", "checkEventsAvailability", A.PILOT, simple.no_events_legacy),
    Call("POST", "setDebugMode", A.CANCEL, jobs.set_debug_mode, {"pandaID": "job_id", "modeOn": "mode"}),
    # harvesters
    Call("POST", "harvesterIsAlive", A.PILOT, _told(harvesters.heartbeat), HARVESTER),
    Call("POST", "updateWorkers", A.PILOT, lambda asked: [True, harvesters.update_workers(asked)], HARVESTER),
    Call("POST", "reportWorkerStats", A.PILOT, _told(harvesters.report_worker_statistics), STATISTICS),
    Call("POST", "reportWorkerStats_jobtype", A.PILOT, _told(harvesters.report_worker_statistics), STATISTICS),
    Call("GET", "getWorkerStats", A.PILOT, harvesters.get_worker_statistics),
    Call("POST", "getCommands", A.PILOT, harvesters.get_commands_legacy),
    Call("POST", "ackCommands", A.PILOT, harvesters.acknowledge_commands),
    Call("POST", "addHarvesterDialogs", A.PILOT, _told(harvesters.add_dialogs), HARVESTER),
    Call("POST", "updateServiceMetrics", A.PILOT, _told(harvesters.update_service_metrics), HARVESTER),
    Call("GET", "get_max_worker_id", A.PILOT, harvesters.get_current_worker_id),
    # what comes with tasks
    Call("POST", "relay_idds_command", A.SUBMIT, simple.without_tasks_legacy),
    Call("POST", "execute_idds_workflow_command", A.SUBMIT, simple.without_tasks_legacy),
    Call("POST", "put_workflow_request", A.SUBMIT, simple.without_tasks_legacy),
    Call("POST", "putEventPickingRequest", A.SUBMIT, simple.without_tasks_legacy),
]

#: Calls about tasks and workflows, by verb.
WITH_TASKS = {
    "POST": """
        task/submit task/kill task/finish task/retry task/pause task/resume task/reactivate task/reload_input
        task/increase_attempts task/reassign task/change_priority task/change_attribute task/change_split_rule
        task/kill_unfinished_jobs task/avalanche task/release workflow/submit_workflow_raw_request
        file_server/upload_file_recovery_request
    """,
    "GET": """
        task/get_status task/get_job_ids task/get_task_parameters task/get_details task/get_detailed_info
        task/get_parent_detailed_info task/get_job_descriptions task/get_datasets_and_files
        task/get_tasks_modified_since task/get_tasks_detailed_info_since workflow/get_workflow_details
    """,
}

V1_CALLS = [
    Call("GET", "system/is_alive", None, simple.is_alive),
    Call("GET", "system/get_attributes", A.WHO_AM_I, simple.get_attributes),
    # pilots
    Call("POST", "pilot/acquire_jobs", A.PILOT, pilots.acquire_jobs),
    Call("GET", "pilot/get_job_status", A.PILOT, pilots.get_job_status),
    Call("POST", "pilot/update_job", A.PILOT, pilots.update_job),
    Call("POST", "pilot/update_jobs_bulk", A.PILOT, pilots.update_jobs_bulk),
    Call("POST", "pilot/update_worker_status", A.PILOT, harvesters.update_worker_status),
    Call("POST", "pilot/update_worker_node", A.PILOT, harvesters.update_worker_node),
    Call("POST", "pilot/update_worker_node_gpu", A.PILOT, harvesters.update_worker_node),
    # users
    Call("POST", "job/submit", A.SUBMIT, jobs.submit),
    Call("POST", "job/get_description", A.READ_JOBS, descriptions.get_description),
    Call("POST", "job/get_description_incl_archive", A.READ_JOBS, descriptions.get_description),
    Call("GET", "job/get_metadata_for_analysis_jobs", A.READ_JOBS, descriptions.get_metadata),
    Call("POST", "job/kill", A.CANCEL, jobs.kill_jobs),
    Call("POST", "job/set_debug_mode", A.CANCEL, jobs.set_debug_mode),
    Call("GET", "job/get_status", A.PILOT, pilots.check_jobs),
    Call("POST", "file_server/validate_cache_file", A.WRITE_SANDBOX, files.validate_cache_file),
    Call("POST", "file_server/upload_cache_file", A.WRITE_SANDBOX, files.upload_cache_file),
    Call("POST", "creds/set_user_secrets", A.SUBMIT, simple.set_user_secrets),
    Call("GET", "creds/get_user_secrets", A.SUBMIT, simple.get_user_secrets),
    # harvesters
    Call("POST", "harvester/heartbeat", A.PILOT, harvesters.heartbeat),
    Call("POST", "harvester/update_workers", A.PILOT, harvesters.update_workers),
    Call("POST", "harvester/report_worker_statistics", A.PILOT, harvesters.report_worker_statistics),
    Call("GET", "harvester/get_worker_statistics", A.PILOT, harvesters.get_worker_statistics),
    Call("POST", "harvester/acquire_commands", A.PILOT, harvesters.acquire_commands),
    Call("POST", "harvester/acknowledge_commands", A.PILOT, harvesters.acknowledge_commands),
    Call("POST", "harvester/add_dialogs", A.PILOT, harvesters.add_dialogs),
    Call("POST", "harvester/update_service_metrics", A.PILOT, harvesters.update_service_metrics),
    Call("GET", "harvester/get_current_worker_id", A.PILOT, harvesters.get_current_worker_id),
    Call("GET", "metaconfig/get_resource_types", A.READ_SITES, simple.get_resource_types),
    Call("GET", "statistics/active_job_stats_by_site", A.READ_SITES, simple.active_job_stats_by_site),
    Call("GET", "statistics/active_job_detailed_stats_by_site", A.READ_SITES, simple.active_job_detailed_stats_by_site),
    Call("GET", "creds/get_proxy", A.PILOT, simple.no_credential),
    Call("GET", "creds/get_token_key", A.PILOT, simple.no_credential),
    Call("GET", "creds/get_access_token", A.PILOT, simple.no_credential),
    Call("GET", "creds/get_key_pair", A.PILOT, simple.no_credential),
    Call("POST", "event/acquire_event_ranges", A.PILOT, simple.no_event_ranges),
    Call("POST", "event/update_event_ranges", A.WHO_AM_I, simple.update_event_ranges),
    Call("GET", "event/get_available_event_range_count", A.PILOT, simple.no_events),
    Call("GET", "event/get_event_range_statuses", A.WHO_AM_I, simple.no_event_statuses),
    Call("POST", "file_server/upload_jedi_log", A.PILOT, simple.not_kept),
    Call("POST", "file_server/upload_hpo_checkpoint", A.PILOT, simple.not_kept),
    Call("POST", "file_server/delete_hpo_checkpoint", A.PILOT, simple.not_kept),
    # what comes with tasks
    *(Call(verb, name, A.SUBMIT, simple.without_tasks) for verb, names in WITH_TASKS.items() for name in names.split()),
]
