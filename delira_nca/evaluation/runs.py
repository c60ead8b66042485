"""Probabilities from several stochastic roll-outs of the same images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, require_choice
from delira_nca.models import BasicNCAModel, Prediction
from delira_nca.models.compiled import unwrapped
from delira_nca.rollout import DEFAULT_MEMORY_BUDGET
from delira_nca.rollout.job import BatchPart, at_part, current_part
from delira_nca.seeding import derive_seed, isolated_rng

__all__ = ["Activation", "Runs", "Steps", "evaluating", "is_of_logits", "predicted", "probabilities", "stochastic_runs"]

Activation = str | Callable[[Tensor], Tensor]
"""``"sigmoid"``, ``"softmax"``, ``"none"``, ``"auto"``, or a function of the logits."""

Steps = int | Sequence[int]
"""Number of steps; for an automaton also a range (low, high); for a pyramid one number per level."""

_WIDTHS = 4
"""Estimated number of simultaneous copies of all layers' channels in one step without gradients."""


class Runs(NamedTuple):
    """Predictions of several runs.

    Attributes
    ----------
    predictions : Tensor
        (N, B, C, *spatial) probabilities.
    exclusive : bool
        Whether the channels are mutually exclusive classes, which sum to 1.
    """

    predictions: Tensor
    exclusive: bool


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode and disable gradients inside the block. Afterwards the modes of all modules are restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def predicted(model: Any, batch: Mapping[str, Any], *, seed: int, steps: Steps | None) -> tuple[Any, Tensor]:
    """Return the prediction of a model, and its part ``"logits"`` if that exists, else ``"pred"``.

    Raises
    ------
    ConfigError
        If ``steps`` is given for a model that sets them itself, or the model has no prediction.
    """
    if set(batch) <= {"data", "goal"} and hasattr(model, "predict"):
        arguments = {name: batch[name] for name in set(batch) - {"data"}}
        arguments |= {} if steps is None else {"steps": steps}
        prediction = model.predict(batch["data"], **arguments, seed=seed)
        parts = prediction.parts() if hasattr(prediction, "parts") else {"pred": prediction}
    elif not hasattr(model, "forward_batch"):
        raise ConfigError(f"{type(model).__name__} has neither predict() nor forward_batch()")
    elif steps is not None:
        raise ConfigError(f"{type(model).__name__} decides itself how many steps a batch is rolled out: give no steps")
    else:
        prediction, parts = model.forward_batch(batch, seed=seed, train=False)
    return prediction, parts["logits"] if "logits" in parts else parts["pred"]


def probabilities(prediction: Any, scores: Tensor, activation: Activation) -> tuple[Tensor, bool]:
    """Return probabilities, and whether the channels are mutually exclusive.

    Parameters
    ----------
    prediction : object
        Prediction that contains the scores. For an automaton it shows whether they are logits or an image.
    scores : Tensor
        (B, C, *spatial) scores.
    activation : str or callable
        Activation. ``"auto"`` is the sigmoid for one channel, the softmax for several.

    Raises
    ------
    ConfigError
        If the activation is ``"auto"`` and the prediction is an image or a depth.
    """
    if callable(activation):
        return activation(scores), False
    require_choice("activation", activation, ("auto", "none", "sigmoid", "softmax"))
    if activation == "auto":
        if isinstance(prediction, Prediction) and not is_of_logits(prediction):
            kind = type(prediction.model).__name__
            raise ConfigError(f"this {kind} predicts a picture or a depth, not logits: say activation='none'")
        activation = "sigmoid" if scores.shape[1] == 1 else "softmax"
    if activation == "softmax":
        return scores.softmax(1), True
    return (scores.sigmoid() if activation == "sigmoid" else scores), False


def is_of_logits(prediction: Prediction) -> bool:
    """Whether the scores of an automaton are logits, rather than an image or a depth."""
    if prediction.head_prediction is not None:
        return True
    return prediction.model.num_output_channels > 0 and bool(getattr(prediction.model, "has_logits", True))


