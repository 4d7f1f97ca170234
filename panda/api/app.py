"""The HTTP face, put together: every route of /v1 and what it needs."""

from typing import Any

import falcon

from panda import upstream
from panda.api import (
    actions,
    data,
    dataset_states,
    downtimes,
    errors,
    events,
    fleet,
    holds,
    incidents,
    jobs,
    jobsets,
    login,
    metrics,
    moves,
    people,
    pilot_notes,
    pilots,
    quotas,
    reference,
    sandboxes,
    shares,
    site_rules,
    site_versions,
    sites,
    storage_quotas,
    switches,
    system,
    usage,
    users,
    views,
    why,
)
from panda.api.etags import Etags
from panda.api.middleware import Gate
from panda.api.origin import Origins
from panda.api.rates import Rates, Strangers
from panda.auth.verifiers import verifier
from panda.db.session import Begin
from panda.jobs.spool import Spool
from panda.request_meter import Meter
from panda.settings import Settings

App = falcon.App[falcon.Request, falcon.Response]

#: PandaIDs and job set ids in a path; anything else there is no path of ours (404).
ID = "int(min=1, max=4611686018427387904)"
ATTEMPT = "int(min=1, max=10000)"
#: Largest body of a request that only says a few words, in MB.
SMALL_MB = 1


def create_app(begin: Begin, settings: Settings) -> App:
    """The WSGI app. `begin` opens its transactions; the spool lies in the settings' data folder."""
    verify = verifier(begin, settings)
    meter = Meter("panda_api_requests_total", "panda_api_request_seconds", "panda-api")
    middleware: list[Any] = [
        meter,
        Origins(settings.api.trusted_proxies),
        metrics.LocalScraper(enabled=settings.api.metrics_to_this_machine),
        Gate(verify, Strangers(settings.api)),
        Rates(settings.api),
        Etags(),
    ]
    app: App = falcon.App(middleware=middleware)
    app.req_options.strip_url_path_trailing_slash = True
    errors.install(app)
    spool = Spool(settings.data_dir)
    _add_pilots(app, begin, settings, spool)
    _add_jobs(app, begin, settings, spool)
    _add_data(app, begin, settings, spool)
    _add_system(app, begin, settings)
    app.add_route("/metrics", metrics.MetricsResource(begin, meter))
    app.add_route("/v1/events", events.EventsResource(begin, verify, settings.api.max_streams))
    upstream.install(app, begin, settings, spool)
    return app


def _add_pilots(app: App, begin: Begin, settings: Settings, spool: Spool) -> None:
    app.add_route("/v1/pilots/acquire", pilots.AcquireResource(begin, settings))
    app.add_route("/v1/pilots/update", pilots.UpdateResource(begin, settings))
    app.add_route("/v1/pilots/heartbeat", pilots.HeartbeatResource(begin, settings))
    log = f"/v1/pilots/logs/{{panda_id:{ID}}}/{{attempt_nr:{ATTEMPT}}}/{{name}}"
    app.add_route(log, pilots.PilotLogResource(begin, spool))
    app.add_route("/v1/pilots/{pilot_id}/environment", pilot_notes.PilotEnvironmentResource(begin, SMALL_MB))
    app.add_route("/v1/pilots/{pilot_id}/end", pilot_notes.PilotEndResource(begin, SMALL_MB))
    app.add_route("/v1/pilots/{pilot_id}/why", why.PilotWhyResource(begin))
    app.add_route("/v1/pilots/{pilot_id}/notes", pilot_notes.PilotNotesResource(begin))


