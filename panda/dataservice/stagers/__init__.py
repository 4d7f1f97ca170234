"""Stagers: how files on a tape are brought online, one module per kind of tape system."""
