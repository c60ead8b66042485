"""Assembly of losses for a training: what they need, and the modules that compute them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from delira_nca.assembly.evaluator import Evaluator, PlotMaker, named_tensors
from delira_nca.assembly.nodes import Algebra, Constant, Entry, Node, StateTerm, Term, addends, as_node
from delira_nca.assembly.set_metric import SetMetric
from delira_nca.data_loading.batches import first_batch
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError, did_you_mean
from delira_nca.models.network import total_loss
from delira_nca.models.pytorch_network import LossTerm

__all__ = [
    "AssembledLoss",
    "OutputModule",
    "TrainingModules",
    "assemble_for_training",
    "build_loss_modules",
    "determine_out_in_targ",
    "generate_database_info",
]


class AssembledLoss(nn.Module):
    """Loss of a training, from `build_loss_modules`. It is given to a trainer as ``criterions``.

    The addends of the loss become the criterions of the trainer, so that each is logged under its name. Terms over
    states within the roll-out become its loss terms, and the validation losses its metrics, which are computed on whole
    validation sets.

    Parameters
    ----------
    node : Node
        Loss to minimise.
    evaluator : Evaluator or None
        Evaluator of the validation losses.

    Raises
    ------
    ConfigError
        If the loss has no addend with a prediction.
    """

    def __init__(self, node: Node, evaluator: Evaluator | None = None) -> None:
        super().__init__()
        parts = addends(node)
        self.terms: dict[str, LossTerm] = _named([part for part in parts if isinstance(part, StateTerm)])
        self.nodes: dict[str, Node] = _named([part for part in parts if not isinstance(part, StateTerm)])
        if not any(entry.kind == "pred" for entry in entries_of(*self.nodes.values())):
            raise ConfigError(f"the loss {node!r} has no prediction: it would not train the network")
        if shared := sorted(self.nodes.keys() & self.terms.keys()):
            raise ConfigError(f"two addends of the loss are called {shared[0]!r}: give one of them another name")
        self.evaluator = evaluator
        functions = dict.fromkeys(part.function for part in node.walk() if isinstance(part, Term))
        self.functions = nn.ModuleList(function for function in functions if isinstance(function, nn.Module))

    def forward(self, named: Mapping[str, Any]) -> Tensor:
        """Return the loss for the entries of a batch and the parts of a prediction, without terms over states."""
        total: Tensor = total_loss({name: node.value(named) for name, node in self.nodes.items()})
        return total

    def criterions(self) -> dict[str, _Function]:
        """Return the addends as functions of their tensors by name."""
        return {name: _Function(node) for name, node in self.nodes.items()}

    def metrics(self) -> dict[str, SetMetric]:
        """Return the validation losses that are not criterions as metrics."""
        found = {} if self.evaluator is None else self.evaluator.metrics
        return {name: metric for name, metric in found.items() if self.nodes.get(name) is not metric.node}

    def metric_keys(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the arguments of criterions and validation losses."""
        keys = {name: node.needed_keys() for name, node in self.nodes.items()}
        return keys | ({} if self.evaluator is None else self.evaluator.metric_keys())


class _Function:
    """Expression as a function of its tensors, in the order of ``node.needed_keys()``."""

    def __init__(self, node: Node) -> None:
        self.node, self.__name__ = node, node.name

    def __call__(self, *tensors: Any) -> Any:
        return self.node.value(dict(zip(self.node.needed_keys(), tensors, strict=True)))

    def __repr__(self) -> str:
        return repr(self.node)


