"""Trainings described by a Python file: its names are checked, and it trains, previews and resumes."""

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.errors import ConfigError, MissingFileError, ShapeError, UnknownNameError
from delira_nca.experiment.elektronn2 import (
    ExperimentConfig,
    TracingTrainer,
    TracingTrainerRNN,
    Trainer,
    user_input,
)
from delira_nca.visualization.history_tracker import loadhistorytracker

FILE = """
import numpy as np
from torch.nn.functional import binary_cross_entropy_with_logits
from delira_nca.losses import dice_score
from delira_nca.models import BasicNCAModel

_rng = np.random.default_rng(0)
_images = _rng.random((12, 1, 8, 8)).astype("f4")

def helper():
    return 3

def create_model():
    return BasicNCAModel(num_image_channels=1, num_hidden_channels=3, num_output_channels=2, hidden_size=8,
                         training_timesteps=3, inference_timesteps=3)

def loss(pred, label):
    return binary_cross_entropy_with_logits(pred, label)

train_data = {"data": _images, "label": np.concatenate([_images < 0.5, _images >= 0.5], 1).astype("f4")}
valid_data = {name: array[:5] for name, array in train_data.items()} if True else None
criterions = {"bce": loss}
metrics = {"dice": dice_score}
optimiser_params = {"lr": 1e-2}
schedules = {"optimizer.lr": {"dec": 0.5}}
n_steps, history_freq, monitor_batch_size = 8, 4, 4
preview_data, preview_freq = _images[0], 4
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    def run(more="", name="config.py"):
        path = tmp_path / name
        path.write_text(FILE + f"\nsave_path = {str(tmp_path / 'runs')!r}\n" + more)
        return path

    return run


def test_a_config_has_the_values_of_its_file_and_defaults(write, tmp_path):
    config = ExperimentConfig(write())
    assert (config.n_steps, config.batch_size, config.optimiser, config.val_score_mode) == (8, 4, "Adam", "lowest")
    assert not hasattr(config, "helper")
    pairs = {("", "abc"): 3, ("abc", "abc"): 0, ("kitten", "sitting"): 3, ("lr", "rl"): 2, ("n_stps", "n_steps"): 1}
    assert {pair: ExperimentConfig.levenshtein(*pair) for pair in pairs} == pairs
    with pytest.raises(MissingFileError, match=r"there is no file .*nothing\.py"):
        ExperimentConfig(tmp_path / "nothing.py")
    with pytest.raises(MissingFileError, match="host.py"):
        ExperimentConfig(write(), tmp_path / "host.py")


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        ("n_stps = 3", UnknownNameError, "sets 'n_stps', which has no meaning here.*Did you mean 'n_steps'"),
        ("n_steps = 9", ConfigError, "n_steps=9 must be a multiple of history_freq=4"),
        ("n_steps = 0", ConfigError, "n_steps must be a whole number of at least 1, not 0"),
        ("criterions = None", ConfigError, "criterions is missing"),
        ("create_model = None", ConfigError, "a config has a model, or a function create_model"),
        ("metrics = 3", ConfigError, "metrics must be of type Mapping, not int"),
        ("preview_data = None", ConfigError, "preview_data is missing"),
        ("max_runtime = -1", ConfigError, "max_runtime must be a number above 0"),
        ("val_score_mode = 'lowst'", ConfigError, "lowst"),
        ("1 / 0", ConfigError, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_file_is_an_error_before_the_work_starts(more, error, text, write, tmp_path):
    with pytest.raises(error, match=text):
        ExperimentConfig(write(more))
    assert not (tmp_path / "runs").exists()


def test_a_training_leaves_history_previews_and_checkpoints(write, tmp_path):
    (tmp_path / "host.py").write_text("# starts it")
    trainer = Trainer(ExperimentConfig(write(), tmp_path / "host.py"))
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.run()
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    assert trainer.save_path == tmp_path / "runs" / "experiment"
    assert {"config.py", "host.py", "metrics.jsonl", "checkpoints"} <= {p.name for p in trainer.save_path.iterdir()}
    tracker = loadhistorytracker(trainer.save_path / "history")
    assert len(tracker.timeline["loss"]) == 8
    assert tracker.history["steps"].tolist() == [4, 8]
    assert np.isfinite(tracker.history["val_dice"]).all()
    previews = sorted(path.name for path in (trainer.save_path / "previews").iterdir())
    assert previews == ["preview_pred_4_c0.png", "preview_pred_4_c1.png", "preview_pred_8_c0.png",
                        "preview_pred_8_c1.png", "preview_raw.png"]  # fmt: skip
    loss, values = trainer.test_model("valid")
    assert loss == pytest.approx(values["bce"])
    assert set(values) == {"bce", "dice"}
    assert trainer.debug_getcnnbatch()["data"].shape == (4, 1, 8, 8)
    assert (trainer.save_path / "debug_batch.png").is_file()


def test_a_second_training_takes_a_new_folder_and_an_existing_one_is_resumed(write, tmp_path):
    first = Trainer(write())
    first.run()
    assert Trainer(write()).save_path.name == "experiment-2"
    longer = Trainer(ExperimentConfig(write("n_steps = 16"), use_existing_dir=True))
    assert longer.save_path == first.save_path
    longer.run()
    history = loadhistorytracker(longer.save_path / "history")
    assert history.history["steps"].tolist() == [4, 8, 12, 16]
    assert len(history.timeline["loss"]) == 16
    assert (np.diff(history.timeline["time"]) > 0).all()
    straight = Trainer(write("n_steps = 16\nsave_name = 'straight'"))
    straight.run()
    for ours, theirs in zip(longer.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_slices_of_volumes_and_parts_of_training_samples_are_previewed(write):
    trainer = Trainer(write())

    def halves(volume):
        return torch.cat([volume, 1 - volume], 1)

    volume = np.random.default_rng(1).random((1, 6, 7, 9), dtype=np.float32)
    files = trainer.predict_and_write(halves, volume, 12.5, [1], "vol_", z_thick=3)
    assert [file.name for file in files] == [
        f"vol_{name}_z{z}.png" for z in (3, 4, 5) for name in ("raw", "pred_12.5_c1")
    ]
    with Image.open(files[1]) as picture:
        found = np.asarray(picture.convert("L")) / 255
    np.testing.assert_allclose(found, 1 - volume[0, ..., 3], atol=1 / 255)
    with pytest.raises(ConfigError, match="a number from 0 to 1, not 2"):
        trainer.predict_and_write(halves, volume, export_class=2)
    with pytest.raises(ShapeError, match="not \\(6, 7\\)"):
        trainer.predict_and_write(halves, volume[0, ..., 0])
    files = trainer.preview_slice_from_traindata(3, off=(0, 2, 1), sh=(10, 4, 400), export_class=0)
    assert [file.name for file in files] == ["train3_raw.png", "train3_pred_0_c0.png"]
    with Image.open(files[0]) as picture:
        assert picture.size == (7, 4)
    with pytest.raises(ConfigError, match="are not within a sample"):
        trainer.preview_slice_from_traindata(0, off=(0, 8, 0))
    with pytest.raises(ConfigError, match="cube_i must be a whole number from 0 to 11, not 12"):
        trainer.preview_slice_from_traindata(12)


def test_data_sources_are_checked(write):
    trainer = Trainer(write("valid_data = None"))
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        trainer.test_model("trian")
    with pytest.raises(ConfigError, match="has no valid_data"):
        trainer.test_model("valid")


SEQUENCES = """
import numpy as np
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel

