import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DataManager, DictDataset, RandomSamplerWithReplacement
from delira_nca.data_loading.readers.splits_file import write_splits
from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError, UnknownNameError
from delira_nca.experiment import folds
from delira_nca.experiment.experiment import Experiment
from delira_nca.experiment.folds import FoldPlan, FoldResult, KFoldResult, load_predictions, save_predictions
from delira_nca.io import load_checkpoint
from delira_nca.losses import mse
from delira_nca.models import AbstractPyTorchNetwork, BasicNCAModel
from delira_nca.training.callbacks import AbstractCallback

LABELS = np.array([0] * 12 + [1] * 6 + [2] * 6)[np.random.default_rng(0).permutation(24)]
ARRAYS = {
    "data": np.random.default_rng(1).random((24, 1, 4, 4)).astype(np.float32),
    "label": np.ones((24, 1, 4, 4), np.float32),
    "number": np.arange(24),
    "grade": LABELS,
    "patient": np.repeat(["a", "b", "c", "d", "e", "f"], 4),
}
PARTS = ("train", "val", "test")


def make_data(num_samples=24):
    return DictDataset({name: array[:num_samples] for name, array in ARRAYS.items()})


class Seen(AbstractCallback):
    """Writes down which samples each fold trains on and validates on, and what its optimizer trains."""

    folds: dict = {}

    def __deepcopy__(self, memo):
        return Seen()

    def at_training_begin(self, trainer, **event):
        start = [p.detach().clone() for p in trainer.network.parameters()]
        owned = [p for group in trainer.optimizers["default"].param_groups for p in group["params"]]
        is_own = all(a is b for a, b in zip(owned, trainer.network.parameters(), strict=True))
        self.seen = {True: set(), False: set(), "start": start, "is_own": is_own, "trainer": trainer}
        Seen.folds[trainer.fold] = self.seen

    def at_iter_end(self, trainer, *, data_dict, train, **event):
        self.seen[train] |= set(data_dict["number"].tolist())


class Here:
    """A launcher that does as another process would: plain tasks in, outcomes out."""

    def __init__(self, fails=()):
        self.fails, self.tasks = fails, []

    def run(self, function, tasks, retries=1):
        outcomes = []
        for task in tasks:
            task = json.loads(json.dumps(task))
            self.tasks.append(task)
            failed = OSError("no room") if task["fold"] in self.fails else None
            value = None if failed else function(**task)
            outcomes.append(type("Outcome", (), {"value": value, "error": failed}))
        return outcomes


@pytest.fixture
def make(tmp_path):
    def make(name="t", epochs=1, **kwargs):
        model = {"num_image_channels": 1, "num_hidden_channels": 2, "num_output_channels": 1, "hidden_size": 4}
        training = {"criterions": {"mse": mse}, "optimizer_params": {"lr": 0.05}, "num_epochs": epochs, "batch_size": 4}
        values = {"model": {**model, "training_timesteps": 2, "inference_timesteps": 2}, "training": training}
        return Experiment(values, BasicNCAModel, name, tmp_path, "mse", checkpoint_freq=1, **kwargs)

    return make