class OutputModule(nn.Module):
    """Network that returns only the parts of its prediction that losses need, by name.

    Parameters
    ----------
    network : AbstractPyTorchNetwork
        Network.
    outputs : sequence of str
        Names of the parts.
    """

    def __init__(self, network: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.network, self.outputs = network, tuple(outputs)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts for a prepared batch.

        Raises
        ------
        UnknownNameError
            If the prediction has no such part.
        """
        named = named_tensors(self.network, batch)
        return {name: Entry("pred", name).value(named) for name in self.outputs}


class TrainingModules(NamedTuple):
    """Result of `assemble_for_training`.

    Attributes
    ----------
    model : OutputModule or None
        Network with the needed outputs; None if no prediction names its network.
    loss : AssembledLoss
        Loss, for the argument ``criterions`` of a trainer.
    evaluator : Evaluator
        Evaluator of the validation losses.
    """

    model: OutputModule | None
    loss: AssembledLoss
    evaluator: Evaluator


def assemble_for_training(
    train_loss: Node,
    validation_losses: Mapping[str, Node] | Sequence[Node],
    validation_names: Sequence[str] | None = None,
    plot_maker: PlotMaker | None = None,
) -> tuple[TrainingModules, dict[str, list[str]]]:
    """Determine what losses need, and build the modules of a training.

    Parameters
    ----------
    train_loss : Node
        Loss to minimise.
    validation_losses : mapping of str to Node, or sequence of Node
        Losses to compute on whole validation sets.
    validation_names : sequence of str or None
        Names of the losses of a sequence; those of the nodes by default.
    plot_maker : PlotMaker or None
        Plots to draw in evaluations.

    Returns
    -------
    tuple of (TrainingModules, dict)
        Modules, and the sorted names of the entries of a batch that are ``"inputs"`` of the network and ``"targets"``
        of losses.

    Raises
    ------
    ConfigError
        If names are missing, superfluous, repeated or not strings, or the loss has no prediction.

    Notes
    -----
    It has the names and arguments of hippynn. In hippynn the order of the names differs between processes, and a wrong
    number of names is accepted.

    Examples
    --------
    >>> from torch.nn import functional as F
    >>> from delira_nca.assembly import pred, target, term
    >>> bce = term(F.binary_cross_entropy_with_logits, pred("logits"), target("seg"), name="bce")
    >>> modules, db_info = assemble_for_training(bce, {"bce on all": bce})
    >>> db_info, modules.loss.metric_keys()["bce"]
    ({'inputs': ['data'], 'targets': ['seg']}, ('logits', 'seg'))
    """
    losses = _losses_by_name(validation_losses, validation_names)
    outputs, inputs, targets = determine_out_in_targ(train_loss, *losses.values())
    loss, evaluator = build_loss_modules(train_loss, losses, outputs, inputs, plot_maker=plot_maker)
    networks = {id(entry.model): entry.model for entry in outputs if entry.model is not None}
    if len(networks) > 1:
        raise ConfigError("the predictions are of several networks: a trainer trains one")
    network = next(iter(networks.values()), None)
    model = None if network is None else OutputModule(network, sorted({entry.key for entry in outputs}))
    return TrainingModules(model, loss, evaluator), generate_database_info(inputs, targets)


def determine_out_in_targ(*nodes_required_for_loss: Node) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Return the predictions, inputs and targets that losses need, each sorted by name.

    Parameters
    ----------
    *nodes_required_for_loss : Node
        Losses.

    Returns
    -------
    tuple of (outputs, inputs, targets)
        Lists of entries. The inputs contain ``inp("data")``, unless the losses name other inputs.
    """
    found = entries_of(*nodes_required_for_loss)
    outputs, inputs, targets = ([e for e in found if e.kind == kind] for kind in ("pred", "input", "target"))
    return outputs, inputs or [Entry("input", "data")], targets


def build_loss_modules(
    training_loss: Node,
    validation_losses: Mapping[str, Node],
    network_outputs: Sequence[Entry],
    database_inputs: Sequence[Entry],
    *,
    plot_maker: PlotMaker | None = None,
) -> tuple[AssembledLoss, Evaluator]:
    """Build the module of the loss and the evaluator.

    Parameters
    ----------
    training_loss : Node
        Loss to minimise.
    validation_losses : mapping of str to Node
        Losses to compute on whole validation sets, by name.
    network_outputs, database_inputs : sequence of Entry
        Predictions and inputs from `determine_out_in_targ`.
    plot_maker : PlotMaker or None
        Plots to draw in evaluations.

    Raises
    ------
    ConfigError
        If a loss needs a prediction that is not among the outputs.
    """
    known = {entry.key for entry in network_outputs}
    for entry in entries_of(training_loss, *validation_losses.values()):
        if entry.kind == "pred" and entry.key not in known:
            raise UnknownNameError(f"{entry!r} is not among the outputs. {did_you_mean(entry.key, known)}")
    network = next((entry.model for entry in network_outputs if entry.model is not None), None)
    evaluator = Evaluator(validation_losses, plot_maker, network=network)
    return AssembledLoss(training_loss, evaluator), evaluator


def generate_database_info(
    inputs: Sequence[Entry | str], targets: Sequence[Entry | str], allow_unfound: bool = False, *, data: Any = None
) -> dict[str, list[str]]:
    """Return the names of the entries of a batch that a training needs, and check them against real data.

    Parameters
    ----------
    inputs, targets : sequence of Entry or str
        Inputs of the network, and targets of losses.
    allow_unfound : bool
        Whether entries that the data lack are left out instead of raising an error.
    data : object or None
        Data manager, dataset, or batch (a dict of arrays), from which one batch is read in this process. It is checked
        that every entry is there, is an array of numbers with at least one axis, and has the same length.

    Returns
    -------
    dict
        Sorted names under ``"inputs"`` and ``"targets"``.

    Raises
    ------
    ConfigError
        If an input has no name, or an entry of the data is not an array of numbers.
    UnknownNameError
        If an entry is missing in the data. The message names all missing ones, and the most similar name.
    ShapeError
        If entries differ in length.

    Examples
    --------
    >>> import numpy as np
    >>> generate_database_info(["data"], ["sge"], data={"data": np.zeros((2, 1)), "seg": np.zeros((2, 1))})
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: the data lack the target 'sge'. Known: 'data', 'seg'. Did you mean 'seg'?
    """
    names = {
        kind: sorted({entry.key if isinstance(entry, Entry) else entry for entry in given})
        for kind, given in (("inputs", inputs), ("targets", targets))
    }
    for kind, found in names.items():
        for name in found:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"{kind} are entries or their names, not {name!r}")
    if data is None:
        return names
    batch = first_batch(data)
    missing = {kind: [name for name in found if name not in batch] for kind, found in names.items()}
    if allow_unfound:
        names = {kind: [name for name in found if name in batch] for kind, found in names.items()}
    elif any(missing.values()):
        lacks = [f"the {kind[:-1]} {name!r}" for kind, found in missing.items() for name in found]
        first = next(name for found in missing.values() for name in found)
        raise UnknownNameError(f"the data lack {' and '.join(lacks)}. {did_you_mean(first, batch)}")
    _require_rows({name: batch[name] for found in names.values() for name in found})
    return names


