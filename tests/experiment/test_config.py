"""Descriptions of runs: filled in, written, read, changed, refused with all their mistakes, and built."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DictDataset, RandomSampler, SequentialSampler
from delira_nca.errors import ConfigError
from delira_nca.experiment.config import DataSection, RunConfig, divide, override, parse_overrides
from delira_nca.losses import RMSE, mse
from delira_nca.models import BasicNCAModel
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import EarlyStopping
from delira_nca.training.pool import half


def test_defaults_are_filled_in(values):
    config = RunConfig.from_dict(values)
    assert config.trainer["optimizer_cls"] == "torch.optim.Adam"
    assert config.data["train"]["init_args"]["picture"] == "dahlia"
    assert config.task["mode"] == "lowest"


def test_a_file_says_it_all(values, tmp_path):
    values |= {"num_epochs": np.int64(3), "trainer": {"lr": np.float32(0.5), "save_seconds": "10m"}}
    config = RunConfig.from_dict(values)
    assert (config.num_epochs, config.trainer["lr"], config.trainer["device"]) == (3, 0.5, "auto")
    config.to_file(tmp_path / "run.yaml")
    again = RunConfig.from_file(tmp_path / "run.yaml")
    assert again == config
    assert again.digest == config.digest
    for ending, text in (("yaml", config.to_yaml()), ("json", json.dumps(config.to_dict()))):
        (tmp_path / f"run.{ending}").write_text(text, encoding="utf-8-sig")
        assert RunConfig.from_file(tmp_path / f"run.{ending}") == config, f"{ending} with a byte order mark"


def test_the_digest_is_that_of_all_but_the_name(values):
    config = RunConfig.from_dict(values)
    assert config.replace({"name": "other"}).digest == config.digest
    digests = {config.replace({name: 5}).digest for name in ("seed", "repetition", "num_epochs", "trainer.lr")}
    assert len(digests | {config.digest}) == 5


def test_the_digest_is_the_same_in_another_process(values, tmp_path):
    config = RunConfig.from_dict(values)
    config.to_file(tmp_path / "run.yaml")
    script = (
        "import sys; from delira_nca.experiment.config import RunConfig; print(RunConfig.from_file(sys.argv[1]).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run.yaml")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == config.digest


def test_classes_and_functions_stand_as_their_path(values):
    values["trainer"] = {"trainer_cls": PyTorchNetworkTrainer, "optimizer_cls": torch.optim.SGD}
    values["task"] = {"criterions": {"mse": mse}}
    config = RunConfig.from_dict(values)
    assert config.trainer["optimizer_cls"] == "torch.optim.SGD"
    assert config.build().task.criterions == {"mse": mse}


def test_objects_are_built_of_their_types(values):
    values["callbacks"] = [
        {"class_path": "delira_nca.training.callbacks.EarlyStopping", "init_args": {"monitor_key": "mse"}}
    ]
    config = RunConfig.from_dict(values)
    before = config.to_yaml()
    parts = config.build()
    assert config.to_yaml() == before
    assert isinstance(parts.model, BasicNCAModel)
    assert isinstance(parts.data.train, DictDataset)
    assert len(parts.data.train) == 6
    assert isinstance(parts.callbacks[0], EarlyStopping)
    assert parts.callbacks[0].monitor_key == "mse"
    assert parts.trainer.trainer_cls is PyTorchNetworkTrainer
    assert parts.data.sampler_cls is RandomSampler


def weights(network):
    return torch.cat([p.flatten() for p in network.parameters()])


def test_weights_depend_on_seed_and_repetition_and_on_nothing_else(values):
    config = RunConfig.from_dict(values)
    torch.manual_seed(1)
    first = weights(config.build().model)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(weights(config.build().model), first)
    assert torch.equal(weights(config.build_model()), first)
    assert torch.equal(torch.get_rng_state(), state)
    for change in ({"seed": 1}, {"repetition": 1}):
        assert not torch.equal(weights(config.replace(change).build_model()), first)


def test_dacapos_names_read_the_sections(values):
    config = RunConfig.from_dict({**values, "start": {"run": "other"}})
    assert config.task_config == config.task
    assert config.architecture_config == config.model
    assert config.trainer_config == config.trainer
    assert config.datasplit_config == config.data
    assert config.start_config.run == "other"


def test_all_mistakes_are_told_at_once(values):
    wrong = {
        **values,
        "name": "a/b",
        "epochs": 3,
        "model": {"class_path": "delira_nca.models.BasicNCAModle"},
        "data": {"train": {"class_path": "os.system", "init_args": {"command": "ls"}}, "val_split": "x"},
        "trainer": {"lr": "fast", "optimizer_cls": "torch.optim.Adm", "lrr": 3},
        "callbacks": [
            {
                "class_path": "delira_nca.training.callbacks.EarlyStopping",
                "init_args": {"patience": "a", "mintor_key": 3},
            }
        ],
        "task": {"criterions": {"m": "delira_nca.losses.msee"}, "mode": "hihgest"},
        "num_iterations": 3,
    }
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_dict(wrong)
    told = str(refused.value)
    assert told.startswith("13 mistakes in the config of a run:\n- ")
    for expected in (
        "a run has no entry 'epochs'",
        "Did you mean 'num_epochs'?",
        "model: module 'delira_nca.models' has no attribute 'BasicNCAModle'. Did you mean 'BasicNCAModel'?",
        "data.train: Importing 'os.system' is not allowed",
        "data.val_split: float is expected, not x",
        "trainer.lr: float is expected, not fast",
        "trainer.optimizer_cls: module 'torch.optim' has no attribute 'Adm'. Did you mean 'Adam'?",
        "trainer has no entry 'lrr'",
        "callbacks.0.patience: int is expected, not a",
        "EarlyStopping takes no argument 'mintor_key'",
        "Did you mean 'monitor_key'?",
        "has no attribute 'msee'. Did you mean 'mse'?",
        "task.mode: ",
        "name is a word",
        "there are both",
    ):
        assert expected in told, expected


def test_mistakes_deep_inside_have_their_place(values):
    alive = {"class_path": "delira_nca.models.AliveMask", "init_args": {"treshold": 3}}
    arguments = {"hidden_size": "x", "alive": alive}
    values["model"] = {"class_path": "delira_nca.models.BasicNCAModel", "init_args": arguments}
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_dict(values)
    assert "model.hidden_size: int is expected, not x" in str(refused.value)
    assert "model.alive: delira_nca.models.AliveMask takes no argument 'treshold'" in str(refused.value)
    assert "Did you mean 'threshold'?" in str(refused.value)


SEGMENTER = "delira_nca.models.SegmentationNCAModel"
OF_A_SCORE = "says nothing of metric 'psnr'.*task.score is 'psn'.*Did you mean 'psnr'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_epochs": None}, "there is neither"),
        ({"num_epochs": 0}, "num_epochs is at least 1, not 0"),
        ({"num_epochs": None, "num_iterations": 10, "validation_interval": 3}, "multiple of validation_interval=3"),
        ({"num_epochs": None, "num_iterations": 1009}, "=1009 is not a multiple of validation_interval=1000"),
        ({"validation_interval": 0}, "validation_interval is at least 1"),
        ({"seed": -1}, "seed is at least 0"),
        ({"seed": "a"}, "seed: int is expected, not a"),
        ({"name": ""}, "name is a word"),
        ({"name": ".hidden"}, "name is a word"),
        ({"data": {}}, "data.train is missing"),
        ({"data": 3}, "data is a section"),
        ({"callbacks": 3}, "callbacks is a list"),
        ({"callbacks": [{"class_path": "delira_nca.training.callbacks.EarlyStopping"}]}, "required: monitor_key"),
        ({"callbacks": [{"class_path": "delira_nca.training.callbacks.EarlyStopping", "init_args": 3}]}, "callbacks.0"),
        ({"task": {"score": 3}}, r"task\.score: str \| None is expected, not 3"),
        ({"start": {"run": 3}}, r"start\.run: str is expected, not 3"),
        ({"model": {"class_path": "no.such.Thing"}}, "no"),
        ({"model": {"class_path": SEGMENTER, "init_args": {"num_output_channels": 3}}}, "no argument 'num_output_chan"),
        ({"data.group_key": "patient", "data.val_split": 0.2}, "data: group_key='patient' was given, but a random"),
        ({"data.split_type": "groupd", "data.group_key": "p"}, "data: unknown split_type 'groupd'.*mean 'grouped'"),
        ({"task": {"metrics": {"psnr": "delira_nca.losses.psnr"}, "score": "psn"}}, OF_A_SCORE),
        ({"schedules": {"optimizer.lr": {"kind": "linaer"}}}, r"schedules\.optimizer\.lr: .*Did you mean 'linear'"),
        ({"lr": 3}, "Did you mean 'trainer.lr'"),
        ({"learning_rate": 3}, "Did you mean 'trainer.lr'"),
        ({"batchsize": 3}, "Did you mean 'data.batch_size'"),
        ({"epochs": 3}, "Did you mean 'num_epochs'"),
        ({"max_epochs": 3}, "Did you mean 'num_epochs'"),
        ({"optimizer": 3}, "Did you mean 'trainer.optimizer_cls'"),
        ({"trainer.learning_rate": 3}, "Did you mean 'lr'"),
        ({"data.batchsize": 3}, "Did you mean 'batch_size'"),
        ({"data.workers": 3}, "Did you mean 'num_workers'"),
        ({"model": {"class_path": "delira_nca.training.callbacks.EarlyStopping"}}, "EarlyStopping"),
    ],
)
def test_one_mistake_is_told_alone(changes, message, values):
    with pytest.raises(ConfigError, match=message) as refused:
        RunConfig.from_dict(override(values, changes))
    assert "mistakes" not in str(refused.value)


def test_what_is_missing_is_told_with_the_rest():
    expected = ("name is missing", "model is missing", "data is missing", "no entry 'nam'", "at least 1, not 0")
    with pytest.raises(ConfigError, match="^5 mistakes") as refused:
        RunConfig.from_dict({"nam": "x", "num_epochs": 0})
    assert [text for text in expected if text not in str(refused.value)] == []


MINE = """
import pathlib
from delira_nca.data_loading import AbstractDataset

