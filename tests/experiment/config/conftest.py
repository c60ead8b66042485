import pytest

MODEL = {
    "class_path": "delira_nca.models.build_model",
    "init_args": {"preset": "growing", "changes": {"training_timesteps": 3, "inference_timesteps": 3}},
}
SAMPLES = {
    "class_path": "delira_nca.data_loading.growing_dataset",
    "init_args": {"size": 6, "padding": 1, "times": 6},
}


@pytest.fixture
def values():
    """A small run that grows a flower, as plain values."""
    return {
        "name": "flower",
        "model": MODEL,
        "data": {"train": SAMPLES, "valid": SAMPLES, "batch_size": 2},
        "task": {"criterions": {"mse": "delira_nca.losses.mse"}, "score": "mse"},
        "num_epochs": 2,
    }
