"""The real engine for the model to be compared with."""

from integration.engine.conftest import world

__all__ = ["world"]
