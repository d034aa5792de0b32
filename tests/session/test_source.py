"""What inputs are taken for."""

import pyarrow as pa
import pytest

from servestream_client.errors import InputsError
from servestream_client.session.source import InputSource, check_inputs, length_of


def table(module: str, name: str) -> object:
    """One of a package that is not here; such are known by the names of their types."""
    return type(name, (), {"__module__": module, "__iter__": lambda self: iter("ab")})()


@pytest.mark.parametrize(
    ("inputs", "advice"),
    [
        ("text", "put it into a list"),
        (b"bytes", "put it into a list"),
        ({"a": 1}, "its keys"),
        (pa.table({"a": [1]}), r"table\.to_batches"),
        (pa.RecordBatch.from_pylist([{"a": 1}]), r"batch\.to_pylist"),
        (table("pandas.core.frame", "DataFrame"), r"frame\.itertuples"),
        (table("pandas", "DataFrame"), r"frame\.to_dict\('records'\)"),
        (table("polars.dataframe.frame", "DataFrame"), r"frame\.iter_rows"),
        (table("polars.lazyframe.frame", "LazyFrame"), r"frame\.collect"),
    ],
)
def test_what_iterates_otherwise_than_meant_is_refused_with_advice(inputs, advice):
    with pytest.raises(InputsError, match=advice):
        check_inputs(inputs)
    with pytest.raises(InputsError, match=advice):
        InputSource(inputs)


@pytest.mark.parametrize(
    "inputs", [[1], (1,), {1}, {"a": 1}.values(), range(3), iter([1]), table("mine", "DataFrame")]
)
def test_other_iterables_are_inputs(inputs):
    check_inputs(inputs)
    assert InputSource(inputs).plain is not None


def test_lengths_are_known_where_they_are():
    class Broken:
        def __len__(self):
            raise RuntimeError

    assert length_of([1, 2]) == 2
    assert length_of(iter([1, 2])) is None
    assert length_of(Broken()) is None
