import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.visualization import Preview

SEED = make_seed(16, (8, 8))
TARGET = torch.zeros(4, 8, 8)
TARGET[[0, 3], 2:6, 2:6] = 1.0  # a red square
BATCH = {"data": SEED.unsqueeze(0), "label": TARGET.unsqueeze(0)}


@pytest.fixture
def make_run(randomise):
    def make(*callbacks):
        network = randomise(BasicNCAModel(**presets.growing(training_timesteps=4)), 0.05)
        return PyTorchNetworkTrainer(network, None, callbacks=callbacks)

    return make


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_target_is_drawn_beside_what_grows_and_healing_has_a_row_of_its_own(make_run, tmp_path):
    make_run(Preview(tmp_path / "preview.png", SEED, TARGET, title="square")).train(1, [BATCH])
    pixels = pixels_of(tmp_path / "preview.png")
    assert pixels.shape[1] >= 512
    red = (pixels == (255, 0, 0)).all(-1)
    rows, columns = np.nonzero(red)
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 80
    assert columns.max() < 168
    make_run(Preview(tmp_path / "preview.png", SEED, TARGET, heals=True)).train(1, [BATCH])
    assert len(pixels_of(tmp_path / "preview.png")) > len(pixels) + 160


def test_picture_is_there_before_the_first_epoch_and_renewed(make_run, tmp_path):
    seen = []

    class Watching(Preview):
        def _write(self, *args):
            super()._write(*args)
            seen.append(pixels_of(self.path))

    make_run(Watching(tmp_path / "preview.png", SEED, TARGET, every=0.0, share=1.0)).train(2, [BATCH])
    assert len(seen) == 4  # before the first epoch, after each, and at the end
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])


def test_it_changes_no_bit_of_a_training_and_touches_no_global_generator(make_run, tmp_path, assert_same):
    states = []
    for callbacks in ((), (Preview(tmp_path / "preview.png", SEED, TARGET, heals=True, every=0.0, share=1.0),)):
        torch.manual_seed(3)
        np.random.seed(3)
        run = make_run(*callbacks)
        run.train(3, [BATCH])
        states.append([dict(run.network.state_dict()), torch.get_rng_state(), np.random.rand(), run.network.training])
    assert_same(*states)


def test_a_disk_that_cannot_be_written_does_not_end_a_training(make_run, tmp_path, caplog):
    class Full(Preview):
        def at_training_begin(self, trainer, **event):
            super().at_training_begin(trainer, **event)
            (tmp_path / "file").write_text("not a folder")
            self.path = tmp_path / "file" / "preview.png"

        def at_training_end(self, trainer, **event):
            pass

    run = make_run(Full(tmp_path / "preview.png", SEED, TARGET, every=0.0, share=1.0))
    run.train(1, [BATCH])
    assert len(run.history) == 1
    assert "the preview was not renewed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("preview.jpg", SEED, TARGET, {}), ConfigError, "must be a .png"),
        (("preview.png", SEED, TARGET[:3], {}), ShapeError, r"got \(16, 8, 8\) and \(3, 8, 8\)"),
        (("preview.png", SEED, TARGET[:, 1:], {}), ShapeError, r"target \(4, H, W\)"),
        (("preview.png", SEED, TARGET, {"steps": 0}), ConfigError, "steps must be"),
        (("preview.png", SEED, TARGET, {"every": -1}), ConfigError, "every must be"),
    ],
)
def test_what_cannot_work_is_refused(arguments, error, message):
    *arguments, options = arguments
    with pytest.raises(error, match=message):
        Preview(*arguments, **options)
