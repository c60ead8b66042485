"""The names of NCALab's page, and checks of behaviour that live elsewhere in the package."""

import numpy as np
import torch

import delira_nca.training.ncalab as face
from delira_nca.training.ncalab import BasicNCAModel, Pool, intepret_range_parameter, pad_input, unwrap


def test_every_class_and_function_of_the_page_is_there():
    page = {
        *("EarlyStopping", "BasicNCATrainer", "TrainingHistory", "TrainValRecord", "SplitDefinition"),
        *("KFoldCrossValidationTrainer", "BasicNCAModel", "Prediction", "Visual", "Pool", "TrainingStatus"),
        *("intepret_range_parameter", "pad_input", "unwrap"),
    }
    assert set(face.__all__) == page == set(dir(face))
    assert all(getattr(face, name).__doc__ or callable(getattr(face, name)) for name in page)


def test_helpers_do_what_the_page_says():
    nca = BasicNCAModel(None, 1, 3, 1)
    assert pad_input(torch.ones(2, 1, 4, 4), nca).shape == (2, 5, 4, 4)
    assert intepret_range_parameter((3, 4)) == 3
    assert unwrap(0) == 0


def test_a_pool_draws_every_slot_and_its_states_grow_old():
    pool, seed = Pool(n_seed=1, capacity=12), torch.zeros(4, 1, 2, 2)
    for draw in range(60):
        states = pool.sample(seed)
        drawn = pool._draw.indices.tolist()
        before = pool.pool.states.clone()
        assert len(set(drawn)) == 4
        pool.update(states + 1, torch.arange(4.0).roll(draw))
        untouched = [slot for slot in range(12) if slot not in drawn]
        assert torch.equal(pool.pool.states[untouched], before[untouched])
        assert int((states.flatten(1).amax(1) == 0).sum()) >= 1
    ages = pool.pool.states[:, 0, 0, 0]
    assert pool.pool.losses.isfinite().all()
    assert ages.max() > 2


def test_the_worst_sample_alone_becomes_the_seed():
    pool, seed = Pool(n_seed=1, capacity=4), torch.zeros(4, 1, 2, 2)
    pool.sample(seed)
    pool.update(torch.full((4, 1, 2, 2), 5.0), torch.tensor([0.1, 0.9, 0.3, 0.2]))
    worst = pool._draw.indices[1]
    states = pool.sample(seed)
    assert pool._draw.indices[0] == worst
    assert states.flatten(1).amax(1).tolist() == [0.0, 5.0, 5.0, 5.0]


def test_a_grid_of_settings_has_every_pair_once():
    from delira_nca.experiment.search import grid

    settings = list(grid({"lr": [1e-3, 1e-2, 1e-1], "hidden_size": [16, 32]}))
    assert len(settings) == len({tuple(sorted(s.items())) for s in settings}) == 6
    ranges = list(grid({"training_timesteps": [(48, 64)], "lr": np.array([1e-3, 1e-2]).tolist()}))
    assert [s["training_timesteps"] for s in ranges] == [(48, 64)] * 2
