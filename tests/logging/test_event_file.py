"""Event files, read back record by record."""

import copy
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from delira_nca.errors import ConfigError, UnwritableError
from delira_nca.logging import TensorboardXSink


def read_file(path):
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12]) == (masked_crc32c(data[:8]),)
        message = data[12 : 12 + length]
        assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked_crc32c(message),)
        events.append(Event.FromString(message))
        data = data[16 + length :]
    return events


def read_shown(folder):
    """Scalars as TensorBoard shows them: files by name; a session that starts at a step purges what is later."""
    shown = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        head, *events = read_file(path)
        assert head.file_version == "brain.Event:2"
        for event in events:
            if event.session_log.status == SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    return shown


@pytest.fixture
def sink(tmp_path):
    sink = TensorboardXSink(tmp_path / "events")
    yield sink
    sink.close()


def test_scalars_have_groups_and_are_on_disk_at_once(sink, tmp_path):
    sink.scalars({"loss": 0.5, "val_loss": 0.25, "lr/rule": 2.0}, step=3)
    assert read_shown(sink.folder) == {("train/loss", 3): 0.5, ("val/loss", 3): 0.25, ("lr/rule", 3): 2.0}
    other = TensorboardXSink(tmp_path, group="fold_2")
    other.scalars({"loss": 0.5}, step=0)
    other.close()
    assert read_shown(tmp_path) == {("fold_2/loss", 0): 0.5}


def test_truncate_purges_later_steps_in_the_next_file(sink):
    for step in (1, 2, 3):
        sink.scalars({"loss": float(step)}, step)
    sink.truncate(2)
    sink.truncate(1)
    sink.truncate(2)  # does not bring step 2 back
    sink.scalars({"loss": 20.0}, step=2)
    assert len(list(sink.folder.iterdir())) == 2
    assert read_shown(sink.folder) == {("train/loss", 1): 1.0, ("train/loss", 2): 20.0}
    sink.close()
    sink.scalars({"loss": 30.0}, step=3)  # purges nothing anew
    assert len(read_shown(sink.folder)) == 3


def test_a_copy_in_the_same_second_writes_a_file_of_its_own(sink):
    sink.scalars({"loss": 1.0}, step=1)
    other = copy.deepcopy(sink)
    other.scalars({"loss": 2.0}, step=2)
    other.close()
    sink.scalars({"loss": 3.0}, step=3)
    assert len(list(sink.folder.iterdir())) == 2
    assert sorted(read_shown(sink.folder).values()) == [1.0, 2.0, 3.0]


def test_pictures_are_kept_without_loss_and_the_config_is_text(sink):
    picture = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    sink.images("val/worst", picture, step=9)
    sink.config({"lr": 0.1, "name": "dahlia"})
    (path,) = sink.folder.iterdir()
    _, of_picture, of_config = read_file(path)
    (value,) = of_picture.summary.value
    assert (value.tag, of_picture.step) == ("val/worst", 9)
    with Image.open(io.BytesIO(value.image.encoded_image_string)) as image:
        assert np.array_equal(np.asarray(image), picture)
    (value,) = of_config.summary.value
    assert value.tag.startswith("config")
    text = value.tensor.string_val[0].decode()
    assert json.loads(text.removeprefix("```json").removesuffix("```")) == {"lr": 0.1, "name": "dahlia"}


def test_non_finite_and_huge_numbers_are_recorded_and_what_is_no_number_is_refused(sink):
    with pytest.raises(ConfigError, match="'loss'"):
        sink.scalars({"loss": [1.0]}, step=1)
    assert not sink.folder.exists()
    sink.scalars({"a": float("nan"), "b": float("inf"), "c": 1e300}, step=1)
    shown = read_shown(sink.folder)
    assert np.isnan(shown["train/a", 1])
    assert shown["train/b", 1] == shown["train/c", 1] == np.inf


def test_a_full_disk_is_an_error_of_the_call(sink):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UnwritableError, match="events"):
            sink.config({"text": "x" * 4000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
