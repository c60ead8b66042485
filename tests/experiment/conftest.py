import pytest

SAMPLES = {
    "class_path": "delira_nca.data_loading.growing_dataset",
    "init_args": {"size": 6, "padding": 1, "times": 6},
}


@pytest.fixture
def values():
    """A run of a second that grows a flower, as plain values."""
    changes = {"training_timesteps": 2, "inference_timesteps": 2}
    return {
        "name": "flower",
        "model": {
            "class_path": "delira_nca.models.build_model",
            "init_args": {"preset": "growing", "changes": changes},
        },
        "data": {"train": SAMPLES, "valid": SAMPLES, "batch_size": 2},
        "task": {"criterions": {"mse": "delira_nca.losses.mse"}, "score": "mse"},
        "num_epochs": 2,
    }
