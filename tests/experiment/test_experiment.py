import copy
import dataclasses
import functools
import json
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.data_loading import DataManager, DictDataset, NNUNetDataset, RandomSampler, SequentialSampler
from delira_nca.errors import (
    CallbackError,
    CheckpointError,
    ConfigError,
    DeliraNCAError,
    MissingFileError,
    RunLockedError,
    UnknownKeywordError,
    UnknownNameError,
)
from delira_nca.experiment.experiment import Experiment
from delira_nca.experiment.experiment_settings import (
    as_manager,
    dataset_of,
    describe_data,
    held_out_settings,
    open_data,
)
from delira_nca.experiment.import_paths import decode
from delira_nca.experiment.parameters import Parameters
from delira_nca.experiment.predictor import Predictor, predict_all
from delira_nca.experiment.result import RunResult
from delira_nca.io import RunLock, load_checkpoint
from delira_nca.logging import read_csv, read_jsonl
from delira_nca.losses import dice_score, mse, rmse
from delira_nca.models import BasicNCAModel, presets
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import AbstractCallback, EarlyStopping

ROWS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
DATA = {"data": ROWS, "label": (ROWS @ np.array([[1.0], [2.0], [3.0]], np.float32))}


class Linear(AbstractPyTorchNetwork):
    def __init__(self, num_inputs, bias=True):
        super().__init__(num_inputs=num_inputs, bias=bias)
        self.layer = torch.nn.Linear(num_inputs, 1, bias=bias)

    def forward(self, x):
        return self.layer(x)


class Counting(PyTorchNetworkTrainer):
    def __init__(self, *args, bonus=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.bonus = bonus


class Negative(Predictor):
    def predict_batch(self, batch, number):
        prediction, parts = super().predict_batch(batch, number)
        return -prediction, {**parts, "pred": -prediction}


class EndAfter(AbstractCallback):
    """Ends a training as a crash would, after so many epochs."""

    def __init__(self, epochs):
        self.epochs, self.seen = epochs, 0

    def at_epoch_begin(self, trainer, *, curr_epoch, **event):
        self.seen += 1
        if curr_epoch > self.epochs:
            raise OSError("the machine is gone")


def two_optimizers(network, optimizer_cls, **params):
    return {name: optimizer_cls([p], **params) for name, p in network.named_parameters()}


def config(**training):
    training = {
        "criterions": {"mse": mse},
        "optimizer_params": {"lr": 0.1},
        "num_epochs": 3,
        "batch_size": 4,
        **training,
    }
    return Parameters({"model": {"num_inputs": 3}, "training": training})


@pytest.fixture
def make(tmp_path):
    def make(values=None, model_cls=Linear, name="t", **kwargs):
        return Experiment(config() if values is None else values, model_cls, name, tmp_path, **kwargs)

    return make


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.state_dict().values()])


def test_a_run_leaves_history_scores_and_checkpoints_in_a_folder_of_its_own(make, tmp_path):
    experiment = make(val_score_key="mse")
    network = experiment.run(DATA, DATA)
    run = experiment.last_run
    assert run.network is network
    assert run.folder == tmp_path / "t" / "run"
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    lines = read_jsonl(run.folder / "metrics.jsonl")
    assert [line["val_mse"] for line in lines] == [row["val_mse"] for row in run.history]
    assert read_csv(run.folder / "metrics.csv") == lines
    result = RunResult.load(run.folder)
    assert (result.best_score, result.best_epoch, result.num_epochs) == (run.best_score, run.best_epoch, 3)
    assert run.best_score == min(row["val_mse"] for row in run.history)
    state = load_checkpoint(run.folder / "checkpoints" / "checkpoint_epoch_3.safetensors")
    assert torch.equal(weights(network), torch.cat([t.flatten() for t in state["best_weights"].values()]))
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["versions"]["torch"]
    assert time.strptime(environment["time"][:10], "%Y-%m-%d")


def test_the_same_seed_gives_the_same_run_whatever_was_drawn_before(make):
    torch.manual_seed(1)
    first = weights(make().run(DATA))
    torch.manual_seed(2)
    np.random.seed(3)
    assert torch.equal(first, weights(make().run(DATA)))
    assert not torch.equal(first, weights(make(config(seed=1)).run(DATA)))


