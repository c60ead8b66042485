import logging

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.logging import JSONLSink, TensorboardXSink
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, CascadeNCA, make_seed, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import Console, LambdaCallback
from delira_nca.visualization import CasePreview
from delira_nca.visualization.case_preview import _pixels


def make_network(**arguments):
    torch.manual_seed(0)
    settings = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
    return BasicNCAModel(**{**settings, "training_timesteps": 3, "inference_timesteps": 4, **arguments})


def cases(*shape, classes=2):
    source = np.random.default_rng(0)
    data = source.random((2, 1, *shape), dtype=np.float32)
    return {"data": data, "label": (data * classes).astype(np.int64)}


def train(network, preview, batch, epochs=2, **arguments):
    batch = {**batch, "label": batch["label"].astype(np.float32)}
    trainer = PyTorchNetworkTrainer(network, None, {"mse": mse}, callbacks=[preview] if preview else [], **arguments)
    trainer.train(epochs, [batch])
    return trainer


def images(folder):
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.png"))}


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_an_image_is_written_before_the_first_epoch_and_after_every_second(tmp_path):
    batch = cases(8, 8)
    train(make_network(), CasePreview(batch, JSONLSink(tmp_path / "log.jsonl"), every=2), batch, 5)
    found = images(tmp_path)
    assert [name[-5:] for name in found] == ["0.png", "2.png", "4.png"]
    assert len({path.read_bytes() for path in found.values()}) == 3


def test_previews_do_not_change_the_training(tmp_path):
    batch = cases(8, 8)
    ends = []
    for preview in (None, CasePreview(batch, JSONLSink(tmp_path / "log.jsonl"), film=tmp_path)):
        trainer = train(make_network(fire_rate=0.5), preview, batch, 3, seed=1)
        ends.append([p.detach().clone() for p in trainer.network.parameters()])
    assert all(map(torch.equal, *ends))


def test_slices_of_volumes_are_spread_around_the_middle_and_have_rows_of_their_own(tmp_path):
    heights = []
    for number in (1, 3):
        batch = cases(6, 5, 9)
        folder = tmp_path / str(number)
        train(make_network(dims=3), CasePreview(batch, JSONLSink(folder / "l.jsonl"), num_slices=number), batch, 1)
        heights.append(size_of(next(iter(images(folder).values())))[1])
    assert heights[1] - 32 == 3 * (heights[0] - 32)  # without the line of the title
    for depth, number, slices in ((9, 3, [2, 4, 6]), (2, 5, [0, 1])):
        volume = {"data": np.zeros((1, 1, 4, 4, depth), np.float32)}
        assert CasePreview(volume, [], num_slices=number)._slices() == slices


def test_pixels_of_masks_and_images_and_the_classes_below():
    mask = np.array([[[0, 1], [2, 9]]])
    certain = np.stack([mask[0] == number for number in range(9)]).astype(np.float32)
    assert np.array_equal(_pixels(mask, 9)[:, 0], _pixels(certain, 9)[:, 0])
    assert _pixels(mask, 9)[1, 1].tolist() == _pixels(mask, 9)[0, 0].tolist() == [0, 0, 0]  # 9 is ignored
    assert np.array_equal(_pixels(np.array([[[7]]]), 9), _pixels(np.array([[[1]]]), 9))
    assert _pixels(np.array([[[-1.0, 0.0, 3.0]]]))[0, :, 0].tolist() == [0, 64, 255]  # scaled
    assert _pixels(np.array([[[0.0, 0.5]]]))[0, :, 0].tolist() == [0, 128]
    preview = CasePreview({"data": np.zeros((1, 1, 4, 4), np.float32), "label": np.array([3])}, [])
    rows = list(preview._rows(np.eye(5, dtype=np.float32)[2:3], True))
    assert [caption for caption, _ in rows[0]] == ["case 0", "label: 3", "prediction: class 2"]


