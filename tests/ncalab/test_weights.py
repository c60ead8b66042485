"""Weights trained by NCALab, Med-NCA and M3D-NCA give equal outputs here."""

import json
import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError
from delira_nca.export import to_html
from delira_nca.io.network import load_network, save_network
from delira_nca.models import PyramidNCA
from delira_nca.ncalab import (
    BasicNCATrainer,
    BinarySegmentationNCAModel,
    CascadeNCA,
    ClassificationNCAModel,
    DepthNCAModel,
    GrowingNCAModel,
    SelfClassificationNCAModel,
    load_ncalab,
)
from delira_nca.ncalab.weights import MedNCAModel
from delira_nca.rollout.backends import using_backend

SMALL = {"hidden_size": 8, "training_timesteps": 6, "inference_timesteps": 4}


def filled(model, immutable):
    """Model with weights as after a training: those of immutable image channels are zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.rule.network[2].weight[:immutable] = 0
    return model.eval()


MODELS = {
    "growing": (GrowingNCAModel, (8,), {"use_alive_mask": True}),
    "growing, learned filters": (GrowingNCAModel, (8,), {"num_learned_filters": 2, "kernel_size": 5}),
    "segmentation": (BinarySegmentationNCAModel, (3, 6), {"pad_noise": True, "use_temporal_encoding": True}),
    "classification": (ClassificationNCAModel, (3, 6, 4), {"avg_pool_size": 3}),
    "classification without head": (ClassificationNCAModel, (3, 6, 4), {"use_classifier": False}),
    "self-classification": (SelfClassificationNCAModel, (6, 4), {"use_laplace": True}),
    "depth": (DepthNCAModel, (3, 6), {}),
}


def make(kind):
    cls, channels, options = MODELS[kind]
    immutable = {GrowingNCAModel: 0, SelfClassificationNCAModel: 1}.get(cls, 3)
    return filled(cls("cpu", *channels, **options, **SMALL), immutable)


def stored(model, folder, *, compiled=False):
    """Folder as NCALab writes it."""
    folder.mkdir()
    prefix = "_orig_mod." if compiled else ""
    torch.save({f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}, folder / "best_model.pth")
    shown = ("num_image_channels", "num_hidden_channels", "num_output_channels", "fire_rate", "hidden_size")
    shown += ("use_alive_mask", "num_learned_filters", "use_laplace", "kernel_size", "filter_padding", "pad_noise")
    shown += ("use_temporal_encoding", "training_timesteps", "inference_timesteps")
    described = {name: getattr(model, name) for name in shown}
    (folder / "history.json").write_text(json.dumps({"best_model": described, "current_model": described}))
    return folder


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_of_nca_lab_gives_the_model_with_equal_outputs(kind, compiled, tmp_path, caplog):
    model = make(kind)
    cls = {"model": DepthNCAModel} if kind == "depth" else {}
    loaded = load_ncalab(stored(model, tmp_path / "run", compiled=compiled), **cls)
    assert type(loaded) is type(model)
    assert not loaded.training
    image = torch.rand(2, model.num_image_channels, 12, 12, generator=torch.Generator().manual_seed(0))
    ours, theirs = loaded.predict(image), model.predict(image)
    assert torch.equal(ours.output_image, theirs.output_image)
    assert torch.equal(ours.logits, theirs.logits)
    assumed = [record.message.partition("assumed: ")[2] for record in caplog.records if "assumed" in record.message]
    assert assumed == [f"model={type(model).__name__}"] * (kind in ("segmentation", "self-classification"))


def test_a_state_dict_gives_what_its_shapes_say_and_a_warning_of_the_rest(caplog):
    model = make("segmentation")
    with caplog.at_level(logging.WARNING):
        loaded = load_ncalab(model.state_dict(), num_hidden_channels=6, fire_rate=0.8)
    assert type(loaded) is BinarySegmentationNCAModel
    assert (loaded.num_image_channels, loaded.use_temporal_encoding, loaded.num_learned_filters) == (3, True, 2)
    expected = "model=BinarySegmentationNCAModel, filter_padding='circular', pad_noise=False, training_timesteps=100"
    assert f"which are assumed: {expected}, inference_timesteps=100, an activation of ReLU" in caplog.text
    assert "fire_rate" not in caplog.text
    other = load_ncalab(model.state_dict(), DepthNCAModel, **SMALL, fire_rate=0.8, filter_padding="circular")
    assert torch.equal(other.rule.network[0].weight, model.rule.network[0].weight)
    with pytest.raises(ConfigError, match="7 channels follow the 3 image channels: give num_hidden_channels"):
        load_ncalab(model.state_dict())


def test_weights_are_loaded_into_a_given_model():
    model, other = make("classification"), make("classification")
    nn.init.zeros_(other.rule.network[0].weight)
    assert load_ncalab(model.state_dict(), other) is other
    assert torch.equal(other.rule.network[0].weight, model.rule.network[0].weight)
    with pytest.raises(ConfigError, match="arguments cannot be combined with a model"):
        load_ncalab(model.state_dict(), other, fire_rate=1.0)
    with pytest.raises(CheckpointError, match="do not fit a GrowingNCAModel"):
        load_ncalab(model.state_dict(), make("growing"))


def test_a_cascade_needs_its_scales_and_steps_also_if_it_was_trained_here(tmp_path):
    model = make("segmentation")
    state = {f"_orig_mod.wrapped.{name}": tensor for name, tensor in model.state_dict().items()}
    arguments = {"num_hidden_channels": 6, "use_temporal_encoding": True, "pad_noise": True, **SMALL}
    loaded = load_ncalab(state, scales=[2, 1], steps=[3, 2], **arguments)
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded.predict(image).logits, CascadeNCA(model, [2, 1], [3, 2]).predict(image).logits)
    with pytest.raises(ConfigError, match="contain neither its scales nor its steps"):
        load_ncalab(state, **arguments)

    net = CascadeNCA(make("segmentation"), [2, 1], [3, 2], single_model=False)
    pairs = [(torch.rand(2, 3, 8, 8), torch.ones(2, 8, 8))]
    BasicNCATrainer(net, tmp_path / "run", max_epochs=1).train(pairs)
    loaded = load_ncalab(tmp_path / "run", scales=[2, 1], steps=[3, 2], **arguments)
    assert torch.equal(loaded.wrapped.rule.network[0].weight, net.wrapped.rule.network[0].weight)


@pytest.mark.parametrize("size", [3, 5])
def test_the_padding_and_kernel_size_in_the_history_of_a_cascade_are_not_those_of_its_model(tmp_path, caplog, size):
    model = filled(BinarySegmentationNCAModel("cpu", 3, 6, kernel_size=size, **SMALL), 3)
    folder = stored(model, tmp_path / "run")
    history = json.loads((folder / "history.json").read_text())
    history["best_model"] |= {"filter_padding": "reflect", "kernel_size": 3}  # as NCALab's cascade writes them
    (folder / "history.json").write_text(json.dumps(history))
    torch.save({f"wrapped.{name}": value for name, value in model.state_dict().items()}, folder / "best_model.pth")
    loaded = load_ncalab(folder, scales=[2, 1], steps=[3, 2])
    image = torch.rand(1, 3, 12, 12)
    assert torch.equal(loaded.predict(image).logits, CascadeNCA(model, [2, 1], [3, 2]).predict(image).logits)
    assert "filter_padding='circular'" in caplog.text


def test_what_cannot_be_loaded_is_refused(tmp_path):
    torch.save({"layer.weight": torch.ones(1)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"broken")
    cascade, cell = {"scales": [2, 1], "steps": [3, 2]}, med_nca("basic")
    model, zero = make("segmentation").state_dict(), GrowingNCAModel("cpu", 8, **SMALL).state_dict()
    no_weights = r"not weights of NCALab's MLPNCARule, Med-NCA or M3D-NCA: \['layer.weight'\]"
    for weights, options, error, message in (
        (model, {"num_hidden_channels": 6, **cascade}, ConfigError, "scales and steps belong to a cascade"),
        (cell, {"model": DepthNCAModel}, ConfigError, "follows from its weights: leave model out"),
        (cell, {"scales": [1]}, ConfigError, "scales belong to several levels"),
        (cell, {"num_classes": 2}, ConfigError, "'num_classes' is not a setting of Med-NCA or M3D-NCA"),
        (zero, {}, ConfigError, "the weights do not show the number of image channels"),
        ({"epoch": 3}, {}, CheckpointError, r"this is not a state dict: its entries are \['epoch'\]"),
        (tmp_path, {}, MissingFileError, "contains none of best_model.pth, last_model.pth"),
        (tmp_path / "model.pth", {}, MissingFileError, "file not found"),
        (tmp_path / "other.pth", {}, CheckpointError, no_weights),
        (tmp_path / "broken.pth", {}, CheckpointError, "is not a state dict"),
    ):
        with pytest.raises(error, match=message):
            load_ncalab(weights, **options)


def test_weights_of_image_channels_that_are_not_used_are_a_warning_unless_the_class_is_given(caplog):
    model = make("segmentation")
    nn.init.normal_(model.rule.network[2].weight)
    arguments = {"num_image_channels": 3, "num_hidden_channels": 6, "filter_padding": "circular", **SMALL}
    loaded = load_ncalab(model.state_dict(), **arguments)
    assert "weights for the 3 image channels, which are not used" in caplog.text
    caplog.clear()
    load_ncalab(model.state_dict(), BinarySegmentationNCAModel, **arguments)
    assert "image channels" not in caplog.text
    image = torch.rand(1, 3, 8, 8)
    model.pad_noise = False
    assert torch.equal(loaded.predict(image, 4).logits, model.predict(image, 4).logits)


def test_weights_in_a_checkpoint_are_found_other_activations_are_passed_and_nothing_is_drawn(tmp_path):
    model = filled(GrowingNCAModel("cpu", 8, rule_args={"nonlinearity": nn.GELU}, **SMALL), 0)
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, tmp_path / "checkpoint.pth")
    state = torch.get_rng_state()
    loaded = load_ncalab(tmp_path / "checkpoint.pth", rule_args={"nonlinearity": nn.GELU}, **SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    seed = model.make_seed(8, 8)
    assert torch.equal(loaded.predict(seed).logits, model.predict(seed).logits)


@pytest.mark.processor
def test_everything_works_on_weights_that_were_loaded(tmp_path):
    model = make("growing")
    model.save(tmp_path / "growing.safetensors")
    loaded = load_ncalab(tmp_path / "growing.safetensors", use_alive_mask=True, fire_rate=0.5, **SMALL)
    seed = loaded.make_seed(12, 12)
    with using_backend("reference"):
        expected = loaded.predict(seed, 20).output_image
    torch.testing.assert_close(loaded.predict(seed, 20).output_image, expected, rtol=1e-3, atol=1e-4)
    save_network(loaded, tmp_path / "ours.safetensors")
    assert torch.equal(load_network(tmp_path / "ours.safetensors").predict(seed).logits, loaded.predict(seed).logits)
    to_html(loaded, tmp_path / "page.html", grid=(12, 12))
    assert (tmp_path / "page.html").stat().st_size > 10_000
    loader = DataLoader(TensorDataset(seed.expand(2, -1, -1, -1), torch.rand(1, 4, 12, 12).expand(2, -1, -1, -1)), 2)
    trainer = BasicNCATrainer(loaded, tmp_path / "run", max_epochs=1)
    trainer.train(loader)
    trainer.max_epochs = 2
    assert trainer.train(loader, resume="auto").current_epoch == 2


def med_nca(kind, channels=6, hidden=9, seed=0):
    """State dict of a cell of Med-NCA or M3D-NCA."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return 0.4 * torch.randn(shape, generator=generator) / (torch.Size(shape[1:]).numel() or 1) ** 0.5

    filters = {"basic": 2, "backbone": 2, "3d": 1}[kind]
    state = {"fc0.weight": 2 * rand(hidden, (1 + filters) * channels), "fc0.bias": rand(hidden)}
    state["fc1.weight"] = rand(channels, hidden)
    if kind == "backbone":
        for name in ("p0", "p1"):
            state |= {f"{name}.weight": rand(channels, channels, 3, 3), f"{name}.bias": rand(channels)}
    if kind == "3d":
        state |= {"p0.weight": rand(channels, 1, 3, 3, 3), "p0.bias": rand(channels)}
        state |= {"bn.weight": 1 + rand(hidden), "bn.bias": rand(hidden)}
    return state


