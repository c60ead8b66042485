"""Training of a segmentation from a folder of images and a folder of masks."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from delira_nca.checks import require_number, require_whole
from delira_nca.data_loading import DataManager
from delira_nca.data_loading.readers import CaseDataset, NNUNetDataset
from delira_nca.errors import ConfigError, did_you_mean
from delira_nca.experiment.config import RunConfig
from delira_nca.experiment.run import Run, write_run
from delira_nca.io.files import make_folder, replaced, require_disk_space
from delira_nca.io.json_file import parse_json
from delira_nca.io.paths import absolute, shown
from delira_nca.io.run_folder import claim_folder, is_abandoned, kept_if_trained
from delira_nca.segmentation.cases import open_cases
from delira_nca.segmentation.fingerprint import Fingerprint
from delira_nca.segmentation.judge import combine_folds, require_folds
from delira_nca.segmentation.plan import Plan, commented, make_plan
from delira_nca.segmentation.segmenter import folds_in
from delira_nca.training.callbacks.reporting import ProgressBar
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer

__all__ = ["SegmentationResult", "segment"]

_TIMED = 3
_SHARE = 0.85
"""Fraction of the time for the training; the rest is for reading and judging."""
_JUDGING = 9
"""Duration of judging, in validations: five roll-outs of each case, and one that is four times as long."""
_MOST_EPOCHS = 40
_FEWEST_ITERATIONS = 20
_DISK = 50 * 2**20


@dataclass(frozen=True)
class SegmentationResult:
    """Result of :func:`segment`.

    Attributes
    ----------
    folder : Path
        Folder of the run, with ``report.html``, ``scores.csv``, ``scores.json``, ``plan.yaml`` and checkpoints.
    dice : float or None
        Mean Dice score of the held-out cases; None if the training was stopped.
    networks : list of AbstractPyTorchNetwork
        Network of the best epoch of each fold.
    """

    folder: Path
    dice: float | None
    networks: list[Any]

    @property
    def network(self) -> Any:
        """The first network."""
        return self.networks[0]


def segment(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    minutes: float = 5.0,
    memory: float = 4.0,
    epochs: int | None = None,
    iterations: int | None = None,
    valid: float = 0.2,
    groups: Mapping[str, str] | None = None,
    mask_suffix: str = "",
    channel_axis: int | None = None,
    binarise: float | None = None,
    instances: bool | None = None,
    folds: int = 1,
    stable: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> SegmentationResult:
    """Plan, train and judge the segmentation of a folder of images.

    All cases are read first. Their sizes, intensities and classes determine the plan: preprocessing, network, patches
    and split. The number of iterations follows from the measured speed and ``minutes``. The folder is that of a
    :class:`~delira_nca.experiment.Run` with the plan as its config, so that it can be resumed, shown, compared,
    validated and exported.

    Parameters
    ----------
    images, masks, mask_suffix, channel_axis, binarise
        See :func:`~delira_nca.segmentation.open_cases`.
    out : str or path, optional
        Folder of the run; the first free of ``runs/<name of the folder of images>``, ... by default.
    minutes : float
        Approximate duration of the training in minutes, with reading and judging. The resolution of volumes follows
        from it.
    memory : float
        Number of GB for the roll-outs of a training step, which limits the number of patches per iteration.
    epochs, iterations : int, optional
        Number of epochs, and of iterations per epoch, instead of those that fit into ``minutes``. A training with the
        same numbers has the same result on every machine of one kind.
    valid : float
        Fraction of the cases that are held out for validation and for the scores.
    groups : mapping of str to str, optional
        Group of each case by its name, such as its patient. Cases of one group are either all trained on or all held
        out.
    instances : bool, optional
        Whether the masks number objects instead of classes; so are masks with more than 16 values by default.
    folds : int
        Number of runs of a cross-validation, in the folders ``fold1``, ``fold2``, ... of ``out``. Each case is held out
        once, ``scores.csv`` and ``scores.json`` are of all cases, and a prediction averages all networks. The minutes
        are shared by the folds. The same call resumes a stopped one.
    stable : bool
        Whether to train with random numbers of steps, so that masks remain when a roll-out goes on; see
        :func:`segmenting_network`.
    seed, device
        Seed of all random numbers, and device.
    progress : bool
        Whether to show the progress on standard error.

    Raises
    ------
    ConfigError, MissingFileError
        Before the training, if cases cannot be read or do not fit together, with the names of all of them; or if the
        folder already contains a run.

    Examples
    --------
    >>> import numpy as np
    >>> folder, rng = getfixture("tmp_path"), np.random.default_rng(0)
    >>> for name in ("images", "masks"):
    ...     (folder / name).mkdir()
    >>> for number in range(3):
    ...     mask = np.zeros((16, 16), np.uint8)
    ...     mask[number + 4 : number + 9, 5:11] = 1
    ...     np.save(folder / "images" / f"{number}.npy", mask + rng.normal(0, 0.1, mask.shape))
    ...     np.save(folder / "masks" / f"{number}.npy", mask)
    >>> options = {"epochs": 2, "iterations": 2, "progress": False}
    >>> result = segment(folder / "images", folder / "masks", folder / "run", **options)
    >>> (result.folder / "report.html").is_file(), 0 <= result.dice <= 1
    (True, True)
    """
    require_number("minutes", minutes, above=0)
    require_number("memory", memory, above=0)
    require_number("valid", valid, above=0, most=0.9)
    for name, number in (("epochs", epochs), ("iterations", iterations)):
        if number is not None:
            require_whole(name, number, 1)
    start = time.monotonic()
    source: dict[str, Any] = {"images": str(absolute(images)), "masks": None if masks is None else str(absolute(masks))}
    source |= {"mask_suffix": mask_suffix, "channel_axis": channel_axis, "binarise": binarise}
    cases = open_cases(**source)
    _require_groups(groups, cases)
    fingerprint = Fingerprint.of(cases, show=_bar if progress else None)
    require_folds(folds, len(set(groups.values())) if groups else len(cases))
    plans = [
        make_plan(
            fingerprint,
            minutes=minutes / folds,
            memory=memory,
            valid=valid,
            groups=groups,
            instances=instances,
            stable=stable,
            fold=None if folds == 1 else (number, folds),
            seed=seed,
        )
        for number in range(folds)
    ]
    folder, is_new = _claim(out, Path(source["images"]).name, cases)
    _require_same_splits(folder, plans)
    with kept_if_trained(folder, lambda: any(folder.glob("**/checkpoints/*")), is_new=is_new):
        require_disk_space(folder, folds * _DISK)
        results = []
        for number, plan in enumerate(plans):
            here = folder if folds == 1 else make_folder(folder / f"fold{number + 1}")
            if folds == 1 or not (here / "config.yaml").exists() or is_abandoned(here):
                _write_json(plan.splits, here / "splits.json")
                left = (60 * minutes - (time.monotonic() - start)) / (folds - number)
                plan = _with_length(plan, source, here, left, epochs, iterations, device)
                values = plan.run_config(here.name, source, seed=seed, device=device)
                facts = {**fingerprint.to_dict(), "numbered_files": isinstance(cases, NNUNetDataset)}
                _write_plan(plan, values, {**facts, "facts": _facts(fingerprint, plan)}, here)
                write_run(RunConfig.from_dict(values, here), here)
            bar = ProgressBar(keys={"val_dice": "Dice"}, look_at=shown(here / "report.html"))
            run = Run.open(here)
            result = run.train(resume="auto", callbacks=[bar] if progress else [])
            results.append(SegmentationResult(here, result.outcome.get("dice"), [run.network()]))
            if result.outcome.get("dice") is None:  # stopped
                break
    if folds == 1 or len(results) < folds or results[-1].dice is None:
        return results[-1]
    dice = combine_folds(folder)
    return SegmentationResult(folder, dice, [part.networks[0] for part in results])


def _bar(results: Any, number: int) -> Any:
    from tqdm import tqdm

    return tqdm(results, "reading cases", number, leave=False)


def _require_groups(groups: Mapping[str, str] | None, cases: CaseDataset) -> None:
    """Check that every case has a group, and that there are at least two groups."""
    if groups is None:
        return
    if missing := [name for name in cases.names if not groups.get(name)]:
        raise ConfigError(
            f"{len(missing)} cases have no group, such as {missing[:3]}; there are groups of {[*groups][:3]}"
        )
    if unknown := [name for name in groups if name not in cases.names]:
        raise ConfigError(
            f"there are groups of {unknown[:3]}, which do not exist. {did_you_mean(unknown[0], cases.names)}"
        )
    if len({groups[name] for name in cases.names}) < 2:
        raise ConfigError("all cases are of one group: at least two are needed, one to train and one to validate")


def _claim(out: str | os.PathLike[str] | None, name: str, cases: CaseDataset) -> tuple[Path, bool]:
    """Return the folder of the run, and whether it was created here."""
    if out is None:
        return claim_folder("runs", name), True
    folder = absolute(out)
    if folder.resolve() in {path.parent.resolve() for path in cases.cases[0].files}:
        raise ConfigError(f"{folder} is a folder of the data: give another folder for the run")
    if (folder / "config.yaml").exists() and not is_abandoned(folder):
        raise ConfigError(f"{folder} already holds a run: give another folder, remove it, or resume it")
    is_new = not folder.exists()
    return make_folder(folder), is_new


def _require_same_splits(folder: Path, plans: Sequence[Plan]) -> None:
    """Check that folds of an earlier call, which are resumed, have held out the same cases."""
    existing = folds_in(folder)
    for part, plan in zip(existing, plans, strict=False):
        file = part / "splits.json"
        if len(plans) == 1 or len(existing) > len(plans) or parse_json(file.read_bytes(), file) != plan.splits:
            raise ConfigError(f"{folder} already holds folds of other cases: give another folder, or remove it")


def _with_length(
    plan: Plan,
    source: Mapping[str, Any],
    folder: Path,
    seconds: float,
    epochs: int | None,
    iterations: int | None,
    device: str,
) -> Plan:
    """Return the plan with a number of epochs and iterations that fit into the time."""
    if epochs is not None and iterations is not None:
        told = {
            "num_epochs": "as asked for",
            "data.train.init_args.num_patches": "iterations times patches, as asked for",
        }
        return replace(plan, num_epochs=epochs, iterations=iterations, reasons={**plan.reasons, **told})
    step, validation = _speed(plan, source, folder, device)
    total = max(1.0, _SHARE * seconds - _JUDGING * validation)
    most = min(0.15 * total / max(validation, 1e-3), total / step / _FEWEST_ITERATIONS, _MOST_EPOCHS)
    chosen = epochs or max(3, int(most))
    each = iterations or max(5, int((total - chosen * validation) / chosen / step))
    told = {
        "num_epochs": f"a validation takes {validation:.1f} s here",
        "data.train.init_args.num_patches": f"{each} iterations per epoch, of {step:.2f} s each here",
    }
    return replace(plan, num_epochs=chosen, iterations=each, reasons={**plan.reasons, **told})


def _speed(plan: Plan, source: Mapping[str, Any], folder: Path, device: str) -> tuple[float, float]:
    """Measure the seconds of an iteration and of a validation."""
    short = replace(plan, num_epochs=2, iterations=_TIMED)
    config = RunConfig.from_dict({**short.run_config("timing", source, device=device), "callbacks": []}, folder)
    parts = config.build()
    times: list[float] = []

    class Timed(PyTorchNetworkTrainer):
        def _train_batch(self, batch: Mapping[str, Any], iter_num: int, epoch: int) -> None:
            begin = time.perf_counter()
            super()._train_batch(batch, iter_num, epoch)
            times.append(time.perf_counter() - begin)

    trainer = Timed(
        parts.model, None, parts.task.criterions, metrics=parts.task.metrics, device=parts.trainer.device, save_freq=0
    )
    size = parts.data.batch_size
    with config.relative_paths(), DataManager(parts.data.train, size, transforms=parts.data.transforms) as train:
        trainer.train(2, train)
        valid: Any = parts.data.valid
        begin = time.perf_counter()
        trainer.predict([valid.take([0])])
        return sorted(times[_TIMED:])[_TIMED // 2], (time.perf_counter() - begin) * len(valid)


def _write_plan(plan: Plan, values: dict[str, Any], fingerprint: dict[str, Any], folder: Path) -> None:
    """Write the commented config, the choices for the page, and the fingerprint."""
    head = (
        f"# Plan of the segmentation in {folder.name}. Comments give the reason of the choice below.\n"
        "# 'delira-nca train plan.yaml' in this folder trains it again after changes; change its name, too.\n"
    )
    with replaced(folder / "plan.yaml") as temporary:
        temporary.write_text(head + commented(values, plan.reasons), encoding="utf-8")
    choices = [{"name": name, "value": _entry(values, name), "reason": reason} for name, reason in plan.reasons.items()]
    _write_json({"choices": choices}, folder / "plan.json")
    _write_json(fingerprint, folder / "fingerprint.json")


def _entry(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values.get(key) if isinstance(values, Mapping) else None
    if isinstance(values, Mapping) and "class_path" in values:
        return values["class_path"]
    return values


def _facts(fingerprint: Fingerprint, plan: Plan) -> dict[str, str]:
    """Return a short description of a data set."""
    shapes = [math.prod(case.shape) for case in fingerprint.cases]
    cases = sorted(fingerprint.cases, key=lambda case: math.prod(case.shape))
    total: dict[int, int] = {}
    for case in fingerprint.cases:
        for value, count in case.voxels.items():
            total[value] = total.get(value, 0) + count
    told = {
        "cases": str(len(cases)),
        "sizes": f"{_by(cases[0].shape)} to {_by(cases[-1].shape)}, median {_by(fingerprint.median_shape)}",
        "channels": str(fingerprint.num_channels),
        "objects per case": f"{sum(case.num_objects for case in cases) / len(cases):.1f}",
        "length of objects": f"{fingerprint.extent:.0f} cells in the median",
    }
    if fingerprint.spacings is not None:
        told["spacing"] = f"{' x '.join(f'{mm:.3g}' for mm in sorted(fingerprint.spacings.mean(0)))} mm"
    if plan.preprocessing.instances:
        told["classes"] = f"numbered objects on {100 * fingerprint.foreground_share:.2g} % of all cells"
    else:
        told["classes"] = ", ".join(f"{value}: {100 * n / sum(shapes):.3g} %" for value, n in sorted(total.items()))
    empty = [case.name for case in cases if not case.num_objects]
    if empty:
        told["empty masks"] = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
    return told


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _write_json(values: Any, path: Path) -> None:
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