def test_what_a_growing_automaton_makes_is_drawn_in_its_colours(tmp_path):
    network = BasicNCAModel(**presets.growing(training_timesteps=2))
    seed, target = make_seed(16, (8, 8)).unsqueeze(0), torch.zeros(1, 4, 8, 8)
    target[:, [0, 3]] = 1.0
    batch = {"data": seed.numpy(), "label": target.numpy()}
    train(network, CasePreview(batch, JSONLSink(tmp_path / "log.jsonl"), film=tmp_path / "films"), batch, 1)
    with Image.open(next(iter(images(tmp_path).values()))) as image:
        red = (np.asarray(image) == (255, 0, 0)).all(-1)
    assert red.sum() == 160 * 160
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == ["preview_0000.gif", "preview_0001.gif"]


def test_a_film_has_a_frame_for_each_step_and_tensorboard_gets_the_image(tmp_path):
    batch = cases(8, 8)
    preview = CasePreview(batch, TensorboardXSink(tmp_path / "events"), name="val/fixed", film=tmp_path / "films")
    train(make_network(inference_timesteps=5), preview, batch, 1)
    (path,) = (tmp_path / "films").rglob("*_0000.gif")
    with Image.open(path) as film:
        width, height = film.size
        assert film.n_frames <= 5  # equal frames are merged
        assert width == 2 * height
    assert sum(path.read_bytes().count(b"val/fixed") for path in (tmp_path / "events").iterdir()) == 2


def test_an_error_of_a_later_preview_is_logged_and_the_training_goes_on(tmp_path, caplog):
    class Full(JSONLSink):
        def images(self, name, image, step):
            if step:
                raise OSError("no space left")

    batch = cases(8, 8)
    with caplog.at_level(logging.ERROR, "delira_nca"):
        trainer = train(make_network(), CasePreview(batch, Full(tmp_path / "log.jsonl")), batch, 2)
    assert len(trainer.history) == 2
    assert "the preview of epoch 2 failed" in caplog.text
    assert "no space left" in caplog.text


def test_the_console_draws_cases_and_batches(tmp_path):
    batch = cases(8, 8)
    console, preview = Console("file", folder=tmp_path), CasePreview(batch, JSONLSink(tmp_path / "log.jsonl"))
    replies = []

    def at_iter_done(trainer):
        replies.extend(console.execute(trainer, command) for command in ("preview", "batch"))

    callbacks = [preview, console, LambdaCallback(at_iter_done=at_iter_done)]
    trainer = PyTorchNetworkTrainer(make_network(), None, {"mse": mse}, callbacks=callbacks)
    trainer.train(1, [{**batch, "label": batch["label"].astype(np.float32), "name": ["a", "b"]}])
    assert replies == ["done", str(tmp_path / "batch_1.png")]
    assert any("preview_step" in name for name in images(tmp_path))
    with pytest.raises(ConfigError, match="no batch has been trained on yet"):
        console.execute(trainer, "batch")
    assert size_of(tmp_path / "batch_1.png")[0] > 100
    trainer = train(make_network(), console, batch)
    with pytest.raises(ConfigError, match="this training has no CasePreview"):
        console.execute(trainer, "preview")


def test_invalid_arguments_are_refused(tmp_path):
    for arguments, error, said in (
        ({"cases": {"label": np.zeros(2)}}, UnknownNameError, "data"),
        ({"cases": {"data": np.zeros((2, 8, 8))}}, ShapeError, r"\(2, 8, 8\)"),
        ({"sinks": "runs"}, ConfigError, "'r' is not a sink"),
        ({"every": 0}, ConfigError, "every"),
        ({"activation": "relu"}, UnknownNameError, "relu"),
    ):
        with pytest.raises(error, match=said):
            CasePreview(**{"cases": cases(4, 4), "sinks": [], **arguments})
    network = CascadeNCA(make_network(), [2, 1], [3, 3])
    with pytest.raises(ConfigError, match="film requires a BasicNCAModel, not a CascadeNCA"):
        train(network, CasePreview(cases(8, 8), [], film=tmp_path), cases(8, 8))