def _add_jobs(app: App, begin: Begin, settings: Settings, spool: Spool) -> None:
    app.add_route("/v1/jobsets", jobsets.JobSetsResource(begin, settings.api))
    jobset = f"/v1/jobsets/{{jobset_id:{ID}}}"
    app.add_route(jobset, jobsets.JobSetResource(begin))
    app.add_route(f"{jobset}/jobs", jobsets.JobSetJobsResource(begin))
    app.add_route(f"{jobset}/datasets", jobsets.JobSetDatasetsResource(begin))
    app.add_route(f"{jobset}/why", why.JobSetWhyResource(begin, settings))
    app.add_route(f"{jobset}/retry", jobsets.JobSetRetryResource(begin, SMALL_MB))
    app.add_route(f"{jobset}/cancel", jobsets.JobSetCancelResource(begin, SMALL_MB))
    app.add_route(f"{jobset}/hold", holds.JobSetHoldResource(begin, SMALL_MB))
    app.add_route(f"{jobset}/release", holds.JobSetReleaseResource(begin, SMALL_MB))
    app.add_route("/v1/jobs", jobs.JobsResource(begin))
    app.add_route("/v1/jobs/counts", jobs.JobCountsResource(begin))
    app.add_route("/v1/jobs/actions", actions.JobActionsResource(begin, settings.api, SMALL_MB))
    app.add_route("/v1/actions", actions.ActionsResource(begin))
    app.add_route(f"/v1/actions/{{action_id:{ID}}}", actions.ActionResource(begin))
    app.add_route("/v1/usage", usage.UsageResource(begin))
    app.add_route("/v1/attempts", fleet.AttemptsResource(begin))
    job = f"/v1/jobs/{{panda_id:{ID}}}"
    app.add_route(job, jobs.JobResource(begin, settings.engine))
    app.add_route(f"{job}/events", jobs.JobEventsResource(begin))
    app.add_route(f"{job}/files", jobs.JobFilesResource(begin))
    app.add_route(f"{job}/attempts", jobs.JobAttemptsResource(begin))
    app.add_route(f"{job}/attempts/{{attempt_nr:{ATTEMPT}}}", jobs.JobAttemptResource(begin))
    app.add_route(f"{job}/why", why.JobWhyResource(begin, settings))
    app.add_route(f"{job}/usage", usage.JobUsageResource(begin))
    app.add_route(f"{job}/logs", jobs.JobLogsResource(begin))
    app.add_route(f"{job}/logs/{{name}}", jobs.JobLogResource(begin, spool))
    app.add_route(f"{job}/retry", jobs.JobRetryResource(begin, SMALL_MB))
    app.add_route(f"{job}/rebroker", jobs.JobRebrokerResource(begin, SMALL_MB))
    app.add_route(f"{job}/cancel", jobs.JobCancelResource(begin, SMALL_MB))
    app.add_route(f"{job}/hold", holds.JobHoldResource(begin, SMALL_MB))
    app.add_route(f"{job}/release", holds.JobReleaseResource(begin, SMALL_MB))


def _add_data(app: App, begin: Begin, settings: Settings, spool: Spool) -> None:
    max_upload_mb = settings.api.max_upload_mb
    app.add_route("/v1/sandboxes/{sha256}", sandboxes.SandboxResource(begin, spool, max_upload_mb))
    app.add_route("/v1/datasets", data.DatasetsResource(begin, SMALL_MB))
    app.add_route("/v1/files", data.FilesResource(begin))
    app.add_route("/v1/transfers", moves.TransfersResource(begin))
    app.add_route(f"/v1/transfers/{{transfer_id:{ID}}}", moves.TransferResource(begin))
    app.add_route("/v1/links", moves.LinksResource(begin))
    app.add_route("/v1/storage-quotas", storage_quotas.StorageQuotasResource(begin))
    app.add_route(f"/v1/files/{{file_id:{ID}}}", data.FileResource(begin))
    app.add_route("/v1/datasets/{did}", data.DatasetResource(begin))
    app.add_route("/v1/datasets/{did}/lifetime", data.DatasetLifetimeResource(begin, SMALL_MB))
    app.add_route("/v1/datasets/{did}/files/{lfn}/lineage", data.LineageResource(begin))
    app.add_route("/v1/datasets/{did}/close", dataset_states.DatasetCloseResource(begin))
    app.add_route("/v1/datasets/{did}/freeze", dataset_states.DatasetFreezeResource(begin))
    app.add_route("/v1/datasets/{did}/reopen", dataset_states.DatasetReopenResource(begin))
    app.add_route("/v1/datasets/{did}/members", dataset_states.MembersResource(begin, SMALL_MB))
    app.add_route("/v1/datasets/{did}/members/{member}", dataset_states.MemberResource(begin))
    app.add_route("/v1/datasets/{did}/rules", dataset_states.RulesResource(begin))
    app.add_route("/v1/datasets/{did}/rules/{storage}", dataset_states.RuleResource(begin))
    app.add_route("/v1/datasets/{did}/files", data.DatasetFilesResource(begin))
    app.add_route("/v1/datasets/{did}/files/{lfn}", data.DatasetFileResource(begin, max_upload_mb))


