"""Predictions for all batches of a generator, in groups of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from delira_nca.errors import ConfigError
from delira_nca.training.batches import Batch, batch_length
from delira_nca.training.distributed.ranks import ALONE, Ranks
from delira_nca.training.means import SampleMean

__all__ = ["batch_length", "predict_batches", "regroup"]


def regroup(batches: Iterable[Batch], size: int) -> Iterator[dict[str, Any]]:
    """The same samples in the same order, in batches of another size; the last holds what is left.

    Examples
    --------
    >>> [b["data"].tolist() for b in regroup([{"data": np.arange(2)}, {"data": np.arange(2, 5)}], size=4)]
    [[0, 1, 2, 3], [4]]
    """
    held: dict[str, Any] = {}
    for batch in batches:
        held = {k: np.concatenate([held[k], v]) if held else np.asarray(v) for k, v in batch.items()}
        while batch_length(held) > size:
            yield {k: v[:size] for k, v in held.items()}
            held = {k: v[size:] for k, v in held.items()}
    if held:
        yield held


def predict_batches(
    evaluate: Callable[[Batch, int], tuple[Mapping[str, Any], Any]],
    batches: Iterable[Batch],
    batch_size: int | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Any, list[Any], dict[str, float]]:
    """Predict every batch.

    Parameters
    ----------
    evaluate : batch and its number to (values of losses and metrics, prediction as an array).
    batches : of the data manager.
    batch_size : predict in groups of so many instead.
    ranks : processes that predict a part of each batch each; all of them get the whole.

    Returns
    -------
    tuple of (predictions, labels, means)
        Predictions are one array over all samples; a list of one array per batch where their shapes differ. Labels
        are a list of one array per batch. Means are over samples.

    Raises
    ------
    ConfigError
        For a batch size below 1.
    """
    if batch_size is not None:
        if batch_size < 1:
            raise ConfigError(f"batch_size is at least 1, not {batch_size}")
        batches = regroup(batches, batch_size)
    means, predictions, labels = SampleMean(), [], []
    for number, batch in enumerate(batches):
        part = ranks.part(batch)
        ranks.take(part)
        values, prediction = evaluate(part, number)
        means.add(ranks.mean(values), batch_length(batch))
        predictions.append(ranks.join_rows(prediction))
        if "label" in batch:
            labels.append(np.asarray(batch["label"]))
    alike = len({p.shape[1:] for p in predictions}) == 1
    return (np.concatenate(predictions) if alike else predictions), labels, means.result()
