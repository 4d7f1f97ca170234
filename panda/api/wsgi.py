"""The process behind `granian --interface wsgi panda.api.wsgi:app`: settings from the environment."""

import os

from panda import collector, incident_log, logs, settings
from panda.api import endings, lane
from panda.api.alive import keep_marking
from panda.api.app import create_app
from panda.db.session import begin_from

logs.setup(os.environ.get("PANDA_LOG_LEVEL", "INFO"))
incident_log.install("api", settings.current())
begin = begin_from(settings.current())
keep_marking(begin)
endings.hear_signals()
app = lane.narrowed(create_app(begin, settings.current()), settings.current().api.threads)
collector.spare()
