"""Random numbers of a roll-out in TensorFlow: the same bits as those of :mod:`delira_nca.rollout.masks`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from delira_nca.rollout.masks import INCREMENT, MULTIPLIER, NOISE_MEAN, NOISE_SCALE, NOISE_STREAM, fire_threshold, pcg4d

__all__ = ["fire_mask", "update_noise"]


def _word(value: Any) -> Any:
    """Return the low 32 bits of an integer, or of a tensor of integers."""
    return tf.constant(value & 0xFFFFFFFF, tf.uint32) if isinstance(value, int) else tf.cast(value, tf.uint32)


def _mixed(value: Any) -> Any:
    return value * tf.constant(MULTIPLIER, tf.uint32) + tf.constant(INCREMENT, tf.uint32)


def _hash(seed: Any, step: Any, num_samples: Any, num_items: Any) -> tuple[Any, ...]:
    """Return four (num_samples, num_items) uint32 words for every item of every sample, by ``pcg4d``."""
    x, y = _mixed(_word(seed)), _mixed(_word(step))
    z, w = _mixed(_word(tf.range(num_samples))[:, None]), _mixed(_word(tf.range(num_items))[None])
    return pcg4d(x, y, z, w, lambda word: word ^ tf.bitwise.right_shift(word, tf.constant(16, tf.uint32)))


def fire_mask(seed: Any, step: Any, shape: Any, fire_rate: float) -> Any:
    """Return the mask of the cells that update in one step.

    Parameters
    ----------
    seed, step : int or integer tensor
        Seed of the roll-out and number of the step.
    shape : sequence of int or (4,) int32 tensor
        (B, H, W, C), the shape of the state.
    fire_rate : float
        Probability that a cell updates.

    Returns
    -------
    (B, H, W, 1) bool tensor, or None if every cell fires
        Bit-equal to :func:`delira_nca.rollout.masks.fire_mask`.

    Examples
    --------
    >>> float(tf.reduce_mean(tf.cast(fire_mask(0, 0, (2, 64, 64, 16), 0.5), tf.float32)))
    0.506103515625
    """
    threshold = fire_threshold(fire_rate)
    if threshold == 2**24:
        return None
    *_, word = _hash(seed, step, shape[0], shape[1] * shape[2])
    fires = tf.cast(tf.bitwise.right_shift(word, tf.constant(8, tf.uint32)), tf.int32) < threshold
    return tf.reshape(fires, (shape[0], shape[1], shape[2], 1))


def update_noise(seed: Any, step: Any, shape: Any) -> Any:
    """Return the (B, H, W, C) noise of one step, bit-equal to :func:`delira_nca.rollout.masks.update_noise`.

    Parameters
    ----------
    seed, step : int or integer tensor
        Seed of the roll-out and number of the step.
    shape : sequence of int or (4,) int32 tensor
        (B, H, W, C), the shape of the state.
    """
    stream = _word(seed) + tf.constant(NOISE_STREAM, tf.uint32)
    low, half = tf.constant(0xFFFF, tf.uint32), tf.constant(16, tf.uint32)
    words = _hash(stream, step, shape[0], shape[1] * shape[2] * shape[3])
    total = tf.add_n([tf.cast((word & low) + tf.bitwise.right_shift(word, half), tf.int32) for word in words])
    return tf.reshape(tf.cast(total - NOISE_MEAN, tf.float32) * NOISE_SCALE, shape)
