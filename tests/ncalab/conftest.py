"""A small segmenting automaton, loaders of discs, and the steps of NCALab and Med-NCA in a few lines of PyTorch."""

import pytest
import torch
from torch.nn import functional as F
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
        labels = {"channels_first": mask[None], "channels_last": mask[..., None], "no_channel": mask}
        return image, labels[self.label_axes]


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


collect_ignore = ["scripts"]
SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
LAPLACE = torch.tensor([[1.0, 2.0, 1.0], [2.0, -12.0, 2.0], [1.0, 2.0, 1.0]])


def _depthwise(x, kernel, padding):
    margin, channels = kernel.shape[-1] // 2, x.shape[1]
    mode = {"zeros": "constant", "zero": "constant"}.get(padding, padding)
    padded = F.pad(x, (margin,) * 4, mode=mode)
    weight = kernel.expand(channels, 1, *kernel.shape[-2:]) if kernel.dim() == 2 else kernel
    return F.conv2d(padded, weight, groups=channels)


def _step(x, t, weights, activation=torch.relu, *, fire=None, image=0, alive=False, laplace=False, **options):
    """One step; the weights have NCALab's names."""
    learned = [weight for name, weight in weights.items() if name.startswith("perception.filters")]
    if learned:
        seen = [x, *(_depthwise(x, kernel, options["padding"]) for kernel in learned)]
    else:
        seen = [x, *(_depthwise(x, k, "zeros") for k in (SOBEL, SOBEL.T, *((LAPLACE,) if laplace else ())))]
    if "horizon" in options:
        seen.append(torch.full_like(x[:, :1], t / options["horizon"]))
    hidden = activation(F.conv2d(torch.cat(seen, 1), weights["rule.network.0.weight"], weights["rule.network.0.bias"]))
    update = F.conv2d(hidden, weights["rule.network.2.weight"])
    if fire is not None:
        update = update * fire
    update = torch.cat([torch.zeros_like(update[:, :image]), update[:, image:]], 1)
    x = x + update
    return x * (F.max_pool2d(x[:, 3:4], 3, 1, 1) > 0.1) if alive else x


def _med_nca_step(x, weights, image=1):
    """One step of BasicNCA and BackboneNCA on (B, X, Y, C), of BasicNCA3D on (B, X, Y, Z, C); all cells fire."""
    flat, last = x.dim() == 4, x.dim() - 1
    turned = x.transpose(1, last)
    if "p0.weight" not in weights:
        seen = [turned, _depthwise(turned, SOBEL, "zeros"), _depthwise(turned, SOBEL.T, "zeros")]
    else:
        margin = weights["p0.weight"].shape[-1] // 2
        padded = F.pad(turned, (margin,) * 2 * (last - 1), mode="reflect")
        names = [name for name in ("p0", "p1") if f"{name}.weight" in weights]
        convolve, groups = (F.conv2d, 1) if flat else (F.conv3d, x.shape[-1])
        seen = [turned] + [convolve(padded, weights[f"{n}.weight"], weights[f"{n}.bias"], groups=groups) for n in names]
    hidden = F.linear(torch.cat(seen, 1).transpose(1, last), weights["fc0.weight"], weights["fc0.bias"])
    if "bn.weight" in weights:
        hidden = F.batch_norm(hidden.transpose(1, last), None, None, weights["bn.weight"], weights["bn.bias"], True)
        hidden = hidden.transpose(1, last)
    new = x + F.linear(hidden.relu(), weights["fc1.weight"])
    return torch.cat([x[..., :image], new[..., image:]], -1)


@pytest.fixture(scope="session")
def nca_lab_step():
    """Step of NCALab's cell."""
    return _step


@pytest.fixture(scope="session")
def med_nca_step():
    """Step of the cells of Med-NCA and M3D-NCA."""
    return _med_nca_step
