"""Weights of the notebook "Growing Neural Cellular Automata", which is written in TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
import torch

from delira_nca.errors import CheckpointError, MissingFileError
from delira_nca.models import presets
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.rule import MLPRule

__all__ = ["load_notebook"]

_OF_AN_OPTIMIZER = re.compile("OPTIMIZER_SLOT|optimizer/vars|optimizer/_variables")
"""Names of the averages of optimizers, which have the shapes of the weights."""


def load_notebook(source: Any, **changes: Any) -> BasicNCAModel:
    """Load weights of the notebook "Growing Neural Cellular Automata" into a model in PyTorch.

    Such a model perceives by constant filters and has two convolutions of size 1, the weights of which are read.

    Parameters
    ----------
    source : str, path, Keras model or sequence of array
        Checkpoint of TensorFlow (its path without ``.index``), file of Keras weights (``.h5``), the model itself, or
        the arrays that its ``get_weights()`` returns.
    **changes : object
        Arguments of :func:`delira_nca.models.presets.growing` to change, such as ``fire_rate``.

    Returns
    -------
    BasicNCAModel
        Model in evaluation mode. ``KerasNCA(model)`` computes it in TensorFlow.

    Raises
    ------
    MissingFileError
        If there is no such file.
    CheckpointError
        If the source does not contain the weights of two such convolutions.

    Notes
    -----
    Mordvintsev et al. (2020), Distill. In the notebook, the first convolution sees the outputs of the filters ordered
    by channel; here they are ordered by filter.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> shapes = (1, 1, 48, 128), (128,), (1, 1, 128, 16), (16,)
    >>> load_notebook([generator.normal(size=shape) for shape in shapes]).num_trainable_parameters()
    8336
    """
    arrays = [np.asarray(array, np.float32) for array in _arrays(source)]
    kernels = [array[0, 0] for array in arrays if array.ndim == 4 and array.shape[:2] == (1, 1)]
    biases = [array for array in arrays if array.ndim == 1]
    hidden, channels = kernels[-1].shape if kernels else (0, 0)
    expected = [(3 * channels, hidden), (hidden, channels)], [(hidden,), (channels,)]
    if ([kernel.shape for kernel in kernels], [bias.shape for bias in biases]) != expected:
        raise CheckpointError(
            "a model of the notebook has two convolutions of size 1 with biases, such as (1, 1, 48, 128) and "
            f"(1, 1, 128, 16); found arrays of the shapes {[array.shape for array in arrays]}"
        )
    first, last = kernels
    arguments = {"num_hidden_channels": channels - 4, "rule": MLPRule(hidden, final_bias=True), **changes}
    model = BasicNCAModel(**presets.growing(**arguments))
    by_filter = first.reshape(channels, 3, hidden).transpose(1, 0, 2).reshape(3 * channels, hidden)
    values = {
        "rule.hidden.0.weight": by_filter.T,
        "rule.hidden.0.bias": biases[0],
        "rule.last.weight": last.T,
        "rule.last.bias": biases[1],
    }
    model.load_state_dict(
        {name: torch.tensor(values[name]).reshape(weight.shape) for name, weight in model.state_dict().items()}
    )
    return model.eval()


def _arrays(source: Any) -> Sequence[Any]:
    """Return the arrays of a model or of a file; those of optimizers may be among them."""
    if hasattr(source, "get_weights"):
        return source.get_weights()  # type: ignore[no-any-return]
    if not isinstance(source, (str, os.PathLike)):
        return list(source)
    path = Path(source).expanduser()
    if os.path.isfile(f"{path}.index"):
        reader = tf.train.load_checkpoint(str(path))
        names = [name for name in sorted(reader.get_variable_to_shape_map()) if not _OF_AN_OPTIMIZER.search(name)]
        return [value for name in names if isinstance(value := reader.get_tensor(name), np.ndarray)]
    if not path.is_file():
        raise MissingFileError(f"there is neither a checkpoint {path}.index nor a file {path}")
    try:
        with h5py.File(path) as file:
            arrays: list[Any] = []

            def collect(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and not _OF_AN_OPTIMIZER.search(name):
                    arrays.append(item[()])

            file.visititems(collect)
            return arrays
    except OSError as error:
        raise CheckpointError(f"{path} is neither a checkpoint of TensorFlow nor a file of Keras: {error}") from error
