"""What a run begins with: the weights of another one, all that was asked for, or an error that tells why not."""

import json
import logging
import re
from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError, UnknownKeywordError, UnknownNameError
from delira_nca.experiment.recorder import StatsRecorder
from delira_nca.experiment.start import StartConfig, load_start
from delira_nca.experiment.stats import Criterion
from delira_nca.experiment.store import RunStore
from delira_nca.io import load_checkpoint, save_checkpoint, save_network
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, MLPRule, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import Checkpoint


class Segmenter(nn.Module):
    """A body and a head, as small as can be."""

    def __init__(self, classes=3, width=4, *, head_bias=True, extra=False):
        super().__init__()
        self.body = nn.Conv2d(1, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, classes, 1, bias=head_bias)
        if extra:
            self.extra = nn.Linear(2, 2)


def filled(network, value):
    """Every tensor its own numbers, the integer ones too."""
    state = network.state_dict()
    for number, tensor in enumerate(state.values()):
        tensor.copy_(value + 10 * number + torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape))
    return network


def copies(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def is_same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def saved(runs):
    """Run "old" with one checkpoint, and its network."""
    network = filled(Segmenter(), 1000)
    RunStore(runs).create("old")
    save_checkpoint(
        {"epoch": 4, "iteration": 0, "global_iter_num": 40, "network": network.state_dict()},
        runs / "old" / "checkpoints" / "checkpoint_epoch_4.safetensors",
    )
    return network


# The networks ---------------------------------------------------------------------------------------------------------


def test_strict_takes_every_tensor_and_says_from_where(saved, runs, caplog):
    network = filled(Segmenter(), 0).eval()
    with caplog.at_level(logging.INFO, "delira_nca"):
        report = load_start(network, StartConfig("old"), runs)
    assert is_same(copies(network), copies(saved))
    assert report.loaded == tuple(saved.state_dict())
    assert (report.missing, report.unexpected, report.mismatched, report.mapped) == ((), (), (), ())
    path = runs / "old" / "checkpoints" / "checkpoint_epoch_4.safetensors"
    assert report.source == f"the weights after epoch 4 in {path}"
    assert str(report) == f"9 tensors taken from the weights after epoch 4 in {path}"
    assert str(report) in caplog.text
    assert not network.training
    with pytest.raises(FrozenInstanceError):
        report.source = "elsewhere"


@pytest.mark.parametrize(
    ("network", "lines"),
    [
        (
            Segmenter(classes=5),
            [
                "  other shape: head.weight (3, 4, 1, 1) there, (5, 4, 1, 1) here",
                "  other shape: head.bias (3,) there, (5,) here",
            ],
        ),
        (Segmenter(head_bias=False), ["  only in the other one: head.bias"]),
        (Segmenter(extra=True), ["  only in this network: extra.weight, extra.bias"]),
    ],
)
def test_strict_refuses_any_difference_and_changes_nothing(saved, runs, network, lines):
    before = copies(network)
    with pytest.raises(CheckpointError, match="this network is another than the weights after epoch 4") as caught:
        load_start(network, StartConfig("old"), runs)
    assert str(caught.value).splitlines()[1:] == lines
    assert is_same(copies(network), before)


def test_shape_takes_what_fits_and_tells_the_rest_but_refuses_to_load_nothing(saved, runs):
    network = filled(Segmenter(classes=5, head_bias=False, extra=True), 0)
    before = copies(network)
    report = load_start(network, StartConfig("old", match="shape"), runs)
    theirs, now = copies(saved), copies(network)
    assert report.loaded == tuple(name for name in theirs if not name.startswith("head"))
    assert report.missing == ("extra.weight", "extra.bias")
    assert report.unexpected == ("head.bias",)
    assert report.mismatched == (("head.weight", (3, 4, 1, 1), (5, 4, 1, 1)),)
    assert all(torch.equal(now[name], (theirs if name in report.loaded else before)[name]) for name in now)
    assert str(report).splitlines()[1:] == [
        "  only in this network: extra.weight, extra.bias",
        "  only in the other one: head.bias",
        "  other shape: head.weight (3, 4, 1, 1) there, (5, 4, 1, 1) here",
    ]
    with pytest.raises(CheckpointError, match="nothing in this network fits the weights") as caught:
        load_start(nn.Linear(2, 3), StartConfig("old", match="shape"), runs)
    assert "only in this network: weight, bias" in str(caught.value)


def test_an_automaton_begins_where_another_one_ended(runs, randomise):
    RunStore(runs).create("old")
    trained = randomise(BasicNCAModel(**presets.growing()))
    save_network(trained, runs / "old" / "trained.pt")
    fresh = BasicNCAModel(**presets.growing())
    load_start(fresh, StartConfig(str(runs / "old" / "trained.pt")), runs)
    assert is_same(copies(fresh), copies(trained))


# The head -------------------------------------------------------------------------------------------------------------


def test_rows_of_the_head_are_copied_by_number_and_the_others_stay(saved, runs):
    network = filled(Segmenter(classes=5), 0)
    before = copies(network)
    report = load_start(network, StartConfig("old", head="head", head_map={0: 2, 3: 0, -1: 0}), runs)
    assert report.mapped == ("head.weight", "head.bias")
    assert "  rows of the head: head.weight, head.bias" in str(report)
    for name in report.mapped:
        now, theirs = network.state_dict()[name], saved.state_dict()[name]
        assert torch.equal(now[[0, 3, 4]], theirs[[2, 0, 0]])
        assert torch.equal(now[[1, 2]], before[name][[1, 2]])
    assert torch.equal(network.body.weight, saved.body.weight)
    same_size = filled(Segmenter(), 0)
    load_start(same_size, StartConfig("old", head="head", head_map={0: 1, 1: 0}), runs)
    assert torch.equal(same_size.head.bias[:2], saved.head.bias[:2].flip(0))
    assert same_size.head.bias[2] == 82.0


def test_rows_of_the_head_are_copied_by_label(saved, runs):
    network = filled(Segmenter(classes=2), 0)
    config = StartConfig(
        "old",
        head=("head.weight", "head.bias"),
        head_map={"tumour": "lesion"},
        labels=("tumour", "vessel"),
        source_labels=("background", "organ", "lesion"),
    )
    load_start(network, config, runs)
    assert config.rows() == {0: 2}
    assert torch.equal(network.head.bias[0], saved.head.bias[2])
    assert network.head.bias[1] == 81.0  # tensor 8, number 1, as it was


def test_other_differences_than_rows_of_the_head_stay_errors(saved, runs):
    network = Segmenter(classes=5, extra=True)
    config = {"head": "head", "head_map": {0: 0}}
    with pytest.raises(CheckpointError, match="only in this network: extra.weight"):
        load_start(network, StartConfig("old", **config), runs)
    assert load_start(network, StartConfig("old", match="shape", **config), runs).missing == (
        "extra.weight",
        "extra.bias",
    )


@pytest.mark.parametrize(
    ("network", "options", "error", "message"),
    [
        (Segmenter(), {"head": "haed"}, UnknownNameError, "no tensor or module 'haed'"),
        (Segmenter(extra=True), {"head": "extra"}, CheckpointError, "have no 'extra.weight' to copy rows of"),
        (Segmenter(), {"head_map": {3: 0}}, ConfigError, "this head has no row 3: head.weight has 3 of them"),
        (Segmenter(), {"head_map": {0: -4}}, ConfigError, "the other head has no row -4: head.weight has 3"),
        (Segmenter(), {"head_map": {2: 0, -1: 1}}, ConfigError, "names row 2 of head.weight twice, as 2 and as -1"),
        (
            Segmenter(width=6),
            {},
            CheckpointError,
            r"rows of head.weight .* shape \(4, 1, 1\) there, .*\(6, 1, 1\) here",
        ),
        (Segmenter(), {"head": "norm.num_batches_tracked"}, CheckpointError, "rows of norm.num_batches_tracked"),
    ],
)
def test_a_head_that_cannot_be_mapped_is_told_and_nothing_is_changed(saved, runs, network, options, error, message):
    before = copies(network)
    config = StartConfig("old", **{"head": "head", "head_map": {0: 0}, "match": "shape", **options})
    with pytest.raises(error, match=message):
        load_start(network, config, runs)
    assert is_same(copies(network), before)


# Where the weights are ------------------------------------------------------------------------------------------------


OF_EPOCH_2 = "checkpoint_epoch_2.safetensors"


def number_of(network):
    return int(network.bias[0])


@pytest.fixture
def trained(runs):
    """Run whose weights say which they are: 10 times the epoch, 5 more where they are the best, 100 by dice."""
    run = RunStore(runs).create("many")
    nets = {n: {"weight": torch.zeros(1, 1), "bias": torch.full((1,), float(n))} for n in (10, 20, 15, 25, 100)}
    for epoch, best in ((1, 15), (2, 15)):
        state = {
            "epoch": epoch,
            "iteration": 0,
            "global_iter_num": 7 * epoch,
            "network": nets[10 * epoch],
            "best_weights": nets[best],
            "best": {"key": "val_mse", "mode": "lowest", "score": 0.25, "epoch": 1},
        }
        save_checkpoint(state, run.checkpoints / f"checkpoint_epoch_{epoch}.safetensors")
    within = {"epoch": 1, "iteration": 3, "global_iter_num": 10, "network": nets[25]}
    save_checkpoint(within, run.checkpoints / "checkpoint_epoch_2_iter_3.safetensors")
    return run


@pytest.mark.parametrize(
    ("checkpoint", "number", "source"),
    [
        ("latest", 20, "the weights after epoch 2 in .*checkpoint_epoch_2.safetensors"),
        ("best", 15, r"the weights of epoch 1 in .*, the best val_mse \(0.25\)"),
        ("best:mse", 15, "the best val_mse"),
        ("best:val_mse", 15, "the best val_mse"),
        (1, 10, "the weights after epoch 1 in .*checkpoint_epoch_1.safetensors"),
        (2, 20, "checkpoint_epoch_2.safetensors"),
        ("iteration:7", 10, "checkpoint_epoch_1.safetensors"),
        ("iteration:10", 25, "the weights after epoch 1, iteration 3 in .*checkpoint_epoch_2_iter_3.safetensors"),
    ],
)
def test_a_checkpoint_of_a_run_is_found(trained, runs, checkpoint, number, source, tmp_path):
    for run in ("many", str(trained.folder), str(trained.checkpoints)):
        network = nn.Linear(1, 1)
        report = load_start(network, StartConfig(run, checkpoint), runs if run == "many" else tmp_path / "none")
        assert number_of(network) == number, run
        assert re.search(source, report.source), run


@pytest.mark.parametrize(("checkpoint", "number"), [("latest", 20), ("best", 15), (2, 20), ("iteration:14", 20)])
def test_one_file_is_a_run_too(trained, runs, checkpoint, number):
    network = nn.Linear(1, 1)
    load_start(network, StartConfig(str(trained.checkpoints / OF_EPOCH_2), checkpoint), runs)
    assert number_of(network) == number


@pytest.mark.parametrize(
    ("run", "checkpoint", "error", "message"),
    [
        ("mani", "latest", MissingFileError, "no run 'mani' in .*runs, .* Known: 'empty', 'many'. Did you mean 'many'"),
        (
            "many",
            5,
            CheckpointError,
            r"no checkpoint after epoch 5 .*: 1 \(checkpoint_epoch_1.safetensors\), 2 \(che",
        ),
        ("many", "iteration:8", CheckpointError, r"no checkpoint after iteration 8 .*: 7 \(.*\), 10 \(.*\), 14 \("),
        ("many", "best:dice", CheckpointError, "no best weights by 'dice'; its epochs were decided by 'val_mse'"),
        ("empty", "latest", CheckpointError, "there is no checkpoint in .*empty"),
        ("empty", "best", CheckpointError, "there is no checkpoint in .*empty"),
        ("empty", 1, CheckpointError, "no checkpoint after epoch 1 in .*After epoch: -"),
        ("empty", "best:dice", CheckpointError, "no best weights by 'dice'; its epochs were decided by none"),
        ("old", "best", CheckpointError, "no score has decided which epoch is the best in .*: take 'latest'"),
        (OF_EPOCH_2, 3, CheckpointError, "not written after 3, but after 2"),
        (OF_EPOCH_2, "iteration:15", CheckpointError, "not written after 'iteration:15', but after 14"),
        (OF_EPOCH_2, "best:dice", ConfigError, "is one checkpoint: take 'latest' or 'best' of it, not 'best:dice'"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(trained, runs, request, run, checkpoint, error, message):
    if run == "old":
        request.getfixturevalue("saved")
    else:
        RunStore(runs).create("empty")
    network = nn.Linear(1, 1)
    before = copies(network)
    with pytest.raises(error, match=message):
        load_start(network, StartConfig(str(trained.checkpoints / run) if run == OF_EPOCH_2 else run, checkpoint), runs)
    assert is_same(copies(network), before)


def test_the_newest_checkpoint_that_is_damaged_is_passed_over_and_a_named_one_is_told(trained, runs):
    path = trained.checkpoints / "checkpoint_epoch_2.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    network = nn.Linear(1, 1)
    load_start(network, StartConfig("many"), runs)
    assert number_of(network) == 25  # three iterations after epoch 1
    with pytest.raises(CheckpointError, match="checkpoint_epoch_2.safetensors is not a readable checkpoint: "):
        load_start(network, StartConfig(str(path)), runs)
    with pytest.raises(CheckpointError, match="no checkpoint after epoch 2"):
        load_start(network, StartConfig("many", 2), runs)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_plain_state_dict_will_do_a_file_without_weights_does_not_and_nothing_in_it_is_executed(tmp_path, capsys):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
    assert load_start(nn.Linear(2, 2), StartConfig("a.pt"), tmp_path).loaded == ("weight", "bias")
    for state in ({"epoch": 1}, {"network": {}}, {"a": torch.ones(1), "b": 3}):
        save_checkpoint(state, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match="a.pt holds no weights"):
            load_start(nn.Linear(1, 1), StartConfig(str(tmp_path / "a.pt")), tmp_path)
    torch.save({"network": {"weight": Evil()}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="a.pt is not a readable checkpoint"):
        load_start(nn.Linear(1, 1), StartConfig("a.pt"), tmp_path)
    assert capsys.readouterr().out == ""


def overlap(pred, label):
    return (pred * label).sum()


@pytest.fixture
def recorded(runs, randomise):
    """Run whose recorder has kept the best weights by each score."""
    run = RunStore(runs).create("recorded")
    network = randomise(BasicNCAModel(**presets.growing(training_timesteps=2, inference_timesteps=2, rule=MLPRule(4))))
    recorder = StatsRecorder(run, criteria=[Criterion("overlap", higher_is_better=False)])
    trainer = PyTorchNetworkTrainer(
        network,
        run.checkpoints,
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 2e-3},
        {"overlap": overlap},
        callbacks=[recorder, Checkpoint(last=1)],
    )
    data = np.random.default_rng(0).random((2, 2, 16, 6, 6), dtype=np.float32)
    batches = [{"data": states, "label": -states[:, :4]} for states in data]
    trainer.train(3, batches, batches[:1], "mse", "lowest")
    return run, trainer


def test_the_best_by_every_recorded_criterion_is_found(recorded, runs):
    run, trainer = recorded
    for criterion in ("mse", "overlap", "loss"):
        network = BasicNCAModel(**presets.growing(rule=MLPRule(4)))
        report = load_start(network, StartConfig("recorded", f"best:{criterion}"), runs)
        best = run.best(criterion)
        assert best.value == min(entry[f"val_{criterion}"] for entry in trainer.history)
        assert f"the best {criterion} ({best.value:.6g})" in report.source
        assert is_same(copies(network), load_checkpoint(best.checkpoint)["network"])


def test_weights_that_were_not_kept_are_told(recorded, runs):
    run, _ = recorded
    for path in run.best_weights.iterdir():
        path.unlink()
    network = BasicNCAModel(**presets.growing(rule=MLPRule(4)))
    with pytest.raises(CheckpointError, match="the weights that were best by 'overlap' were not kept in .*recorded"):
        load_start(network, StartConfig("recorded", "best:overlap"), runs)
    with pytest.raises(CheckpointError, match=r"no best weights by 'dice'; .*Known: 'loss', 'mse', 'overlap'"):
        load_start(network, StartConfig("recorded", "best:dice"), runs)
    load_start(network, StartConfig("recorded", "best:mse"), runs)  # decided in the trainer, which keeps them too


def test_an_optimizer_is_left_alone_and_weights_are_taken_in_the_precision_of_the_network(saved, runs):
    network = Segmenter().double()
    optimizer = torch.optim.Adam(network.parameters())
    network.head(network.norm(network.body(torch.ones(2, 1, 2, 2).double()))).sum().backward()
    optimizer.step()
    before = {n: v["exp_avg"].clone() for n, v in optimizer.state_dict()["state"].items()}
    load_start(network, StartConfig("old"), runs)
    after = {n: v["exp_avg"] for n, v in optimizer.state_dict()["state"].items()}
    assert is_same(before, after)
    assert optimizer.param_groups[0]["params"][0] is network.body.weight
    assert network.head.weight.dtype == torch.float64
    assert torch.equal(network.head.weight.float(), saved.head.weight)


# The description ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        StartConfig("old"),
        StartConfig("old", 3, "shape"),
        StartConfig("old", "best:dice", head="head", head_map={0: 2, -1: 0}),
        StartConfig("old", head=("a", "b"), head_map={"1": "2"}, labels=("1", "0"), source_labels=("0", "2")),
    ],
)
def test_a_description_comes_back_from_a_file(config):
    assert StartConfig.from_dict(config.to_dict()) == config
    assert StartConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert StartConfig(**json.loads(json.dumps(asdict(config)))) == config
    with pytest.raises(FrozenInstanceError):
        config.run = "new"


OF_LABELS = {
    "head": "head",
    "head_map": {"tumour": "a"},
    "labels": ("tumour", "vessel"),
    "source_labels": ("lesion",),
}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"run": ""}, ConfigError, "run is the name or the path of a run, not ''"),
        ({"checkpoint": "lattest"}, UnknownNameError, "unknown checkpoint 'lattest'.*Did you mean 'latest'"),
        ({"checkpoint": "best:"}, UnknownNameError, "unknown checkpoint 'best:'"),
        ({"checkpoint": "iteration:x"}, UnknownNameError, "unknown checkpoint 'iteration:x'"),
        ({"checkpoint": -1}, ConfigError, "checkpoint must be a whole number of at least 0, not -1"),
        ({"checkpoint": True}, ConfigError, "checkpoint is 'latest', 'best', .*, not True"),
        ({"checkpoint": 1.0}, ConfigError, "checkpoint is 'latest'"),
        ({"match": "shapes"}, UnknownNameError, "unknown match 'shapes'.*Did you mean 'shape'"),
        ({"head": "head"}, ConfigError, "say nothing without a head_map"),
        ({"labels": ("a",)}, ConfigError, "say nothing without a head_map"),
        ({"head_map": {}, "head": "head"}, ConfigError, "head_map maps rows"),
        ({"head_map": [(0, 1)], "head": "head"}, ConfigError, "head_map maps rows"),
        ({"head_map": {0: 1}}, ConfigError, "of which tensors the head consists: give head"),
        ({"head_map": {"a": "b"}, "head": "head"}, ConfigError, "numbers of rows, not 'a': for labels, give labels"),
        ({"head_map": {0: True}, "head": "head"}, ConfigError, "numbers of rows, not True"),
        ({"head_map": {"a": "b"}, "head": "head", "labels": ("a",)}, ConfigError, "labels need those of both heads"),
        (
            {**OF_LABELS, "head_map": {"tumor": "lesion"}},
            UnknownNameError,
            "this head 'tumor'.*Did you mean 'tumour'",
        ),
        ({**OF_LABELS, "head_map": {"tumour": "leson"}}, UnknownNameError, "other head 'leson'.*Did you mean 'lesion'"),
        ({**OF_LABELS, "source_labels": ("a", "a")}, ConfigError, "source_labels names one row each, but one is there"),
        ({"checkpiont": 3}, UnknownKeywordError, "checkpiont.*checkpoint"),
        ({"run": None}, ConfigError, "start has no run"),
    ],
)
def test_a_description_that_cannot_work_is_refused(options, error, message):
    given = {name: value for name, value in {"run": "old", **options}.items() if value is not None}
    with pytest.raises(error, match=message):
        StartConfig.from_dict(given)
