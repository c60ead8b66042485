import copy

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.data_loading import DictDataset
from delira_nca.evaluation import MCMC, stochastic_runs
from delira_nca.experiment import Experiment
from delira_nca.export import to_html
from delira_nca.io import load_checkpoint, load_network, save_network
from delira_nca.losses import mse
from delira_nca.models import AbstractPyTorchNetwork, BasicNCAModel, Model, PyramidNCA
from delira_nca.models.compiled import unwrapped
from delira_nca.models.tiled import tiled_predict
from delira_nca.models.transfer import finetune, graft
from delira_nca.rollout import rollout
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import LongRunSelection

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # Dynamo's own


class OwnRule(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Conv2d(12, 3, 1)

    def forward(self, perception):
        return self.layer(perception)


class Net(AbstractPyTorchNetwork):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1))
        self.traces = 0

    def forward(self, x):
        self.traces += torch.compiler.is_compiling()
        return self.blocks(x)


def automaton(**changes):
    torch.manual_seed(0)
    arguments = {"num_image_channels": 1, "num_hidden_channels": 2, "num_output_channels": 1, "hidden_size": 8}
    return BasicNCAModel(**{**arguments, "training_timesteps": 3, "inference_timesteps": 3, **changes})


def net():
    torch.manual_seed(0)
    return Net()


def compiled(module):
    return torch.compile(module, backend="eager")


def compiled_in_place(module):
    module.compile(backend="eager")
    return module


def with_compiled_rule(module):
    module.rule = compiled(module.rule)
    return module


def with_compiled_block(module):
    module.blocks[0] = compiled(module.blocks[0])
    return module


WAYS = {
    "automaton": (automaton, compiled),
    "automaton in place": (automaton, compiled_in_place),
    "rule": (automaton, with_compiled_rule),
    "own rule": (lambda: automaton(rule=OwnRule()), with_compiled_rule),
    "network": (net, compiled),
    "network in place": (net, compiled_in_place),
    "block": (net, with_compiled_block),
}


@pytest.fixture(params=WAYS)
def way(request):
    torch.compiler.reset()
    return WAYS[request.param]


def make(network, folder, **changes):
    return PyTorchNetworkTrainer(network, folder, {"mse": mse}, torch.optim.Adam, {"lr": 1e-2}, **changes)


def batches():
    source = torch.Generator().manual_seed(0)
    drawn = [torch.rand(2, 1, 6, 6, generator=source).numpy() for _ in range(4)]
    return [{"data": drawn[0], "label": drawn[1]}, {"data": drawn[2], "label": drawn[3]}]


def assert_equal_weights(network, other):
    mine, theirs = network.state_dict(), other.state_dict()
    assert list(mine) == list(theirs)
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name])


def test_a_compiled_network_is_trained_saved_and_resumed_with_and_without_compilation(way, tmp_path):
    build, compile_it = way
    plain = make(build(), None).train(3, batches())
    best = make(compile_it(build()), tmp_path).train(1, batches(), None, "loss", "lowest")
    saved = load_checkpoint(tmp_path / "checkpoint_epoch_1.safetensors")
    assert list(saved["network"]) == list(best.state_dict()) == list(build().state_dict())
    make(build(), tmp_path).train(2, batches(), resume="auto")
    resumed = make(compile_it(build()), tmp_path).train(3, batches(), resume="auto")
    assert_equal_weights(resumed, plain)


def test_a_network_that_the_trainer_unwraps_stays_compiled():
    torch.compiler.reset()
    network = net()
    make(compiled(network), None).train(1, batches())
    assert network.traces > 0


@pytest.mark.parametrize("compile_it", [compiled, compiled_in_place, with_compiled_rule])
def test_a_compiled_automaton_is_saved_loaded_exported_and_called(compile_it, tmp_path):
    torch.compiler.reset()
    network, plain = compile_it(automaton()), automaton()
    state = torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(network(state, 3, seed=1).output_image, plain(state, 3, seed=1).output_image)
    save_network(network, tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt")
    assert_equal_weights(loaded, plain)
    image = torch.rand(1, 1, 6, 6)
    torch.testing.assert_close(network.predict(image).output_image, plain.predict(image).output_image)
    assert to_html(network, tmp_path / "live.html", task="segment").is_file()
    assert_equal_weights(graft(network, plain), plain)


def test_the_state_dict_of_a_compiled_automaton_loads_into_a_part_that_is_compiled_again(tmp_path):
    own = automaton(rule=compiled(OwnRule()))
    save_network(own, tmp_path / "own.pt")
    loaded = load_network(tmp_path / "own.pt", rule=compiled(OwnRule()))
    assert_equal_weights(loaded, own)


def test_compiled_levels_and_architectures_have_their_names():
    cascade = PyramidNCA([compiled(automaton()), automaton()], [2, 1], [2, 2])
    model = Model(compiled(automaton()), compiled(nn.Conv2d(4, 2, 1)))
    assert not [name for name in [*cascade.state_dict(), *model.state_dict()] if "_orig_mod" in name]


def test_a_roll_out_within_a_compiled_function_equals_the_plain_one():
    torch.compiler.reset()
    model, state = automaton(), torch.rand(1, 4, 6, 6)
    step = torch.compile(lambda x: 2 * rollout(x + 1, model, 3, seed=1), backend="eager")
    torch.testing.assert_close(step(state), 2 * rollout(state + 1, model, 3, seed=1))


def test_an_unwrapped_module_is_copied_without_what_was_compiled():
    module = unwrapped(compiled(nn.Sequential(compiled(nn.Linear(2, 2)), nn.ReLU())))
    assert [type(part).__name__ for part in module] == ["Linear", "ReLU"]
    assert_equal_weights(copy.deepcopy(module), module)


def test_functions_on_networks_take_compiled_ones():
    image = torch.rand(1, 1, 12, 12)
    assert list(finetune(compiled(automaton()))) == list(finetune(automaton())) == ["rule.last.weight"]
    assert torch.equal(tiled_predict(compiled(automaton()), image, 8, 2), tiled_predict(automaton(), image, 8, 2))
    steps = {"inference_timesteps": 12}
    for runs in (lambda network: MCMC(network).runs(image), lambda network: stochastic_runs(network, image, 2)):
        assert torch.equal(
            *(runs(network).predictions for network in (compiled(automaton(**steps)), automaton(**steps)))
        )


class CompiledInside(AbstractPyTorchNetwork):
    """A network that compiles a part of itself."""

    def __init__(self):
        super().__init__()
        self.layer = torch.compile(nn.Conv2d(1, 1, 1), backend="eager")

    def forward(self, images):
        return self.layer(images)


def test_networks_that_compile_a_part_are_loaded_from_their_runs(tmp_path):
    images = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    data = DictDataset({"data": images, "label": images})
    settings = {"model": {}, "training": {"criterions": {"mse": mse}, "num_epochs": 1, "batch_size": 2}}
    experiment = Experiment(settings, CompiledInside, "inside", tmp_path)
    trained = experiment.run(data)
    loaded = experiment.load_network(experiment.last_run.folder)
    assert torch.equal(loaded.layer.weight, trained.layer.weight)


def test_a_long_run_gives_the_best_weights_to_a_compiled_network():
    batch = {"data": torch.rand(1, 1, 8, 8), "label": torch.rand(1, 1, 8, 8)}
    selection, network = LongRunSelection(batch, every=1, factor=2), compiled(automaton())
    trainer = PyTorchNetworkTrainer(network, None, {"mse": mse}, callbacks=[selection])
    trainer.train(1, [batch])
    assert isinstance(selection.network(network), BasicNCAModel)