class Evil:
    def __init__(self):
        pathlib.Path("made").touch()

def make() -> AbstractDataset:
    pathlib.Path("made").touch()
    raise OSError("no disk")

def error(pred, label):
    return (pred - label).abs().mean()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Working directory with a module that can be imported."""
    (tmp_path / "mine_here.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_making_a_config_builds_nothing_and_a_class_that_does_not_fit_is_never_built(values, mine):
    with pytest.raises(ConfigError, match=r"mine_here\.Evil"):
        RunConfig.from_dict({**values, "model": {"class_path": "mine_here.Evil"}})
    config = RunConfig.from_dict({**values, "data": {"train": {"class_path": "mine_here.make"}}})
    assert not (mine / "made").exists()
    with pytest.raises(OSError, match="no disk"):
        config.build()


def test_a_module_of_the_working_directory_is_told_how_to_be_found(values, tmp_path, monkeypatch):
    (tmp_path / "mine_beside.py").write_text("")
    monkeypatch.chdir(tmp_path)
    values["data"]["train"] = {"class_path": "mine_beside.images"}
    with pytest.raises(ConfigError, match=r"no module 'mine_beside': mine_beside\.py .* found with PYTHONPATH=\."):
        RunConfig.from_dict(values)


def test_criterions_without_annotations_and_metrics_of_a_set_are_taken(values, mine):
    values["task"] = {
        "criterions": {"error": "mine_here.error"},
        "metrics": {"rmse": {"class_path": "delira_nca.losses.RMSE"}},
        "directions": {"rmse": "lowest"},
    }
    task = RunConfig.from_dict(values).build().task
    assert task.criterions["error"].__module__ == "mine_here"
    assert isinstance(task.metrics["rmse"], RMSE)


def test_a_model_of_a_task_takes_the_arguments_of_every_automaton(values):
    given = {"num_classes": 3, "training_timesteps": [3, 5], "inference_timesteps": 4}
    values["model"] = {"class_path": SEGMENTER, "init_args": given}
    model = RunConfig.from_dict(values).build_model()
    assert (model.training_timesteps, model.inference_timesteps, model.num_output_channels) == ((3, 5), 4, 3)
    values["model"] = {"class_path": "delira_nca.models.GrowingNCAModel", "init_args": {"inference_timesteps": 7}}
    model = RunConfig.from_dict(values).build_model()
    assert (model.inference_timesteps, model.init_kwargs["num_learned_filters"]) == (7, 0)


@pytest.mark.parametrize(("num_iterations", "interval"), [(5000, 1000), (300, 300), (2500, 625)])
def test_iterations_are_validated_about_every_thousand(values, num_iterations, interval):
    config = RunConfig.from_dict({**values, "num_epochs": None, "num_iterations": num_iterations})
    assert config.validation_interval == interval
    assert config.replace({"num_iterations": 4000}).validation_interval == 1000
    assert config.replace({"num_epochs": 3, "num_iterations": None}).validation_interval == 1


def test_numbers_of_numpy_are_plain_numbers(values):
    changes = {"num_epochs": np.int64(2), "seed": np.int32(3), "trainer": {"lr": np.float64(1e-2)}}
    config = RunConfig.from_dict({**values, **changes})
    assert type(config.num_epochs) is type(config.seed) is int
    assert config.digest == RunConfig.from_dict({**values, "num_epochs": 2, "seed": 3, "trainer": {"lr": 1e-2}}).digest
    assert config.replace({"num_epochs": np.int64(4)}).num_epochs == 4


def test_an_argument_that_is_a_name_or_a_function_keeps_its_name(values):
    seed = {"class_path": "delira_nca.models.make_seed", "init_args": {"num_channels": 16, "shape": [8, 8]}}
    pool = {"class_path": "delira_nca.training.SamplePool", "init_args": {"seed": seed, "capacity": 8}}
    update = {"class_path": "delira_nca.training.callbacks.PoolUpdate", "init_args": {"pool": pool, "damage": "mixed"}}
    config = RunConfig.from_dict({**values, "callbacks": [update]})
    assert config.callbacks[0]["init_args"]["damage"] == "mixed"
    assert config.build().callbacks[0].damage == "mixed"
    update["init_args"]["damage"] = "delira_nca.training.pool.half"
    assert RunConfig.from_dict({**values, "callbacks": [update]}).build().callbacks[0].damage is half


def test_schedules_of_a_config_become_a_callback(values, tmp_path):
    values["schedules"] = {"optimizer.lr": {"kind": "linear", "start": 0.1, "stop": 0.0, "steps": 10}}
    RunConfig.from_dict(values).to_file(tmp_path / "config.yaml")
    callback = RunConfig.from_file(tmp_path / "config.yaml").build().callbacks[-1]
    assert callback.schedules["optimizer.lr"](5) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--a.b", "1e-3"], {"a.b": 0.001}),
        (["--a.b=[1, 2]"], {"a.b": [1, 2]}),
        (["--a", "null"], {"a": None}),
        (["--a", "{b: 1}", "--c=d=e"], {"a": {"b": 1}, "c": "d=e"}),
        (["--a", "-3", "--b", "-2.5E+4"], {"a": -3, "b": -25000.0}),
    ],
)
def test_values_of_the_command_line_are_yaml(arguments, found):
    assert parse_overrides(arguments) == found


def test_a_dotted_name_reaches_into_dicts_lists_and_arguments_of_classes():
    values = {"callbacks": [{"class_path": "a.B", "init_args": {"c": 1}}], "trainer": {}}
    changed = override(values, {"callbacks.0.c": 2, "callbacks.0.d.e": 3, "trainer.lr": 0.1})
    assert changed == {
        "callbacks": [{"class_path": "a.B", "init_args": {"c": 2, "d": {"e": 3}}}],
        "trainer": {"lr": 0.1},
    }
    assert values["callbacks"][0]["init_args"] == {"c": 1}


def test_another_class_does_not_get_the_arguments_of_the_first():
    values = {"model": {"class_path": "a.B", "init_args": {"c": 1}}}
    assert override(values, {"model.class_path": "a.C"}) == {"model": {"class_path": "a.C"}}
    assert override(values, {"model.class_path": "a.B"}) == values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr", "3"], "not 'lr'"),
        (["--lr"], "--lr has no value"),
        (["--callbacks.3", "1"], "none of the 1 entries"),
        (["--seed.a", "1"], "what should hold 'a' is 3"),
    ],
)
def test_what_is_no_override_or_leads_nowhere_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        override({"callbacks": [{}], "seed": 3}, parse_overrides(arguments))


LABELS = np.array([0, 1] * 6)
GROUPS = np.repeat(np.arange(4), 3)


@pytest.fixture
def samples():
    return DictDataset({"data": np.arange(12), "label": LABELS, "patient": GROUPS})


def numbers(part):
    return part.column("data").tolist()


def test_every_sample_is_tested_once_and_never_trained_on_in_that_fold(samples):
    tested = []
    for fold in range(3):
        parts = divide(DataSection(samples, num_splits=3, fold=fold, val_split=0.25), None)
        train, valid, test = map(numbers, parts[:3])
        assert sorted([*train, *valid, *test]) == list(range(12))
        assert (len(train), len(valid), len(test)) == (6, 2, 4)
        tested += test
    assert sorted(tested) == list(range(12))


def test_groups_stay_together(samples):
    section = DataSection(samples, num_splits=2, split_type="grouped", group_key="patient", val_split=0.5)
    found = [set(part.column("patient").tolist()) for part in divide(section, None)[:3]]
    assert [len(of) for of in found] == [1, 1, 2]
    assert set.union(*found) == {0, 1, 2, 3}


def test_classes_are_spread_evenly(samples):
    parts = divide(DataSection(samples, num_splits=3, split_type="stratified", val_split=4), None)
    assert [part.column("label").mean() for part in parts[:3]] == [0.5, 0.5, 0.5]


def test_division_does_not_depend_on_the_seed_of_the_run_but_on_its_own(samples):
    first, same, other = (
        numbers(divide(DataSection(samples, num_splits=3, split_seed=seed), None).test) for seed in (1, 1, 2)
    )
    assert first == same != other


def test_iterations_draw_with_replacement_only_where_there_are_too_few_samples(samples):
    assert divide(DataSection(samples), 5).sampler_kwargs == {"num_samples": 5, "replacement": False}
    assert divide(DataSection(samples), 50).sampler_kwargs == {"num_samples": 50, "replacement": True}


@pytest.mark.parametrize(
    ("options", "num_drawn", "message"),
    [
        ({"num_splits": 3, "fold": 3}, None, "from 0 to 2, not 3"),
        ({"num_splits": 3, "test": "any"}, None, "leave data.test out"),
        ({"val_split": 0.2, "valid": "any"}, None, "leave data.valid out"),
        ({"sampler_cls": SequentialSampler}, 4, "SequentialSampler"),
        ({"num_splits": 20}, None, "num_splits=20"),
        ({"num_splits": 3, "group_key": "patient"}, None, "group_key='patient' was given, but a random split"),
        ({"val_split": 0.2, "group_key": "patient"}, None, "group_key='patient' was given, but a random split"),
        ({"group_key": "patient"}, None, "group_key='patient' was given, but a random split"),
    ],
)
def test_what_contradicts_itself_is_refused(samples, options, num_drawn, message):
    with pytest.raises(ConfigError, match=message):
        divide(DataSection(samples, **options), num_drawn)


def test_parts_that_share_a_group_are_refused(samples):
    parts = {"train": samples.get_subset([0, 1, 2, 3]), "valid": samples.get_subset([4, 5])}
    section = DataSection(**parts, split_type="grouped", group_key="patient")
    with pytest.raises(ConfigError, match="data.train and data.valid have samples of the same patient: 1"):
        divide(section, None)
    parts["train"] = samples.get_subset([0, 1, 2])
    apart = DataSection(**parts, split_type="grouped", group_key="patient")
    assert numbers(divide(apart, None).valid) == [4, 5]
