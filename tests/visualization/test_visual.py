import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import BasicNCAModel
from delira_nca.ncalab import Visual as FaceVisual
from delira_nca.visualization import Visual, VisualRows


def shown(size=1, label="picture", image_channels=1, **options):
    model = BasicNCAModel(None, image_channels, 2, 1, training_timesteps=2)
    image = torch.rand(size, image_channels, 6, 6)
    labels = {"picture": np.ones((size, 1, 6, 6)), "class": np.arange(size), "none": None}[label]
    prediction = model.predict(image, 2)
    return VisualRows(**options).show(model, image.numpy(), prediction, labels)


@pytest.mark.parametrize("image_channels", [1, 2, 3, 4])
def test_a_batch_of_one_is_drawn(image_channels):
    figure = shown(1, image_channels=image_channels)
    assert [axis.get_ylabel() for axis in figure.axes] == ["image", "label", "prediction"]
    assert all(len(axis.images) == 1 for axis in figure.axes)


def test_columns_are_samples_and_labels_that_are_no_pictures_are_written():
    assert len(shown(5).axes) == 15
    assert len(shown(5, max_samples=2).axes) == 6
    figure = shown(3, "class")
    assert [axis.texts[0].get_text() for axis in figure.axes[3:6]] == ["0", "1", "2"]
    assert [axis.get_ylabel() for axis in shown(1, "none").axes] == ["image", "prediction"]
    assert np.allclose(shown(1, sigmoid=True).axes[-1].images[0].get_array(), 0.5)


def test_the_base_class_is_that_of_the_face_and_what_cannot_be_drawn_is_refused():
    assert issubclass(VisualRows, Visual)
    assert Visual is FaceVisual
    with pytest.raises(TypeError, match="show"):
        Visual()
    with pytest.raises(ConfigError, match="max_samples must be a whole number of at least 1, not 0"):
        VisualRows(0)
    model = BasicNCAModel(None, 1, 2, 1)
    with pytest.raises(ShapeError, match=r"not \(2, 1, 5\)"):
        VisualRows().show(model, np.zeros((2, 1, 5)), model.predict(torch.zeros(2, 1, 5, 5), 1), None)
