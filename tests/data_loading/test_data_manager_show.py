import sys

import numpy as np
import pytest

from delira_nca.data_loading import DataManager
from delira_nca.data_loading.show import draw_batch
from delira_nca.errors import ConfigError, MissingDependencyError

pytest.importorskip("matplotlib")


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_batch_is_drawn_as_training_gets_it(tmp_path):
    data = {"data": np.zeros((6, 3, 8, 10)), "label": np.arange(6)}
    manager = DataManager(data, 2, 2, lambda batch: {**batch, "data": batch["data"] + batch["label"][0] / 10})
    figure = manager.show_batch(epoch=2, index=2, path=tmp_path / "batch.png")
    assert [axes.get_title() for axes in figure.axes] == ["label 4", "label 5"]
    assert all(np.allclose(picture, 0.4) and picture.shape == (8, 10, 3) for picture in pictures(figure))
    assert (tmp_path / "batch.png").read_bytes().startswith(b"\x89PNG")
    assert manager._workers._idle is None


def test_colours_lie_on_white_of_a_volume_the_middle_is_shown_and_other_values_are_scaled():
    image = np.zeros((1, 4, 4, 4))
    image[:, 0, :2], image[:, 3, :2] = 0.5, 0.5
    (picture,) = pictures(draw_batch({"data": image}))
    assert picture[0, 0].tolist() == [1.0, 0.5, 0.5]
    assert picture[3, 0].tolist() == [1.0, 1.0, 1.0]
    volume = np.arange(5.0).reshape(1, 1, 5, 1, 1) / 4 * np.ones((1, 1, 5, 6, 7))
    (picture,) = pictures(draw_batch({"data": volume}))
    assert picture.shape == (6, 7, 3)
    assert np.allclose(picture, 0.5)
    (picture,) = pictures(draw_batch({"data": np.linspace(-3, 5, 16).reshape(1, 1, 4, 4)}))
    assert (picture.min(), picture.max()) == (0.0, 1.0)


@pytest.mark.parametrize(
    "mask",
    [
        np.eye(4, dtype=np.int64)[None],
        np.eye(4, dtype=bool)[None],
        np.eye(4, dtype=np.float32)[None, None],
        np.stack([np.eye(4, dtype=np.uint8), np.zeros((4, 4), np.uint8)])[None],
    ],
    ids=["int", "bool", "float with a channel", "a channel for each class"],
)
def test_label_mask_lies_over_the_image(mask):
    figure = draw_batch({"data": np.zeros((1, 3, 4, 4)), "seg": mask})
    (axes,) = figure.axes
    over = np.asarray(axes.images[1].get_array())
    assert np.array_equal(over[..., 3] > 0, np.eye(4) > 0)


def test_target_pictures_stand_below_few_samples_are_drawn_and_the_image_can_be_chosen():
    batch = {"data": np.zeros((2, 1, 4, 4)), "target": np.full((2, 3, 4, 4), 0.5), "other": np.zeros((7, 2))}
    figure = draw_batch(batch)
    assert [axes.get_ylabel() for axes in figure.axes] == ["data", "", "target", ""]
    assert np.allclose(pictures(figure)[2], 0.5)
    batch = {"a": np.zeros((20, 1, 4, 4)), "b": np.ones((20, 1, 4, 4))}
    assert len(draw_batch(batch, image_key="b", max_samples=3).axes) == 3
    assert draw_batch(batch, image_key="b").axes[0].get_ylabel() == "b"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda manager: manager.show_batch(index=3), "there is no batch 3: an epoch has 3"),
        (lambda manager: manager.show_batch(index=-1), "index must be"),
        (lambda manager: manager.show_batch(), r"there is no image .* 'x': \(2,\)"),
        (lambda manager: manager.show_batch(image_key="y"), "Known: 'x'"),
    ],
)
def test_what_cannot_be_shown_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(DataManager({"x": np.arange(6)}, 2))


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"delira_nca\[viz\]"):
        draw_batch({"data": np.zeros((1, 1, 4, 4))})
