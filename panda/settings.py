"""Settings: defaults < `config/*.toml` < `PANDA_*`. Frozen; read once per process.

A section is a class, a setting an attribute with its unit in its name and a docstring below it
(`docs/reference/settings.md` is made from them). `[engine] resend_s = 200` in a file is
`PANDA_ENGINE_RESEND_S=200` outside. The stores have the short names `PANDA_DATABASE_URL`,
`PANDA_REDIS_URL`, `PANDA_DATA_DIR`. A name that does not exist is an error, never ignored.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from panda.errors import ConfigError, UnknownName


@dataclass(frozen=True)
class Store:
    """Where the truth lives."""

    database_url: str = ""
    """PostgreSQL 15 or newer, as `postgresql://user:password@host:port/name`; empty: embedded."""
    redis_url: str = ""
    """Redis 6.2 or newer, as `redis://host:port/0` or `redis+socket:///path`; empty: embedded."""
    data_dir: str = "data"
    """Folder of everything that this installation keeps: embedded stores, spool, logs, pids, tokens."""
    pool_size: int = 8
    """Connections that one process may hold open to PostgreSQL at once."""

    @property
    def redis_client_url(self) -> str:
        """`redis_url` as redis-py writes it: a unix socket is `unix:///path?db=0` there."""
        return client_url(self.redis_url)


@dataclass(frozen=True)
class Api:
    """The HTTP face."""

    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = 25080
    """TCP port of the API; the monitor takes the next one."""
    workers: int = 1
    """Processes that serve the API."""
    threads: int = 8
    """Requests that one such process serves at a time."""
    max_streams: int = 50
    """Streams of events that one such process keeps open beside these, each in a thread of its own."""
    trusted_proxies: str = ""
    """Addresses or networks of proxies, with commas between them, whose X-Forwarded-For and -Proto are believed."""
    metrics_to_this_machine: bool = True
    """Give /metrics to callers on this machine without a token; others need one that may read metrics."""
    max_body_mb: int = 16
    """Largest JSON body, in MB (10^6 bytes)."""
    max_upload_mb: int = 2_000
    """Largest sandbox or file upload, in MB."""
    max_explicit_jobs: int = 10_000
    """Jobs that one submission may spell out."""
    max_template_jobs: int = 1_000_000
    """Jobs that one template may expand to."""
    requests_per_s: int = 200
    """Requests per second that one token may make of one process in the long run; 0: any number."""
    requests_at_once: int = 1_000
    """Requests that a token may save up and make in one burst."""
    pilot_requests_per_s: int = 0
    """The same for tokens of pilots, with ten times as many at once; 0: any number."""
    strangers_per_s: int = 50
    """Answers 401 per second that one process gives to one address in the long run, and ten times as many at once;
    beyond that it answers 429. An address is the peer's, or what one of `trusted_proxies` says. 0: any number."""
    confirm_above: int = 100
    """An action on more jobs than this is begun only when the previewed count is repeated."""
    preview_s: int = 600
    """A preview of an action may be confirmed for this long."""
    max_looked: int = 2_000_000
    """Live jobs that one preview looks at; a filter that needs more is refused."""


@dataclass(frozen=True)
class Engine:
    """Relay, stages and sweeper; see docs/explanation/engine.md."""

    chunk_jobs: int = 5_000
    """Jobs of a set that one transaction expands."""
    group_jobs: int = 1_000
    """PandaIDs that one chain carries at its first delivery; halves with every further one."""
    max_deliveries: int = 12
    """Deliveries after which a job that never gets anywhere fails as poison."""
    window_groups: int = 4
    """Groups that the relay keeps outstanding in each lane."""
    visibility_s: int = 120
    """Redis gives a message to another worker after this silence; equal on all workers."""
    hard_limit_s: int = 30
    """A stage that runs longer is killed."""
    resend_s: int = 155
    """A group that made no progress is sent again after this; >= visibility_s + hard_limit_s."""
    gather_s: float = 0.1
    """New jobs that become runnable within this time after a group was sent go together in the next one."""
    gather_final_s: float = 0.5
    """The same for jobs that pilots have done; nobody waits for these but the one who asks for the last."""
    poll_s: float = 0.05
    """The relay's look at the database when nothing woke it; four times as long after two seconds without work."""
    sweep_s: float = 1.0
    """Between two sweeps for waits whose deadline passed."""
    max_tries: int = 5
    """Times that one job's stage may raise before the job fails with that reason."""
    retry_window_s: int = 72 * 3600
    """A failed job rests this long, ready for a retry, before it is archived."""
    pilot_wait_s: int = 6 * 3600
    """An activated job that no pilot took in this time is brokered anew."""
    queue_wait_s: int = 30
    """A job that fits no queue is looked at again after this (and at once when a queue changes)."""
    parent_wait_s: int = 30 * 24 * 3600
    """A job set waits this long for those it depends on."""


