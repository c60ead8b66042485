"""Sinks that write text files, and what lies beside them."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.logging import CSVSink, JSONLSink, MetricSink, TensorboardXSink, read_csv, read_jsonl

TEXT_SINKS = [(JSONLSink, read_jsonl), (CSVSink, read_csv)]


@pytest.fixture(params=TEXT_SINKS, ids=["jsonl", "csv"])
def sink_and_read(request, tmp_path):
    sink_cls, read = request.param
    sink = sink_cls(tmp_path / "run" / "metrics.txt")
    yield sink, read
    sink.close()


@pytest.fixture
def jsonl(tmp_path):
    sink = JSONLSink(tmp_path / "metrics.jsonl")
    yield sink
    sink.close()


@pytest.fixture
def table(tmp_path):
    sink = CSVSink(tmp_path / "metrics.csv")
    yield sink
    sink.close()


@pytest.mark.parametrize("sink_cls", [JSONLSink, CSVSink, TensorboardXSink])
def test_every_sink_follows_the_protocol_and_opens_nothing_before_it_writes(sink_cls, tmp_path):
    sink = sink_cls(tmp_path / "run" / "metrics")
    assert isinstance(sink, MetricSink)
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_records_come_back_while_the_file_is_open(sink_and_read):
    sink, read = sink_and_read
    sink.scalars({"loss": 0.1, "dice": np.float32(0.5)}, step=1)
    sink.scalars({"loss": torch.tensor([1 / 3], dtype=torch.float64, requires_grad=True), "cells": 7}, step=np.int64(2))
    sink.scalars({"a": math.nan, "b": math.inf, "c": -math.inf}, step=3)
    *finite, last = read(sink.path)
    assert finite == [{"step": 1, "loss": 0.1, "dice": 0.5}, {"step": 2, "loss": 1 / 3, "cells": 7.0}]
    assert math.isnan(last["a"])
    assert (last["b"], last["c"]) == (math.inf, -math.inf)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda sink: pickle.loads(pickle.dumps(sink))])
def test_a_copy_of_an_open_sink_appends_to_the_same_file(sink_and_read, clone):
    sink, read = sink_and_read
    sink.scalars({"loss": 1.0}, step=1)
    other = clone(sink)
    other.scalars({"loss": 2.0}, step=2)
    other.close()
    sink.scalars({"loss": 3.0}, step=3)
    assert [record["loss"] for record in read(sink.path)] == [1.0, 2.0, 3.0]


def test_truncate_forgets_later_steps_and_writing_goes_on(sink_and_read):
    sink, read = sink_and_read
    for step in (1, 2, 3, 4):
        sink.scalars({"loss": float(step)}, step)
        sink.images("val/worst", np.zeros((2, 2, 3), np.uint8), step)
    sink.config({"lr": 0.1})
    sink.truncate(2)
    sink.scalars({"loss": 30.0}, step=3)
    assert read(sink.path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 30.0}]
    folder = sink.path.parent
    assert sorted(path.name for path in folder.rglob("*.png")) == ["00000001.png", "00000002.png"]
    sink.truncate(-1)
    assert read(sink.path) == []
    assert (folder / "metrics.config.json").exists()
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("name", "value", "step", "message"),
    [
        ("loss", "much", 1, "'loss' is not one number but 'much'"),
        ("loss", None, 1, "None"),
        ("loss", np.zeros((2, 3)), 1, r"ndarray of shape \(2, 3\)"),
        ("step", 1.0, 1, "recorded under a name"),
        ("", 1.0, 1, "recorded under a name"),
        (3, 1.0, 1, "recorded under a name"),
        ("loss", 1.0, -1, "a step is"),
        ("loss", 1.0, 1.5, "a step is"),
        ("loss", 1.0, "1", "a step is"),
    ],
)
def test_values_names_and_steps_that_cannot_be_are_told_and_nothing_is_written(
    sink_and_read, name, value, step, message
):
    sink, _ = sink_and_read
    sink.truncate(5)  # without a file, this does nothing
    with pytest.raises(ConfigError, match=message):
        sink.scalars({"dice": 1.0, name: value}, step=step)
    assert not sink.path.parent.exists()


def test_pictures_and_config_lie_beside_the_file(sink_and_read, tmp_path):
    sink, _ = sink_and_read
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    sink.images("val/worst", torch.from_numpy(picture), step=7)
    sink.images("../../out", picture, step=7)
    sink.config({"lr": 0.1, "device": torch.device("cpu")})
    with Image.open(tmp_path / "run" / "metrics.images" / "val" / "worst" / "00000007.png") as image:
        assert np.array_equal(np.asarray(image), picture)
    assert json.loads((tmp_path / "run" / "metrics.config.json").read_text()) == {"lr": 0.1, "device": "cpu"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # no name leads out of the folder
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_a_picture_of_another_shape_or_type_is_refused(sink_and_read):
    sink, _ = sink_and_read
    with pytest.raises(ShapeError, match=r"\(3, 4, 4\)"):
        sink.images("cells", np.zeros((3, 4, 4), np.uint8), step=1)
    with pytest.raises(ConfigError, match="float64"):
        sink.images("cells", np.zeros((4, 4, 3)), step=1)


def test_every_line_is_valid_json(jsonl):
    jsonl.scalars({"loss": math.nan, "rmse": -math.inf}, step=3)

    def refuse(constant):
        raise AssertionError(constant)

    record = json.loads(jsonl.path.read_text(), parse_constant=refuse)
    assert record == {"step": 3, "loss": "NaN", "rmse": "-Infinity"}


@pytest.mark.parametrize("torn", ['\n{"step": 2, "lo', ""], ids=["torn line", "no newline"])
def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_record(jsonl, torn):
    first = '{"step": 1, "loss": 0.5}'
    jsonl.path.write_text(first + torn)
    assert read_jsonl(jsonl.path) == [{"step": 1, "loss": 0.5}]
    jsonl.scalars({"loss": 0.25}, step=2)
    assert jsonl.path.read_text() == first + '\n{"step": 2, "loss": 0.25}\n'
    jsonl.path.write_text(first + torn)
    jsonl.truncate(1)
    assert jsonl.path.read_text() == first + "\n"


def test_a_broken_line_in_the_middle_is_named(jsonl):
    jsonl.path.write_text('{"step": 1}\n[2]\n{"step": 3}\n')
    with pytest.raises(ConfigError, match="line 2"):
        read_jsonl(jsonl.path)
    with pytest.raises(ConfigError, match="line 2"):
        jsonl.truncate(1)


def test_the_header_of_a_table_grows(table):
    table.scalars({"loss": 0.5}, step=1)
    table.scalars({"dice": 0.25, "loss": math.nan, 'odd, "name"': 1.0}, step=2)
    table.scalars({"dice": 0.75}, step=3)
    assert table.path.read_text() == ('step,loss,dice,"odd, ""name"""\n1,0.5,,\n2,nan,0.25,1.0\n3,,0.75,\n')
    again = CSVSink(table.path)
    again.scalars({"lr": 0.1}, step=4)
    again.close()
    assert read_csv(table.path)[3] == {"step": 4, "lr": 0.1}
    assert read_csv(table.path)[2] == {"step": 3, "dice": 0.75}


def test_a_torn_last_row_is_cut_off_even_if_it_looks_whole(table):
    table.path.write_text("step,loss\n1,0.5\n2,0.12")
    assert read_csv(table.path) == [{"step": 1, "loss": 0.5}]
    table.scalars({"loss": 0.125}, step=2)
    assert table.path.read_text() == "step,loss\n1,0.5\n2,0.125\n"


@pytest.mark.parametrize("text", ["name,age\nAda,36\n", "just words"])
def test_the_table_of_somebody_else_is_left_alone(table, text):
    table.path.write_text(text)
    with pytest.raises(ConfigError, match="not a table of a CSVSink"):
        table.scalars({"loss": 1.0}, step=1)
    with pytest.raises(ConfigError, match="not a table of a CSVSink"):
        table.truncate(1)
    assert table.path.read_text() == text


@pytest.mark.parametrize(("sink", "read"), TEXT_SINKS)
def test_records_with_a_byte_order_mark_are_read(tmp_path, sink, read):
    path = tmp_path / "log"
    opened = sink(path)
    opened.scalars({"loss": 0.5}, 1)
    opened.close()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path) == [{"step": 1, "loss": 0.5}]
