"""Weights of the notebook "Growing Neural Cellular Automata", against a model written as the article describes it."""

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError, MissingFileError

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
keras = pytest.importorskip("keras")

from delira_nca.models.tf import load_notebook  # noqa: E402


class CellularAutomaton(keras.Model):
    """The article's automaton in which every cell updates: three filters per channel, ordered by channel."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.channels = channels
        self.dmodel = keras.Sequential(
            [keras.layers.Conv2D(hidden, 1, activation="relu"), keras.layers.Conv2D(channels, 1)]
        )
        self.dmodel.build((None, None, None, 3 * channels))

    def call(self, x):
        smooth, difference = np.float32([1, 2, 1]), np.float32([-1, 0, 1])
        along_x = np.outer(smooth, difference) / 8
        identity = np.outer(*np.float32([[0, 1, 0]] * 2))
        filters = np.stack([identity, along_x, along_x.T], -1)[:, :, None, :].repeat(self.channels, 2)
        before = self.living(x)
        x = x + self.dmodel(tf.nn.depthwise_conv2d(x, filters, [1, 1, 1, 1], "SAME"))
        return x * tf.cast(before & self.living(x), tf.float32)

    @staticmethod
    def living(x):
        return tf.nn.max_pool2d(x[..., 3:4], 3, [1, 1, 1, 1], "SAME") > 0.1


@pytest.fixture(
    params=[(16, 128), (12, 20), (14, 14)], ids=["of the notebook", "smaller", "as many channels as neurons"]
)
def automaton(request):
    made = CellularAutomaton(*request.param)
    draw = np.random.default_rng(0)
    made.set_weights([draw.normal(0, 0.04, weight.shape) for weight in made.get_weights()])
    made.built = True
    return made


def saved(automaton, kind, folder):
    if kind == "checkpoint":
        optimizer = keras.optimizers.Adam()
        optimizer.build(automaton.trainable_variables)
        return tf.train.Checkpoint(dmodel=automaton.dmodel, optimizer=optimizer).write(str(folder / "8000"))
    if kind == "h5":
        automaton.save_weights(folder / "8000.weights.h5")
        return folder / "8000.weights.h5"
    return automaton if kind == "model" else automaton.get_weights()


@pytest.mark.parametrize("kind", ["checkpoint", "h5", "model", "arrays"])
def test_the_states_are_those_of_the_notebook_s_automaton(automaton, kind, tmp_path):
    model = load_notebook(saved(automaton, kind, tmp_path), fire_rate=1.0)
    start = torch.rand(1, automaton.channels, 12, 40, generator=torch.Generator().manual_seed(0))
    start[..., 20:] = 0
    state = tf.constant(np.moveaxis(start.numpy(), 1, -1))
    for _ in range(12):
        state = automaton(state)
    found = np.moveaxis(model.predict(start, 12).output_image.numpy(), 1, -1)
    living = np.any(state, -1).mean()
    assert 0.1 < living < 1
    np.testing.assert_allclose(found, state, atol=1e-4)


def test_a_source_without_these_weights_is_refused(tmp_path, refuses):
    refuses(MissingFileError, "nothing.index", load_notebook, tmp_path / "nothing")
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(CheckpointError, match="neither a checkpoint of TensorFlow nor a file of Keras"):
        load_notebook(tmp_path / "text.h5")
    refuses(CheckpointError, r"\(3, 3, 4, 4\)", load_notebook, [np.zeros((3, 3, 4, 4)), np.zeros(4)])
