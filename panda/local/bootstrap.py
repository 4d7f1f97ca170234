"""What a fresh installation needs before its processes start: sites from `config/`, the admin's token."""

from panda.settings import Settings


def prepare(settings: Settings) -> None:
    """Load the sites and write the token file. Safe to run at every start."""