def _add_system(app: App, begin: Begin, settings: Settings) -> None:
    app.add_route("/", system.RootResource(settings))
    app.add_route("/healthz", system.AliveResource())
    app.add_route("/readyz", system.ReadyResource(begin, settings.store.redis_url))
    app.add_route("/openapi.json", reference.OpenApiResource(app))
    app.add_route("/docs", reference.DocsResource(app))
    app.add_route("/v1/login", login.LoginResource(begin, settings.oidc))
    app.add_route("/v1/whoami", system.WhoAmIResource())
    app.add_route("/v1/tokens", system.TokensResource(begin, SMALL_MB))
    app.add_route("/v1/incidents", incidents.IncidentsResource(begin, SMALL_MB))
    app.add_route(f"/v1/incidents/{{incident_id:{ID}}}", incidents.IncidentResource(begin, SMALL_MB))
    app.add_route("/v1/audit", incidents.AuditResource(begin))
    app.add_route(f"/v1/audit/{{audit_id:{ID}}}", incidents.AuditEntryResource(begin))
    app.add_route("/v1/queues", sites.QueuesResource(begin))
    app.add_route("/v1/queues/{name}", sites.QueueResource(begin))
    app.add_route("/v1/queues/{name}/mismatches", sites.QueueMismatchesResource(begin))
    app.add_route("/v1/queues/{name}/status", sites.QueueStatusResource(begin, SMALL_MB))
    app.add_route("/v1/queues/{name}/remove", sites.QueueRemoveResource(begin, SMALL_MB))
    app.add_route("/v1/site-versions", site_versions.SiteVersionsResource(begin))
    app.add_route("/v1/site-versions/diff", site_versions.SiteDiffResource(begin))
    version = f"/v1/site-versions/{{version_id:{ID}}}"
    app.add_route(version, site_versions.SiteVersionResource(begin))
    app.add_route(f"{version}/rollback", site_versions.SiteRollbackResource(begin, SMALL_MB))
    app.add_route("/v1/downtimes", downtimes.DowntimesResource(begin, SMALL_MB))
    app.add_route("/v1/downtimes/{name}", downtimes.DowntimeResource(begin, SMALL_MB))
    app.add_route("/v1/downtimes/{name}/cancel", downtimes.DowntimeCancelResource(begin, SMALL_MB))
    app.add_route("/v1/site-rules", site_rules.SiteRulesResource(begin, settings))
    app.add_route("/v1/site-rule-acts", site_rules.SiteRuleActsResource(begin))
    app.add_route("/v1/site-imports", site_versions.SiteImportsResource(begin, settings))
    app.add_route("/v1/sites", sites.SitesResource(begin))
    app.add_route("/v1/sites/{name}", sites.SiteResource(begin))
    app.add_route("/v1/storages", sites.StoragesResource(begin))
    app.add_route("/v1/storages/{name}", sites.StorageResource(begin))
    app.add_route("/v1/pilots", fleet.PilotsResource(begin))
    app.add_route("/v1/pilots/{pilot_id}", fleet.PilotResource(begin))
    app.add_route("/v1/nodes", fleet.NodesResource(begin))
    app.add_route("/v1/nodes/{name}", fleet.NodeResource(begin))
    app.add_route("/v1/users", people.UsersResource(begin, SMALL_MB))
    app.add_route("/v1/users/{name}", people.UserResource(begin))
    app.add_route("/v1/users/{name}/ban", users.UserBanResource(begin, settings, SMALL_MB))
    app.add_route("/v1/users/{name}/unban", users.UserUnbanResource(begin, SMALL_MB))
    app.add_route("/v1/users/{name}/limit", quotas.UserLimitResource(begin, SMALL_MB))
    app.add_route("/v1/users/{name}/unlimit", quotas.UserUnlimitResource(begin, SMALL_MB))
    app.add_route("/v1/users/{name}/quota", quotas.UserQuotaResource(begin, settings.quotas.period_days))
    app.add_route("/v1/quotas", quotas.QuotasResource(begin))
    app.add_route("/v1/quotas/{subject}", quotas.QuotaResource(begin, SMALL_MB))
    app.add_route("/v1/quotas/{subject}/clear", quotas.QuotaClearResource(begin, SMALL_MB))
    app.add_route("/v1/users/{name}/revoke-tokens", users.UserRevokeResource(begin, SMALL_MB))
    app.add_route(f"/v1/tokens/{{token_id:{ID}}}/revoke", users.TokenRevokeResource(begin, SMALL_MB))
    app.add_route(f"/v1/tokens/{{token_id:{ID}}}", people.TokenResource(begin))
    app.add_route("/v1/views", views.ViewsResource(begin))
    app.add_route("/v1/views/{name}", views.ViewResource(begin, SMALL_MB))
    app.add_route("/v1/switches", switches.SwitchesResource(begin))
    app.add_route("/v1/switches/{what}", switches.SwitchResource(begin, SMALL_MB))
    app.add_route("/v1/shares", shares.SharesResource(begin, SMALL_MB))
    app.add_route("/v1/shares/{name}/move", shares.ShareMoveResource(begin, SMALL_MB))
    app.add_route("/v1/shares/{name}/remove", shares.ShareRemovalResource(begin, SMALL_MB))
    app.add_route("/v1/shares/{name}", shares.ShareResource(begin, SMALL_MB))
