"""Movers: one per kind of storage, found by entry point (`panda.movers`)."""