@dataclass(frozen=True)
class Brokerage:
    """How queues are chosen."""

    policies: str = ""
    """File (TOML) with the policies, of the data folder; empty: `brokerage.toml`, or the built-in ones without it."""
    leave_offline_s: int = 60
    """Jobs that wait at a queue which has been offline, or in downtime, for so long are brokered anew."""
    stay_in_downtime_s: int = 1800
    """They stay where a downtime ends within this: elsewhere they would hardly start earlier."""
    leave_stalled_s: int = 1800
    """So are ready jobs where no pilot came and nothing started for so long, if another queue would take them; between
    15 minutes and 2 hours. 0: never, they stay until `[engine] pilot_wait_s`."""


@dataclass(frozen=True)
class Dispatcher:
    """Leases of running attempts."""

    heartbeat_s: int = 30
    """A pilot reports at least this often."""
    lease_s: int = 120
    """Silence after which an attempt counts as lost."""
    max_jobs_per_claim: int = 100
    """Jobs that one request of a pilot may take."""
    max_wait_s: int = 20
    """Longest long poll of a pilot that finds nothing."""


@dataclass(frozen=True)
class Data:
    """Placement of files."""

    transfer_lease_s: int = 60
    """A mover that is silent for this long lost its transfer."""
    transfer_tries: int = 8
    """Tries of one transfer before the jobs that wait for it are told."""
    stage_in_deadline_s: int = 24 * 3600
    """Inputs that are not in place by then fail the job."""
    copies_stay_s: int = 6 * 3600
    """A copy that was brought for jobs stays this long after one needed it; on a full storage it goes at once."""
    quarantine_stays_s: int = 30 * 24 * 3600
    """Outputs of attempts that do not count are removed after this, once their job is archived."""
    recall_deadline_s: int = 12 * 3600
    """A file that a tape has not brought online by then is taken from another replica, or its transfer fails."""
    recall_pin_s: int = 24 * 3600
    """How long a file is asked to stay online; renewed while it is needed, given back when it is not."""
    batch_transfers: int = 20
    """Transfers that one message to the data lane carries."""
    credentials: str = ""
    """File (TOML, mode 600) with what opens storages that are not folders; see docs/how-to/storages.md."""


@dataclass(frozen=True)
class Sites:
    """What is known of sites and queues; see docs/how-to/describe-sites.md."""

    collect_from: str = ""
    """Files or addresses, with commas between them, of documents about sites (TOML, JSON, or CRIC's JSON) that are read
    again and again; a relative file stands in the data folder; empty: none."""
    collect_s: int = 600
    """Between two reads."""
    collect_status: bool = False
    """Whether the status of queues follows these documents too; else it belongs to operators."""
    rules: str = ""
    """File (TOML) with the rules by which queues and nodes are taken out; empty: `site-rules.toml` in the data
    folder, or the built-in ones without it."""
    collect_gone_percent: int = 20
    """An answer that no longer names more than so many percent of the queues that the last one named is believed to
    be broken, and changes nothing."""


@dataclass(frozen=True)
class Harvester:
    """Pilots for queues."""

    poll_s: float = 1.0
    """Between two looks at what queues want."""
    idle_s: int = 20
    """A pilot that gets no job for this long leaves."""
    local_queues: bool = True
    """Start pilots on this machine for queues whose submitter is `local`."""


@dataclass(frozen=True)
class Quotas:
    """What quotas count; what they are stands in `quotas.toml`, see docs/explanation/quotas.md."""

    period_days: int = 30
    """Core hours are those of so many days, today included."""
    half_life_h: int = 7 * 24
    """Hours after which what somebody used counts half in the order of their jobs."""
    usage_points: int = 60
    """Points of priority that the one loses who used everything; others in proportion; 0: it costs nothing."""
    banned_running: str = "finish"
    """Jobs of somebody who is banned that run: `finish` or `kill`, if the ban does not say."""


@dataclass(frozen=True)
class Monitor:
    """The pages."""

    host: str = "127.0.0.1"
    """Address that the monitor listens on."""
    port: int = 0
    """TCP port; 0: the API's port + 1."""
    url: str = ""
    """Address under which browsers reach the pages, if a proxy stands before them, e.g. `https://panda.example.org`;
    `https` makes the session's cookie secure."""
    max_streams: int = 500
    """Browsers that may watch pages live at once, 50 of one person; the others ask every 15 s."""
    flower_max_tasks: int = 5_000
    """Celery tasks that Flower remembers."""


