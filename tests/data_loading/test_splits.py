import numpy as np
import pytest

from delira_nca.data_loading import (
    ConcatDataset,
    DictDataset,
    IterableDataset,
    kfold,
    kfold_indices,
    train_val_indices,
    train_val_split,
)
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError

LABELS = np.array([0] * 12 + [1] * 6 + [2] * 6)[np.random.default_rng(0).permutation(24)]
GROUPS = np.repeat(["a", "b", "c", "d", "e", "f"], [1, 7, 4, 4, 4, 4])
OF = {"random": {}, "stratified": {"labels": LABELS}, "grouped": {"groups": GROUPS}}
KINDS = list(OF)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_is_held_out_once_and_never_trained_on_in_that_fold(kind, shuffle):
    folds = kfold_indices(24, 3, split_type=kind, shuffle=shuffle, **OF[kind])
    assert len(folds) == 3
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(24))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(24))
        assert train.dtype == test.dtype == np.int64


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_cross_and_folds_are_balanced(seed):
    folds = kfold_indices(24, 3, split_type="grouped", groups=GROUPS, random_seed=seed)
    for train, test in folds:
        assert not set(GROUPS[train]) & set(GROUPS[test])
    assert sorted(len(test) for _, test in folds) == [8, 8, 8]
    train, val = train_val_indices(24, 0.3, split_type="grouped", groups=GROUPS, random_seed=seed)
    assert not set(GROUPS[train]) & set(GROUPS[val])
    assert len(set(GROUPS[val])) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_the_global_generator_does_not(kind):
    def draw(seed):
        folds = kfold_indices(24, 3, split_type=kind, random_seed=seed, **OF[kind])
        val = train_val_indices(24, 0.25, split_type=kind, random_seed=seed, **OF[kind])[1]
        return [test.tolist() for _, test in folds], val.tolist()

    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = draw(7)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    assert draw(7) == first
    assert draw(None) == draw(0)
    assert len({str(draw(seed)) for seed in range(8)}) > 4


def test_folds_of_a_dataset_are_views_of_its_samples():
    dataset = DictDataset({"x": np.arange(24) * 10, "label": LABELS})
    folds = kfold(dataset, 3, split_type="stratified", random_seed=3)
    held_out = np.concatenate([test.column("x") for _, test in folds])
    assert sorted(held_out.tolist()) == [10 * i for i in range(24)]
    for train, test in folds:
        assert train.dataset is test.dataset is dataset
        assert np.array_equal(LABELS[test.column("x") // 10], test.column("label"))


@pytest.mark.parametrize("kind", ["dict", "iterable", "subset", "concat"])
def test_stratified_validation_part_of_a_fold_is_right_for_every_kind_of_dataset(kind):
    arrays = {"x": np.arange(24), "label": LABELS}
    rows = [{"x": i, "label": LABELS[i]} for i in range(24)]
    dataset = {
        "dict": DictDataset(arrays),
        "iterable": IterableDataset(rows),
        "subset": ConcatDataset(rows[:5], rows).get_subset(range(5, 29)),
        "concat": ConcatDataset({key: array[:9] for key, array in arrays.items()}, rows[9:]),
    }[kind]
    for train, test in kfold(dataset, 3, split_type="stratified"):
        inner, val = train_val_split(train, 0.25, split_type="stratified")
        parts = [part.column("x").tolist() for part in (inner, val, test)]
        assert sorted(np.concatenate(parts)) == list(range(24))
        assert np.bincount(val.column("label")).tolist() == [2, 1, 1]
        assert np.array_equal(LABELS[val.take(range(4))["x"]], val.take(range(4))["label"])


NAMES = np.array(["healthy", "ill", "dead"])[LABELS]
MIXED = np.array([0, "0", None], dtype=object)[LABELS]


@pytest.mark.parametrize(
    "labels", [LABELS, NAMES, NAMES[:, None], NAMES.tolist(), MIXED], ids=["int", "str", "column", "list", "mixed"]
)
def test_stratified_folds_have_the_same_share_of_each_class_of_labels_of_any_type(labels):
    for train, test in kfold_indices(24, 3, split_type="stratified", labels=labels):
        assert np.bincount(LABELS[test]).tolist() == [4, 2, 2]
        assert np.bincount(LABELS[train]).tolist() == [8, 4, 4]


def test_groups_and_labels_are_read_from_entries_of_the_dataset():
    data = {"x": np.arange(24), "patient": GROUPS, "grade": LABELS}
    for train, test in kfold(data, 3, split_type="grouped", group_key="patient"):
        assert not set(train.column("patient")) & set(test.column("patient"))
    _, val = train_val_split(data, 4, split_type="stratified", label_key="grade")
    assert np.bincount(val.column("grade")).tolist() == [2, 1, 1]


def test_size_of_the_validation_part_which_leaves_something():
    for val_split, expected in ((0.2, 2), (0.25, 3), (0.3, 3), (1, 1), (9, 9), (np.int64(4), 4)):
        train, val = train_val_indices(10, val_split)
        assert (len(train), len(val)) == (10 - expected, expected), val_split
    for val_split in (0, 0.0, 1.0, 10, -1, 1.5, "0.2", True, None, float("nan"), 0.99):
        with pytest.raises(ConfigError, match="val_split"):
            train_val_indices(10, val_split)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split_type": "startified", "labels": LABELS}, UnknownNameError, "Did you mean 'stratified'"),
        ({"num_splits": 25}, ConfigError, "num_splits=25 folds cannot be made of 24 samples"),
        ({"num_splits": 1}, ConfigError, "num_splits must be a whole number of at least 2, not 1"),
        ({"num_splits": 2.0}, ConfigError, "not 2.0"),
        ({"split_type": "stratified"}, ConfigError, "a stratified split needs labels"),
        ({"split_type": "grouped"}, ConfigError, "a grouped split needs groups, or group_key"),
        ({"labels": LABELS}, ConfigError, "a random split does not look at them: use 'stratified'"),
        ({"groups": GROUPS}, ConfigError, "a random split does not look at them: use 'grouped' or 'stratified'"),
        ({"groups": GROUPS, "labels": LABELS, "split_type": "grouped"}, ConfigError, "labels .* use 'stratified'"),
        (
            {"groups": [0] * 8 + [1] * 8 + [2] * 8, "labels": [0] * 12 + [1] * 12, "split_type": "stratified"},
            ConfigError,
            "too few groups of a class for num_splits=3: class 0 has 2, class 1 has 2",
        ),
        ({"split_type": "stratified", "labels": LABELS[:5]}, ShapeError, "5 labels for 24 samples"),
        ({"split_type": "stratified", "labels": np.eye(24)}, ShapeError, "argmax"),
        ({"split_type": "stratified", "labels": [np.nan] * 24}, ConfigError, "label of sample 0 is NaN"),
        ({"split_type": "grouped", "groups": [1, 2] * 12}, ConfigError, "num_splits=3 .* 2 groups: 1, 2"),
        ({"random_seed": -1}, ConfigError, "not -1"),
    ],
)
def test_folds_that_cannot_be_made_are_refused_up_front(arguments, error, message):
    with pytest.raises(error, match=message):
        kfold_indices(24, **{"num_splits": 3, **arguments})


