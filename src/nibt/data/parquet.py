"""Reading and writing of Parquet files, and reading of Arrow files. Only this file imports pyarrow."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from nibt.errors import BadInput, Unsupported, install
from nibt.records import JsonObject


def pyarrow(needed_by: str = "Parquet files need") -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Unsupported(f"{needed_by} pyarrow: {install('data')}") from error
    return pyarrow, pyarrow.parquet


def struct(schema: JsonObject) -> Any:
    """Return the Arrow type of the objects that a JSON Schema describes."""
    arrow = pyarrow()[0]
    definitions = schema.get("$defs", {})
    types = {"string": arrow.string(), "integer": arrow.int32(), "boolean": arrow.bool_(), "number": arrow.float64()}

    def of(node: JsonObject) -> Any:
        if "$ref" in node:
            return of(definitions[node["$ref"].rpartition("/")[2]])
        if "anyOf" in node:  # a value or null
            return of(node["anyOf"][0])
        if node["type"] == "object" and "properties" not in node:
            return arrow.map_(arrow.string(), of(node["additionalProperties"]))
        if node["type"] == "object":
            return arrow.struct([(name, of(field)) for name, field in node["properties"].items()])
        if node["type"] == "array":
            return arrow.list_(of(node["items"] if "items" in node else node["prefixItems"][0]))
        return arrow.float32() if node.get("format") == "float" else types[node["type"]]

    return of(schema)


def encode(table: Any) -> bytes:
    """Return the bytes of a table's file. Equal tables give equal bytes with the same version of pyarrow."""
    stream = BytesIO()
    pyarrow()[1].write_table(table, stream, compression="zstd")
    return stream.getvalue()


@contextmanager
def _readable(path: Path, remedy: str) -> Iterator[tuple[Any, Any]]:
    """Provide the modules of ``pyarrow``, and convert what they raise for a file to ``BadInput``."""
    arrow, parquet = pyarrow()
    try:
        yield arrow, parquet
    except (OSError, arrow.ArrowException) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} cannot be read ({error}): {remedy}") from error


@contextmanager
def open_file(path: Path, remedy: str) -> Iterator[Any]:
    """Open a file as a ``pyarrow.parquet.ParquetFile``."""
    with _readable(path, remedy) as (_, parquet), parquet.ParquetFile(path) as file:
        yield file


def table_schema(path: Path, remedy: str) -> tuple[list[str], int]:
    """Return the names of the columns and the number of rows of a Parquet file, or of an Arrow stream (``.arrow``)."""
    if path.suffix == ".arrow":
        table = _arrow_table(path, remedy)
        return table.column_names, table.num_rows
    with open_file(path, remedy) as file:
        return file.schema_arrow.names, file.metadata.num_rows


def read_columns(path: Path, columns: list[str], remedy: str) -> list[JsonObject]:
    """Read columns of a Parquet file, or of an Arrow stream (``.arrow``), as one mapping per row."""
    if path.suffix == ".arrow":
        return _arrow_table(path, remedy).select(columns).to_pylist()
    with open_file(path, remedy) as file:
        return file.read(columns=columns).to_pylist()


def read_cell(path: Path, row: int, column: str, remedy: str) -> Any:
    """Read one value of a Parquet file, or of an Arrow stream (``.arrow``)."""
    if path.suffix == ".arrow":
        return _arrow_table(path, remedy)[column][row].as_py()

    with open_file(path, remedy) as file:
        group = 0
        while row >= file.metadata.row_group(group).num_rows:
            row -= file.metadata.row_group(group).num_rows
            group += 1

    return _group(path, path.stat().st_mtime_ns, group, column, remedy)[row].as_py()


@lru_cache(maxsize=1)
def _group(path: Path, modified: int, group: int, column: str, remedy: str) -> Any:
    """Read a column of a group of rows. It is kept, since rows are mostly read in their order."""
    with open_file(path, remedy) as file:
        return file.read_row_group(group, columns=[column]).column(0)


def _arrow_table(path: Path, remedy: str) -> Any:
    """Open an Arrow stream, as the package ``datasets`` writes it, without reading its bytes into memory."""
    with _readable(path, remedy) as (arrow, _), arrow.memory_map(str(path)) as source:
        return arrow.ipc.open_stream(source).read_all()
