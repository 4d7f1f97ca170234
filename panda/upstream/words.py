"""Upstream's words, as tables: what a job and a file have, what a pilot says, and how each is called by us.

Names and orders are facts of upstream's protocol (panda-client 2.2.0, panda-pilot 3.7 to 3.11, panda-server 1.0).
"""


def _names(text: str) -> list[str]:
    return text.split()


#: A submitted job is a list of these, in this order, and of its files last. New ones may only come at the end.
JOB_ATTRIBUTES = _names("""
PandaID jobDefinitionID schedulerID pilotID creationTime creationHost modificationTime modificationHost
AtlasRelease transformation homepackage prodSeriesLabel prodSourceLabel prodUserID assignedPriority
currentPriority attemptNr maxAttempt jobStatus jobName maxCpuCount maxCpuUnit maxDiskCount maxDiskUnit
ipConnectivity minRamCount minRamUnit startTime endTime cpuConsumptionTime cpuConsumptionUnit commandToPilot
transExitCode pilotErrorCode pilotErrorDiag exeErrorCode exeErrorDiag supErrorCode supErrorDiag ddmErrorCode
ddmErrorDiag brokerageErrorCode brokerageErrorDiag jobDispatcherErrorCode jobDispatcherErrorDiag
taskBufferErrorCode taskBufferErrorDiag computingSite computingElement jobParameters metadata prodDBlock
dispatchDBlock destinationDBlock destinationSE nEvents grid cloud cpuConversion sourceSite destinationSite
transferType taskID cmtConfig stateChangeTime prodDBUpdateTime lockedby relocationFlag jobExecutionID VO
pilotTiming workingGroup processingType prodUserName nInputFiles countryGroup batchID parentID
specialHandling jobsetID coreCount nInputDataFiles inputFileType inputFileProject inputFileBytes
nOutputDataFiles outputFileBytes jobMetrics workQueue_ID jediTaskID jobSubStatus actualCoreCount reqID
maxRSS maxVMEM maxSWAP maxPSS avgRSS avgVMEM avgSWAP avgPSS maxWalltime nucleus eventService failedAttempt
hs06sec gshare hs06 totRCHAR totWCHAR totRBYTES totWBYTES rateRCHAR rateWCHAR rateRBYTES rateWBYTES
resource_type diskIO memory_leak memory_leak_x2 container_name job_label gco2_regional gco2_global
cpu_architecture_level outputFileType
""")
#: A file within a submitted job, in this order; one more element, its owner, is null.
FILE_ATTRIBUTES = _names("""
rowID PandaID GUID lfn type dataset status prodDBlock prodDBlockToken dispatchDBlock dispatchDBlockToken
destinationDBlock destinationDBlockToken destinationSE fsize md5sum checksum scope
""")

#: 0 where nothing was said; all others are null then.
ZERO_ATTRIBUTES = _names("""
assignedPriority currentPriority attemptNr maxAttempt maxCpuCount maxDiskCount minRamCount cpuConsumptionTime
pilotErrorCode exeErrorCode supErrorCode ddmErrorCode brokerageErrorCode jobDispatcherErrorCode taskBufferErrorCode
nEvents relocationFlag jobExecutionID nOutputDataFiles outputFileBytes
""")
#: Whole numbers among the attributes.
NUMBERS = frozenset(
    _names("""
PandaID jobDefinitionID assignedPriority currentPriority attemptNr maxAttempt maxCpuCount maxDiskCount minRamCount
cpuConsumptionTime pilotErrorCode exeErrorCode supErrorCode ddmErrorCode brokerageErrorCode jobDispatcherErrorCode
taskBufferErrorCode nEvents relocationFlag jobExecutionID taskID parentID nInputFiles jobsetID coreCount
nInputDataFiles inputFileBytes nOutputDataFiles outputFileBytes workQueue_ID jediTaskID actualCoreCount reqID maxRSS
maxVMEM maxSWAP maxPSS avgRSS avgVMEM avgSWAP avgPSS maxWalltime eventService failedAttempt hs06sec hs06 totRCHAR
totWCHAR totRBYTES totWBYTES rateRCHAR rateWCHAR rateRBYTES rateWBYTES diskIO
""")
)
#: Longest value of a text, in characters.
LONGEST = {
    "pilotErrorDiag": 500, "exeErrorDiag": 500, "jobMetrics": 500, "pilotID": 200, "batchID": 80, "node": 128,
    "stdout": 2048, "cpu_architecture_level": 20, "ddmErrorDiag": 500, "taskBufferErrorDiag": 300,
    "jobDispatcherErrorDiag": 250, "brokerageErrorDiag": 250, "jobSubStatus": 80, "supErrorDiag": 250,
    "commandToPilot": 250, "inputFileType": 32, "outputFileType": 32, "grid": 50, "sourceSite": 36,
    "destinationSite": 36, "modificationHost": 128,
}  # fmt: skip

