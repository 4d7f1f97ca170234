"""The HTTP face, put together: every route of /v1 and what it needs."""

import falcon

from panda.api import data, errors, jobs, jobsets, pilots, sandboxes, sites, system
from panda.api.middleware import Gate
from panda.auth.tokens import Verifier
from panda.db.session import Begin
from panda.jobs.spool import Spool
from panda.settings import Settings

App = falcon.App[falcon.Request, falcon.Response]

#: PandaIDs and job set ids in a path; anything else there is no path of ours (404).
ID = "int(min=1, max=4611686018427387904)"
ATTEMPT = "int(min=1, max=10000)"
#: Largest body of a request that only says a few words, in MB.
SMALL_MB = 1


def create_app(begin: Begin, settings: Settings) -> App:
    """The WSGI app. `begin` opens its transactions; the spool lies in the settings' data folder."""
    app: App = falcon.App(middleware=[Gate(Verifier(begin))])
    app.req_options.strip_url_path_trailing_slash = True
    errors.install(app)
    spool = Spool(settings.data_dir)
    _add_pilots(app, begin, settings, spool)
    _add_jobs(app, begin, settings, spool)
    _add_data(app, begin, settings, spool)
    _add_system(app, begin, settings)
    return app


def _add_pilots(app: App, begin: Begin, settings: Settings, spool: Spool) -> None:
    app.add_route("/v1/pilots/acquire", pilots.AcquireResource(begin, settings))
    app.add_route("/v1/pilots/update", pilots.UpdateResource(begin, settings))
    app.add_route("/v1/pilots/heartbeat", pilots.HeartbeatResource(begin, settings))
    log = f"/v1/pilots/logs/{{panda_id:{ID}}}/{{attempt_nr:{ATTEMPT}}}/{{name}}"
    app.add_route(log, pilots.PilotLogResource(begin, spool))


def _add_jobs(app: App, begin: Begin, settings: Settings, spool: Spool) -> None:
    app.add_route("/v1/jobsets", jobsets.JobSetsResource(begin, settings.api))
    jobset = f"/v1/jobsets/{{jobset_id:{ID}}}"
    app.add_route(jobset, jobsets.JobSetResource(begin))
    app.add_route(f"{jobset}/jobs", jobsets.JobSetJobsResource(begin))
    app.add_route(f"{jobset}/retry", jobsets.JobSetRetryResource(begin, SMALL_MB))
    app.add_route(f"{jobset}/cancel", jobsets.JobSetCancelResource(begin, SMALL_MB))
    app.add_route("/v1/jobs", jobs.JobsResource(begin))
    job = f"/v1/jobs/{{panda_id:{ID}}}"
    app.add_route(job, jobs.JobResource(begin))
    app.add_route(f"{job}/events", jobs.JobEventsResource(begin))
    app.add_route(f"{job}/files", jobs.JobFilesResource(begin))
    app.add_route(f"{job}/attempts", jobs.JobAttemptsResource(begin))
    app.add_route(f"{job}/why", jobs.JobWhyResource(begin))
    app.add_route(f"{job}/logs", jobs.JobLogsResource(begin))
    app.add_route(f"{job}/logs/{{name}}", jobs.JobLogResource(begin, spool))
    app.add_route(f"{job}/retry", jobs.JobRetryResource(begin, SMALL_MB))
    app.add_route(f"{job}/cancel", jobs.JobCancelResource(begin, SMALL_MB))


def _add_data(app: App, begin: Begin, settings: Settings, spool: Spool) -> None:
    max_upload_mb = settings.api.max_upload_mb
    app.add_route("/v1/sandboxes/{sha256}", sandboxes.SandboxResource(begin, spool, max_upload_mb))
    app.add_route("/v1/datasets", data.DatasetsResource(begin, SMALL_MB))
    app.add_route("/v1/datasets/{did}", data.DatasetResource(begin))
    app.add_route("/v1/datasets/{did}/close", data.DatasetCloseResource(begin))
    app.add_route("/v1/datasets/{did}/files", data.DatasetFilesResource(begin))
    app.add_route("/v1/datasets/{did}/files/{lfn}", data.DatasetFileResource(begin, max_upload_mb))


def _add_system(app: App, begin: Begin, settings: Settings) -> None:
    app.add_route("/", system.RootResource())
    app.add_route("/healthz", system.AliveResource())
    app.add_route("/readyz", system.ReadyResource(begin, settings.store.redis_url))
    app.add_route("/v1/whoami", system.WhoAmIResource())
    app.add_route("/v1/tokens", system.TokensResource(begin, SMALL_MB))
    app.add_route("/v1/queues", sites.QueuesResource(begin))
    app.add_route("/v1/queues/{name}/status", sites.QueueStatusResource(begin, SMALL_MB))
    app.add_route("/v1/sites", sites.SitesResource(begin))
    app.add_route("/v1/storages", sites.StoragesResource(begin))
