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
def test_an_epoch_can_be_had_again_differs_from_the_next_and_leaves_generators_as_they_were(discs, own_generator):
    generator = torch.Generator().manual_seed(3)
    states = torch.get_rng_state(), generator.get_state()
    loader = DataLoader(discs(), batch_size=2, shuffle=True, generator=generator if own_generator else None)
    pairs = PairBatches(loader)
    first, second = epoch(pairs, 1), epoch(pairs, 2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(generator.get_state(), states[1])
    torch.rand(5)
    assert torch.equal(epoch(pairs, 1), first)
    assert not torch.equal(first, second)
    validation = PairBatches(loader, stream="valid", every_epoch_anew=False)
    assert torch.equal(epoch(validation, 1), epoch(validation, 7))


def test_workers_do_not_change_what_is_shuffled(discs):
    loaders = [DataLoader(discs(), batch_size=2, shuffle=True, num_workers=n) for n in (0, 1)]
    labels = [[batch["label"] for batch in PairBatches(loader).get_batchgen(1)] for loader in loaders]
    assert torch.equal(torch.cat(labels[0]), torch.cat(labels[1]))


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


AUTO = {"label_layout": "auto"}
OF_3 = {**AUTO, "network": SimpleNamespace(num_image_channels=3, num_channels=7)}


@pytest.mark.parametrize(
    ("item", "options", "error", "message"),
    [
        ((1,), {}, ConfigError, "an \\(x, y\\) pair, not a tuple of 1"),
        ("ab", {}, ConfigError, "an \\(x, y\\) pair, not a str"),
        ({"image": 1}, {}, ConfigError, "not \\['image'\\]"),
        (((2, 1), (2,)), {"label_layout": "channels_last"}, ShapeError, "are pictures, not \\(2,\\)"),
        (((2, 1, 4, 4), (2, 4, 4, 4)), AUTO, ShapeError, "first or last: say which by label_layout"),
        (((2, 1, 4, 4), (2, 1, 8, 8)), AUTO, ShapeError, "give its label_layout"),
        (((2, 7, 7, 3), (2,)), OF_3, ShapeError, "states of 7 channels, or have their 3 channels last.*label_layout"),
        (((2, 5, 5, 5), (2,)), OF_3, ShapeError, r"not \(2, 5, 5, 5\).*label_layout"),
    ],
)
def test_batches_that_are_no_pairs_or_whose_channels_are_unclear_are_refused(item, options, error, message):
    item = tuple(map(torch.zeros, item)) if error is ShapeError else item
    with pytest.raises(error, match=message):
        list(PairBatches([item], **options).get_batchgen(1))


def test_what_cannot_be_repeated_or_is_unknown_is_refused():
    with pytest.raises(ConfigError, match="once per epoch"):
        PairBatches(iter([]))
    with pytest.raises(UnknownNameError, match="Did you mean 'no_channel'"):
        PairBatches([], label_layout="no_channels")


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


def test_images_and_labels_are_found_in_tuples_and_dicts_and_other_names_are_passed_on():
    image, label = torch.ones(2, 1, 4, 4), torch.zeros(2)
    for item in (
        (image, label, ["a", "b"]),
        [image, label],
        {"image": image, "mask": label},
        {"data": image, "target": label, "image": None},
        {"data": image, "label": label, "name": ["a"]},
    ):
        (batch,) = PairBatches([item], label_layout="auto").get_batchgen(1)
        assert torch.equal(batch["data"], image)
        assert torch.equal(batch["label"], label)
    assert batch["name"] == ["a"]
