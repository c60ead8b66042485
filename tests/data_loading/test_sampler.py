import numpy as np
import pytest

from delira_nca.data_loading import (
    AbstractSampler,
    BatchSampler,
    DataManager,
    DictDataset,
    IterableDataset,
    PrevalenceRandomSampler,
    RandomSampler,
    RandomSamplerNoReplacement,
    RandomSamplerWithReplacement,
    SequentialSampler,
    WeightedRandomSampler,
)
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.seeding import generator


def shares(drawn, of):
    drawn = np.asarray(drawn)
    return [float(np.mean(drawn == index)) for index in of]


def test_weights_of_any_sum_are_probabilities():
    drawn = list(WeightedRandomSampler([1, 1, 2], 8000, indices=[10, 20, 30]))
    assert len(drawn) == 8000
    assert all(type(index) is int for index in drawn)
    assert shares(drawn, [10, 20, 30]) == pytest.approx([0.25, 0.25, 0.5], abs=0.02)


def test_number_of_samples_is_free_and_weight_zero_is_never_drawn():
    for num_samples in (None, 1, 2, 7):
        sampler = WeightedRandomSampler([1, 2, 3], num_samples)
        assert len(sampler) == len(list(sampler)) == (num_samples or 3)
    sampler = WeightedRandomSampler([0.0, 1, 0, 9, 1], 3, replacement=False)
    assert all(sorted(sampler) == [1, 3, 4] for _ in range(20))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, -2, 3],), ConfigError, "at least 0; that of sample 1 is -2"),
        (([1, 2, np.nan],), ConfigError, "that of sample 2 is nan"),
        (([np.inf, 1],), ConfigError, "that of sample 0 is inf"),
        (([0, 0],), ConfigError, "all weights are 0"),
        (([],), ShapeError, "non-empty"),
        (([[1, 2]],), ShapeError, "shape"),
        ((["heavy"],), ConfigError, "weights must be numbers"),
        (([1, 2], 0), ConfigError, "num_samples"),
        (([1, 2], True), ConfigError, "num_samples"),
    ],
)
def test_weights_that_cannot_be_drawn_by_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        WeightedRandomSampler(*arguments)
    with pytest.raises(ConfigError, match="num_samples=3 is more than the 2 samples"):
        WeightedRandomSampler([0, 1, 1], replacement=False)
    with pytest.raises(ShapeError, match="2 weights for 3 samples"):
        WeightedRandomSampler([1, 1], indices=[1, 2, 3])


@pytest.mark.parametrize("labels", [[0] * 90 + [1] * 10, ["b"] * 90 + ["a"] * 10, [[None]] * 90 + [["x"]] * 10])
def test_rare_class_is_drawn_as_often_as_the_common_one(labels):
    sampler = PrevalenceRandomSampler(labels, 6000, indices=range(100, 200), generator=generator(1))
    drawn = np.array(list(sampler))
    assert np.mean(drawn >= 190) == pytest.approx(0.5, abs=0.03)
    assert set(drawn) == set(range(100, 200))
    within = np.bincount(drawn[drawn >= 190] - 190) / np.sum(drawn >= 190)
    assert within == pytest.approx(np.full(10, 0.1), abs=0.03)


def test_three_classes_have_a_third_each():
    labels = np.repeat(["a", "b", "c"], [50, 5, 1])
    drawn = labels[list(PrevalenceRandomSampler(labels, 6000))]
    assert shares(drawn, "abc") == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize("kind", ["dict", "iterable", "subset"])
def test_labels_come_from_the_dataset(kind):
    labels = ["common"] * 18 + ["rare"] * 2
    dataset = {
        "dict": DictDataset({"label": labels}),
        "iterable": IterableDataset({"label": label} for label in labels),
        "subset": DictDataset({"label": ["other"] * 5 + labels}).get_subset(range(5, 25)),
    }[kind]
    sampler = PrevalenceRandomSampler.from_dataset(dataset, generator=generator(0), num_samples=3000)
    assert np.mean(np.array(list(sampler)) >= 18) == pytest.approx(0.5, abs=0.04)


def orders(n_process, epochs=(1, 2), **arguments):
    data = {"x": np.arange(40), "label": ["a"] * 36 + ["b"] * 4, "weight": [0.0] * 20 + [2.0] * 20}
    with DataManager(data, 8, n_process, **arguments) as manager:
        return [np.concatenate([b["x"] for b in manager.get_batchgen(epoch=epoch)]).tolist() for epoch in epochs]


SAMPLERS = [
    {"sampler_cls": WeightedRandomSampler, "key": "weight"},
    {"sampler_cls": WeightedRandomSampler, "weights": range(40), "num_samples": 11, "replacement": False},
    {"sampler_cls": PrevalenceRandomSampler, "num_samples": 100},
    {"sampler_cls": PrevalenceRandomSampler, "labels": [0] * 39 + [1]},
    {"sampler_cls": RandomSamplerNoReplacement},
    {"sampler_cls": RandomSamplerWithReplacement, "num_samples": 50},
]


