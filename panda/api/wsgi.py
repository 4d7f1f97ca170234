"""The process behind `granian --interface wsgi panda.api.wsgi:app`: settings from the environment."""

import os

from panda import logs, settings
from panda.api.app import create_app
from panda.db.session import begin_from

logs.setup(os.environ.get("PANDA_LOG_LEVEL", "INFO"))
app = create_app(begin_from(settings.current()), settings.current())