def test_setup_makes_network_and_trainer_of_both_kinds_of_parameters(make):
    params = config()
    params["variable.model.bias"] = False
    trainer = make(params, checkpoint_freq=5, metrics={"mae": torch.nn.functional.l1_loss}).setup(fold=2)
    assert trainer.network.init_kwargs == {"num_inputs": 3, "bias": False}
    assert (trainer.fold, trainer.save_freq, trainer.save_path) == (2, 5, None)
    assert trainer.metrics == {"mae": torch.nn.functional.l1_loss}
    assert trainer.optimizers["default"].param_groups[0]["lr"] == 0.1
    other = make(params).setup({"training": {"optimizer_params": {"lr": 0.5}}})
    assert other.optimizers["default"].param_groups[0]["lr"] == 0.5
    assert other.optimizers["default"].param_groups[0]["params"][0] is next(other.network.parameters())


def test_the_classes_of_the_user_are_taken(make):
    experiment = make(trainer_cls=Counting, predictor_cls=Negative, optim_builder=two_optimizers, bonus=7)
    trainer = experiment.setup()
    assert isinstance(trainer, Counting)
    assert trainer.bonus == 7
    assert set(trainer.optimizers) == {"layer.weight", "layer.bias"}
    network = experiment.run(DATA)
    predictions, _ = experiment.test(network, DATA, {})
    assert np.allclose(predictions, -network(torch.from_numpy(DATA["data"])).detach().numpy())


def test_names_stand_for_classes_and_functions(make):
    values = config(
        optimizer_cls="SGD",
        lr_scheduler_cls="torch.optim.lr_scheduler.StepLR",
        lr_scheduler_params={"step_size": 1},
        criterions={"mse": "delira_nca.losses.mse"},
        metrics={"l1": torch.nn.L1Loss, "sum": functools.partial(torch.nn.L1Loss, reduction="sum")},
    )
    trainer = make(values).setup()
    assert isinstance(trainer.optimizers["default"], torch.optim.SGD)
    assert trainer.criterions["mse"] is mse
    assert trainer.metrics["sum"].reduction == "sum"
    with pytest.raises(ConfigError, match="optimizer_cls: torch.optim has no 'Adm'. .* Did you mean 'Adam"):
        make(config(optimizer_cls="Adm")).setup()
    with pytest.raises(ConfigError, match="not a class derived from Optimizer"):
        make(config(optimizer_cls="delira_nca.losses.mse")).setup()


def test_an_automaton_is_made_of_its_preset_and_of_plain_values(make, tmp_path):
    model = presets.growing(training_timesteps=2, inference_timesteps=2)
    values = {"model": model, "training": {"num_epochs": 1, "batch_size": 2}}
    experiment = make(values, BasicNCAModel)
    assert experiment.make_network().num_trainable_parameters() == 8336
    again = Experiment.load(experiment.save(tmp_path / "saved.yaml"))
    assert again.make_network().num_trainable_parameters() == 8336
    plain = {"model": {**model, "perception": model["perception"].to_dict(), "rule": {"hidden_size": 128}}}
    assert make(plain, BasicNCAModel).make_network().num_trainable_parameters() == 8336


def test_nothing_that_was_given_is_changed(make):
    given = {"model": {"num_inputs": 3}, "training": config().to_dict()["fixed"]["training"]}
    before = copy.deepcopy(given)
    stopping = EarlyStopping("mse", patience=1)
    callbacks = [stopping]
    experiment = make(given, callbacks=callbacks)
    own = experiment.config.copy()
    override = {"training": {"optimizer_params": {"lr": 0.01}, "num_epochs": 2}}
    experiment.run(DATA, config=override)
    assert len(experiment.last_run.history) == 2
    assert given == before
    assert override == {"training": {"optimizer_params": {"lr": 0.01}, "num_epochs": 2}}
    assert experiment.config == own
    assert callbacks == [stopping]
    assert stopping.state_dict() == EarlyStopping("mse", patience=1).state_dict()
    experiment.run(DATA)
    assert len(experiment.last_run.history) == 3


