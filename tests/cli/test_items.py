import pytest

from servestream_client.cli.items import (
    InputFormat,
    OutputFormat,
    input_format,
    output_format,
    payload,
)
from servestream_client.cli.problems import Problem


@pytest.mark.parametrize(
    ("path", "codec", "form"),
    [
        ("-", "bytes", InputFormat.TEXT),
        ("-", "json", InputFormat.JSON),
        ("-", "msgpack", InputFormat.JSON),
        ("a/b.JSONL", "bytes", InputFormat.JSON),
        ("a.ndjson", "bytes", InputFormat.JSON),
        ("a.txt", "json", InputFormat.TEXT),
        ("a.csv", "json", InputFormat.CSV),
        ("a.parquet", "json", InputFormat.PARQUET),
        ("a.jsonl.gz", "bytes", InputFormat.JSON),
        ("a.csv.bz2", "bytes", InputFormat.CSV),
        ("items", "bytes", InputFormat.TEXT),
        ("items.xz", "json", InputFormat.JSON),
    ],
)
def test_the_name_of_a_file_says_what_is_in_it(path, codec, form):
    assert input_format(InputFormat.AUTO, path, codec) is form
    assert input_format(InputFormat.FRAMES, path, codec) is InputFormat.FRAMES


def test_a_parquet_file_is_not_compressed_once_more():
    with pytest.raises(Problem, match="compressed internally"):
        input_format(InputFormat.AUTO, "a.parquet.gz", "json")


@pytest.mark.parametrize("path", ["a.bin", "a.orc", "a.xlsx.gz"])
def test_a_name_that_says_something_else_is_no_guess(path):
    with pytest.raises(Problem, match="say what is in the file with --input-format"):
        input_format(InputFormat.AUTO, path, "json")
    assert input_format(InputFormat.JSON, path, "json") is InputFormat.JSON


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("-", OutputFormat.JSON),
        ("/dev/null", OutputFormat.JSON),
        ("a.JSONL", OutputFormat.JSON),
        ("a.txt", OutputFormat.TEXT),
        ("a.parquet", OutputFormat.PARQUET),
    ],
)
def test_so_does_that_of_the_output(path, form):
    assert output_format(OutputFormat.AUTO, path) is form
    if form is not OutputFormat.PARQUET:
        assert output_format(OutputFormat.FRAMES, path) is OutputFormat.FRAMES


def test_an_output_is_what_its_name_says():
    for wanted in OutputFormat:
        with pytest.raises(Problem, match="compressed output is not supported"):
            output_format(wanted, "a.jsonl.gz")
    with pytest.raises(Problem, match="--output-format json does not make"):
        output_format(OutputFormat.JSON, "a.parquet")
    with pytest.raises(Problem, match="say what to write with --output-format"):
        output_format(OutputFormat.AUTO, "a.csv")
    assert output_format(OutputFormat.TEXT, "a.csv") is OutputFormat.TEXT


def test_one_item_is_no_record():
    for form in (InputFormat.CSV, InputFormat.PARQUET):
        with pytest.raises(Problem, match="needs a file"):
            payload(b"a,b", form, "json")
