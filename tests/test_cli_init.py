"""``delira-nca init`` writes configs that train, and that explain themselves."""

import re

import numpy as np
import pytest
import yaml
from PIL import Image

from delira_nca.cli import main
from delira_nca.data_loading import sources
from delira_nca.experiment import TEMPLATES, Run, RunConfig, write_template
from delira_nca.experiment.config import override

NEEDS_BRICK = pytest.mark.skipif(not sources.is_here("brick"), reason="scikit-image is not installed")


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_config_is_written_once_with_the_next_command(kind, capsys, tmp_path):
    assert main(["init", kind]) == 0
    assert capsys.readouterr().out == f"{kind}.yaml\nnext: delira-nca train {kind}.yaml\n"
    config = RunConfig.from_file(f"{kind}.yaml")
    config.require_effective()
    assert config.name == kind
    text = (tmp_path / f"{kind}.yaml").read_text()
    (tmp_path / f"{kind}.yaml").write_text(text + "# mine\n")
    assert main(["init", kind]) == 2
    error = capsys.readouterr().err
    assert f"{kind}.yaml' exists" in error
    assert "--out" in error
    assert (tmp_path / f"{kind}.yaml").read_text() == text + "# mine\n"
    assert main(["init", kind, "--out", "configs/my run.yaml"]) == 0
    assert capsys.readouterr().out == "configs/my run.yaml\nnext: delira-nca train 'configs/my run.yaml'\n"
    assert "delira-nca train my run.yaml" in (tmp_path / "configs" / "my run.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clasification"], "unknown kind 'clasification'. Known: 'classification', "),
        (["clasification"], "Did you mean 'classification'?"),
        (["growing", "--out", "growing.json"], ".yaml or .yml, not as 'growing.json'"),
        (["growing", "--out", "dangling.yaml"], "dangling.yaml' exists"),
        (["growing", "--out", "/proc/nope/growing.yaml"], "/proc/nope"),
        (["growing", "--out", ""], "expected a path, got ''"),
    ],
)
def test_wrong_values_are_one_line_and_nothing_is_written(arguments, message, capsys, tmp_path):
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere.yaml")
    assert main(["init", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["dangling.yaml"]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_comments_are_short_and_above_the_entries(kind):
    lines = write_template(kind).read_text().splitlines()
    assert not [line for line in lines if len(line) > 100]
    assert not [line for line in lines if re.search(r"[^\s#].*\s#", line)]
    assert sum(line.lstrip().startswith("#") for line in lines) > 20


def trained(kind, changes):
    """Run of a template with changed values."""
    values = override(yaml.safe_load(write_template(kind).read_text()), {"num_epochs": 1, **changes})
    run = Run.create(RunConfig.from_dict(values))
    run.train()
    return run


def test_a_picture_is_grown():
    small = {f"data.{part}.{name}": n for part in ("train", "valid") for name, n in (("size", 8), ("padding", 2))}
    run = trained(
        "growing",
        {
            **small,
            "data.train.times": 8,
            "model.changes": {"training_timesteps": [2, 4], "inference_timesteps": 4},
            "callbacks.2.pool.seed.shape": [12, 12],
        },
    )
    assert run.validate()["mse"] > 0


def test_images_are_classified():
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 8
    images = (labels[:, None, None, None] * 30 + rng.integers(0, 20, (24, 8, 8, 3))).astype(np.uint8)
    parts = {"train_images": images, "train_labels": labels, "val_images": images[:10], "val_labels": labels[:10]}
    np.savez("bloodmnist.npz", **parts)
    run = trained("classification", {"model.training_timesteps": 3, "model.inference_timesteps": 3})
    assert 0 <= run.validate()["accuracy"] <= 1


def test_images_are_segmented_and_masks_predicted(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        mask = np.zeros((24, 28), np.uint8)
        mask[4 + number : 14 + number, 6:16] = 1
        for name, array in (("images", 60 + 120 * mask + rng.integers(0, 20, mask.shape)), ("masks", mask)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    run = trained("segmentation", {"data.train.num_patches": 8, "data.train.size": [16, 16]})
    assert len(run.config.build().data.valid) == 1
    assert 0 <= run.validate()["dice"] <= 1
    assert (run.folder / "report.html").is_file()
    assert main(["predict", str(run.folder), "images", "--out", "predicted"]) == 0
    assert np.asarray(Image.open("predicted/3.png")).shape == (24, 28)


@NEEDS_BRICK
def test_a_texture_is_generated():
    run = trained(
        "texture",
        {
            "model.changes": {"training_timesteps": [2, 4], "inference_timesteps": 4},
            "data.train.size": 32,
            "data.valid.size": 32,
            "data.train.times": 8,
            "callbacks.2.pool.seed.shape": [32, 32],
        },
    )
    assert run.validate()["texture"] > 0
