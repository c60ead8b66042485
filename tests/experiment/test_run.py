"""Runs of a config: trained, gone on with bit for bit, refused, validated and predicted."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from delira_nca.data_loading import AbstractDataset, DictDataset
from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError
from delira_nca.experiment import Run, RunConfig, RunResult, run_from_config
from delira_nca.io import load_checkpoint
from delira_nca.training.callbacks import LambdaCallback

SEED = {"class_path": "delira_nca.models.make_seed", "init_args": {"num_channels": 16, "shape": [8, 8]}}
SAMPLE_POOL = {"class_path": "delira_nca.training.SamplePool", "init_args": {"seed": SEED, "capacity": 8}}
POOL = {"class_path": "delira_nca.training.callbacks.PoolUpdate", "init_args": {"pool": SAMPLE_POOL}}


def config_of(values):
    values["data"]["test"] = values["data"]["train"]
    return RunConfig.from_dict({**values, "callbacks": [POOL]})


@pytest.fixture
def config(values):
    return config_of(values)


@pytest.fixture(scope="module")
def trained(make_values, tmp_path_factory):
    """Run that is trained, the folder of which no test changes."""
    run = Run.create(config_of(make_values()), tmp_path_factory.mktemp("trained"))
    run.train()
    return run


def state(run):
    return load_checkpoint(run.checkpoint("latest"))


def test_a_run_leaves_config_result_numbers_and_checkpoints(config, trained):
    run, result = trained, RunResult.load(trained.folder)
    assert result.num_epochs == 2
    assert result.best_score == min(e["val_mse"] for e in state(run)["history"])
    assert result.test_scores["mse"] == pytest.approx(result.best_score, rel=1e-5)
    assert json.loads((run.folder / "result.json").read_text())["best_score"] == result.best_score
    assert RunConfig.from_file(run.folder / "config.yaml") == config
    stats = run.stored.training_stats()
    assert [record.iteration for record in stats.iteration_stats] == list(range(6))
    scores = run.stored.validation_scores()
    assert "mse" in scores.criteria
    assert not scores.evaluation_scores.higher_is_better("mse")
    assert (run.folder / "environment.json").is_file()


def test_a_run_that_is_gone_on_with_is_the_run_that_was_never_ended(config, tmp_path, assert_same):
    straight = Run.create(config.replace({"num_epochs": 3}), tmp_path / "a")
    straight.train()
    Run.create(config.replace({"num_epochs": 1}), tmp_path / "b").train()
    extended = Run.create(config.replace({"num_epochs": 3, "data.val_batch_size": 2}), tmp_path / "b", resume="auto")
    extended.train()
    assert_same(state(extended), state(straight))


def test_two_runs_of_one_config_are_equal_and_another_repetition_is_not(config, trained, tmp_path):
    first, second = asdict(RunResult.load(trained.folder)), run_from_config(config, tmp_path / "b")
    other = run_from_config(config.replace({"repetition": 1}), tmp_path / "c")
    assert first["scores"] == second["scores"]
    assert first["scores"] != other["scores"]


def test_a_run_of_another_config_is_never_gone_on_with(config, trained):
    root = trained.folder.parent
    with pytest.raises(ConfigError, match=r"trainer\.lr was 0\.001 and is 0\.1"):
        Run.create(config.replace({"trainer.lr": 0.1}), root, resume="auto")
    with pytest.raises(ConfigError, match="already holds a run"):
        Run.create(config, root)


def test_iterations_make_up_epochs_from_validation_to_validation(config, tmp_path):
    iterations = config.replace({"num_epochs": None, "num_iterations": 8, "validation_interval": 4})
    run = Run.create(iterations, tmp_path)
    assert run.train().num_epochs == 2
    assert state(run)["global_iter_num"] == 8
    assert [entry.iteration for entry in run.stored.validation_scores().scores] == [3, 7]


def test_a_trained_run_validates_and_predicts_its_best_network(trained, tmp_path):
    run, result = trained, RunResult.load(trained.folder)
    assert run.validate()["mse"] == pytest.approx(result.best_score, rel=1e-5)
    assert run.validate("latest")["mse"] == pytest.approx(result.scores["val_mse"], rel=1e-5)
    predicted = np.load(run.predict(tmp_path / "out.npy"))
    assert predicted.shape == (6, 4, 8, 8)
    assert np.array_equal(np.load(run.predict(tmp_path / "out.npz"))["predictions"], predicted)
    with pytest.raises(ConfigError, match=r"written to a \.npy or \.npz file, not to 'out\.png'"):
        run.predict(tmp_path / "out.png")


def targets() -> DictDataset:
    """Samples whose target is not called label."""
    rng = np.random.default_rng(0)
    data = rng.random((5, 16, 8, 8), dtype=np.float32)
    return DictDataset({"data": data, "picture": rng.random((5, 4, 8, 8), dtype=np.float32)})


def test_a_target_of_any_name_is_measured_everywhere(config, tmp_path):
    samples = {"class_path": f"{__name__}.targets"}
    changes = {
        "data": {"train": samples, "valid": samples, "test": samples, "batch_size": 2},
        "task": {
            "criterions": {"mse": "delira_nca.losses.mse"},
            "metrics": {"rmse": "delira_nca.losses.rmse"},
            "metric_keys": {"mse": ["pred", "picture"], "rmse": ["pred", "picture"]},
            "score": "mse",
            "directions": {"rmse": "lowest"},
        },
        "callbacks": [],
    }
    run = Run.create(config.replace(changes), tmp_path)
    result = run.train()
    assert sorted(result.test_scores) == ["loss", "mse", "rmse"]
    assert run.validate()["mse"] == pytest.approx(result.best_score, rel=1e-5)
    assert run.validate()["rmse"] == pytest.approx(run.validate()["mse"] ** 0.5, rel=1e-5)


def test_what_a_run_does_not_have_is_named(config, tmp_path):
    run = Run.create(config.replace({"data.test": None}), tmp_path)
    with pytest.raises(MissingFileError, match="contains no checkpoint yet"):
        run.checkpoint("latest")
    run.train()
    with pytest.raises(ConfigError, match="no samples to test"):
        run.predict(tmp_path / "out.npy")
    with pytest.raises(ConfigError, match="Did you mean 'valid'?"):
        run.validate(part="vaild")
    with pytest.raises(MissingFileError, match=r"checkpoint_best\.safetensors"):
        run.checkpoint("best.pt")
    with pytest.raises(MissingFileError, match=r"config\.yaml is missing"):
        Run.open(tmp_path)


def test_a_start_takes_the_weights_of_another_run(config, trained, tmp_path, assert_same):
    start = {"run": str(trained.folder)}
    second = Run.create(config.replace({"name": "next", "start": start, "trainer.lr": 0.0}), tmp_path)
    second.train()
    assert_same(state(second)["network"], state(trained)["network"])
    assert "flower" in (second.folder / "start.yaml").read_text()


def test_folds_of_one_config_test_every_sample_once(config, tmp_path):
    folds = config.replace({"data.test": None, "data.valid": None, "data.num_splits": 3})
    runs = [Run.create(folds.replace({"name": f"f{n}", "data.fold": n}), tmp_path) for n in range(3)]
    for run in runs:
        run.train()
    shapes = [np.load(run.predict(run.folder / "out.npy", "latest")).shape[0] for run in runs]
    assert shapes == [2, 2, 2]
    assert [state(run)["fold"] for run in runs] == [0, 1, 2]


@pytest.mark.timeout(120)
def test_a_killed_run_is_finished_by_the_same_call(config, tmp_path, assert_same):
    long = config.replace({"trainer.save_iterations": 1})
    long.to_file(tmp_path / "run.yaml")
    script = (
        "import os, signal, sys\n"
        "from delira_nca.experiment import Run, RunConfig\n"
        "from delira_nca.training.callbacks import LambdaCallback\n"
        "def kill(trainer, global_iter_num):\n"
        "    if global_iter_num == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run = Run.create(RunConfig.from_file(sys.argv[1]), sys.argv[2])\n"
        "run.train(callbacks=[LambdaCallback(at_iter_end=kill)])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run.yaml"), str(tmp_path / "killed")]
    assert subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == -signal.SIGKILL
    run_from_config(tmp_path / "run.yaml", tmp_path / "killed")
    run_from_config(tmp_path / "run.yaml", tmp_path / "straight")
    killed, straight = (Run.open(tmp_path / name / "flower") for name in ("killed", "straight"))
    assert_same(state(killed), state(straight))
    ours, theirs = (run.stored.training_stats().iteration_stats for run in (killed, straight))
    assert [(r.iteration, r.loss) for r in ours] == [(r.iteration, r.loss) for r in theirs]


IMAGES = {
    "class_path": "delira_nca.data_loading.PairedFolderDataset",
    "init_args": {"images": "images", "labels": "masks"},
}
CHANNELS = {"num_image_channels": 1, "num_hidden_channels": 3, "hidden_size": 8}
SEGMENTER = {
    "class_path": "delira_nca.models.BinarySegmentationNCAModel",
    "init_args": {**CHANNELS, "training_timesteps": 2, "inference_timesteps": 2},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Folder with images, as the working directory."""
    folder = tmp_path / "project"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for number in range(4):
            np.save(folder / part / f"{number}.npy", np.full((8, 8), number % 2, np.uint8))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def folders(project):
    """Config with relative paths."""
    data = {"train": IMAGES, "val_split": 0.25, "batch_size": 2}
    return RunConfig("cells", SEGMENTER, data, {"score": "loss"}, num_epochs=1)