@dataclass(frozen=True)
class Oidc:
    """An OpenID Connect issuer whose tokens are taken as ours are; see docs/how-to/openid-connect.md."""

    issuer: str = ""
    """Its name, exactly as in the `iss` of its tokens; empty: none. Its keys are found by discovery."""
    audience: str = ""
    """What the `aud` of a token for this server holds, exactly."""
    jwks_url: str = ""
    """Where its keys are, if it has no discovery."""
    name_claim: str = "preferred_username"
    """The claim that becomes the user's name, the first time that they come."""
    groups_claim: str = "groups"
    """The claim that lists their groups."""
    roles: str = ""
    """JSON: what the members of a group are here, e.g. `{"/panda/users": "user", "/shift": ["user", "operator"]}`."""
    default_role: str = ""
    """What everybody is whom the issuer knows; empty: who is in none of the groups stays outside."""
    client_id: str = ""
    """The public client that `panda login` is to the issuer; empty: it does not offer a login there."""
    scope: str = "openid profile"
    """What `panda login` asks the issuer for."""
    token_ttl_s: int = 86_400
    """So long the token is good that `panda login` gets for one of the issuer's."""


@dataclass(frozen=True)
class Upstream:
    """The words of upstream PanDA, for its own pilots, clients and harvesters."""

    enabled: bool = False
    """Answer `/server/panda/*` and `/api/v1/*`, and serve the files that upstream's pilot fetches."""
    anonymous: bool = False
    """Callers on this machine need no token: they are the user and pilot `anonymous`. Only with a loopback host."""
    lease_s: int = 7_200
    """Silence after which an attempt counts as lost; upstream's pilot reports every 1,800 s."""
    public_url: str = ""
    """Address of this server for nodes, as `http://host:port`; empty: the one that the caller used."""
    trf_url: str = "http://pandaserver-doma.cern.ch:25080/trf/user"
    """Where pilots are told to fetch payload runners; panda-pilot 3.7 takes them from nowhere else by itself."""
    timefloor_min: int = 0
    """Minutes for which one pilot goes on asking for jobs; 0: a pilot runs one job."""
    max_sources_mb: int = 768
    """Largest `sources.*` sandbox of panda-client, in MB."""
    max_file_mb: int = 10
    """Largest other upload of panda-client, in MB."""
    keep_days: int = 30
    """Uploads are kept so long after they were sent or asked about, words of a job and its reports after its end,
    notes of harvesters after they were last told."""


@dataclass(frozen=True)
class Settings:
    """Everything, one attribute per section."""

    store: Store = field(default_factory=Store)
    api: Api = field(default_factory=Api)
    engine: Engine = field(default_factory=Engine)
    brokerage: Brokerage = field(default_factory=Brokerage)
    dispatcher: Dispatcher = field(default_factory=Dispatcher)
    data: Data = field(default_factory=Data)
    sites: Sites = field(default_factory=Sites)
    harvester: Harvester = field(default_factory=Harvester)
    quotas: Quotas = field(default_factory=Quotas)
    monitor: Monitor = field(default_factory=Monitor)
    oidc: Oidc = field(default_factory=Oidc)
    upstream: Upstream = field(default_factory=Upstream)

    @property
    def data_dir(self) -> Path:
        """The data folder, absolute."""
        return Path(self.store.data_dir).absolute()

    @property
    def monitor_port(self) -> int:
        """TCP port of the monitor."""
        return self.monitor.port or self.api.port + 1


#: Before every key of Celery in Redis; workers and Flower must agree on it.
REDIS_KEY_PREFIX = "panda:"

#: Hosts that only callers on this machine can reach.
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

SHORT = {
    "PANDA_DATABASE_URL": ("store", "database_url"),
    "PANDA_REDIS_URL": ("store", "redis_url"),
    "PANDA_DATA_DIR": ("store", "data_dir"),
}
#: PANDA_ names that belong to the client or to `make`, not to a server.
NOT_OURS = frozenset(
    {"PANDA_URL", "PANDA_TOKEN", "PANDA_TOKEN_FILE", "PANDA_PROFILE", "PANDA_OUTPUT", "PANDA_TIMEOUT",
     "PANDA_CA", "PANDA_PAGER", "PANDA_CONFIG", "PANDA_LOG_LEVEL", "PANDA_API_BLOCKING_THREADS"}
)  # fmt: skip


