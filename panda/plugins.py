"""Plugins by entry point: ours are found the same way as a stranger's."""

from importlib.metadata import entry_points

from panda.errors import UnknownName


def load(group: str, name: str) -> type:
    """The class that entry point `name` of `group` names, e.g. `load("panda.movers", "local")`.

    Raises:
        UnknownName: nothing of that name is installed.
    """
    found = entry_points(group=group)
    if name not in found.names:
        raise UnknownName(group.removeprefix("panda.").rstrip("s"), name, sorted(found.names))
    loaded: type = found[name].load()
    return loaded