@pytest.mark.parametrize("kind", ["basic", "backbone", "3d"])
def test_a_cell_of_med_nca_or_m3d_nca_computes_the_same(kind, med_nca_step):
    weights = med_nca(kind)
    model = load_ncalab(weights, fire_rate=0.0)
    assert model.fire_rate == 1.0
    assert type(model) is MedNCAModel
    x = torch.rand(2, *((7, 9) if kind != "3d" else (5, 6, 7)), 6, generator=torch.Generator().manual_seed(1))
    expected = x
    for _ in range(4):
        expected = med_nca_step(expected, weights)
    prediction = model.predict(x.movedim(-1, 1), 4)
    torch.testing.assert_close(prediction.output_image.movedim(1, -1), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prediction.logits.movedim(1, -1), expected[..., 1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prediction.hidden_channels.movedim(1, -1), expected[..., 2:], rtol=1e-4, atol=1e-5)


def test_their_fire_rate_is_the_probability_of_not_firing():
    assert load_ncalab(med_nca("basic"), fire_rate=0.9).fire_rate == pytest.approx(0.1)
    cell = load_ncalab(med_nca("basic"), steps=3)
    assert (cell.fire_rate, cell.inference_timesteps) == (0.5, 3)
    two = load_ncalab(med_nca("basic"), input_channels=2, output_channels=2)
    assert (two.num_fixed_channels, two.first_output_channel, two.num_hidden_channels) == (2, 2, 2)


def test_several_levels_of_med_nca_become_a_pyramid(tmp_path):
    for number in range(2):
        torch.save(med_nca("backbone", seed=number), tmp_path / f"model{number}.pth")
    pyramid = load_ncalab(tmp_path)
    assert type(pyramid) is PyramidNCA
    assert (pyramid.scales, pyramid.steps) == (((4, 4), (1, 1)), (64, 64))
    assert pyramid.predict(torch.rand(1, 1, 16, 16), (2, 2)).logits.shape == (1, 1, 16, 16)
    files = [tmp_path / "model0.pth", tmp_path / "model1.pth"]
    chosen = load_ncalab(files, scales=[2, 1], steps=[3, 3], fire_rate=0.2)
    assert (chosen.steps, chosen.fire_rate) == ((3, 3), 0.8)
    volumes = load_ncalab([med_nca("3d", seed=number) for number in range(3)])
    assert (volumes.scales, volumes.steps, volumes.downscale) == (
        *(((4, 4, 4), (2, 2, 2), (1, 1, 1)), (10, 10, 10)),
        "max",
    )
    save_network(chosen, tmp_path / "pyramid.safetensors")
    loaded = load_network(tmp_path / "pyramid.safetensors")
    image = torch.rand(1, 1, 8, 8)
    assert torch.equal(loaded.predict(image).logits, chosen.predict(image).logits)