def client_url(redis_url: str) -> str:
    """kombu's URL of Redis as redis-py writes it; `redis+socket:///path?virtual_host=0` differs."""
    parts = urlsplit(redis_url)
    if parts.scheme != "redis+socket":
        return redis_url
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/") or "0"
    password = f":{parts.password}@" if parts.password else ""
    return f"unix://{password}{parts.path}?db={database}"


def load(files: list[Path] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from `files` (the later one wins), then from `environ`.

    Raises:
        ConfigError: a file that is no TOML, a wrong type, a value out of range.
        UnknownName: a section or a setting that does not exist, with the nearest name.
    """
    if files is None:
        named = environ.get("PANDA_CONFIG", "")
        files = [Path(name) for name in named.split(os.pathsep) if name]
    values: dict[str, dict[str, Any]] = {}
    for file in files:
        _merge_file(values, file)
    _merge_environ(values, environ)
    settings = Settings(**{name: SECTIONS[name](**given) for name, given in values.items()})
    _check(settings)
    return settings


@cache
def current() -> Settings:
    """This process's settings. Tests call `current.cache_clear()` after they change the environment."""
    return load()


SECTIONS: dict[str, Any] = {each.name: each.default_factory for each in fields(Settings)}


def _merge_file(values: dict[str, dict[str, Any]], file: Path) -> None:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{file}: {problem}") from problem
    for section, given in document.items():
        if not isinstance(given, dict):
            raise ConfigError(f"{file}: {section!r} stands outside a [section]")
        for name, value in given.items():
            values.setdefault(section, {})[name] = _converted(section, name, value, str(file))


def _merge_environ(values: dict[str, dict[str, Any]], environ: Mapping[str, str]) -> None:
    for variable, text in environ.items():
        if not variable.startswith("PANDA_") or variable in NOT_OURS:
            continue
        section, name = SHORT.get(variable) or _section_of(variable)
        values.setdefault(section, {})[name] = _converted(section, name, text, variable)


def _section_of(variable: str) -> tuple[str, str]:
    section, _, name = variable.removeprefix("PANDA_").lower().partition("_")
    return section, name


def _converted(section: str, name: str, value: Any, where: str) -> Any:
    if section not in SECTIONS:
        raise UnknownName("section", section, list(SECTIONS), where=where)
    types = {each.name: each.type for each in fields(SECTIONS[section])}
    if name not in types:
        raise UnknownName("setting", name, list(types), where=f"{where} [{section}]")
    wanted = types[name]
    try:
        if wanted is bool:
            return _as_bool(value)
        if isinstance(value, bool) or (wanted is str and not isinstance(value, str)):
            raise ValueError
        if wanted is int and isinstance(value, float):
            raise ValueError
        return wanted(value)  # type: ignore[operator]
    except ValueError:
        kind = getattr(wanted, "__name__", wanted)
        raise ConfigError(f"{where}: [{section}] {name} wants {kind}, got {value!r}") from None


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("1", "true", "yes", "on"):
        return True
    if str(value).lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError


def _check(settings: Settings) -> None:
    for section in fields(settings):
        for each in fields(getattr(settings, section.name)):
            value = getattr(getattr(settings, section.name), each.name)
            if isinstance(value, int | float) and value < 0:
                raise ConfigError(f"[{section.name}] {each.name} is {value}; it cannot be negative")
    engine, dispatcher = settings.engine, settings.dispatcher
    if settings.sites.collect_gone_percent > 100:
        raise ConfigError("[sites] collect_gone_percent is at most 100")
    if engine.resend_s < engine.visibility_s + engine.hard_limit_s:
        raise ConfigError("[engine] resend_s must be at least visibility_s + hard_limit_s")
    if dispatcher.lease_s < 2 * dispatcher.heartbeat_s:
        raise ConfigError("[dispatcher] lease_s must be at least twice heartbeat_s")
    if not (settings.quotas.half_life_h and settings.quotas.period_days):
        raise ConfigError("[quotas] half_life_h and period_days must be above 0")
    if settings.quotas.banned_running not in ("finish", "kill"):
        raise ConfigError("[quotas] banned_running is finish or kill")
    if settings.upstream.anonymous and settings.api.host not in LOOPBACK:
        raise ConfigError("[upstream] anonymous goes only with a loopback [api] host, such as 127.0.0.1")
    if settings.oidc.token_ttl_s < 60:
        raise ConfigError("[oidc] token_ttl_s must be at least 60")
    if not 0 < settings.api.port < 65535:
        raise ConfigError(f"[api] port is {settings.api.port}; it must lie between 1 and 65534")