def stochastic_runs(
    model: Any,
    image: Tensor | Mapping[str, Any],
    runs: int = 10,
    *,
    seed: int = 0,
    steps: Steps | None = None,
    activation: Activation = "auto",
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Runs:
    """Predict the same images several times, with different fire masks and noise.

    Parameters
    ----------
    model : object
        Model with ``predict`` or ``forward_batch``. It is run in evaluation mode; its mode is restored.
    image : Tensor or dict
        (B, channels, *spatial) images or states, or a batch, a dict of tensors with ``"data"``.
    runs : int
        Number of runs, at least 1.
    seed : int
        Seed of all random numbers. The same seed gives the same runs.
    steps : int, sequence of int or None
        Number of steps; that of the model by default. For a range, one number is drawn for all runs. A pyramid needs
        one number per level.
    activation : str or callable
        Function that maps logits to probabilities, or ``"sigmoid"``, ``"softmax"``, ``"none"`` or ``"auto"``, which is
        the sigmoid for one channel and the softmax for several.
    memory_budget : int
        Number of bytes for simultaneous roll-outs, without the predictions. It does not change the result unless
        samples of a batch interact (batch normalisation without running statistics).

    Returns
    -------
    Runs
        Run ``n`` of image ``b`` has the random numbers of sample ``b * runs + n``. Runs of a model without automata are
        computed one by one, each with its own seed, which is also set in torch's global generator.

    Raises
    ------
    ConfigError, UnknownNameError
        If a number is out of range, the activation is unknown, or it is ``"auto"`` for an image or a depth.

    Examples
    --------
    >>> from delira_nca.models import BasicNCAModel
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, num_output_channels=1)
    >>> found = stochastic_runs(model, torch.rand(2, 1, 8, 8), 5, steps=3)
    >>> found.predictions.shape, found.exclusive
    (torch.Size([5, 2, 1, 8, 8]), False)
    """
    for name, number in (("runs", runs), ("memory_budget", memory_budget)):
        require_whole(name, number, 1)
    batch, model = dict(image) if isinstance(image, Mapping) else {"data": image}, unwrapped(model)
    if "data" not in batch:
        raise ConfigError(f"a batch has an entry 'data', not only {sorted(batch)}")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    found: list[Tensor] = []
    exclusive = False
    with evaluating(model):
        for place, part, run_seed in _parts(model, batch, runs, seed, memory_budget):
            with place:
                prediction, scores = predicted(model, part, seed=run_seed, steps=steps)
                made, exclusive = probabilities(prediction, scores, activation)
                found.append(made)
    if _counts_samples(model):
        samples = torch.cat(found)
        return Runs(samples.view(-1, runs, *samples.shape[1:]).transpose(0, 1), exclusive)
    return Runs(torch.stack(found), exclusive)


def _parts(
    model: nn.Module, batch: dict[str, Any], runs: int, seed: int, budget: int
) -> Iterator[tuple[AbstractContextManager[Any], dict[str, Any], int]]:
    """Yield context, batch and seed of simultaneous runs."""
    if not _counts_samples(model):
        for run in range(runs):
            run_seed = derive_seed(seed, "run", run)
            yield isolated_rng(run_seed), dict(batch), run_seed
        return
    images, whole = len(batch["data"]), current_part()
    before, of = (0, images) if whole is None else (whole.first, whole.total)
    total = images * runs
    size = max(1, min(total, budget // _bytes_per_sample(model, batch["data"])))
    for first in range(0, total, size):
        wanted = torch.arange(first, min(first + size, total)) // runs  # the runs of an image are consecutive samples
        part = {
            key: value[wanted.to(value.device)]
            if isinstance(value, Tensor) and value.dim() and len(value) == images
            else value
            for key, value in batch.items()
        }
        yield at_part(BatchPart(before * runs + first, len(wanted), of * runs)), part, seed


def _counts_samples(model: nn.Module) -> bool:
    """Whether random numbers of the model depend on the index of the sample, so that one seed suffices for all runs."""
    return any(isinstance(module, BasicNCAModel) for module in model.modules())


def _bytes_per_sample(model: nn.Module, data: Tensor) -> int:
    cells = data[0, 0].numel()
    automata = [module for module in model.modules() if isinstance(module, BasicNCAModel)]
    widths = [getattr(module, "out_channels", None) for module in model.modules()]
    widths += [automaton.num_channels for automaton in automata]
    return _WIDTHS * 4 * cells * max(1, sum(width for width in widths if isinstance(width, int)))