def entries_of(*nodes: Node) -> list[Entry]:
    """Return the entries that expressions need, sorted by kind and name. One that names its network is preferred.

    Raises
    ------
    ConfigError
        If entries of one name are of different networks.
    """
    found: dict[tuple[str, str], Entry] = {}
    for e in (part for node in nodes for part in as_node(node).walk() if isinstance(part, Entry)):
        former = found.setdefault((e.kind, e.key), e)
        if former.model is None:
            found[e.kind, e.key] = e
        elif e.model is not None and e.model is not former.model:
            raise ConfigError(f"{e!r} is of several networks: a trainer trains one")
    return [found[key] for key in sorted(found)]


def _losses_by_name(losses: Any, names: Sequence[str] | None) -> dict[str, Node]:
    if isinstance(losses, Mapping):
        if names is not None:
            raise ConfigError("validation_names are for a sequence of losses: a mapping has its names already")
        pairs = list(losses.items())
    else:
        given = list(losses)
        names = [node.name if isinstance(node, Node) else "" for node in given] if names is None else list(names)
        if len(names) != len(given):
            raise ConfigError(f"{len(given)} validation losses need as many validation_names, not {len(names)}")
        pairs = list(zip(names, given, strict=True))
    for name, node in pairs:
        if not isinstance(name, str) or not isinstance(node, Node):
            raise ConfigError(f"validation losses are nodes by name, not {name!r}: {node!r}")
    if len({name for name, _ in pairs}) != len(pairs):
        raise ConfigError(f"the names of validation losses differ, unlike {sorted(name for name, _ in pairs)}")
    return dict(pairs)


def _named(nodes: Sequence[Any]) -> dict[str, Any]:
    """Name the addends of a loss by the only function in each, or by the formula."""
    named: dict[str, Any] = {}
    for node in nodes:
        functions = list(_functions(node))
        base = functions[0].name if len(functions) == 1 else node.name
        name, number = base, 1
        while name in named or name == "loss":
            number += 1
            name = f"{base} {number}"
        named[name] = node
    return named


def _functions(node: Node) -> Iterator[Node]:
    """Yield the functions that an expression combines, without those of which they are functions."""
    if isinstance(node, Algebra):
        yield from _functions(node.left)
        yield from _functions(node.right)
    elif not isinstance(node, (Constant, Entry)):
        yield node


def _require_rows(entries: Mapping[str, Any]) -> None:
    lengths = {}
    for name, value in entries.items():
        array = value if isinstance(value, Tensor) else np.asarray(value)
        is_numeric = isinstance(array, Tensor) or array.dtype.kind in "biufc"
        if not is_numeric or array.ndim == 0:
            kind = array.dtype if array.ndim else "a single value"
            raise ConfigError(
                f"entry {name!r} of a batch must be an array of numbers with one row per sample, not {kind}"
            )
        lengths[name] = len(array)
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"the entries of a batch have different numbers of samples: {lengths}")
