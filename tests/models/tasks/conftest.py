"""Small data of which a task can be learned in seconds."""

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.models import (
    BinarySegmentationNCAModel,
    ClassificationNCAModel,
    DepthNCAModel,
    GrowingNCAModel,
    SegmentationNCAModel,
    SelfClassificationNCAModel,
)
from delira_nca.training import PyTorchNetworkTrainer

SMALL = {"num_hidden_channels": 8, "hidden_size": 32, "training_timesteps": 8, "inference_timesteps": 8}
MODELS = {
    "growing": lambda **kw: GrowingNCAModel(**{**SMALL, "lambda_hidden": 0.01, **kw}),
    "binary": lambda **kw: BinarySegmentationNCAModel(**{**SMALL, "num_image_channels": 1, **kw}),
    "segmentation": lambda **kw: SegmentationNCAModel(**{**SMALL, "num_image_channels": 1, "num_classes": 3, **kw}),
    "classification": lambda **kw: ClassificationNCAModel(
        **{**SMALL, "num_image_channels": 1, "num_classes": 10, "avg_pool_size": 2, **kw}
    ),
    "mean_of_cells": lambda **kw: ClassificationNCAModel(
        **{**SMALL, "num_image_channels": 1, "num_classes": 10, "use_classifier": False, "gamma": 0.0, **kw}
    ),
    "self_classification": lambda **kw: SelfClassificationNCAModel(**{**SMALL, "num_classes": 10, **kw}),
    "self_l2": lambda **kw: SelfClassificationNCAModel(**{**SMALL, "num_classes": 10, "cell_loss": "l2", **kw}),
    "depth": lambda **kw: DepthNCAModel(**{**SMALL, "num_image_channels": 1, **kw}),
}
"""Name to a function that makes a small model."""


@pytest.fixture(params=MODELS)
def make(request):
    """Each of the models in turn: a function of the arguments that are to be otherwise."""
    torch.manual_seed(0)
    make = MODELS[request.param]
    make.task = request.param
    return make


@pytest.fixture
def models():
    torch.manual_seed(0)
    return MODELS


@pytest.fixture
def batch_for(noise):
    """Data and label for a model, of two samples."""

    def batch(model, size=8):
        data = noise(2, model.num_image_channels, size, size).sigmoid()
        if isinstance(model, GrowingNCAModel):
            return model.make_seed(size, size).repeat(2, 1, 1, 1), data
        if isinstance(model, DepthNCAModel):
            return data, noise(2, size, size, seed=1).sigmoid()
        if isinstance(model, (BinarySegmentationNCAModel, SegmentationNCAModel)):
            return data, (data[:, 0] > 0.5).long()
        return data, torch.tensor([3, 7])

    return batch


def discs(num, size=16, *, seed=0):
    """Noisy pictures of a bright and a dark disc, and the class of each cell: 0 outside, 1 bright, 2 dark."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    data, label = 0.15 * rng.standard_normal((num, 1, size, size)), np.zeros((num, size, size), int)
    for n in range(num):
        for number, value in ((1, 0.5), (2, -0.5)):
            row, column, radius = (*rng.uniform(3, size - 3, 2), rng.uniform(2, 4))
            inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
            data[n, 0][inside], label[n][inside] = data[n, 0][inside] + value, number
    return {"data": data.astype(np.float32), "label": label}


@pytest.fixture
def train():
    """Train a model, and return the trainer."""

    def run(model, training, validation, epochs, *, batch_size=8, lr=2e-3):
        trainer = PyTorchNetworkTrainer(model, None, optimizer_params={"lr": lr}, metrics=model.metrics)
        data = DataManager(training, batch_size, sampler_cls=RandomSampler)
        valid = DataManager(validation, 100)
        trainer.train(epochs, data, valid, model.validation_metric, model.validation_mode)
        return trainer

    return run


@pytest.fixture
def disc_pictures():
    return discs
