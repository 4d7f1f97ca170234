"""Lists as data frames: of pandas or polars, whichever is asked for; neither is needed otherwise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from panda.client.errors import ClientError

if TYPE_CHECKING:
    import pandas
    import polars


class MissingExtra(ClientError, ImportError):
    """What was asked for needs a package that is not installed; nothing was fetched in vain."""

    default_code = "missing_extra"

    def __init__(self, package: str) -> None:
        super().__init__(f"this needs {package}: pip install 'panda-wms[{package}]'")


def to_pandas(rows: Sequence[dict[str, Any]], kind: type[msgspec.Struct]) -> "pandas.DataFrame":
    """Rows as a frame; the fields of `kind` that are instants become UTC times. Raises MissingExtra."""
    try:
        import pandas
    except ImportError:
        raise MissingExtra("pandas") from None
    frame = pandas.DataFrame.from_records(list(rows), columns=_columns(rows, kind))
    for name in _instants(kind) & set(frame.columns):
        frame[name] = pandas.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame


def to_polars(rows: Sequence[dict[str, Any]], kind: type[msgspec.Struct]) -> "polars.DataFrame":
    """Rows as a frame; the fields of `kind` that are instants become UTC times. Raises MissingExtra."""
    try:
        import polars
    except ImportError:
        raise MissingExtra("polars") from None
    instants = _instants(kind)
    read = [
        {name: _instant(row.get(name)) if name in instants else row.get(name) for name in _columns(rows, kind)}
        for row in rows
    ]
    schema = {name: polars.Datetime("us", "UTC") if name in instants else None for name in _columns(rows, kind)}
    return polars.DataFrame(read, schema=schema, infer_schema_length=None)


def _columns(rows: Sequence[dict[str, Any]], kind: type[msgspec.Struct]) -> list[str]:
    """The fields that the rows have, else those of the kind: an empty frame has its columns too."""
    own = [field.name for field in msgspec.structs.fields(kind) if field.name != "raw"]
    told = dict.fromkeys(name for row in rows for name in row)
    return list(told) if told else own


def _instants(kind: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind) if "datetime" in str(field.type)}


def _instant(value: Any) -> Any:
    from datetime import UTC, datetime

    return None if value is None else datetime.fromisoformat(str(value)).astimezone(UTC)
