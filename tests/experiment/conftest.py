import copy

import pytest

SAMPLES = {
    "class_path": "delira_nca.data_loading.growing_dataset",
    "init_args": {"size": 6, "padding": 1, "times": 6},
}


@pytest.fixture(scope="session")
def make_values():
    """Function that returns a run of a second that grows a flower, as plain values."""
    changes = {"training_timesteps": 2, "inference_timesteps": 2}
    model = {"class_path": "delira_nca.models.build_model", "init_args": {"preset": "growing", "changes": changes}}
    return lambda: copy.deepcopy(
        {
            "name": "flower",
            "model": model,
            "data": {"train": SAMPLES, "valid": SAMPLES, "batch_size": 2},
            "task": {"criterions": {"mse": "delira_nca.losses.mse"}, "score": "mse"},
            "num_epochs": 2,
        }
    )


@pytest.fixture
def values(make_values):
    return make_values()
