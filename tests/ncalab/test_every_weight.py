"""Whatever is wrapped around an automaton: an optimizer holds what a prediction is made of, and nothing else."""

import pytest
import torch
from torch import nn

from delira_nca.losses import mse
from delira_nca.models import (
    BasicNCAModel,
    BinarySegmentationNCAModel,
    CascadeNCA,
    ClassificationNCAModel,
    DepthNCAModel,
    GoalEmbedding,
    GrowingNCAModel,
    ImplicitDecoder,
    Model,
    PyramidNCA,
    SegmentationNCAModel,
    SelfClassificationNCAModel,
)
from delira_nca.ncalab import BasicNCATrainer
from delira_nca.training import PyTorchNetworkTrainer

SMALL = {"hidden_size": 8, "training_timesteps": 3, "fire_rate": 1.0}


def binary(**changes):
    return BinarySegmentationNCAModel(None, 1, 4, **{**SMALL, **changes})


def bare(**changes):
    return BasicNCAModel(None, 1, 4, 1, **{**SMALL, **changes})


NETWORKS = {
    "automaton": bare,
    "with a head": lambda: bare(head=nn.Conv2d(4, 2, 1)),
    "with a decoder": lambda: bare(head=ImplicitDecoder(4, 1, scale=2, hidden_size=8)),
    "with goals": lambda: bare(conditioning=GoalEmbedding(num_goals=2, num_channels=3)),
    "binary": binary,
    "classes": lambda: SegmentationNCAModel(None, 1, 4, 3, **SMALL),
    "classification": lambda: ClassificationNCAModel(None, 1, 4, 3, avg_pool_size=2, **SMALL),
    "classification without a head": lambda: ClassificationNCAModel(None, 1, 4, 3, use_classifier=False, **SMALL),
    "self-classification": lambda: SelfClassificationNCAModel(None, 4, 3, **SMALL),
    "depth": lambda: DepthNCAModel(None, 1, 4, **SMALL),
    "growing": lambda: GrowingNCAModel(None, 4, num_learned_filters=2, **SMALL),
    "cascade": lambda: CascadeNCA(binary(), [2, 1], [2, 2]),
    "cascade of copies": lambda: CascadeNCA(binary(), [2, 1], [2, 2], single_model=False),
    "pyramid": lambda: PyramidNCA([bare(), bare()], [2, 1], [2, 2]),
    "model with a head": lambda: Model(bare(), nn.Conv2d(6, 1, 1)),
}


def used(network):
    """Names of the weights that the prediction of a training depends on."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    batch = {"data": torch.rand(3, getattr(network, "num_image_channels", 1), 12, 12)}
    if getattr(network, "conditioning", None) is not None:
        batch["goal"] = torch.tensor([0, 1, 0])
    prediction, _ = network.forward_batch(batch, seed=1, train=True)
    seen = prediction.pred if prediction.pred.requires_grad else prediction.output_channels  # votes have no gradient
    (seen * torch.rand_like(seen)).sum().backward()
    return {name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_held_is_what_is_used(name):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = NETWORKS[name]()
        found = used(network)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    trainers = [PyTorchNetworkTrainer(network, None, {"mse": mse}).optimizers["default"]]
    if name != "model with a head":
        trainers.append(BasicNCATrainer(network, None)._make_optimizer(network))
    for optimizer in trainers:
        held = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
        assert len(held) == len(set(held))
        assert set(held) == found == set(names.values())
