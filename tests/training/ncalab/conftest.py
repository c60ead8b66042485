"""A small segmenting automaton as an NCALab script would write it, and loaders of discs."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from delira_nca.losses import dice_bce, dice_score
from delira_nca.models import BasicNCAModel


class Segmenter(BasicNCAModel):
    """One image channel, one output channel: a loss and a metric, and nothing said about their names."""

    def loss(self, prediction, label):
        error = dice_bce(prediction.pred, label)
        return {"total": error, "dice_bce": error}

    def metrics(self, pred, label):
        return {"dice": float(dice_score(pred.pred, label))}


class Discs(Dataset):
    """Noisy bright discs and their masks; noise is drawn from torch's global generator."""

    def __init__(self, path=None, names=("0", "1", "2", "3", "4", "5"), transform=None, label_axes="channels_first"):
        self.names, self.label_axes = list(names), label_axes

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        number = int(self.names[index])
        axis = torch.arange(10)
        far = (axis[:, None] - 3 - number % 4) ** 2 + (axis[None, :] - 4) ** 2
        mask = (far <= 4 + number % 3).float()
        image = (mask + 0.1 * torch.rand(10, 10))[None]
        return image, {"channels_first": mask[None], "channels_last": mask[..., None], "no_channel": mask}[
            self.label_axes
        ]


@pytest.fixture
def segmenter():
    """Makes automata that are alike."""

    def make(cls=Segmenter, **changes):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            arguments = {"training_timesteps": (3, 6), "inference_timesteps": 5, "hidden_size": 8, **changes}
            network = cls(None, 1, 3, 1, **{"validation_metric": "dice", **arguments})
            torch.nn.init.normal_(network.rule.last.weight, std=0.05)
        return network

    return make


@pytest.fixture
def discs():
    return Discs


@pytest.fixture
def loader():
    """Makes loaders of discs."""

    def make(size=3, shuffle=True, **changes):
        return DataLoader(Discs(**changes), batch_size=size, shuffle=shuffle)

    return make
