import numpy as np
import pytest

from delira_nca.data_loading import DictDataset, SequentialSampler
from delira_nca.errors import ConfigError
from delira_nca.experiment.config import DataSection, divide

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
