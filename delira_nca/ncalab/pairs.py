"""Batches from a torch loader of (image, label) pairs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.seeding import derive_seed, isolated_rng

__all__ = ["LABEL_LAYOUTS", "PairBatches"]

LABEL_LAYOUTS = ("auto", "channels_first", "channels_last", "no_channel")
"""Layouts of labels: recognised; (B, C, ...) or any shape that the loss accepts; (B, ..., C); (B, ...), one channel."""
IMAGES, LABELS = ("data", "image", "images", "x"), ("label", "mask", "labels", "y", "target")
"""Names of the entries of a dict from a loader, in the order of preference."""


class PairBatches:
    """Source of batches for a trainer, from a ``DataLoader`` of (x, y) pairs.

    All random numbers that the loader, its sampler and its data set draw from global generators, or from generators of
    the loader, depend only on seed, epoch and batch, so that epochs are reproducible and runs can be resumed.

    Parameters
    ----------
    loader : iterable
        Loader of (image, label) pairs, of longer tuples, whose further entries are not used, or of dicts with an image
        (``data``, ``image``, ``images`` or ``x``) and a label (``label``, ``mask``, ``labels``, ``y`` or ``target``).
        The first name that exists is used.
    label_layout : str
        Layout of the labels, see :data:`LABEL_LAYOUTS`. ``"auto"`` compares the spatial axes of a label with those of
        its image, and moves the last axis of images and labels with the channels last.
    network : object
        Model whose ``num_image_channels`` and ``num_channels`` show ``"auto"`` where the channels of images are.
    seed : int
        Seed of the random numbers.
    stream : str
        Name of the random stream.
    every_epoch_anew : bool
        Whether each epoch uses new random numbers. Validation uses the same ones in every epoch.

    Raises
    ------
    ConfigError, UnknownNameError
        If the loader is not a reusable iterable, or the layout is unknown.
    ShapeError
        While batches are read, if ``"auto"`` cannot recognise a layout.

    Examples
    --------
    >>> pairs = PairBatches([(torch.zeros(2, 1, 4, 4), torch.ones(2, 4, 4))], label_layout="no_channel")
    >>> next(pairs.get_batchgen(epoch=1))["label"].shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(
        self,
        loader: Iterable[Any],
        *,
        label_layout: str = "channels_first",
        network: Any = None,
        seed: int = 0,
        stream: str = "train",
        every_epoch_anew: bool = True,
    ) -> None:
        require_choice("label_layout", label_layout, LABEL_LAYOUTS)
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            raise ConfigError(f"a loader must be iterable once per epoch, not only once or not at all: {loader!r}")
        self.loader, self.label_layout, self.network = loader, label_layout, network
        self.seed, self.stream, self.every_epoch_anew = seed, stream, every_epoch_anew

    def get_batchgen(self, epoch: int) -> Generator[dict[str, Any], None, None]:
        """Batches of an epoch."""
        seed = derive_seed(self.seed, "loader", self.stream, epoch if self.every_epoch_anew else 0)
        with _seeded(self.loader, seed):
            with isolated_rng(derive_seed(seed, "begin")):
                iterator = iter(self.loader)
            try:
                for number in range(2**63):
                    with isolated_rng(derive_seed(seed, "batch", number)):
                        try:
                            pair = next(iterator)
                        except StopIteration:
                            return
                    yield self._batch(pair)
            finally:
                getattr(iterator, "close", lambda: None)()

    def _batch(self, pair: Any) -> dict[str, Any]:
        if isinstance(pair, Mapping):
            found = [next((name for name in names if name in pair), None) for names in (IMAGES, LABELS)]
            if None in found:
                raise ConfigError(
                    f"a batch is an (image, label) pair, or has one of {', '.join(IMAGES)} and one of "
                    f"{', '.join(LABELS)}, not {sorted(pair)}"
                )
            batch = {key: value for key, value in pair.items() if key not in found}
            batch |= {"data": pair[found[0]], "label": pair[found[1]]}
        elif isinstance(pair, (tuple, list)) and len(pair) >= 2:
            batch = {"data": pair[0], "label": pair[1]}
        else:
            size = f" of {len(pair)}" if isinstance(pair, (tuple, list)) else ""
            raise ConfigError(f"a batch of the loader is an (x, y) pair, not a {type(pair).__name__}{size}")
        for key, value in batch.items():
            if key in ("data", "label") or hasattr(value, "shape"):
                try:
                    batch[key] = torch.as_tensor(value)
                except (TypeError, ValueError, RuntimeError) as error:
                    raise ConfigError(f"{key!r} of a batch must be numbers: {error}") from error
        if self.label_layout == "auto":
            batch["data"] = data = self._image(batch["data"])
            batch["label"] = _recognised(batch["label"], data.shape[2:])
        else:
            batch["label"] = self._laid_out(batch["label"])
        return batch

    def _image(self, image: torch.Tensor) -> torch.Tensor:
        """Image with its channels first."""
        channels = getattr(self.network, "num_image_channels", None)
        if channels is None or image.dim() < 3 or image.shape[1] == channels:
            return image
        is_state, is_last = image.shape[1] == self.network.num_channels, image.shape[-1] == channels
        if is_state and is_last:
            raise ShapeError(
                f"images of {tuple(image.shape)} may be states of {image.shape[1]} channels, or have their {channels} "
                "channels last: move them to the second axis. label_layout is of labels only"
            )
        if not is_state and not is_last:
            raise ShapeError(
                f"images are (B, {channels}, *spatial) or (B, *spatial, {channels}), not {tuple(image.shape)}; "
                "label_layout is of labels only"
            )
        return image if is_state else image.movedim(-1, 1).contiguous()

    def _laid_out(self, label: torch.Tensor) -> torch.Tensor:
        if self.label_layout == "channels_first":
            return label
        if label.dim() < 3:
            raise ShapeError(f"labels of label_layout={self.label_layout!r} are pictures, not {tuple(label.shape)}")
        return label.movedim(-1, 1).contiguous() if self.label_layout == "channels_last" else label.unsqueeze(1)


def _recognised(label: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    """Label with its channels first, recognised by the spatial axes of the image."""
    if label.dim() != len(grid) + 2:
        return label
    first, last = label.shape[2:] == grid, label.shape[1:-1] == grid
    if first and last:
        raise ShapeError(
            f"a label of {tuple(label.shape)} may have its channels first or last: say which by label_layout="
            "'channels_first' or 'channels_last'"
        )
    if not first and not last:
        raise ShapeError(
            f"a label of {tuple(label.shape)} does not have the cells of an image of {tuple(grid)}: resize it, or give "
            "its label_layout"
        )
    return label if first else label.movedim(-1, 1).contiguous()


@contextmanager
def _seeded(loader: Any, seed: int) -> Iterator[None]:
    """Seed the generators of a loader, and restore them afterwards."""
    sampler, batch_sampler = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    owners = (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    given = {id(g): g for owner in owners if isinstance(g := getattr(owner, "generator", None), torch.Generator)}
    with ExitStack() as stack:
        for generator in given.values():
            stack.callback(generator.set_state, generator.get_state())
            generator.manual_seed(derive_seed(seed, generator.initial_seed() % 2**32))
        for owner in owners[1:]:  # without a generator, a sampler draws at a time that depends on the workers
            if owner is not None and getattr(owner, "generator", owner) is None:
                stack.callback(setattr, owner, "generator", None)
                owner.generator = torch.Generator().manual_seed(derive_seed(seed, "sampler"))
        yield
