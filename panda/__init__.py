"""PanDA: a workload management system. The server: everything that decides."""

__version__ = "0.1.0"
