"""Loaders of pairs: the same batches for the same epoch, whatever was drawn before."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.ncalab.pairs import PairBatches


def epoch(pairs, number):
    return torch.cat([batch["data"] for batch in pairs.get_batchgen(number)])


@pytest.mark.parametrize("own_generator", [False, True])
def test_an_epoch_can_be_had_again_and_differs_from_the_next(discs, own_generator):
    generator = torch.Generator().manual_seed(3) if own_generator else None
    pairs = PairBatches(DataLoader(discs(), batch_size=2, shuffle=True, generator=generator))
    first, second = epoch(pairs, 1), epoch(pairs, 2)
    torch.rand(5)
    assert torch.equal(epoch(pairs, 1), first)
    assert not torch.equal(first, second)


def test_generators_of_the_user_are_left_as_they_were(discs):
    generator = torch.Generator().manual_seed(3)
    before, own = torch.get_rng_state(), generator.get_state()
    epoch(PairBatches(DataLoader(discs(), batch_size=2, shuffle=True, generator=generator)), 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(generator.get_state(), own)


def test_workers_do_not_change_what_is_shuffled(discs):
    loaders = [DataLoader(discs(), batch_size=2, shuffle=True, num_workers=n) for n in (0, 1)]
    labels = [[batch["label"] for batch in PairBatches(loader).get_batchgen(1)] for loader in loaders]
    assert torch.equal(torch.cat(labels[0]), torch.cat(labels[1]))


def test_validation_always_sees_the_same(discs):
    pairs = PairBatches(DataLoader(discs(), batch_size=2, shuffle=True), stream="valid", every_epoch_anew=False)
    assert torch.equal(epoch(pairs, 1), epoch(pairs, 7))


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("channels_first", (2, 4, 5, 3)), ("channels_last", (2, 3, 4, 5)), ("no_channel", (2, 1, 4, 5, 3))],
)
def test_labels_are_laid_out_as_declared(layout, shape):
    label = torch.arange(120.0).reshape(2, 4, 5, 3)
    (batch,) = PairBatches([(torch.zeros(2, 1, 4, 5), label)], label_layout=layout).get_batchgen(1)
    assert batch["label"].shape == shape
    assert batch["label"].flatten().sort().values.tolist() == label.flatten().tolist()
    if layout == "channels_last":
        assert torch.equal(batch["label"][1, 2], label[1, :, :, 2])


def test_batches_by_name_are_passed_on():
    given = {"data": torch.zeros(1, 1, 2, 2), "label": torch.ones(1), "name": ["a"]}
    (batch,) = PairBatches([given]).get_batchgen(1)
    assert batch["name"] == ["a"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((1,), "an \\(x, y\\) pair, not a tuple of 1"),
        ("ab", "an \\(x, y\\) pair, not a str"),
        ({"image": 1}, "not \\['image'\\]"),
    ],
)
def test_batches_that_are_no_pairs_are_refused(item, message):
    with pytest.raises(ConfigError, match=message):
        list(PairBatches([item]).get_batchgen(1))


def test_what_cannot_be_repeated_or_is_unknown_is_refused():
    with pytest.raises(ConfigError, match="once per epoch"):
        PairBatches(iter([]))
    with pytest.raises(UnknownNameError, match="Did you mean 'no_channel'"):
        PairBatches([], label_layout="no_channels")
    with pytest.raises(ShapeError, match="are pictures, not \\(2,\\)"):
        list(PairBatches([(torch.zeros(2, 1), torch.zeros(2))], label_layout="channels_last").get_batchgen(1))


GRID = (5, 7)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_of_images_and_labels_are_recognised_by_the_grid_and_the_model(channels):
    network = SimpleNamespace(num_image_channels=channels, num_channels=9)
    image, label = torch.rand(2, channels, *GRID), torch.rand(2, 2, *GRID)
    for given in ((image, label), (image.movedim(1, -1), label.movedim(1, -1)), (image, label.movedim(1, -1))):
        (batch,) = PairBatches([given], label_layout="auto", network=network).get_batchgen(1)
        assert torch.equal(batch["data"], image)
        assert torch.equal(batch["label"], label)
        assert batch["label"].is_contiguous()


def test_labels_without_channels_and_states_stay_as_they_are():
    network = SimpleNamespace(num_image_channels=1, num_channels=7)
    for shape in ((2,), (2, 1), (2, *GRID)):
        label, state = torch.ones(shape), torch.rand(2, 7, *GRID)
        (batch,) = PairBatches([(state, label)], label_layout="auto", network=network).get_batchgen(1)
        assert batch["data"] is state
        assert batch["label"] is label


@pytest.mark.parametrize(
    ("label", "message"),
    [((2, 4, 4, 4), "first or last: say which by label_layout"), ((2, 1, 8, 8), "give its label_layout")],
)
def test_a_label_whose_layout_is_unclear_is_refused_by_the_name_of_the_argument(label, message):
    with pytest.raises(ShapeError, match=message):
        list(PairBatches([(torch.rand(2, 1, 4, 4), torch.rand(label))], label_layout="auto").get_batchgen(1))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ((2, 7, 7, 3), "may be states of 7 channels, or have their 3 channels last"),
        ((2, 5, 5, 5), r"not \(2, 5, 5, 5\)"),
    ],
)
def test_images_whose_channels_are_unclear_are_refused(image, message):
    network = SimpleNamespace(num_image_channels=3, num_channels=7)
    with pytest.raises(ShapeError, match=f"{message}.*label_layout"):
        list(PairBatches([(torch.rand(image), torch.zeros(2))], label_layout="auto", network=network).get_batchgen(1))


@pytest.mark.parametrize(
    "item",
    [
        (torch.ones(2, 1, 4, 4), torch.zeros(2), ["a", "b"]),
        [torch.ones(2, 1, 4, 4), torch.zeros(2)],
        {"image": torch.ones(2, 1, 4, 4), "mask": torch.zeros(2)},
        {"data": torch.ones(2, 1, 4, 4), "target": torch.zeros(2), "image": None},
    ],
    ids=["triple", "list", "albumentations", "target"],
)
def test_images_and_labels_are_found_in_tuples_and_dicts(item):
    (batch,) = PairBatches([item], label_layout="auto").get_batchgen(1)
    assert torch.equal(batch["data"], torch.ones(2, 1, 4, 4))
    assert torch.equal(batch["label"], torch.zeros(2))
