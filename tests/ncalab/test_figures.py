import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.ncalab import (
    Animator,
    BinarySegmentationNCAModel,
    CascadeNCA,
    ClassificationNCAModel,
    DepthNCAModel,
    GrowingNCAModel,
    SelfClassificationNCAModel,
    VisualDepthEstimation,
    VisualMultiImageClassification,
    VisualRGBImageClassification,
    animator_style_dark,
    draw_segmentation_overlay,
    show_image_row,
)

pytest.importorskip("matplotlib")
SMALL = {"hidden_size": 8, "training_timesteps": 2, "inference_timesteps": 3}
MODELS = {
    "growing": lambda: (GrowingNCAModel("cpu", 4, **SMALL), np.random.rand(1, 4, 8, 6), 2),
    "segmentation": lambda: (BinarySegmentationNCAModel("cpu", 3, 4, **SMALL), np.ones((1, 8, 6)), 3),
    "depth": lambda: (DepthNCAModel("cpu", 3, 4, **SMALL), np.random.rand(1, 1, 8, 6), 3),
    "classification": lambda: (ClassificationNCAModel("cpu", 3, 4, 3, **SMALL), np.array([[2]]), 2),
    "grey": lambda: (ClassificationNCAModel("cpu", 1, 4, 3, **SMALL), np.array([2]), 2),
    "self-classification": lambda: (SelfClassificationNCAModel("cpu", 4, 3, **SMALL), np.array([1]), 2),
}


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kind", MODELS)
def test_every_model_draws_its_batches_with_and_without_labels(kind, samples):
    model, label, rows = MODELS[kind]()
    image = torch.rand(samples, model.num_image_channels, 8, 6)
    prediction = model.predict(image)
    figure = model.plot_function.show(model, image.numpy(), prediction, np.repeat(label, samples, 0))
    assert len([axes for axes in figure.axes if axes.get_label() != "<colorbar>"]) == rows * samples
    figure.canvas.draw()
    unlabelled = model.plot_function.show(model, image.numpy(), prediction, None)
    drawn = [axes for axes in unlabelled.axes if axes.get_label() != "<colorbar>"]
    assert len(drawn) == (rows - (kind != "classification")) * samples


def test_bars_are_probabilities_and_that_of_the_true_class_is_green():
    model, _, _ = MODELS["classification"]()
    prediction = model.predict(torch.rand(2, 3, 8, 6))
    prediction.logits = torch.tensor([[0.0, 0.0, 5.0], [1.0, 1.0, 1.0]])
    figure = VisualRGBImageClassification().show(model, np.zeros((2, 3, 8, 6)), prediction, np.array([[2], [0]]))
    bars = [axes.patches for axes in figure.axes[2:]]
    assert [bar.get_width() for bar in bars[0]] == pytest.approx(torch.tensor([0.0, 0.0, 5.0]).softmax(0).tolist())
    colours = [[bar.get_facecolor() for bar in axes] for axes in bars]
    assert colours[0][2] == colours[1][0] != colours[0][0] == colours[1][2]


def test_rows_of_images_take_channels_first_and_last():
    from matplotlib.figure import Figure

    axes = Figure().subplots(1, 3)
    images = [np.full((3, 4, 5), -1.0), np.ones((4, 5, 3)), np.zeros((1, 4, 5))]
    show_image_row(axes, images, label="row", normalize=True, x_index=True, overlays=[np.eye(4, 5)] * 3)
    assert [axis.images[0].get_array().shape for axis in axes] == [(4, 5, 3), (4, 5, 3), (4, 5)]
    assert [float(axis.images[0].get_array().mean()) for axis in axes] == [0.0, 1.0, 0.5]
    assert [axis.get_xlabel() for axis in axes] == ["0", "1", "2"]
    model, *_ = MODELS["depth"]()
    nothing = model.predict(torch.zeros(0, 3, 8, 6))
    with pytest.raises(ShapeError, match="at least one sample"):
        VisualDepthEstimation().show(model, np.zeros((0, 3, 8, 6)), nothing, None)


def test_a_film_shows_every_step_of_every_sample(tmp_path):
    model, _, _ = MODELS["growing"]()
    animator = Animator(model, model.make_seed(8, 6).expand(2, -1, -1, -1), steps=4)
    assert len(animator.frames) == 8
    plain = Animator(model, model.make_seed(8, 6), 2, show_timestep=False, style="plain")
    assert plain.frames[0].shape == (256, 192, 3)
    wide = Animator(model, model.make_seed(8, 6), 2, hidden=True, show_input=True, style=animator_style_dark)
    assert wide.frames[0].shape == (256 + 24 + 3, 2 * 192, 3)
    assert len({frame.tobytes() for frame in wide.frames}) == 2  # caption and progress bar move
    for name in ("film.gif", "film.png"):
        animator.save(tmp_path / name)
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 8


def test_masks_are_drawn_over_the_images_of_models_and_cascades():
    model, _, _ = MODELS["segmentation"]()
    with torch.no_grad():
        model.rule.network[2].weight[-1] = 1.0  # the output grows everywhere
    image = torch.zeros(1, 3, 16, 16)
    for net in (model, CascadeNCA(model, [2, 1], [2, 2])):
        over, plain = (Animator(net, image, overlay=given, show_timestep=False).frames for given in (True, False))
        assert over[-1][100, 100].tolist() == [88, 128, 20]  # half of the overlay's colour over black
        assert plain[-1][100, 100].tolist() == [0, 0, 0]


def test_the_overlay_has_an_edge_and_no_single_cells():
    mask = np.zeros((12, 12))
    mask[3:9, 3:9], mask[0, 11] = 1, 1
    image = np.zeros((12, 12, 3))
    drawn = draw_segmentation_overlay(image, mask, median_denoise_kernel_size=3)
    assert image.max() == 0
    assert drawn[0, 11].max() == 0
    assert drawn[6, 3].tolist() == [0.69, 1.0, 0.16]
    assert drawn[6, 6].tolist() == pytest.approx([0.345, 0.5, 0.08])
    with pytest.raises(ConfigError, match="is odd, or 0"):
        draw_segmentation_overlay(image, mask, median_denoise_kernel_size=4)


def test_old_names_warn_and_unknown_styles_and_too_short_frames_are_refused():
    with pytest.warns(DeprecationWarning, match="is VisualRGBImageClassification"):
        assert isinstance(VisualMultiImageClassification(), VisualRGBImageClassification)
    model, _, _ = MODELS["growing"]()
    with pytest.raises(UnknownNameError, match="Did you mean 'dark'"):
        Animator(model, model.make_seed(8, 6), 2, style="drak")
    with pytest.raises(ConfigError, match="interval"):
        Animator(model, model.make_seed(8, 6), 2, interval=5)
