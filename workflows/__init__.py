"""Celery: everything that waits its turn."""
