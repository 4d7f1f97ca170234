"""Alembic revisions; `pre_` runs before the code rolls, `post_` after."""
