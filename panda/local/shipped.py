"""Data files that come with PanDA: beside the packages in a checkout, in `share/panda` of a wheel."""

import sysconfig
from pathlib import Path

from panda.errors import ConfigError


def shipped(name: str) -> Path:
    """The file `name`, e.g. `Procfile` or `config/sites.toml`.

    Raises:
        ConfigError: it is in neither place.
    """
    places = (Path(__file__).parents[2], Path(sysconfig.get_path("data")) / "share" / "panda")
    for place in places:
        if (place / name).is_file():
            return place / name
    raise ConfigError(f"no {name} in {' or '.join(map(str, places))}")