def test_a_run_that_was_ended_goes_on_as_if_it_had_not_been_and_the_next_gets_its_own_folder(make):
    def crashing(epochs):
        return make(config(num_epochs=5), name="crashed", val_score_key="mse", callbacks=[EndAfter(epochs)])

    straight = make(config(num_epochs=5), val_score_key="mse", callbacks=[EndAfter(99)])
    expected = weights(straight.run(DATA, DATA))
    experiment = crashing(2)
    with pytest.raises(CallbackError, match="the machine is gone"):
        experiment.run(DATA, DATA)
    folder = experiment.folder / "run"
    assert not (folder / "result.json").exists()
    experiment = crashing(99)
    network = experiment.resume(folder, DATA, DATA)
    assert torch.equal(weights(network), expected)
    assert experiment.last_run.history == straight.last_run.history
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (folder / name).read_bytes() == (straight.last_run.folder / name).read_bytes()
    experiment.run(DATA, DATA)
    assert experiment.last_run.folder.name == "run-2"


def test_auto_goes_on_with_the_newest_run_of_the_same_settings_or_begins(make):
    experiment = make()
    experiment.run(DATA, resume="auto")
    first = experiment.last_run
    experiment.run(DATA, resume="auto")
    assert experiment.last_run.folder == first.folder
    assert experiment.last_run.history == first.history
    experiment.run(DATA, resume="auto", num_epochs=4)
    assert [row["epoch"] for row in experiment.last_run.history] == [1, 2, 3, 4]
    other = make(config(seed=5))
    other.run(DATA, resume="auto")
    assert other.last_run.folder.name == "run-2"
    experiment.run(DATA, resume=first.folder, num_epochs=5)
    assert (experiment.last_run.folder, len(experiment.last_run.history)) == (first.folder, 5)


def test_a_run_of_other_settings_is_not_gone_on_with(make, tmp_path):
    experiment = make()
    experiment.run(DATA)
    folder = experiment.last_run.folder
    with pytest.raises(ConfigError, match="config.fixed.training.optimizer_params.lr is 0.5 here and was 0.1"):
        make(config(optimizer_params={"lr": 0.5})).resume(folder, DATA)
    with pytest.raises(ConfigError, match="trainer_cls.class_path is .*Counting"):
        make(trainer_cls=Counting).resume(folder, DATA)
    make(config(optimizer_params={"lr": 0.5})).resume(folder, DATA, config={"training.optimizer_params.lr": 0.1})
    with pytest.raises(MissingFileError, match="there is no experiment in .*nowhere"):
        experiment.resume(tmp_path / "nowhere", DATA)
    with RunLock(folder / "checkpoints"), pytest.raises(RunLockedError):
        experiment.resume(folder, DATA, num_epochs=9)


