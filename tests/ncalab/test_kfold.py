"""Folds: each trains every weight of a model of its own, from the same beginning."""

import itertools
import json

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from delira_nca.errors import ConfigError, MissingFileError, UnknownKeywordError
from delira_nca.ncalab import BasicNCATrainer, KFoldCrossValidationTrainer, SplitDefinition, TrainValRecord


@pytest.fixture
def split(tmp_path):
    names = [str(number) for number in range(6)]
    folds = [{"train": names[:k] + names[k + 2 :], "val": names[k : k + 2]} for k in (0, 2, 4)]
    (tmp_path / "splits.json").write_text(json.dumps(folds))
    return SplitDefinition.read(tmp_path / "splits.json")


@pytest.mark.parametrize("given", ["method", "object"])
def test_every_fold_changes_every_weight_from_an_equal_start(segmenter, discs, split, tmp_path, given):
    nca = segmenter()
    start = {name: value.clone() for name, value in nca.state_dict().items()}
    options = {}
    if given == "object":
        options["optimizer"] = torch.optim.Adam(nca.parameters(), lr=1e-2)
        options["lr_scheduler"] = StepLR(options["optimizer"], 1, 0.5)
    trainer = BasicNCATrainer(nca, tmp_path / "model.pth", max_epochs=2, **options)
    folds = KFoldCrossValidationTrainer(trainer, split)
    histories = folds.train(discs, tmp_path, None, {"train": 2, "val": 2})
    assert len(histories) == 3
    ends = [history.current_model.state_dict() for history in histories]
    for end in ends:
        assert all(not torch.equal(end[name], value) for name, value in start.items())
    for a, b in itertools.combinations(ends, 2):
        assert any(not torch.equal(a[name], b[name]) for name in start)
    for kept in (nca, folds.model_prototype):
        assert all(torch.equal(value, start[name]) for name, value in kept.state_dict().items())
    assert all((tmp_path / f"model_fold0{k}" / "best_model.pth").is_file() for k in range(3))
    if given == "object":
        rates = [fold.optimizer.param_groups[0]["lr"] for fold in folds.trainers]
        assert rates == [pytest.approx(0.25e-2)] * 3
        assert options["optimizer"].param_groups[0]["lr"] == 1e-2


def test_folds_begin_equal_even_where_the_trainer_has_trained_and_are_tested(segmenter, discs, split, tmp_path, loader):
    trainer = BasicNCATrainer(segmenter(), None, max_epochs=1)
    folds = KFoldCrossValidationTrainer(trainer, split)
    first = folds.train(discs, tmp_path, None)
    trainer.train(loader())
    split.dataloader_test = loader(shuffle=False)
    again = folds.train(discs, tmp_path, None)
    assert [history.loss for history in first] == [history.loss for history in again]
    assert all(0 <= history.test_metrics["dice"] <= 1 for history in again)


def test_loaders_of_a_fold_hold_every_sample(discs):
    train, val = TrainValRecord(["0", "1", "2"], ["3", "4", "5"]).dataloaders(discs, "", batch_sizes={"val": 2})
    assert sum(len(x) for x, _ in train) == 3
    assert [len(x) for x, _ in val] == [2, 1]
    with pytest.raises(UnknownKeywordError, match="Did you mean 'val'"):
        TrainValRecord(["0"], ["1"]).dataloaders(discs, "", batch_sizes={"vl": 2})


def test_what_is_no_split_is_refused(tmp_path, segmenter):
    file = tmp_path / "splits.json"
    with pytest.raises(MissingFileError, match="there is no file"):
        SplitDefinition.read(file)
    for text, message in (
        ("{", "is not valid JSON"),
        ("[]", "a list of folds"),
        ('[{"train": ["a"]}]', "fold 0 of .* has the lists 'train' and 'val'"),
        ('[{"train": ["a"], "val": []}]', "'val' of fold 0"),
        ('[{"train": ["a", "b"], "val": ["b"]}]', "'b' is among the training and the validation"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            SplitDefinition.read(file)
    file.write_bytes(b'\xef\xbb\xbf[{"train": ["a"], "val": ["b"]}]')
    assert SplitDefinition.read(file)[0].train == ["a"], "with a byte order mark"
    with pytest.raises(ConfigError, match="at least one fold"):
        KFoldCrossValidationTrainer(BasicNCATrainer(segmenter(), None), SplitDefinition())


@pytest.mark.parametrize(("name", "expected"), [("discs", "discs"), ("discs.pth", "discs"), ("discs.v2", "discs.v2")])
def test_folders_are_named_by_the_whole_name_of_the_model(segmenter, split, tmp_path, name, expected):
    folds = KFoldCrossValidationTrainer(BasicNCATrainer(segmenter(), tmp_path / name), split)
    assert folds.model_name == expected