def test_relative_paths_of_a_run_stay_relative_to_where_it_was_begun(folders, project, tmp_path, monkeypatch):
    run = Run.create(folders, "runs")
    monkeypatch.chdir(tmp_path)
    assert run.train().num_epochs == 1
    assert run.folder == project / "runs" / "cells"
    again = Run.open(project / "runs" / "cells")
    assert again.config.directory == project
    assert len(again.config.build().data.train) == 4
    more = Run.create(folders.replace({"num_epochs": 2}), project / "runs", resume="auto")
    assert more.config.directory == project


class Lazy(AbstractDataset):
    """Samples that are read from a relative path during the training."""

    def __init__(self, path: str = "images/0.npy"):
        self.path = path

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image = np.load(self.path).astype(np.float32)[None]
        return {"data": image, "label": image}


def test_samples_that_are_read_during_a_training_stay_those_of_its_directory(project, tmp_path, monkeypatch):
    np.save("images/0.npy", np.zeros((8, 8)))
    data = {"train": {"class_path": f"{__name__}.Lazy"}, "val_split": 0.5, "batch_size": 2}
    task = {"criterions": {"mse": "delira_nca.losses.mse"}}
    run = Run.create(RunConfig("lazy", SEGMENTER, data, task, num_epochs=1), "runs")
    run.train()
    here = Run.open("runs/lazy").validate()
    (tmp_path / "other" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    np.save("images/0.npy", np.full((8, 8), 5.0))
    assert Run.open(project / "runs" / "lazy").validate() == here


def test_a_file_that_is_missing_is_named_with_the_directory_of_relative_paths(folders, project, tmp_path, monkeypatch):
    Run.create(folders, "runs").train()
    run = Run.open("runs/cells")
    monkeypatch.chdir(tmp_path)
    (project / "images").rename(project / "elsewhere")
    with pytest.raises(MissingFileError, match=f"images.*relative to {project}$"):
        run.validate()
    project.rename(tmp_path / "renamed")
    with pytest.raises(MissingFileError, match=f"images.*relative to {project}, which is not there any more$"):
        Run.open(tmp_path / "renamed" / "runs" / "cells").validate()


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_run_that_fails_before_its_first_iteration_leaves_its_name_free(config, tmp_path, monkeypatch, resume):
    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError):
        Run.create(config.replace({"data.train.init_args.size": -1}), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    with monkeypatch.context() as patch:
        patch.setattr("delira_nca.experiment.run.write_environment", refuse)
        with pytest.raises(OSError, match="No space"):
            Run.create(config, tmp_path)
    assert not (tmp_path / "flower").exists()
    with pytest.raises(ConfigError):
        Run.create(config.replace({"task.score": "loss_of_nothing"}), tmp_path).train()
    assert not (tmp_path / "flower").exists()
    assert Run.create(config, tmp_path, resume=resume).train().num_epochs == 2


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_the_folder_of_a_process_that_was_killed_before_it_trained_is_taken_over(config, tmp_path, resume):
    run = Run.create(config.replace({"trainer.lr": 0.1}), tmp_path)
    environment = run.folder / "environment.json"
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    environment.write_text(json.dumps({**json.loads(environment.read_text()), "pid": process.pid}))
    assert Run.create(config, tmp_path, resume=resume).train().num_epochs == 2
    assert Run.open(run.folder).config == config


def test_a_run_that_has_trained_is_kept_after_an_error(config, tmp_path):
    def fail(trainer, global_iter_num, **event):
        if global_iter_num == 4:
            raise RuntimeError("no more")

    run = Run.create(config, tmp_path)
    with pytest.raises(DeliraNCAError, match="no more"):
        run.train(callbacks=[LambdaCallback(at_iter_end=fail)])
    assert run.checkpoint("latest").is_file()
    with pytest.raises(ConfigError, match="already holds a run"):
        Run.create(config, tmp_path)


def test_ctrl_c_says_how_the_run_is_resumed(config, tmp_path):
    def interrupt(trainer, global_iter_num, **event):
        if global_iter_num == 1:
            os.kill(os.getpid(), signal.SIGINT)

    run = Run.create(config, tmp_path)
    with pytest.raises(KeyboardInterrupt, match=f"'delira-nca resume {run.folder}'"):
        run.train(callbacks=[LambdaCallback(at_iter_end=interrupt)])
    assert run.train().num_epochs == 2