def test_parts_that_cannot_hold_every_class_are_refused_with_their_numbers():
    labels = ["common"] * 20 + ["rare"] * 3 + ["odd"]
    with pytest.raises(ConfigError, match=r"num_splits=4: class 'odd' has 1, class 'rare' has 3; .* at least 4"):
        kfold_indices(24, 4, split_type="stratified", labels=labels)
    with pytest.raises(ConfigError, match="class 'odd' has 1; each class needs at least 2"):
        train_val_indices(24, 0.5, split_type="stratified", labels=labels)
    with pytest.raises(ConfigError, match="a part of 2, fewer than the 3 classes"):
        train_val_indices(24, 2, split_type="stratified", labels=LABELS)
    with pytest.raises(ConfigError, match="number of groups from 1 to 0"):
        train_val_indices(24, 1, split_type="grouped", groups=["one"] * 24)
    groups, labels = np.repeat([0, 1, 2, 3], 3), np.array([0] * 6 + [1] * 6)
    with pytest.raises(ConfigError, match="val_split=1 in which every part has the classes"):
        train_val_indices(12, 1, split_type="stratified", labels=labels, groups=groups)
    train, val = train_val_indices(12, 2, split_type="stratified", labels=labels, groups=groups)
    assert set(labels[train]) == set(labels[val]) == {0, 1}


PATIENTS = np.repeat(np.arange(30), 4)
OF_PATIENT = np.where(np.arange(30) % 3 == 0, "ill", "healthy")


def patients():
    return {"x": np.arange(120), "label": OF_PATIENT[PATIENTS], "patient": PATIENTS}


@pytest.mark.parametrize("shuffle", [True, False])
def test_stratified_folds_with_groups_hold_every_class_and_divide_no_group(shuffle):
    folds = kfold(patients(), 5, split_type="stratified", group_key="patient", shuffle=shuffle, random_seed=2)
    for train, test in folds:
        assert not set(train.column("patient")) & set(test.column("patient"))
        assert (test.column("label") == "ill").mean() == pytest.approx(1 / 3, abs=0.05)
    assert sorted(np.concatenate([test.column("x") for _, test in folds])) == list(range(120))


@pytest.mark.parametrize(("val_split", "num_groups"), [(0.2, 6), (9, 9), (0.5, 15)])
def test_stratified_validation_part_with_groups_has_so_many_groups_and_the_shares_of_all(val_split, num_groups):
    train, val = train_val_split(patients(), val_split, split_type="stratified", group_key="patient", random_seed=1)
    assert len(set(val.column("patient"))) == num_groups
    assert not set(train.column("patient")) & set(val.column("patient"))
    assert (val.column("label") == "ill").mean() == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("divide", [kfold, train_val_split])
def test_a_group_that_a_random_split_would_divide_is_refused(divide):
    with pytest.raises(ConfigError, match=r"group_key='patient' was given, but a random split .* split_type='grouped'"):
        divide(patients(), 3, group_key="patient")
    with pytest.raises(ConfigError, match="give groups or group_key='patient', not both"):
        divide(patients(), 3, split_type="grouped", group_key="patient", groups=PATIENTS)


def test_folds_without_shuffle_are_in_order_and_booleans_are_classes_and_groups():
    folds = kfold_indices(6, 3, shuffle=False, random_seed=5)
    assert [test.tolist() for _, test in folds] == [[0, 1], [2, 3], [4, 5]]
    labels, groups = np.arange(24) % 2 == 0, np.arange(24) < 12
    for _, test in kfold_indices(24, np.int64(3), split_type="stratified", labels=labels, random_seed=np.int64(1)):
        assert np.bincount(labels[test]).tolist() == [4, 4]
    train, val = train_val_indices(24, np.float32(0.5), split_type="grouped", groups=groups.tolist())
    assert len(set(groups[train])) == len(set(groups[val])) == 1
