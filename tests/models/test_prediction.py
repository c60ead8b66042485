import numpy as np
import pytest
import torch

from delira_nca.models import BasicNCAModel, Prediction


@pytest.fixture
def model():
    return BasicNCAModel(num_image_channels=3, num_hidden_channels=4, num_output_channels=2)


@pytest.fixture
def state(noise):
    return noise(2, 9, 5, 6).requires_grad_()


def test_its_parts_are_views_of_the_state(model, state):
    prediction = Prediction(model, 7, state)
    assert prediction.steps == 7
    bounds = {"image_channels": (0, 3), "hidden_channels": (3, 7), "output_channels": (7, 9)}
    for name, (first, last) in bounds.items():
        part = getattr(prediction, name)
        assert torch.equal(part, state[:, first:last])
        assert part.untyped_storage().data_ptr() == state.untyped_storage().data_ptr()
        assert part.requires_grad
        array = getattr(prediction, f"{name}_np")
        assert isinstance(array, np.ndarray)
        assert (array == state[:, first:last].detach().numpy()).all()
    assert (prediction.output_array == state.detach().numpy()).all()
    assert prediction.output_array is prediction.output_array  # brought once


def test_what_is_compared_is_the_head_else_the_output_else_the_image_and_parts_have_names(model, state):
    assert torch.equal(Prediction(model, 1, state).pred, state[:, 7:])
    head = torch.ones(2, 3)
    assert Prediction(model, 1, state, head).pred is head
    growing = BasicNCAModel(num_image_channels=4, num_hidden_channels=5)
    assert torch.equal(Prediction(growing, 1, state).pred, state[:, :4])
    assert Prediction(growing, 1, state).output_channels.shape == (2, 0, 5, 6)
    parts = Prediction(model, 1, state).parts()
    assert set(parts) == {"pred", "state", "image", "hidden", "output", "logits"}
    assert parts["state"] is state
    assert torch.equal(parts["logits"], parts["output"])
    assert Prediction(model, 1, state, head).parts()["head"] is head
    assert Prediction(model, 1, state, head).parts()["logits"] is head
    assert set(Prediction(growing, 1, state).parts()) == {"pred", "state", "image", "hidden", "output"}
    assert Prediction(model, 1, state).head_prediction_array is None
    array = Prediction(model, 1, state, head).head_prediction_array
    assert (array == np.ones((2, 3))).all()


def test_detached_it_has_no_graph_but_the_same_values(model, state):
    prediction = Prediction(model, 3, state * 1.0, state.mean((2, 3)))
    detached = prediction.detach()
    assert all(not part.requires_grad for part in detached.parts().values())
    assert all(torch.equal(part, prediction.parts()[name]) for name, part in detached.parts().items())
    assert (detached.steps, detached.model) == (3, model)
    assert prediction.output_image.requires_grad
