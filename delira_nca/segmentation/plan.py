"""Plan of a segmentation: every choice follows from the fingerprint of the data, and has a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import yaml

from delira_nca.errors import ConfigError
from delira_nca.models import BasicNCAModel, PyramidNCA, presets
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.seeding import generator
from delira_nca.segmentation.fingerprint import Fingerprint
from delira_nca.segmentation.preprocessing import Preprocessing

__all__ = ["Plan", "commented", "make_plan", "segmenting_network"]

_LOCAL = 40
"""Length of objects in cells up to which an automaton of one level sees enough around a cell."""
_CELLS_PER_MINUTE, _VOLUMES = 8_000, (20_000, 250_000)
"""Number of cells of a volume for each minute of training, and the smallest and largest number.

One brain in 250 s on one thread: Dice 0.68 with 250 000 cells and 500 iterations, 0.70 with 40 000 and 1 600.
"""
_CT = ("ct", "hu")
_THIN = 12
"""Number of cells up to which an axis of a volume with a voxel size is not reduced further."""
_ANISOTROPIC = 2.5
"""Ratio of the sides of a voxel up to which volumes are rotated."""
_EMPTY = 0.01
"""Fraction of the smallest value of a volume from which on those cells are outside of the body."""
_DRAWS = 50
"""Number of random splits from which one with all classes in training, and most of them held out, is chosen."""


def segmenting_network(
    levels: int,
    dims: int,
    num_image_channels: int,
    num_classes: int,
    scales: Sequence[Sequence[int]] | None = None,
    patch_size: int | None = None,
    stable: bool = False,
) -> AbstractPyTorchNetwork:
    """Untrained network of a plan.

    Parameters
    ----------
    levels : int
        1 for one automaton, 2 for Med-NCA in two dimensions, more for M3D-NCA without batch normalisation.
    dims, num_image_channels, num_classes : int
        Number of spatial axes, of channels, and of classes with the background. Two classes share one output.
    scales : sequence of sequence of int, optional
        Factor by which each level of a volume is reduced along each axis; powers of two by default.
    patch_size : int, optional
        Number of cells along each axis of the patch that the finest level of a pyramid is trained on.
    stable : bool
        Whether to train with random numbers of steps, up to more than twice those of a prediction, so that masks
        remain when a prediction goes on.
    """
    outputs = 1 if num_classes == 2 else num_classes
    channels: dict[str, Any] = {"num_image_channels": num_image_channels, "num_output_channels": outputs}
    if levels == 1:
        return BasicNCAModel(
            **channels,
            num_hidden_channels=14,
            hidden_size=64,
            training_timesteps=(22, 60) if stable else (22, 29),
            inference_timesteps=25,
            dims=dims,
        )
    channels["num_channels"] = 14 + num_image_channels + outputs
    jitter = 0.8 if stable else 0.0
    if dims == 2:
        return PyramidNCA(**presets.med_nca(**channels, steps=(24, 16), patch_size=patch_size, jitter=jitter))
    steps = (12, *(10,) * (levels - 1))
    if scales is not None:
        channels["scales"] = scales
    return PyramidNCA(
        **presets.m3d_nca(
            num_levels=levels, batch_norm=False, steps=steps, patch_size=patch_size, jitter=jitter, **channels
        )
    )


@dataclass(frozen=True)
class Plan:
    """Choices of a segmentation, with their reasons.

    Parameters
    ----------
    preprocessing : Preprocessing
        Preprocessing of the cases.
    network : dict
        Arguments of :func:`segmenting_network`.
    patch_size, batch_size : tuple of int, int
        Number of cells along each axis of a training patch, and number of patches per iteration.
    foreground : float
        Fraction of the patches that contain foreground.
    mirror, rotate, deform : sequence of int, bool, bool
        Arguments of :func:`delira_nca.segmentation.augmentation`.
    splits : dict
        Names of the cases of ``"train"`` and ``"valid"``.
    lr : float
        Largest learning rate.
    num_epochs, iterations : int
        Number of epochs, and of iterations per epoch.
    reasons : dict
        Reason of each choice, by the dotted name of the entry in the config of the run.
    """

    preprocessing: Preprocessing
    network: dict[str, Any]
    patch_size: tuple[int, ...]
    batch_size: int
    foreground: float
    mirror: tuple[int, ...]
    rotate: bool
    deform: bool
    splits: dict[str, list[str]]
    lr: float = 2e-3
    num_epochs: int = 40
    iterations: int = 25
    reasons: dict[str, str] = field(default_factory=dict)

    def run_config(
        self, name: str, source: Mapping[str, Any], *, seed: int = 0, device: str = "auto"
    ) -> dict[str, Any]:
        """Return the values of the :class:`~delira_nca.experiment.RunConfig` of the run.

        Parameters
        ----------
        name : str
            Name of the run.
        source : mapping
            Arguments of :func:`~delira_nca.segmentation.open_cases`.
        seed, device : int, str
            Seed of all random numbers, and device.
        """
        is_binary = self.preprocessing.num_classes == 2
        loss, score = ("dice_bce", "dice_score") if is_binary else ("dice_ce", "multiclass_dice_score")
        where = {"source": dict(source), "preprocessing": asdict(self.preprocessing)}
        dims = int(self.network["dims"])
        return {
            "name": name,
            "model": _made("segmentation.segmenting_network", **self.network),
            "data": {
                "train": _made(
                    "segmentation.training_patches",
                    **where,
                    size=list(self.patch_size),
                    num_patches=self.batch_size * self.iterations,
                    foreground=self.foreground,
                ),
                "valid": _made("segmentation.whole_cases", **where, part="valid"),
                "batch_size": self.batch_size,
                "val_batch_size": 1,
                "transforms": _made(
                    "segmentation.augmentation",
                    dims=dims,
                    mirror=list(self.mirror),
                    rotate=self.rotate,
                    deform=self.deform,
                ),
            },
            "task": {
                "criterions": {loss: f"delira_nca.losses.{loss}"},
                "metrics": {"dice": f"delira_nca.losses.{score}"},
                "score": "dice",
                "mode": "highest",
            },
            "trainer": {
                "lr": self.lr,
                "lr_scheduler_cls": "torch.optim.lr_scheduler.CosineAnnealingLR",
                "lr_scheduler_params": {"T_max": self.num_epochs, "eta_min": self.lr / 20},
                "save_seconds": 30,
                "device": device,
            },
            "callbacks": [
                _made("training.callbacks.NaNGuard"),
                _made("training.callbacks.GradientNormalization"),
                _made("training.callbacks.WeightAverage", decay=0.98),
                _made("segmentation.SegmentationReport", **where),
            ],
            "seed": seed,
            "num_epochs": self.num_epochs,
        }


def make_plan(
    fingerprint: Fingerprint,
    *,
    minutes: float = 5.0,
    memory: float = 4.0,
    valid: float = 0.2,
    groups: Mapping[str, str] | None = None,
    instances: bool | None = None,
    stable: bool = False,
    fold: tuple[int, int] | None = None,
    seed: int = 0,
) -> Plan:
    """Choose everything that the data determine; the length of the training follows from its speed.

    Parameters
    ----------
    fingerprint : Fingerprint
        Measurements of the data set.
    minutes : float
        Duration of the training, which determines the resolution of volumes.
    memory : float
        Number of GB for the roll-outs of a training step, which limits the number of patches.
    valid : float
        Fraction of the cases for validation, at least one.
    groups : mapping of str to str, optional
        Group of each case, such as its patient. Cases of a group are in one part.
    instances : bool, optional
        Whether the masks number objects instead of classes; decided by the number of values by default.
    stable : bool
        See :func:`segmenting_network`.
    fold : (int, int), optional
        Number of the fold from 0, and number of folds. Its cases are held out, instead of a fraction.
    seed : int
        Seed of the split.

    Raises
    ------
    ConfigError
        If a single patch needs more memory.
    """
    reasons: dict[str, str] = {}
    dims, extent = fingerprint.dims, fingerprint.extent
    splits = _split(fingerprint, valid, groups, fold, seed, reasons)
    preprocessing, scale = _preprocessing(fingerprint, splits["train"], instances, minutes, reasons)
    shape = fingerprint.median_content if preprocessing.crop else fingerprint.median_shape
    shape = tuple(max(1, round(n / by)) for n, by in zip(shape, scale, strict=True))
    extent /= float(np.mean(scale))
    levels = _levels(shape, extent, reasons)
    scales = _scales(shape, levels) if dims == 3 and levels > 1 else None
    coarsest = scales[0] if scales else [1 if levels == 1 else 4] * dims
    least = [(8 if dims == 2 and levels > 1 else 4) if scales is None else 4 * by for by in coarsest]
    preprocessing = replace(preprocessing, least=least)
    size, cells = _patch(fingerprint, shape, levels, least, coarsest, reasons)
    patch = None
    if levels > 1 and dims == 2 and min(size) >= 64:
        patch = max(16, min(size) // 4)
        reasons["model.init_args.patch_size"] = "the fine level is trained on a patch as large as the coarse image"
    network = {
        "levels": levels,
        "dims": dims,
        "num_image_channels": fingerprint.num_channels,
        "num_classes": preprocessing.num_classes,
        "scales": scales,
        "patch_size": patch,
        "stable": stable,
    }
    batch_size = 8 if dims == 2 else max(1, min(4, 60_000 // cells))
    batch_size, needed = _batch_size(network, size, batch_size, memory)
    reasons["data.batch_size"] = f"a patch has {cells} cells; these need up to {needed:.2g} GB (of {memory:g})"
    reasons["data.train.init_args.foreground"] = (
        f"{100 * fingerprint.foreground_share:.2g} % of all cells are foreground; without this, patches would lack it"
        if fingerprint.foreground_share < 0.2
        else f"{100 * fingerprint.foreground_share:.0f} % of all cells are foreground: most patches contain some"
    )
    is_anatomy = dims == 3 and fingerprint.spacings is not None
    spacing = preprocessing.spacing or [1.0]
    is_even = max(spacing) / min(spacing) <= _ANISOTROPIC
    place = "data.transforms.init_args."
    if is_anatomy:
        reasons[place + "mirror"] = reasons[place + "rotate"] = "volumes with a voxel size have anatomical directions"
        reasons[place + "deform"] = (
            "positions and sizes of bodies differ" if is_even else "voxels are too long to be rotated"
        )
    else:
        reasons[place + "mirror"] = reasons[place + "rotate"] = "images without a patient have no up"
    reasons["trainer.lr"] = "the rate of Adam in the papers on these models; it falls to a twentieth along a cosine"
    if levels == 1:
        reasons["model.init_args.levels"] += f" (median length {extent:.0f} cells, 25 steps)"
    return Plan(
        preprocessing=preprocessing,
        network=network,
        patch_size=size,
        batch_size=batch_size,
        foreground=0.5 if fingerprint.foreground_share < 0.2 else 0.2,
        mirror=() if is_anatomy else tuple(range(dims)),
        rotate=not is_anatomy,
        deform=is_anatomy and is_even,
        splits=splits,
        reasons=reasons,
    )


def _preprocessing(
    fingerprint: Fingerprint,
    training: Sequence[str],
    instances: bool | None,
    minutes: float,
    reasons: dict[str, str],
) -> tuple[Preprocessing, tuple[float, ...]]:
    """Return the preprocessing, and the factor by which it reduces each axis of a median case."""
    has_instances = fingerprint.has_instances if instances is None else instances
    names = fingerprint.channel_names or ("",) * fingerprint.num_channels
    kinds = []
    for number, name in enumerate(names):
        empty = np.median([case.intensities[number]["least"] for case in fingerprint.cases])
        is_cut = fingerprint.dims == 3 and empty > _EMPTY
        kinds.append("clip_zscore" if str(name).lower() in _CT else "content_zscore" if is_cut else "zscore")
    place = "data.train.init_args.preprocessing."
    reasons[place + "normalisation"] = (
        "CT has absolute values: clipped to those of the foreground, scaled by its statistics"
        if "clip_zscore" in kinds
        else "values are relative: each image has mean 0 and standard deviation 1"
        + (", without the cells outside of the body" if "content_zscore" in kinds else "")
    )
    statistics = []
    for number in range(fingerprint.num_channels):
        of_training = [case for case in fingerprint.cases if case.name in training and case.num_objects]
        rows = [case.intensities[number] for case in of_training or fingerprint.cases]
        statistics.append(
            {
                "low": float(np.median([row["low"] for row in rows])),
                "high": float(np.median([row["high"] for row in rows])),
                "mean": float(np.mean([row["mean"] for row in rows])),
                "std": float(np.mean([row["std"] for row in rows])),
            }
        )
    reasons[place + "values"] = (
        f"masks number up to {max(fingerprint.values)} objects: all are one class"
        if has_instances
        else "the values of the masks, in the order of the classes"
    )
    spacings, spacing = fingerprint.spacings, None
    scale = np.ones(fingerprint.dims)
    if spacings is not None:
        median = np.median(spacings, axis=0)
        spacing = [float(mm) for mm in median]
        if np.abs(spacings / median - 1).max() > 0.05 or median.max() / median.min() > 1.05:
            if median.max() / median.min() <= 3:
                spacing = [float(max(median))] * len(median)
            scale = np.array(spacing) / median
            reasons[place + "spacing"] = (
                f"voxels are {' x '.join(f'{mm:.3g}' for mm in median)} mm in the median; all volumes get one grid"
            )
    is_volume, factor = fingerprint.dims == 3, 1.0
    content, whole = fingerprint.median_content, fingerprint.median_shape
    crop = is_volume and math.prod(content) < 0.9 * math.prod(whole)
    if is_volume:
        reasons[place + "crop"] = f"the content takes {100 * math.prod(content) / math.prod(whole):.0f} % of a volume"
    lengths = np.array(content if crop else whole) / scale
    cells, (least, most) = float(np.prod(lengths)), _VOLUMES
    wanted = min(most, max(least, _CELLS_PER_MINUTE * minutes))
    if is_volume and cells > wanted:
        is_reduced = lengths > _THIN if spacing is not None and (lengths > _THIN).any() else np.ones(3, bool)
        reduction = np.where(is_reduced, round((cells / wanted) ** (1 / is_reduced.sum()), 2), 1.0)
        scale = scale * reduction
        remaining = cells / np.prod(reduction)
        reason = f"{cells:.0f} cells would leave few iterations in {minutes:g} min: {remaining:.0f} remain"
        if spacing is None:
            factor, reasons[place + "factor"] = float(reduction[0]), reason
        else:
            spacing = [round(float(mm), 4) for mm in np.array(spacing) * reduction]
            reasons[place + "spacing"] = reason
    made = Preprocessing(
        values=[0, 1] if has_instances else fingerprint.values,
        instances=has_instances,
        normalisation=kinds,
        statistics=statistics if "clip_zscore" in kinds else [],
        spacing=spacing,
        crop=crop,
        factor=factor,
        dims=fingerprint.dims,
    )
    return made, tuple(float(by) for by in scale)


def _levels(shape: tuple[int, ...], extent: float, reasons: dict[str, str]) -> int:
    place = "model.init_args.levels"
    if len(shape) == 3:
        middle = sorted(shape)[1]
        reasons[place] = f"two axes have at least {middle} cells: as many levels as leave 8 of them at the coarsest"
        return max(1, min(3, int(math.log2(max(1, middle / 8))) + 1))
    if extent <= _LOCAL or min(shape) < 64:
        reasons[place] = "objects are small: what surrounds a cell says to which it belongs"
        return 1
    reasons[place] = f"objects are {extent:.0f} cells long: a coarse level sees the whole first"
    return 2


def _batch_size(network: Mapping[str, Any], size: tuple[int, ...], most: int, memory: float) -> tuple[int, float]:
    """Return the largest number of patches whose roll-outs fit into the memory, and the number of GB they need."""
    made: Any = segmenting_network(**network)
    for number in range(most, 0, -1):
        if isinstance(made, PyramidNCA):
            costs = made.cost(size, batch_size=number, patches=made.patch_size is not None).levels
        else:
            costs = (made.cost(size, 60 if network["stable"] else 29, batch_size=number),)
        needed = sum(max(need.training for need in cost.memory.values()) for cost in costs) / 1e9
        if needed <= memory:
            return number, needed
    raise ConfigError(
        f"a patch of {' x '.join(map(str, size))} cells needs up to {needed:.2g} GB, memory is {memory:g} GB"
    )


def _scales(shape: tuple[int, ...], levels: int) -> list[list[int]]:
    """Return the scales of the levels of a volume; a thin axis is reduced as long as it keeps 8 cells."""
    halvings = [max(0, min(levels - 1, int(math.log2(max(1, n / 8))))) for n in shape]
    return [[2 ** min(level, most) for most in halvings] for level in reversed(range(levels))]


def _patch(
    fingerprint: Fingerprint,
    shape: tuple[int, ...],
    levels: int,
    least: Sequence[int],
    coarsest: Sequence[int],
    reasons: dict[str, str],
) -> tuple[tuple[int, ...], int]:
    most = (64 if levels == 1 else 128) if fingerprint.dims == 2 else (24 if levels == 1 else 64)
    size = tuple(max(few, min(n, most) // unit * unit) for n, few, unit in zip(shape, least, coarsest, strict=True))
    if fingerprint.dims == 2 or fingerprint.spacings is None:  # such patches are rotated in the plane
        size = (*size[:-2], min(size[-2:]), min(size[-2:]))
    reasons["data.train.init_args.size"] = (
        f"images have {' x '.join(map(str, shape))} cells in the median; an automaton runs on any size after training"
    )
    return size, math.prod(size)


def _split(
    fingerprint: Fingerprint,
    valid: float,
    groups: Mapping[str, str] | None,
    fold: tuple[int, int] | None,
    seed: int,
    reasons: dict[str, str],
) -> dict[str, list[str]]:
    names = [case.name for case in fingerprint.cases]
    of = {name: (groups or {}).get(name, name) for name in names}
    kinds = sorted(set(of.values()))
    number = min(max(1, round(valid * len(kinds))), len(kinds) - 1)
    values = {case.name: {value for value, n in case.voxels.items() if value > 0 and n} for case in fingerprint.cases}

    def missing(held: set[str]) -> tuple[int, int]:
        """Number of classes that are not in training, and not held out."""
        parts = [set().union(*(values[name] for name in names if (of[name] in held) == is_held)) for is_held in (0, 1)]
        whole = set().union(*values.values())
        return len(whole - parts[0]), len(whole - parts[1])

    rng = generator(seed, "split")
    if fold is not None:
        held = set(np.array(kinds)[rng.permutation(len(kinds))][fold[0] :: fold[1]].tolist())
        reasons["data.valid"] = f"fold {fold[0] + 1} of {fold[1]}: {len(held)} of {len(kinds)} are held out"
        return _parts(names, of, held)
    draws = [set(np.array(kinds)[rng.permutation(len(kinds))[:number]].tolist()) for _ in range(_DRAWS)]
    held = draws[0] if fingerprint.has_instances else min(draws, key=missing)
    reasons["data.valid"] = f"{len(held)} of {len(kinds)} {'groups' if groups else 'cases'} are held out for validation"
    return _parts(names, of, held)


def _parts(names: Sequence[str], of: Mapping[str, str], held: set[str]) -> dict[str, list[str]]:
    return {
        "train": [name for name in names if of[name] not in held],
        "valid": [name for name in names if of[name] in held],
    }


def commented(values: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Return the YAML of a config with reasons as comments above the entries.

    Examples
    --------
    >>> print(commented({"a": {"b": 1}, "c": [2]}, {"a.b": "one is enough"}), end="")
    a:
      # one is enough
      b: 1
    c:
    - 2
    """
    lines: list[str] = []

    def write(found: Mapping[str, Any], path: Sequence[str], indent: str) -> None:
        for key, value in found.items():
            name = ".".join((*path, key))
            if name in reasons:
                lines.append(f"{indent}# {reasons[name]}")
            if isinstance(value, Mapping) and value:
                lines.append(f"{indent}{key}:")
                write(value, (*path, key), indent + "  ")
            else:
                text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=100).rstrip()
                lines.extend(indent + line for line in text.splitlines())

    write(values, (), "")
    return "\n".join(lines) + "\n"


def _made(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"delira_nca.{path}", "init_args": arguments}
