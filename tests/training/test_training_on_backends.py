"""Every back end trains alike: rounding differs, what is learned does not."""

import pytest
import torch

from delira_nca.data_loading import DataManager, repeat
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, MLPRule, make_seed, presets
from delira_nca.rollout import using_backend
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientNormalization

pytestmark = pytest.mark.processor


EPOCHS, ITERATIONS, GRID = 20, 25, 20


def target():
    """Disc with a gradient of colours, premultiplied."""
    axis = torch.linspace(-1, 1, GRID)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    alpha = ((x**2 + y**2) < 0.4).float()
    return torch.stack([(0.5 + 0.5 * x) * alpha, (0.5 - 0.5 * y) * alpha, 0.3 * alpha, alpha])


def train(backend, folder, **options):
    """Mean loss of each epoch of growing a disc from one cell, for 500 iterations in all."""
    with isolated_rng(0):
        network = BasicNCAModel(**presets.growing(rule=MLPRule(64), training_timesteps=(16, 24)))
    pair = {"data": make_seed(16, (GRID, GRID)), "label": target()}
    trainer = PyTorchNetworkTrainer(
        network,
        folder / backend,
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 1e-3},
        callbacks=[GradientNormalization()],
        seed=3,
        **options,
    )
    with using_backend(backend), DataManager(repeat(pair, 4 * ITERATIONS), 4) as data:
        trainer.train(EPOCHS, data)
    return torch.tensor([row["mse"] for row in trainer.history])


@pytest.mark.slow
@pytest.mark.usefixtures("any_processor")
def test_five_hundred_iterations_end_alike_on_every_back_end(tmp_path):
    expected = train("reference", tmp_path)
    assert expected[-1] < 0.5 * expected[0]
    for backend in ("sparse", "native"):
        losses = train(backend, tmp_path)
        assert losses[0].item() == pytest.approx(expected[0].item(), rel=1e-4)
        assert losses[-4:].mean().item() == pytest.approx(expected[-4:].mean().item(), rel=0.02)
    bfloat16 = train("native", tmp_path / "bf16", mixed_precision=True)
    assert bfloat16[-4:].mean().item() == pytest.approx(expected[-4:].mean().item(), rel=0.05)