_rng = np.random.default_rng(0)

def create_model():
    return BasicNCAModel(num_image_channels=1, num_hidden_channels=3, num_output_channels=0, hidden_size=8,
                         immutable_image_channels=False)

train_data = {"data": _rng.random((6, 1, 5, 5)).astype("f4"), "label": _rng.random((6, 4, 1, 5, 5)).astype("f4")}
criterions = {"mse": mse}
trainer_kwargs = {"steps_per_target": 2, "truncate": 2}
n_steps, history_freq, batch_size = 4, 2, 2
"""


@pytest.mark.parametrize(("cls", "steps"), [(TracingTrainer, 4), (TracingTrainerRNN, 8)])
def test_sequences_are_traced(cls, steps, tmp_path):
    (tmp_path / "config.py").write_text(SEQUENCES + f"save_path = {str(tmp_path / 'runs')!r}\n")
    trainer = cls(tmp_path / "config.py")
    trainer.run()
    assert trainer.trainer.global_iter_num == steps
    batch, frames = trainer.debug_getcnnbatch(extended=True)
    assert [frame.shape for frame in frames] == [(2, 1, 5, 5)] * 4
    with np.load(trainer.save_path / "debug_batch.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["lab"], batch["label"])
        np.testing.assert_array_equal(file["img"], batch["data"])
    assert np.isfinite(trainer.test_model("train")[0])
    file = cls.save_batch([1.0], [2.0], tmp_path / "one", [3.0])
    with np.load(file, allow_pickle=False) as found:
        assert found["lab_img"].tolist() == [3.0]


def test_the_menu_takes_the_trainer_from_the_variables(write, capsys):
    trainer = Trainer(write())
    lines = iter(["status", "preview", "import os", "continue"])
    assert user_input({"x": 3, "trainer": trainer}, ask=lambda: next(lines)) == "continue"
    printed = capsys.readouterr().out
    assert "unknown command 'import'" in printed
    assert "preview_pred_0_c0.png" in printed
    with pytest.raises(ConfigError, match=r"none of the variables is a trainer: \['x'\]"):
        user_input({"x": 3})


def test_a_preview_that_fails_does_not_end_the_training(write, caplog):
    trainer = Trainer(write("preview_data = np.zeros((3, 8, 8), 'f4')"))
    trainer.run()
    assert trainer.trainer.global_iter_num == 8
    assert caplog.text.count("the preview of step") == 2