@pytest.mark.parametrize("kind", ["random", "stratified", "grouped"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sample_is_tested_once_and_no_part_leaks_into_another(kind, shuffle):
    plan = FoldPlan(3, shuffle, 7, kind, 0.3, "grade", "patient" if kind == "grouped" else None)
    splits = plan.splits(make_data())
    assert sorted(n for split in splits for n in split["test"]) == list(range(24))
    for split in splits:
        train, val, test = (set(split[part]) for part in PARTS)
        assert not train & val
        assert not train & test
        assert not val & test
        assert train | val | test == set(range(24))
        assert train
        assert val
        if kind == "grouped":
            patients = [set(ARRAYS["patient"][split[part]]) for part in PARTS]
            assert sum(map(len, patients)) == len(set.union(*patients)) == 6
        if kind == "stratified":
            assert all(set(LABELS[split[part]]) == {0, 1, 2} for part in PARTS)


def test_splits_are_plain_and_a_function_of_their_seed():
    data = make_data()
    splits = FoldPlan(3, random_seed=1).splits(data)
    assert json.loads(json.dumps(splits)) == splits
    assert splits == FoldPlan(3, random_seed=1).splits(data)
    assert splits != FoldPlan(3, random_seed=2).splits(data)
    assert FoldPlan(3, val_split=None).splits(data)[0]["val"] == []
    assert FoldPlan(3, shuffle=False, random_seed=5).splits(data)[0]["test"] == list(range(8))
    subset = data.get_subset(np.arange(12, 24))
    for split in FoldPlan(3, split_type="grouped", group_key="patient", val_split=1).splits(subset):
        assert sorted(n for part in PARTS for n in split[part]) == list(range(12))


def test_folds_of_a_file_are_those_of_the_file(tmp_path):
    folds = [(range(4, 24), range(4)), (range(12), range(12, 24))]
    path = write_splits(tmp_path / "splits_final.json", make_data(), folds)
    splits = FoldPlan(splits_file=path, val_split=0.25).splits(make_data())
    assert [split["test"] for split in splits] == [list(range(4)), list(range(12, 24))]
    assert sorted(splits[0]["train"] + splits[0]["val"]) == list(range(4, 24))
    assert [len(split["val"]) for split in splits] == [5, 3]


def test_a_fold_trains_validates_and_tests_on_its_own_rows_and_begins_with_the_same_weights(make):
    experiment = make(callbacks=[Seen()])
    Seen.folds = {}
    arrays = {name: array for name, array in ARRAYS.items() if array.dtype.kind != "U"}
    result = experiment.kfold(arrays, {"mse": mse}, num_splits=3)
    splits = json.loads((result.folder / "kfold.json").read_text())["splits"]
    for fold, split in enumerate(splits):
        seen = Seen.folds[fold]
        assert seen[True] == set(split["train"])
        assert seen[False] == set(split["val"])
        assert result.folds[fold].indices == tuple(split["test"])
        assert seen["is_own"]
        assert all(torch.equal(a, b) for a, b in zip(seen["start"], Seen.folds[0]["start"], strict=True))
    assert len({id(seen["trainer"].network) for seen in Seen.folds.values()}) == 3
    assert len({id(seen["trainer"].optimizers["default"]) for seen in Seen.folds.values()}) == 3
    final = [
        load_checkpoint(f.folder / "checkpoints" / "checkpoint_epoch_1.safetensors")["network"] for f in result.folds
    ]
    assert not all(torch.equal(value, final[1][name]) for name, value in final[0].items())


def test_the_result_holds_what_was_predicted_and_measured(make):
    experiment = make()
    grouped = {"split_type": "grouped", "group_key": "patient"}
    result = experiment.kfold(make_data(), {"mse": mse}, num_splits=3, val_split=1, **grouped)
    for number, fold in enumerate(result.folds):
        assert fold.fold == number
        assert fold.predictions.shape == (8, 1, 4, 4)
        errors = ((fold.predictions - ARRAYS["label"][list(fold.indices)]) ** 2).mean((1, 2, 3))
        assert np.allclose(fold.per_sample["mse"], errors, rtol=1e-5)
        assert fold.metrics["mse"] == pytest.approx(errors.mean(), rel=1e-5)
        network = experiment.load_network(fold.folder)
        again = experiment.test(network, make_data().get_subset(fold.indices), {"mse": mse})
        assert np.array_equal(again[0], fold.predictions)
        assert (fold.best_epoch, fold.folder.name) == (1, f"fold_{number}")
    means = [fold.metrics["mse"] for fold in result.folds]
    assert result.metrics == {"mse": tuple(means)}
    assert result.mean["mse"] == pytest.approx(statistics.fmean(means))
    assert result.std["mse"] == pytest.approx(np.std(means, ddof=1))
    assert list(result.per_sample("mse")) == list(range(24))
    assert KFoldResult.load(result.folder) == result
    lines = str(result).splitlines()
    assert lines[0].split() == ["fold", "tested", "best", "epoch", "mse"]
    assert lines[2].split() == ["1", "8", "1", f"{means[1]:.4f}"]
    assert [line.split()[0] for line in lines] == ["fold", "0", "1", "2", "mean", "std"]


def test_a_manager_keeps_its_settings_and_each_held_out_sample_still_comes_once(make):
    def brighter(batch):
        return {**batch, "data": batch["data"] + 100}

    arrays = {name: array for name, array in ARRAYS.items() if array.dtype.kind != "U"}
    with DataManager(arrays, 5, 0, brighter, RandomSamplerWithReplacement, True, num_samples=10) as manager:
        experiment = make(callbacks=[Seen()])
        Seen.folds = {}
        result = experiment.kfold(manager, {"mse": mse}, num_splits=2, test_kwargs={"transforms": None})
        assert sorted(n for fold in result.folds for n in fold.indices) == list(range(24))
        assert [len(fold.predictions) for fold in result.folds] == [12, 12]
        plain = experiment.kfold(arrays, {"mse": mse}, num_splits=2)
        assert plain.mean != result.mean
        assert (manager.batch_size, manager.transforms) == (5, brighter)
        assert manager.n_samples == 24
    with pytest.raises(ConfigError, match="'drop_last' cannot be set for validation and test: each sample comes once"):
        experiment.kfold(arrays, {"mse": mse}, num_splits=2, test_kwargs={"drop_last": True})

    def losing(batch):
        return {name: array[1:] for name, array in batch.items()}

    with pytest.raises(ConfigError, match="fold 0 has 12 samples to test on, but 9 were predicted: the transforms"):
        experiment.kfold(arrays, {"mse": mse}, num_splits=2, test_kwargs={"transforms": losing})


def test_settings_of_training_are_not_those_of_the_test(make):
    calls = {"train": 0, "test": 0}

    def counting(part, batch):
        calls[part] += len(batch["data"])
        return batch

    make().kfold(
        make_data(),
        {"mse": mse},
        num_splits=2,
        val_split=0.5,
        train_kwargs={"transforms": functools.partial(counting, "train"), "batch_size": 3},
        test_kwargs={"transforms": functools.partial(counting, "test")},
    )
    # one batch of the test before the first fold, and one of the validation before the first epoch of each
    assert calls == {"train": 2 * 6, "test": 4 + 2 * (4 + 6 + 12)}


def test_a_launcher_gets_plain_tasks_and_gives_what_this_process_gives(make, tmp_path):
    data = functools.partial(make_data, 12)
    here = make("here").kfold(data, {"mse": mse}, num_splits=3, train_kwargs={"batch_size": 3})
    launcher = Here()
    result = make("there").kfold(data, {"mse": mse}, num_splits=3, train_kwargs={"batch_size": 3}, launcher=launcher)
    assert [sorted(task) for task in launcher.tasks] == [["fold", "folder", "split"]] * 3
    assert result.metrics == here.metrics
    for ours, theirs in zip(here.folds, result.folds, strict=True):
        assert np.array_equal(ours.predictions, theirs.predictions)
        assert ours.per_sample == theirs.per_sample
    np.savez(tmp_path / "data.npz", data=ARRAYS["data"][:8], label=ARRAYS["label"][:8])
    result = make().kfold(tmp_path / "data.npz", {"mse": mse}, num_splits=2, launcher=Here())
    assert json.loads((result.folder / "kfold.json").read_text())["data"] == str(tmp_path / "data.npz")


def test_what_has_no_name_is_refused_with_a_launcher_before_anything_starts(make, tmp_path):
    launcher, plain = Here(), make()
    training = {"criterions": {"own": lambda pred, label: mse(pred, label)}, "num_epochs": 1, "batch_size": 4}
    with_own_loss = Experiment({"training": training}, BasicNCAModel, "t", tmp_path)
    for experiment, changes, message in (
        (plain, {"data": ARRAYS}, "a dict is in the memory of this process, .* by the path of an .npz file"),
        (plain, {"data": make_data()}, "a DictDataset is in the memory of this process"),
        (plain, {"data": lambda: make_data()}, "data is the function .*<lambda>"),
        (plain, {"metrics": {"own": lambda pred, label: 0.0}}, "metrics.own is the function .*<lambda>"),
        (plain, {"train_kwargs": {"transforms": lambda b: b}}, "train_kwargs.transforms is the function"),
        (with_own_loss, {}, "criterions.own is the function"),
    ):
        arguments = {"data": make_data, "metrics": {"mse": mse}, **changes}
        with pytest.raises(ConfigError, match=message):
            experiment.kfold(num_splits=2, launcher=launcher, **arguments)
    assert launcher.tasks == []
    assert not (tmp_path / "t").exists()


def test_a_fold_that_failed_is_named_and_the_others_are_kept(make):
    experiment = make()
    with pytest.raises(DeliraNCAError, match=r"1 of 3 folds failed; kfold\(..., resume=.*\) continues:\n  fold 1: "):
        experiment.kfold(make_data, {"mse": mse}, num_splits=3, launcher=Here(fails=[1]))
    folder = experiment.folder / "kfold"
    with pytest.raises(MissingFileError, match="fold_1 is not done"):
        KFoldResult.load(folder)
    kept = (folder / "fold_0" / "result.json").stat().st_mtime_ns
    result = experiment.kfold(make_data, {"mse": mse}, num_splits=3, resume=folder)
    assert len(result.folds) == 3
    assert (folder / "fold_0" / "result.json").stat().st_mtime_ns == kept


def test_auto_goes_on_only_with_the_same_settings_splits_and_epochs(make):
    experiment = make()

    def folder(**changes):
        return experiment.kfold(make_data, {"mse": mse}, **{"num_splits": 2, "resume": "auto", **changes}).folder.name

    assert [folder(), folder(), folder(random_seed=1), folder(num_epochs=2), folder()] == [
        "kfold",
        "kfold",
        "kfold-2",
        "kfold-3",
        "kfold",
    ]
    assert folder(resume="never") == "kfold-4"
    with pytest.raises(ConfigError, match="kfold is another one: epochs is 5 here and was 1"):
        folder(num_epochs=5, resume=experiment.folder / "kfold")
    with pytest.raises(ConfigError, match="no cross-validation to resume in .*nowhere"):
        folder(resume=experiment.folder / "nowhere")


def test_what_cannot_be_divided_is_refused_before_anything_starts(make, tmp_path):
    experiment = make()
    cases = [
        ({"split_type": "stratifed"}, UnknownNameError, "unknown split_type 'stratifed'. .* Did you mean 'stratified'"),
        ({"split_type": "grouped"}, ConfigError, "a grouped split needs group_key"),
        ({"group_key": "patient"}, ConfigError, "group_key='patient' was given, but a random split"),
        ({"split_type": "stratified", "label_key": "grde"}, UnknownNameError, "'grde'. .* Did you mean 'grade'"),
        ({"num_splits": 25}, ConfigError, "25 folds cannot be made of 24 samples"),
        ({"num_splits": 1}, ConfigError, "num_splits must be a whole number of at least 2"),
        ({"metrics": {"mse": "delira_nca.losses.mze"}}, ConfigError, "Did you mean 'mse'"),
        ({"num_epochs": 0}, ConfigError, "num_epochs must be a whole number"),
        ({"data": iter([])}, ConfigError, "needs at least one sample"),
        ({"train_kwargs": {"batchsize": 3}}, UnknownNameError, "'batchsize'. .* Did you mean 'batch_size'"),
    ]
    for changes, error, message in cases:
        with pytest.raises(error, match=message):
            experiment.kfold(**{"data": make_data(), "metrics": {"mse": mse}, **changes})
    assert not (tmp_path / "t").exists()


def test_a_stratified_plan_with_groups_keeps_them_together_and_a_file_that_divides_them_is_refused(tmp_path):
    patients = np.repeat(np.arange(24), 2)
    data = DictDataset({"x": np.arange(48), "label": patients % 2, "patient": patients})
    for split in FoldPlan(3, split_type="stratified", group_key="patient", val_split=0.25).splits(data):
        of_part = [set(patients[numbers]) for numbers in split.values()]
        assert [len(part) for part in of_part] == [12, 4, 8]
        assert not set.intersection(*of_part)
        assert all(np.mean(patients[numbers] % 2) == 0.5 for numbers in split.values())
    data = DictDataset({"x": np.arange(4), "name": list("abcd"), "patient": [0, 0, 1, 1]})
    (tmp_path / "s.json").write_text('[{"train": ["a", "b"], "val": ["c"]}, {"train": ["a", "c"], "val": ["b"]}]')
    plan = {"split_type": "grouped", "group_key": "patient", "val_split": None, "splits_file": tmp_path / "s.json"}
    with pytest.raises(ConfigError, match="fold 1 trains on and is tested on the same groups: 0"):
        FoldPlan(**plan).splits(data)


def test_results_are_read_also_of_version_0_1_and_with_predictions_of_different_shapes(tmp_path):
    samples = [np.ones((1, side, side), np.float32) for side in range(2, 14)]
    save_predictions(samples, tmp_path / "p.npz")
    assert [p.shape for p in load_predictions(tmp_path / "p.npz")] == [s.shape for s in samples]
    save_predictions(np.zeros((3, 1)), tmp_path / "p.npz")
    assert load_predictions(tmp_path / "p.npz").shape == (3, 1)
    content = {"fold": 1, "indices": [4, 7], "metrics": {"mse": 0.5}, "per_sample": {"mse": [0.25, 0.75]}}
    (tmp_path / "result.json").write_text(json.dumps({**content, "best_epoch": 3, "best_score": 0.1}))
    fold = folds.FoldResult.load(tmp_path)
    assert (fold.fold, fold.indices, fold.metrics) == (1, (4, 7), {"mse": 0.5})
    assert (fold.per_sample, fold.best_epoch) == ({"mse": (0.25, 0.75)}, 3)


def test_a_sample_that_was_tested_twice_has_no_single_value(tmp_path):
    fold = FoldResult(0, tmp_path, (1, 2), {"mse": 0.5}, {"mse": (0.4, 0.6)}, None, None)
    once = KFoldResult(tmp_path, (fold,))
    assert once.per_sample("mse") == {1: 0.4, 2: 0.6}
    assert np.isnan(once.std["mse"])
    assert "-" in str(once).splitlines()[1].split()
    with pytest.raises(ConfigError, match="tested in several folds"):
        KFoldResult(tmp_path, (fold, fold)).per_sample("mse")


SCRIPT = """
import sys
import numpy as np
from delira_nca.experiment.experiment import Experiment
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel

def experiment(folder):
    model = dict(num_image_channels=1, num_hidden_channels=2, num_output_channels=1, hidden_size=4,
                 training_timesteps=(2, 4), inference_timesteps=2)
    training = dict(criterions={"mse": mse}, optimizer_params={"lr": 0.05}, num_epochs=12, batch_size=4)
    return Experiment({"model": model, "training": training}, BasicNCAModel, "t", folder, "mse")

def run(folder, resume):
    rng = np.random.default_rng(1)
    data = {"data": rng.random((12, 1, 4, 4), dtype=np.float32), "label": np.ones((12, 1, 4, 4), np.float32)}
    return experiment(folder).kfold(data, {"mse": mse}, num_splits=2, resume=resume)

if __name__ == "__main__":
    run(sys.argv[1], "never")
"""


@pytest.mark.slow
def test_a_cross_validation_that_was_killed_ends_as_if_it_had_not_been(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    # the back ends other than native are reproducible only for one number of threads
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, tmp_path / "script.py", tmp_path / "killed"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    wanted = tmp_path / "killed" / "t" / "kfold" / "fold_1" / "checkpoints" / "checkpoint_epoch_3.safetensors"
    deadline = time.monotonic() + 90
    while not wanted.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error
    assert not (wanted.parent.parent / "result.json").exists()
    script = {"__name__": "script"}
    exec(SCRIPT, script)
    resumed = script["run"](tmp_path / "killed", "auto")
    straight = script["run"](tmp_path / "straight", "never")
    assert resumed.folder == tmp_path / "killed" / "t" / "kfold"
    assert resumed.metrics == straight.metrics
    for ours, theirs in zip(resumed.folds, straight.folds, strict=True):
        assert np.array_equal(ours.predictions, theirs.predictions)
        assert ours.per_sample == theirs.per_sample
        states = [load_checkpoint(f.folder / "checkpoints" / "checkpoint_epoch_12.safetensors") for f in (ours, theirs)]
        assert all(torch.equal(value, states[1]["network"][name]) for name, value in states[0]["network"].items())
        assert (ours.folder / "metrics.jsonl").read_bytes() == (theirs.folder / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_folds_run_in_processes_of_their_own(make):
    launchers = pytest.importorskip("delira_nca.experiment.launchers")
    from delira_nca.data_loading import sources

    data = functools.partial(sources.open, "discs", num_samples=8, shape=(8, 8))
    here = make("here").kfold(data, {"mse": mse}, num_splits=2)
    there = make("there").kfold(data, {"mse": mse}, num_splits=2, launcher=launchers.ProcessPoolLauncher(1))
    assert there.metrics == here.metrics
    assert folds.run_fold.__module__ == "delira_nca.experiment.folds"


OF_AN_INTERACTIVE_SESSION = """
import numpy as np
from delira_nca.experiment import Experiment, ProcessPoolLauncher
from delira_nca.models import BasicNCAModel

class Net(BasicNCAModel):
    pass

images = np.zeros((6, 1, 8, 8), np.float32)
np.savez("d.npz", data=images, label=images)
model = dict(num_image_channels=1, num_hidden_channels=2, num_output_channels=1, hidden_size=4, training_timesteps=2)
training = {"criterions": {"mse": "delira_nca.losses.mse"}, "num_epochs": 1, "batch_size": 4}
experiment = Experiment({"model": model, "training": training}, Net, "e")
experiment.kfold("d.npz", {"m": "delira_nca.losses.mse"}, num_splits=2, launcher=ProcessPoolLauncher(1))
"""


@pytest.mark.slow
def test_classes_of_python_c_are_refused_before_a_folder_is_made(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", OF_AN_INTERACTIVE_SESSION], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert "ConfigError: the cross-validation cannot be sent to other processes: 'Net' is defined in" in done.stderr
    assert not (tmp_path / "runs").exists()


class Twice(AbstractPyTorchNetwork):
    """A network with two outputs in a list."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images):
        found = self.layer(images)
        return [found, found * 2]


def error_of_the_first(pred, label):
    return ((pred[0] - label) ** 2).mean()


def test_metrics_on_a_list_of_outputs_do_not_depend_on_the_batch_size(tmp_path):
    images = np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)
    data = {"data": images, "label": images[::-1].copy()}
    training = {"criterions": {"m": error_of_the_first}, "num_epochs": 1, "batch_size": 2}
    experiment = Experiment({"model": {}, "training": training}, Twice, "twice", tmp_path)
    network = experiment.run(data, data)
    values = [
        experiment.test(network, data, {"m": error_of_the_first}, test_kwargs={"batch_size": size})[1]["m"]
        for size in (1, 2, 6)
    ]
    assert values == pytest.approx([experiment.last_run.history[-1]["val_m"]] * 3, rel=1e-5)
    # names of delira
    assert experiment.params is experiment.config
    assert experiment.save() == tmp_path / "twice" / "experiment.json"