@pytest.mark.parametrize("arguments", SAMPLERS, ids=lambda a: "-".join([a["sampler_cls"].__name__, *list(a)[1:]]))
def test_manager_draws_in_the_same_order_with_any_number_of_workers(arguments):
    np.random.seed(1)
    alone = orders(0, **arguments)
    assert len(alone[0]) == arguments.get("num_samples", 40)
    assert alone[0] != alone[1]
    np.random.seed(2)
    assert orders(2, **arguments) == alone
    assert orders(0, epochs=(2,), **arguments) == alone[1:]


def test_manager_balances_and_weighs():
    prevalent, weighted = orders(0, (1,), **SAMPLERS[2])[0], orders(0, (1,), **SAMPLERS[0])[0]
    assert 35 < sum(x >= 36 for x in prevalent) < 65
    assert min(weighted) >= 20


def test_subset_of_a_manager_has_the_weights_of_its_samples():
    data = {"x": np.arange(6), "weight": [0, 1, 0, 1, 0, 1]}
    manager = DataManager(data, 9, sampler_cls=WeightedRandomSampler, key="weight", num_samples=50)
    assert set(next(iter(manager.get_subset([4, 5, 0, 1]).get_batchgen()))["x"].tolist()) <= {5, 1}
    fixed = DataManager(data, 9, sampler_cls=WeightedRandomSampler, weights=[0, 1, 0, 1, 0, 1])
    with pytest.raises(ShapeError, match="6 weights for 2 samples; .* name that as key"):
        fixed.get_subset([4, 5])


def test_wrong_arguments_of_the_samplers_are_refused_at_once():
    data = {"x": np.arange(4), "label": [0, 1, 1, 1]}
    with pytest.raises(ConfigError, match="needs either weights, or key"):
        DataManager(data, 2, sampler_cls=WeightedRandomSampler)
    with pytest.raises(UnknownNameError, match="'labl'.*Did you mean 'label'"):
        DataManager(data, 2, sampler_cls=PrevalenceRandomSampler, key="labl")
    with pytest.raises(UnknownNameError, match="num_sample"):
        DataManager(data, 2, sampler_cls=PrevalenceRandomSampler, num_sample=3)


def test_batch_sampler_makes_lists_of_any_indices_and_refuses_a_size_below_one():
    for drop_last, expected in ((False, [[5, 6], [7, 8], [9]]), (True, [[5, 6], [7, 8]])):
        sampler = BatchSampler(SequentialSampler([5, 6, 7, 8, 9]), 2, drop_last)
        assert list(sampler) == list(sampler) == expected
        assert len(sampler) == len(expected)
    assert list(BatchSampler([1, 2, 3, 4], 2)) == [[1, 2], [3, 4]]
    for size in (0, 1.5, True):
        with pytest.raises(ConfigError, match="batch_size"):
            BatchSampler([1], size)


def test_sequential_sampler_yields_the_given_indices_of_lists_of_integers():
    assert list(SequentialSampler([5, 6, 7])) == [5, 6, 7]
    assert list(SequentialSampler(np.array([9, 3, 9]))) == [9, 3, 9]
    for indices in ([], [[1, 2]], [0.5], [True]):
        with pytest.raises(ConfigError, match="list of integers"):
            SequentialSampler(indices)


def test_random_sampler_draws_every_index_once_anew_and_as_its_generator_decides():
    drawn = list(RandomSampler(range(100, 150), generator=generator(1)))
    assert sorted(drawn) == list(range(100, 150))
    assert drawn != list(range(100, 150))
    assert all(type(index) is int for index in drawn)
    first, again, other = (list(RandomSampler(range(50), generator=generator(seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    sampler = RandomSampler(range(50))
    assert list(sampler) != list(sampler)


def test_num_samples_are_distinct_without_replacement_and_more_than_there_are_with_it():
    sampler = RandomSampler(range(10, 20), num_samples=4)
    drawn = list(sampler)
    assert len(sampler) == len(drawn) == len(set(drawn)) == 4
    assert set(drawn) <= set(range(10, 20))
    for sampler in (
        RandomSampler([3, 8], replacement=True, num_samples=1000),
        RandomSamplerWithReplacement([3, 8], 1000),
    ):
        drawn = list(sampler)
        assert len(sampler) == len(drawn) == 1000
        assert set(drawn) == {3, 8}
        assert 400 < drawn.count(3) < 600
    assert sorted(RandomSamplerNoReplacement([7, 3, 5])) == [3, 5, 7]
    for wrong, message in (
        (4, "num_samples=4 is more than the 3 indices"),
        (0, "at least 1, not 0"),
        (2.5, "not 2.5"),
    ):
        with pytest.raises(ConfigError, match=message):
            RandomSampler([1, 2, 3], num_samples=wrong)


def test_base_class_cannot_be_used_and_global_generators_stay_untouched(generators_stay_untouched):
    with pytest.raises(TypeError, match="abstract"):
        AbstractSampler([1])
    list(RandomSampler(range(9)))
