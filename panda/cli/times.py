"""Moments as people write them: a while from now, or a date."""

from datetime import UTC, datetime, timedelta

import click

from panda.cli.units import seconds


def moment(text: str, option: str, now: datetime | None = None) -> datetime:
    """`6h` from now, or `2026-01-31T18:00` (local time unless it says otherwise). Raises click.UsageError."""
    try:
        return (now or datetime.now(UTC)) + timedelta(seconds=seconds(text))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.UsageError(f"{option} {text!r}: write a while, as 6h, or a time, as 2026-01-31T18:00") from None
