"""The store: connections, tables, migrations."""
