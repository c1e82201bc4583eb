"""SQL over an export, by DuckDB: the views `readings`, `rollups` and `devices`.

The statement reads; it neither writes nor changes anything. DuckDB may open files below the export's directory only,
nothing over a network, and loads no extension that it does not contain.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from processor.ask.columns import DEVICES, READINGS, ROLLUPS, arrow, type_of
from processor.ask.plan import PLAN, TABLES
from processor.errors import QueryError

VIEWS: Mapping[str, Sequence[tuple[str, str]]] = {"readings": READINGS, "rollups": ROLLUPS, "devices": DEVICES}

BATCH = 10_000

CLOSED = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
LOCKED = {**CLOSED, "enable_external_access": False, "lock_configuration": True}

READS = {"SELECT", "SET_OPERATION", "RECURSIVE_CTE", "CTE"}
"""The parts of a query that read, as DuckDB names their nodes."""


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise QueryError("SQL needs DuckDB: pip install 'processor[sql]'") from None
    return duckdb


def tables_of(statement: str) -> tuple[str, ...]:
    """Return the views that a statement names anywhere; all of them where it names none.

    Raises QueryError where it is no single statement that reads.
    """
    duckdb = _duckdb()
    with closing(duckdb.connect(":memory:", config=LOCKED)) as connection:
        _check(duckdb, connection, statement)
    return tuple(name for name in TABLES if re.search(rf"\b{name}\b", statement, re.IGNORECASE)) or TABLES


@contextmanager
def answer(statement: str, folder: Path) -> Iterator[tuple[list[str], Iterator[dict[str, Any]]]]:
    """Give the answer's columns, and its rows as they come. Raises QueryError, with DuckDB's words."""
    duckdb = _duckdb()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="processor-sql-") as scratch,
            _opened(duckdb, folder, scratch) as connection,
        ):
            _check(duckdb, connection, statement)
            result = connection.sql(statement).to_arrow_reader(BATCH)
            columns = _unique(result.schema.names)
            yield columns, _rows(result, columns)
    except duckdb.Error as error:
        raise _refusal(error) from None


@contextmanager
def _opened(duckdb: Any, folder: Path, scratch: str) -> Iterator[Any]:
    """Give a connection that sees the export's views, and no file elsewhere but its own scratch space."""
    folder = folder.resolve()
    if not (folder / PLAN).is_file():
        raise QueryError(f"{folder} holds no export: `processor export {folder}` makes one")
    with closing(duckdb.connect(":memory:", config={**CLOSED, "temp_directory": scratch})) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET allowed_directories = [{_text(f'{folder}/')}]")
        connection.execute("SET enable_external_access = false")
        for name, columns in VIEWS.items():
            _view(connection, folder, name, columns)
        connection.execute("SET lock_configuration = true")
        yield connection


def _view(connection: Any, folder: Path, name: str, columns: Sequence[tuple[str, str]]) -> None:
    """Make a view of a table's files; of an empty one too, so that it is there to be asked."""
    parts = "devices.parquet" if name == "devices" else "day=*/*.parquet"
    days = name != "devices"
    if next((folder / name).glob(parts), None) is not None:
        pattern = _text(f"{folder / name}/{parts}")
        partitions = ", hive_partitioning = true, hive_types = {'day': DATE}" if days else ""
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * FROM read_parquet({pattern}, union_by_name = true{partitions})"  # noqa: S608
        )
        return
    pa = arrow()
    schema = pa.schema([(column, type_of(kind)) for column, kind in columns] + [("day", pa.date32())] * days)
    connection.register(f"no_{name}", schema.empty_table())
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM no_{name}")  # noqa: S608
    connection.unregister(f"no_{name}")


def _check(duckdb: Any, connection: Any, statement: str) -> None:
    """Raise QueryError unless it is one statement, and one that reads."""
    try:
        statements = connection.extract_statements(statement)
    except duckdb.Error as error:
        raise _refusal(error) from None
    if len(statements) != 1:
        raise QueryError(f"one statement at a time, not {len(statements)}")
    [found] = statements
    if found.type == duckdb.StatementType.EXPLAIN:  # with ANALYZE it does what it explains
        found = _explained(duckdb, connection, found)
    kind = found.type.name if found.type != duckdb.StatementType.SELECT else _writes(connection, found.query)
    if kind is not None:
        hint = "write PIVOT as SELECT * FROM (PIVOT … ON … IN (…) USING …)"
        raise QueryError(f"a statement must read (SELECT, WITH, DESCRIBE, SUMMARIZE, EXPLAIN), not {kind}; {hint}")


def _explained(duckdb: Any, connection: Any, explain: Any) -> Any:
    """Return the statement that an EXPLAIN explains: what begins first at a word after it, and is one to DuckDB.

    Neither ANALYZE nor options in parentheses, which may come before it, make a statement with what follows them.
    """
    text = explain.query.encode()  # DuckDB counts bytes
    words = [at for at, kind in duckdb.tokenize(explain.query) if kind != duckdb.token_type.comment]
    for at in words[1:]:
        with suppress(duckdb.Error):
            return connection.extract_statements(text[at:].decode())[0]
    return explain


def _writes(connection: Any, query: str) -> str | None:
    """Return what writes in a query (COPY, INSERT), None where all of it reads: a WITH may do either.

    DuckDB's own tree of it tells, as JSON, in which no text of the query can pass for a node's type: its quotation
    marks are escaped there.
    """
    [(tree,)] = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    nodes = re.findall(r'"type":"(\w+)_NODE"', tree)
    if not nodes:
        return "what DuckDB cannot take apart"
    return next((node.removesuffix("_QUERY") for node in nodes if node not in READS), None)


def _refusal(error: Exception) -> QueryError:
    return QueryError(f"SQL: {str(error).strip()}")


def _unique(names: Sequence[str]) -> list[str]:
    """Return column names that differ: a second `mean` is `mean_2`."""
    found: list[str] = []
    for name in names:
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def _rows(result: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield rows, their values as JSON has them."""
    while True:
        try:
            batch = result.read_next_batch()
        except StopIteration:
            return
        except (arrow().ArrowException, OSError) as error:
            raise _refusal(error) from None
        try:
            lists = [_values(column) for column in batch.columns]
        except (OverflowError, ValueError) as error:  # a date beyond the year 9999, say
            raise QueryError(
                f"SQL: a value of the answer is none that JSON, CSV and tables can show: {error}"
            ) from None
        for values in zip(*lists, strict=True):
            yield {name: _plain(value) for name, value in zip(columns, values, strict=True)}


def _values(column: Any) -> list[Any]:
    """Return a column's values; a time with a zone is one of UTC, whether or not this machine knows of zones."""
    pa = arrow()
    if pa.types.is_timestamp(column.type):
        naive = column.cast(pa.timestamp("us"), safe=False).to_pylist()
        zone = None if column.type.tz is None else UTC
        return [value and value.replace(tzinfo=zone) for value in naive]
    found: list[Any] = column.to_pylist()
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON, CSV and people have it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)


def _text(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