def test_what_cannot_work_fails_before_there_is_a_folder(make, tmp_path):
    inputs = {"model": {"inputs": 3}, "training": {"num_epochs": 1, "batch_size": 2}}
    two_seeds = make(metrics={"a": mse}, seed=1).with_config({"training": {"seed": 2}})
    for experiment, error, message in (
        (make(config(savefreq=3)), UnknownKeywordError, "takes no argument 'savefreq'"),
        (make(inputs), ConfigError, "Linear cannot be"),
        (make(config(num_epochs=None)), ConfigError, "how many epochs"),
        (make(config(num_epochs=0)), ConfigError, "num_epochs must be a whole number of at least 1, not 0"),
        (make(config(batch_size=None)), ConfigError, "the batch size is not known: give training.batch_size"),
        (make(config(save_path="x")), ConfigError, "'save_path' cannot be set: each run gets a folder"),
        (make(config(metrics=[mse])), ConfigError, "metrics are functions by name"),
        (two_seeds, ConfigError, "'seed' is both a train"),
    ):
        with pytest.raises(error, match=message):
            experiment.run(DATA)
    with pytest.raises(MissingFileError, match="there are no data at .*nowhere.npz"):
        make().run(tmp_path / "nowhere.npz")
    with pytest.raises(ConfigError, match="data must be a dataset"):
        make().run(3)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"model_cls": 3}, "model_cls is a class derived from Module, not 3"),
        ({"model_cls": dict}, "model_cls is a class derived from Module"),
        ({"trainer_cls": Linear}, "trainer_cls is a class derived from AbstractNetworkTrainer"),
        ({"predictor_cls": Linear}, "predictor_cls is a class derived from Predictor"),
        ({"val_score_mode": "hihgest"}, "unknown score mode 'hihgest'. .* Did you mean 'highest'"),
        ({"optim_builder": 3}, "optim_builder must be callable, not 3"),
        ({"save_freq": 3}, "'save_freq' cannot be set: it is called checkpoint_freq here"),
        ({"num_epochs": 3}, "'num_epochs' belongs into the config"),
        ({"values": 3}, "config is Parameters, a mapping or the path of a file, not a int"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(make, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        make(**kwargs)


def test_data_may_be_a_manager_a_dataset_a_dict_a_path_or_a_function(make, tmp_path):
    np.savez(tmp_path / "data.npz", **DATA)
    kinds = [DATA, DictDataset(DATA), tmp_path / "data.npz", functools.partial(DictDataset, DATA)]
    found = [weights(make().run(data, data)) for data in kinds]
    assert all(torch.equal(one, found[0]) for one in found)
    with DataManager(DATA, 12) as manager:
        experiment = make(config(batch_size=None))
        experiment.run(manager)
        assert manager.batch_size == 12


def test_a_test_is_exact_over_samples(make):
    experiment = make()
    network = experiment.run(DATA)
    with torch.no_grad():
        expected = network(torch.from_numpy(DATA["data"])).numpy()

    def worst(pred, label):
        return (pred - label).abs().max()

    exact = np.abs(expected - DATA["label"])
    for size in (1, 5, 12):
        predictions, metrics = experiment.test(network, DATA, {"worst": worst}, test_kwargs={"batch_size": size})
        assert np.allclose(predictions, expected, atol=1e-6)
        assert metrics["worst"] == pytest.approx(exact.mean(), rel=1e-5)
    rows = experiment.test(network, DATA, {"worst": worst}, per_sample=True)[1]["worst"]
    assert np.allclose(rows, exact[:, 0], rtol=1e-5)
    shuffled = DataManager(DATA, 5, transforms=lambda batch: {**batch, "data": 0 * batch["data"]})
    plain, _ = experiment.test(network, shuffled, {}, test_kwargs={"transforms": None})
    assert np.allclose(plain, expected, atol=1e-6)
    assert shuffled.transforms is not None


def test_calling_it_is_running_it_and_the_best_network_comes_back_also_from_its_folder(make, tmp_path):
    experiment = make(config(optimizer_params={"lr": 3.0}, num_epochs=4), val_score_key="mse")
    network = experiment(DATA, DATA)
    best = experiment.last_run.best_epoch
    assert best < 4
    with torch.no_grad():
        error = mse(network(torch.from_numpy(DATA["data"])), torch.from_numpy(DATA["label"]))
    assert error.item() == pytest.approx(experiment.last_run.history[best - 1]["val_mse"], rel=1e-5)
    folder = experiment.last_run.folder
    again = Experiment.load(folder)
    assert torch.equal(weights(again.load_network(folder)), weights(network))
    assert not torch.equal(weights(again.load_network(folder, best=False)), weights(network))
    assert again.test(folder, DATA, {"mse": mse})[1] == experiment.test(network, DATA, {"mse": mse})[1]
    with pytest.raises(MissingFileError, match="run .*nowhere contains no checkpoint"):
        experiment.load_network(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="does not fit a Linear of this config"):
        experiment.with_config({"model": {"num_inputs": 4}}).load_network(folder)


def test_saving_and_loading_give_the_same_experiment(make, tmp_path):
    experiment = make(
        config(metrics={"mae": torch.nn.functional.l1_loss}),
        val_score_key="mse",
        checkpoint_freq=2,
        trainer_cls=Counting,
        predictor_cls=Negative,
        optim_builder=two_optimizers,
        bonus=3,
        callbacks=[functools.partial(EarlyStopping, "mse", patience=1)],
    )
    for path in (tmp_path / "saved", tmp_path / "e.json", tmp_path / "e.yaml"):
        file = experiment.save(path)
        again = Experiment.load(path)
        assert again.config == experiment.config
        ours, theirs = experiment.settings(), again.settings()
        for name in ("model_cls", "trainer_cls", "predictor_cls", "optim_builder", "checkpoint_freq", "val_score_key"):
            assert ours[name] == theirs[name]
        assert again.trainer_kwargs["bonus"] == 3
        assert b"pickle" not in file.read_bytes()
    assert torch.equal(weights(again.run(DATA)), weights(experiment.run(DATA)))


def test_what_has_no_name_is_not_saved_but_runs_and_is_remarked(make, tmp_path):
    experiment = make(config(criterions={"own": lambda pred, label: mse(pred, label)}))
    with pytest.raises(ConfigError, match=r"config.fixed.training.criterions.own is the function .*<lambda>"):
        experiment.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    experiment.run(DATA)
    folder = experiment.last_run.folder
    with pytest.raises(ConfigError, match="criterions.own was the function .*<lambda>, which no file holds"):
        Experiment.load(folder)
    experiment.resume(folder, DATA, num_epochs=4)
    assert len(experiment.last_run.history) == 4


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("model_cls", {"class_path": "pathlib.Path"}, "pathlib.Path is the class Path, not a class derived from"),
        ("trainer_cls", {"class_path": "torch.nn.Linear"}, "not a class derived from AbstractNetworkTrainer"),
        ("predictor_cls", {"class_path": "torch.nn.Linear"}, "not a class derived from Predictor"),
        ("model_cls", {"class_path": "delira_nca.models.BasicNCAModl"}, "Did you mean 'BasicNCAModel'"),
        ("model_cls", "delira_nca.models.BasicNCAModel", "model_cls was .*, which has no import path"),
        ("optim_builder", {"class_path": "subprocess.Popen"}, "is not a class that a setting names"),
        ("nmae", "x", "takes no argument 'nmae'. .* Did you mean 'name'"),
        ("format_version", 99, "which is newer than this one"),
    ],
)
def test_a_file_that_names_something_else_is_refused(make, tmp_path, entry, value, message):
    path = make().save(tmp_path / "e.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(ConfigError, match=message):
        Experiment.load(path)


def test_a_config_may_be_a_file(make, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "model: {num_inputs: 3}\n"
        "training:\n  criterions: {mse: delira_nca.losses.mse}\n  optimizer_params: {lr: 1e-1}\n"
        "  num_epochs: 3\n  batch_size: 4\n"
    )
    assert torch.equal(weights(make(tmp_path / "c.yaml").run(DATA)), weights(make().run(DATA)))
    (tmp_path / "change.json").write_text('{"training": {"seed": 1}}')
    changed = make().run(DATA, config=tmp_path / "change.json")
    assert torch.equal(weights(changed), weights(make(config(seed=1)).run(DATA)))


def test_it_tells_what_it_is(make):
    assert repr(make()).startswith("Experiment('t', Linear, {'fixed.model.num_inputs': 3")
    trainer = make(checkpoint_seconds="10m").setup(save_path="checkpoints")
    assert "every 10m; kept: the 2 newest, the best" in trainer.describe()


def test_experiments_get_folders_of_their_own_and_a_run_that_fails_before_its_first_iteration_leaves_none(
    make, tmp_path
):
    with pytest.raises(DeliraNCAError, match="the machine is gone"):
        make(callbacks=[EndAfter(0)]).run(DATA)
    assert not list((tmp_path / "t").iterdir())
    for name in ("run", "run-2", "run-3"):
        experiment = make(config(num_epochs=1))
        experiment.run(DATA)
        assert experiment.last_run.folder.name == name


def test_a_run_stays_where_its_experiment_was_made(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(config(num_epochs=np.int64(1)), Linear, "t", "runs")
    monkeypatch.chdir("/")
    experiment.run(DATA)
    assert experiment.last_run.folder == tmp_path / "runs" / "t" / "run"


class Double(AbstractPyTorchNetwork):
    def forward(self, x):
        return 2 * x


def batches(arrays, size):
    length = len(arrays["data"])
    return [{k: v[i : i + size] for k, v in arrays.items()} for i in range(0, length, size)]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "data": rng.normal(size=(7, 1, 4, 4)).astype(np.float32),
        "label": rng.integers(0, 2, (7, 1, 4, 4)),
        "name": np.array(list("abcdefg")),
    }


def worst(pred, label):
    return (2 * pred - label).abs().max()


@pytest.mark.parametrize("size", [1, 3, 7])
def test_metrics_are_those_of_each_sample_however_they_are_batched(arrays, size):
    predictor = Predictor(Double(), {"dice": dice_score, "worst": worst})
    predictions, values, means = predict_all(predictor, batches(arrays, size))
    assert np.array_equal(predictions, 2 * arrays["data"])
    expected = np.abs(4 * arrays["data"] - arrays["label"]).max((1, 2, 3))
    assert np.allclose(values["worst"], expected, rtol=1e-6)
    for row in range(7):
        inside, label = arrays["data"][row] > 0, arrays["label"][row] > 0
        assert values["dice"][row] == pytest.approx(2 * (inside & label).sum() / (inside.sum() + label.sum()))
    assert means == pytest.approx({name: row.mean() for name, row in values.items()})


class Total:
    """A metric of a whole set that cannot be called."""

    def reset(self):
        self.total = 0.0

    __init__ = reset

    def update(self, pred, label):
        self.total += float(pred.sum())

    def compute(self):
        return self.total


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_metric_of_a_set_is_computed_of_all_samples(arrays, size):
    predictor = Predictor(Double(), {"rmse": rmse, "total": Total()})
    _, values, means = predict_all(predictor, batches(arrays, size))
    errors = 2 * arrays["data"] - arrays["label"]
    assert means["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-5)
    assert means["total"] == pytest.approx(2 * arrays["data"].sum(), rel=1e-5)
    assert np.allclose(values["rmse"], np.sqrt((errors**2).mean((1, 2, 3))), rtol=1e-5)


@dataclasses.dataclass
class Two:
    """Outputs of a network."""

    mask: torch.Tensor
    size: torch.Tensor


class Several(Double):
    """Gives its outputs as a dict, a tuple, a list or a dataclass."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        mask, size = 2 * x, x.sum((1, 2, 3))
        return {"dict": {"mask": mask, "size": size}, "tuple": (mask, size), "list": [mask, size]}.get(
            self.kind, Two(mask, size)
        )


@pytest.mark.parametrize("kind", ["dict", "tuple", "list", "dataclass"])
def test_several_outputs_are_predicted_and_measured(arrays, kind):
    mask, size = ("0", "1") if kind in ("tuple", "list") else ("mask", "size")
    keys = {"error": (mask, "label"), "sum": (size,)}
    metrics = {"error": lambda p, q: (p - q).abs().mean(), "sum": lambda s: s.mean()}
    predictions, values, means = predict_all(Predictor(Several(kind), metrics, keys), batches(arrays, 3))
    assert np.allclose(predictions[mask], 2 * arrays["data"])
    assert np.allclose(predictions[size], arrays["data"].sum((1, 2, 3)), atol=1e-5)
    assert np.allclose(values["sum"], predictions[size])
    assert means["error"] == pytest.approx(np.abs(2 * arrays["data"] - arrays["label"]).mean(), rel=1e-5)


def test_metrics_are_wired_by_name(arrays):
    predictor = Predictor(Double(), {"bias": lambda pred, data: (pred - data).mean()}, {"bias": ["pred", "data"]})
    values = predict_all(predictor, batches(arrays, 4))[1]
    assert np.allclose(values["bias"], arrays["data"].mean((1, 2, 3)), atol=1e-6)
    with pytest.raises(UnknownNameError, match="'bias' is wired to 'dat', which is not there"):
        predict_all(Predictor(Double(), {"bias": dice_score}, {"bias": ("pred", "dat")}), batches(arrays, 4))


def test_what_is_random_is_a_function_of_seed_and_batch(arrays, randomise):
    network = randomise(
        BasicNCAModel(num_image_channels=1, num_hidden_channels=2, num_output_channels=1, hidden_size=4)
    )
    network.inference_timesteps = 3

    def predict(seed):
        return predict_all(Predictor(network, seed=seed), batches(arrays, 4))[0]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = predict(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first, predict(0))
    assert not np.array_equal(first, predict(1))


def test_the_network_is_left_as_it_was(arrays):
    network = Double().train()
    modes = []

    class Watching(Predictor):
        def predict_batch(self, batch, number):
            modes.append((self.network.training, torch.is_grad_enabled()))
            return super().predict_batch(batch, number)

    next(Watching(network).predict(batches(arrays, 4)))
    assert modes == [(False, False)]
    list(Watching(network).predict(batches(arrays, 4)))
    assert network.training


def test_predictions_of_different_shapes_are_a_list_of_samples():
    sizes = [{"data": np.ones((2, 1, side, side), np.float32)} for side in (3, 5)]
    predictions, values, means = predict_all(Predictor(Double()), sizes)
    assert means == {}
    assert [p.shape for p in predictions] == [(1, 3, 3)] * 2 + [(1, 5, 5)] * 2
    assert values == {}


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(ConfigError, match="there is nothing to test"):
        predict_all(Predictor(Double()), [])
    with pytest.raises(ConfigError, match="metric 'dice' is called with tensors, but 3 cannot be called"):
        Predictor(Double(), {"dice": 3})


ARRAYS = {"data": np.arange(10.0), "label": np.arange(10)}


def order(manager):
    return [int(n) for batch in manager.get_batchgen() for n in batch["data"]]


def make_nothing():
    return make_nothing


def test_a_folder_in_the_layout_of_nnunet_is_data(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.full((4, 4), 51, np.uint8)).save(tmp_path / "imagesTr" / "ann_0000.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "labelsTr" / "ann.png")
    described = {"channel_names": {"0": "grey"}, "labels": {"background": 0}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    found = open_data(tmp_path)
    assert isinstance(found, NNUNetDataset)
    assert found[0]["name"] == "ann"
    partial = functools.partial(NNUNetDataset, tmp_path, resize=2)
    again = open_data(decode(json.loads(json.dumps(describe_data(partial)))))
    assert again[0]["data"].shape == (1, 2, 2)
    assert describe_data(os.path.relpath(tmp_path)) == str(tmp_path)


def test_what_is_no_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingFileError, match="there are no data at .*: neither an .npz file nor a folder"):
        open_data(tmp_path)
    with pytest.raises(ConfigError, match="returned a function, which is not data"):
        open_data(make_nothing)
    with pytest.raises(ConfigError, match="folds are made of samples, and a list does not say"):
        dataset_of([1, 2])
    (tmp_path / "cut.npz").write_bytes(b"PK")
    np.savez(tmp_path / "objects.npz", data=np.array([None, {}], dtype=object))
    for name in ("cut.npz", "objects.npz"):
        with pytest.raises(MissingFileError, match=f"{name} cannot be read as .npz"):
            open_data(tmp_path / name)
    np.savez(tmp_path / "a.npz", **ARRAYS)
    assert len(open_data("~/a.npz")) == 10
    assert describe_data("~/a.npz") == str(tmp_path / "a.npz")


def test_a_manager_is_made_that_shuffles_for_training_only():
    dataset = DictDataset(ARRAYS)
    subset = dataset.get_subset([1, 2])
    assert [dataset_of(data) for data in (dataset, subset, DataManager(subset, 2))] == [dataset, subset, subset]
    train = as_manager(dataset, 3, 5, train=True)
    assert sorted(order(train)) == list(range(10))
    assert order(train) != list(range(10))
    assert order(train) == order(as_manager(dataset, 4, 5, train=True))
    assert order(as_manager(dataset, 3, 5, train=False)) == list(range(10))
    assert as_manager(dataset, 3, 0, train=False, settings={"batch_size": 5}).batch_size == 5
    with pytest.raises(ConfigError, match="the batch size is not known"):
        as_manager(dataset, None, 0, train=True)


def test_a_manager_of_the_user_is_copied_before_it_is_changed():
    given = DataManager(ARRAYS, 4, sampler_cls=RandomSampler)
    assert as_manager(given, None, 0, train=True) is given
    changed = as_manager(given, None, 0, train=False, settings=held_out_settings({"batch_size": 5}))
    assert order(changed) == list(range(10))
    assert (changed.batch_size, given.batch_size) == (5, 4)
    assert order(given) != list(range(10))

    class Batches:
        def get_batchgen(self, epoch=1):
            return []

    assert isinstance(as_manager(Batches(), None, 0, train=True), Batches)
    with pytest.raises(ConfigError, match=r"a Batches has no settings to change: \['batch_size'\]"):
        as_manager(Batches(), None, 0, train=True, settings={"batch_size": 3})


def test_held_out_samples_come_once_and_in_order():
    assert held_out_settings(None) == {"sampler_cls": SequentialSampler, "sampler_kwargs": {}, "drop_last": False}
    for name in ("sampler_cls", "sampler_kwargs", "drop_last"):
        with pytest.raises(ConfigError, match=f"'{name}' cannot be set for validation and test"):
            held_out_settings({name: None})
