"""The Keras model against its twin in PyTorch."""

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    FullFilters,
    InputMask,
    LearnedFilters,
    LinearRule,
    MLPRule,
    Perception,
    make_seed,
    presets,
)
from delira_nca.rollout import masks as torch_masks
from delira_nca.rollout import using_backend

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
keras = pytest.importorskip("keras")

from delira_nca.models.tf import KerasNCA  # noqa: E402
from delira_nca.models.tf.keras_nca import _to_keras  # noqa: E402
from delira_nca.models.tf.masks import fire_mask, update_noise  # noqa: E402

MODELS = {
    "growing": presets.growing(),
    "fixed rate": presets.growing(fire_rate=1.0),
    "mask after": presets.growing(alive=AliveMask(3, 0.05, before=False)),
    "mask before": presets.growing(alive=AliveMask(3, 0.05, after=False)),
    "no alive mask, time and noise": presets.growing(alive=None, use_temporal_encoding=True, update_noise=0.02),
    "turned Sobel filters": presets.growing(perception=Perception("identity", "sobel", angle=0.4)),
    "circular laplacian": presets.growing(perception=Perception("sobel", "laplacian", padding="circular")),
    "replicated border": presets.growing(perception=Perception("identity", "sobel", padding="replicate")),
    "image, learned and reflected": {"num_image_channels": 2, "num_hidden_channels": 6, "alive": AliveMask(5, 0.0)},
    "wide learned filters with bias": {
        "num_image_channels": 2,
        "perception": Perception("identity", LearnedFilters(2, 5, bias=True), padding="replicate"),
        "rule": MLPRule((16, 8), nonlinearity="leaky_relu"),
    },
    "full filters and two layers": {
        "num_image_channels": 1,
        "num_hidden_channels": 5,
        "num_output_channels": 2,
        "perception": Perception("identity", FullFilters(7, relu=True), padding="zeros"),
        "rule": MLPRule(12, nonlinearity="gelu", spare_rows=1),
        "input_mask": InputMask(0, 0.4),
    },
    "silu": presets.growing(rule=MLPRule(9, nonlinearity="silu")),
    "tanh": presets.growing(rule=MLPRule(9, nonlinearity="tanh", final_bias=False)),
}


@pytest.fixture(params=MODELS, ids=str)
def model(request):
    torch.manual_seed(1)
    made = BasicNCAModel(**MODELS[request.param])
    with torch.no_grad():
        for parameter in made.rule.last.parameters():
            parameter.uniform_(-0.1, 0.1)
    return made


def channels_last(tensor):
    return np.ascontiguousarray(np.moveaxis(tensor.detach().numpy(), 1, -1))


@pytest.fixture
def state(model):
    return torch.rand(2, model.num_channels, 9, 12, generator=torch.Generator().manual_seed(3))


def test_states_and_gradients_are_those_of_pytorch(model, state):
    twin, weight = KerasNCA(model), torch.rand(state.shape, generator=torch.Generator().manual_seed(4))
    x = state.clone().requires_grad_()
    with using_backend("reference"):
        expected = model(x, 6, seed=11).output_image
    (expected * weight).sum().backward()
    start = tf.Variable(channels_last(state))
    with tf.GradientTape() as tape:
        found = twin(start, steps=6, seed=11)
        loss = tf.reduce_sum(found * channels_last(weight))
    np.testing.assert_allclose(found.numpy(), channels_last(expected), atol=2e-5)
    variables = twin.named_weights()
    gradients = tape.gradient(loss, [start, *(variable.value for variable in variables.values())])
    np.testing.assert_allclose(gradients[0].numpy(), channels_last(x.grad), rtol=1e-3, atol=1e-4)
    assert variables.keys() == dict(model.named_parameters()).keys()
    for (name, variable), gradient in zip(variables.items(), gradients[1:], strict=True):
        parameter = model.get_parameter(name)
        expected = _to_keras(parameter.grad.numpy(), variable.shape)
        size = np.abs(expected).max()
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-3, atol=1e-4 * size, err_msg=name)


def test_weights_go_to_keras_and_back_unchanged(model):
    twin = KerasNCA(model)
    for variable in twin.named_weights().values():
        variable.assign(variable + 0.25)
    back = twin.to_torch()
    assert type(back) is type(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight + 0.25), name


def test_a_grown_state_is_the_same_after_64_steps():
    torch.manual_seed(2)
    grower = BasicNCAModel(**presets.growing())
    torch.nn.init.uniform_(grower.rule.last.weight, -0.02, 0.02)
    seed = make_seed(16, (24, 24)).unsqueeze(0)
    expected = grower.predict(seed, 64, seed=5).output_image
    rolled = tf.function(KerasNCA(grower).__call__)(channels_last(seed), steps=tf.constant(64), seed=tf.constant(5))
    np.testing.assert_allclose(rolled.numpy(), channels_last(expected), atol=1e-4)


def test_a_compiled_call_takes_other_steps_and_seeds_without_another_trace():
    twin, traces = KerasNCA(**presets.growing()), []

    @tf.function
    def rollout(x, steps, seed):
        traces.append(1)
        return twin(x, steps=steps, seed=seed)

    x = tf.random.stateless_uniform((1, 8, 8, 16), (0, 1))
    for steps, seed in ((3, 0), (5, 2**32 - 1)):
        found = rollout(x, tf.constant(steps), tf.constant(seed, tf.int64))
        np.testing.assert_allclose(found, twin(x, steps=steps, seed=seed), atol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
@pytest.mark.parametrize("step", [0, 3, 1000])
def test_random_numbers_are_bit_equal(seed, step):
    fires = torch_masks.fire_mask(seed, step, 3, (6, 5), 0.37)
    assert np.array_equal(fire_mask(seed, step, (3, 6, 5, 4), 0.37), channels_last(fires))
    noise = torch_masks.update_noise(seed, step, 3, 4, (6, 5))
    assert np.array_equal(update_noise(tf.constant(seed, tf.int64), step, (3, 6, 5, 4)), channels_last(noise))


def test_the_keras_file_of_a_model_can_be_loaded(model, state, tmp_path):
    twin = KerasNCA(model)
    twin.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = channels_last(state)
    assert np.array_equal(again(x, steps=3, seed=1), twin(x, steps=3, seed=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": 3}, "3 spatial dimensions"),
        ({"rule": LinearRule()}, "LinearRule"),
        ({"head": torch.nn.Conv2d(12, 1, 1)}, "a head"),
        ({"alive": AliveMask(3, num_spared=1)}, "spares channels"),
    ],
)
def test_a_model_that_cannot_be_computed_is_refused(arguments, message, refuses):
    refuses(ConfigError, message, KerasNCA, BasicNCAModel(**arguments))


def test_wrong_states_and_arguments_are_refused(refuses):
    model = BasicNCAModel(**presets.growing())
    refuses(ShapeError, r"\(B, H, W, 16\), not \(1, 16, 8, 8\)", KerasNCA(model), np.zeros((1, 16, 8, 8)))
    refuses(ConfigError, "or the arguments of one", KerasNCA, model, fire_rate=1.0)