#: getJob's words by those of `pilot/acquire_jobs`.
GET_JOB = {
    "siteName": "site_name", "mem": "memory", "diskSpace": "disk_space", "nJobs": "n_jobs", "node": "node",
    "prodSourceLabel": "prod_source_label", "computingElement": "computing_element", "resourceType": "resource_type",
    "harvester_id": "harvester_id", "worker_id": "worker_id", "schedulerID": "scheduler_id", "taskID": "task_id",
    "remaining_time": "remaining_time", "jobType": "job_type",
}  # fmt: skip
#: The words of `pilot/update_job` by updateJob's, under which they are kept.
UPDATE_JOB = {
    "job_id": "jobId", "job_status": "state", "attempt_nr": "attemptNr", "job_output_report": "xml", "node": "node",
    "cpu_consumption_time": "cpuConsumptionTime", "cpu_consumption_unit": "cpuConsumptionUnit",
    "cpu_conversion_factor": "cpuConversionFactor", "scheduler_id": "schedulerID", "pilot_id": "pilotID",
    "site_name": "siteName", "pilot_log": "pilotLog", "meta_data": "metaData", "trans_exit_code": "transExitCode",
    "pilot_error_code": "pilotErrorCode", "pilot_error_diag": "pilotErrorDiag", "exe_error_code": "exeErrorCode",
    "exe_error_diag": "exeErrorDiag", "pilot_timing": "pilotTiming", "start_time": "startTime", "end_time": "endTime",
    "n_events": "nEvents", "n_input_files": "nInputFiles", "batch_id": "batchID", "job_metrics": "jobMetrics",
    "stdout": "stdout", "job_sub_status": "jobSubStatus", "core_count": "coreCount", "max_rss": "maxRSS",
    "max_vmem": "maxVMEM", "max_swap": "maxSWAP", "max_pss": "maxPSS", "avg_rss": "avgRSS", "avg_vmem": "avgVMEM",
    "avg_swap": "avgSWAP", "avg_pss": "avgPSS", "tot_rchar": "totRCHAR", "tot_wchar": "totWCHAR",
    "tot_rbytes": "totRBYTES", "tot_wbytes": "totWBYTES", "rate_rchar": "rateRCHAR", "rate_wchar": "rateWCHAR",
    "rate_rbytes": "rateRBYTES", "rate_wbytes": "rateWBYTES", "corrupted_files": "corruptedFiles",
    "mean_core_count": "meanCoreCount", "cpu_architecture_level": "cpu_architecture_level", "grid": "grid",
    "source_site": "sourceSite", "destination_site": "destinationSite",
}  # fmt: skip
#: Attributes of a job that its pilot reports, by the word that it says.
REPORTED = {
    "pilotErrorCode": "pilotErrorCode", "pilotErrorDiag": "pilotErrorDiag", "exeErrorCode": "exeErrorCode",
    "exeErrorDiag": "exeErrorDiag", "transExitCode": "transExitCode", "pilotTiming": "pilotTiming",
    "pilotID": "pilotID", "schedulerID": "schedulerID", "batchID": "batchID", "jobMetrics": "jobMetrics",
    "nEvents": "nEvents", "cpuConsumptionTime": "cpuConsumptionTime", "cpuConsumptionUnit": "cpuConsumptionUnit",
    "cpuConversionFactor": "cpuConversion", "coreCount": "actualCoreCount", "node": "modificationHost",
    "jobSubStatus": "jobSubStatus", "cpu_architecture_level": "cpu_architecture_level", "maxRSS": "maxRSS",
    "maxVMEM": "maxVMEM", "maxSWAP": "maxSWAP", "maxPSS": "maxPSS", "avgRSS": "avgRSS", "avgVMEM": "avgVMEM",
    "avgSWAP": "avgSWAP", "avgPSS": "avgPSS", "rateRCHAR": "rateRCHAR", "rateWCHAR": "rateWCHAR",
    "rateRBYTES": "rateRBYTES", "rateWBYTES": "rateWBYTES", "totRCHAR": "totRCHAR", "totWCHAR": "totWCHAR",
    "totRBYTES": "totRBYTES", "totWBYTES": "totWBYTES", "nInputFiles": "nInputFiles", "grid": "grid",
    "sourceSite": "sourceSite", "destinationSite": "destinationSite",
}  # fmt: skip
#: Reported in bytes, kept in kB.
IN_KB = frozenset({"totRCHAR", "totWCHAR", "totRBYTES", "totWBYTES"})

#: What a pilot may say of a job, and what we understand; anything else is acknowledged and means nothing.
STATES = {
    "starting": "starting", "running": "running", "holding": "running", "transferring": "running",
    "finished": "finished", "failed": "failed",
}  # fmt: skip
#: Words for jobs by their shape.
RESOURCE_TYPES = [
    {"resource_name": "SCORE", "mincore": 1, "maxcore": 1, "minrampercore": 0, "maxrampercore": 2000},
    {"resource_name": "SCORE_HIMEM", "mincore": 1, "maxcore": 1, "minrampercore": 2001, "maxrampercore": None},
    {"resource_name": "MCORE", "mincore": 2, "maxcore": None, "minrampercore": 0, "maxrampercore": 2000},
    {"resource_name": "MCORE_HIMEM", "mincore": 2, "maxcore": None, "minrampercore": 2001, "maxrampercore": None},
]
#: Pilot errors.
KILLED_BY_SERVER = 1144


def resource_type(cores: int, memory_mb: int) -> str:
    """The word for jobs with so many cores and so much memory."""
    name = "SCORE" if cores <= 1 else "MCORE"
    return f"{name}_HIMEM" if memory_mb > 2000 * max(1, cores) else name
