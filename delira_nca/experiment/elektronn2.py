"""Trainings described by a Python file, with the names of ELEKTRONN2: ExperimentConfig, Trainer and TracingTrainer."""

from __future__ import annotations

import logging
import os
import shutil
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from delira_nca.checks import require_number, require_type, require_whole
from delira_nca.data_loading import DataManager, RandomSamplerWithReplacement
from delira_nca.data_loading.batches import first_batch
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.errors import ConfigError, MissingFileError, ShapeError, UnknownNameError, did_you_mean, require_choice
from delira_nca.evaluation.runs import evaluating, predicted, probabilities
from delira_nca.experiment.experiment_settings import as_manager, dataset_of, open_data, trainer_arguments
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import claim_folder, write_environment
from delira_nca.logging import JSONLSink
from delira_nca.seeding import isolated_rng
from delira_nca.training.callbacks import Console, MetricLogger, ScheduleCallback, TimeLimit
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
from delira_nca.training.scores import higher_is_better
from delira_nca.training.trajectory import ChunkedTrajectoryTrainer, TrajectoryTrainer
from delira_nca.visualization.film import save_picture
from delira_nca.visualization.history_tracker import HistoryTracker

__all__ = ["ExperimentConfig", "TracingTrainer", "TracingTrainerRNN", "Trainer", "user_input"]

_LOGGER = logging.getLogger("delira_nca")
Array = npt.NDArray[Any]


class ExperimentConfig:
    """Description of a training in a Python file, the names of which are checked.

    The file sets variables: ``model`` (or a function ``create_model()`` that returns one), ``train_data`` and
    ``criterions`` are required. Further names are ``valid_data``, ``batch_size``, ``metrics``, ``optimiser`` and
    ``optimiser_params``, ``schedules``, ``callbacks``, ``n_steps``, ``max_runtime`` (seconds), ``history_freq`` (steps
    between two validations), ``monitor_batch_size``, ``val_score_key``, ``val_score_mode``, ``trainer_cls``,
    ``trainer_kwargs``, ``seed``, ``preview_data``, ``preview_freq`` (steps between two previews, 0 for none),
    ``save_path`` and ``save_name``. Names that begin with an underscore, modules, classes and other functions are
    helpers of the file. The values are attributes of the config.

    Parameters
    ----------
    exp_file : str or path-like
        Path of the file. **The file is executed**: read only trusted ones.
    host_script_file : str or path-like, optional
        Script that starts the training, which is copied into the folder of the run.
    use_existing_dir : bool
        Whether the folder of the run may exist; its training is then resumed.

    Raises
    ------
    MissingFileError
        If the file does not exist.
    UnknownNameError
        If the file sets another name. The message names the most similar one. ELEKTRONN2 only warns.
    ConfigError
        If the file raises an exception, or a value is missing or invalid.
    """

    save_path: Any = "runs"
    save_name: str = "experiment"
    model: Any = None
    create_model: Any = None
    train_data: Any = None
    valid_data: Any = None
    batch_size: int = 4
    criterions: Any = None
    metrics: Mapping[str, Any] = types.MappingProxyType({})
    optimiser: Any = "Adam"
    optimiser_params: Mapping[str, Any] = types.MappingProxyType({})
    schedules: Mapping[str, Any] = types.MappingProxyType({})
    callbacks: Sequence[Any] = ()
    n_steps: int = 1000
    max_runtime: float | None = None
    history_freq: int = 100
    monitor_batch_size: int = 16
    val_score_key: str | None = None
    val_score_mode: str = "lowest"
    trainer_cls: Any = PyTorchNetworkTrainer
    trainer_kwargs: Mapping[str, Any] = types.MappingProxyType({})
    seed: int = 0
    preview_data: Any = None
    preview_freq: int = 0

    def __init__(
        self,
        exp_file: str | os.PathLike[str],
        host_script_file: str | os.PathLike[str] | None = None,
        use_existing_dir: bool = False,
    ) -> None:
        self.exp_file = absolute(exp_file)
        self.host_script_file = None if host_script_file is None else absolute(host_script_file)
        self.use_existing_dir = bool(use_existing_dir)
        self.read_user_config()
        self.check_config()

    def read_user_config(self) -> None:
        """Execute the file and store its values."""
        for file in (self.exp_file, self.host_script_file):
            if file is not None and not file.is_file():
                raise MissingFileError(f"there is no file {file}")
        found: dict[str, Any] = {"__name__": self.exp_file.stem, "__file__": str(self.exp_file)}
        try:
            exec(compile(self.exp_file.read_text(encoding="utf-8"), str(self.exp_file), "exec"), found)
        except Exception as error:
            raise ConfigError(f"{self.exp_file} raised {type(error).__name__}: {error}") from error
        known = list(ExperimentConfig.__annotations__)
        helpers = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
        for name, value in found.items():
            if name in known:
                setattr(self, name, value)
            elif not name.startswith("_") and not isinstance(value, helpers) and name != "annotations":
                raise UnknownNameError(
                    f"{self.exp_file.name} sets {name!r}, which has no meaning here. {did_you_mean(name, known)} "
                    "Names of helpers begin with an underscore"
                )

    def check_config(self) -> None:
        """Check the values."""
        if (self.model is None) == (self.create_model is None):
            raise ConfigError("a config has a model, or a function create_model")
        if self.create_model is not None and not callable(self.create_model):
            raise ConfigError("create_model is a function without arguments")
        for name in ("train_data", "criterions"):
            if getattr(self, name) is None:
                raise ConfigError(f"{name} is missing in {self.exp_file}")
        for name in ("batch_size", "n_steps", "history_freq", "monitor_batch_size"):
            require_whole(name, getattr(self, name), 1)
        for name in ("seed", "preview_freq"):
            require_whole(name, getattr(self, name), 0)
        if self.max_runtime is not None:
            require_number("max_runtime", self.max_runtime, above=0)
        for name in ("metrics", "optimiser_params", "schedules", "trainer_kwargs"):
            require_type(name, getattr(self, name), Mapping)
        higher_is_better(self.val_score_mode)
        if self.n_steps % self.history_freq:
            raise ConfigError(f"n_steps={self.n_steps} must be a multiple of history_freq={self.history_freq}")
        if self.preview_freq and self.preview_data is None:
            raise ConfigError("preview_freq is set, but preview_data is missing")

    def make_dir(self) -> Path:
        """Create the folder of the run with copies of the files, and return it.

        The name is ``save_name``, or ``save_name-2``, ... if it exists; with ``use_existing_dir``, the existing folder
        is used. The working directory stays, unlike in ELEKTRONN2.
        """
        folder = absolute(self.save_path) / self.save_name
        if not (self.use_existing_dir and folder.is_dir()):
            folder = claim_folder(folder.parent, self.save_name)
        for file in (self.exp_file, self.host_script_file):
            if file is not None:
                shutil.copyfile(file, folder / file.name)
        write_environment(folder)
        return folder

    @classmethod
    def levenshtein(cls, s1: str, s2: str) -> int:
        """Return the smallest number of insertions, deletions and replacements that turn one text into another.

        Examples
        --------
        >>> ExperimentConfig.levenshtein("kitten", "sitting")
        3
        """
        row = list(range(len(s2) + 1))
        for number, letter in enumerate(s1, start=1):
            before, row[0] = row[0], number
            for place, other in enumerate(s2, start=1):
                before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (letter != other))
        return row[-1]


class Trainer:
    """Training of an `ExperimentConfig`.

    Parameters
    ----------
    exp_config : ExperimentConfig or str or path-like
        Config, or the path of its file.

    Attributes
    ----------
    model : AbstractPyTorchNetwork
        Network, with initial weights until `run`.
    trainer : PyTorchNetworkTrainer
        Trainer, whose epochs have ``history_freq`` steps.
    tracker : HistoryTracker
        Timeline of all steps, and history of all epochs.
    save_path : Path
        Folder of the run.

    Raises
    ------
    ConfigError
        If model, data or trainer cannot be created. No folder is created then.
    """

    def __init__(self, exp_config: ExperimentConfig | str | os.PathLike[str]) -> None:
        self.config = c = exp_config if isinstance(exp_config, ExperimentConfig) else ExperimentConfig(exp_config)
        with isolated_rng(c.seed):
            self.model: Any = c.create_model() if c.model is None else c.model
        if not isinstance(self.model, nn.Module):
            raise ConfigError(f"the model is a torch.nn.Module, not a {type(self.model).__name__}")
        self._train = _endless(open_data(c.train_data), c.batch_size, c.seed, c.history_freq)
        self._valid: Any = None
        if c.valid_data is not None:
            self._valid = as_manager(open_data(c.valid_data), c.monitor_batch_size, 0, train=False)
        training = {"criterions": c.criterions, "metrics": dict(c.metrics), "optimizer_cls": c.optimiser}
        arguments = trainer_arguments(training, dict(c.trainer_kwargs))
        arguments |= {"optimizer_params": dict(c.optimiser_params), "seed": c.seed}
        self.tracker, trainer_cls = HistoryTracker(), self._trainer_cls()
        callbacks = [*c.callbacks, *([ScheduleCallback(c.schedules)] if c.schedules else [])]
        callbacks += [] if c.max_runtime is None else [TimeLimit(c.max_runtime, every="iteration")]
        trainer_cls(self.model, None, callbacks=list(callbacks), **arguments)  # raises before a folder is created
        self.save_path = c.make_dir()
        verbs = {"preview": lambda trainer: self.preview_slice(trainer.step)}
        own: list[Any] = [_Tracking(self), Console(folder=self.save_path, commands=verbs)]
        own.append(MetricLogger(JSONLSink(self.save_path / "metrics.jsonl")))
        path = self.save_path / "checkpoints"
        self.trainer = trainer_cls(self.model, path, callbacks=[*callbacks, *own], **arguments)

    def _trainer_cls(self) -> Any:
        return self.config.trainer_cls

    def run(self) -> Any:
        """Train for ``n_steps``, and return the network of the best epoch, or of the last one if no score is given."""
        c = self.config
        num_epochs, score = c.n_steps // c.history_freq, (c.val_score_key, c.val_score_mode)
        best = self.trainer.train(num_epochs, self._train, self._valid, *score, resume="auto")
        self.tracker.save(self.save_path / "history")
        return best

    def test_model(self, data_source: str) -> tuple[float, dict[str, float]]:
        """Return the loss and the metrics of one batch with ``monitor_batch_size`` samples.

        Parameters
        ----------
        data_source : {"train", "valid"}
            Data of the batch.
        """
        require_choice("data source", data_source, ("train", "valid"))
        if data_source == "valid" and self._valid is None:
            raise ConfigError("the config has no valid_data")
        data = self._train if data_source == "train" else self._valid
        values = self.trainer.predict([first_batch(data)], self.config.monitor_batch_size)[2]
        return values.pop("loss", float("nan")), values

    def debug_getcnnbatch(self) -> Mapping[str, Any]:
        """Return the first training batch, and draw it in ``debug_batch.png``."""
        self._train.show_batch(path=self.save_path / "debug_batch.png")
        return first_batch(self._train)

    def predict_and_write(
        self,
        pred_node: Any,
        raw_img: Array,
        number: float = 0,
        export_class: str | int | Sequence[int] = "all",
        block_name: str = "",
        z_thick: int = 5,
    ) -> list[Path]:
        """Predict an image or volume, and write slices of the probabilities as grey images.

        Parameters
        ----------
        pred_node : torch.nn.Module or callable or None
            Network, or a function of the (1, channels, *spatial) tensor that returns probabilities; None for the
            network of the trainer.
        raw_img : array
            (channels, H, W) image or (channels, X, Y, Z) volume.
        number : float
            Number in the names of the files, such as the number of steps.
        export_class : str, int or sequence of int
            ``"all"``, or the classes to write.
        block_name : str
            Beginning of the names of the files.
        z_thick : int
            Number of slices of a volume, around its middle.

        Returns
        -------
        list of Path
            Files ``<block_name>pred_<number>_c<class>[_z<slice>].png``, and the input, which is written once.
        """
        image = np.asarray(raw_img, np.float32)
        if image.ndim not in (3, 4):
            raise ShapeError(f"an image is (channels, H, W) or (channels, X, Y, Z), not {image.shape}")
        require_whole("z_thick", z_thick, 1)
        network = self.trainer.network if pred_node is None else pred_node
        tensor = torch.from_numpy(image)[None].to(self.trainer.device)
        if isinstance(network, nn.Module):
            with evaluating(network):
                prediction, scores = predicted(network, {"data": tensor}, seed=0, steps=None)
                found = probabilities(prediction, scores, "auto")[0]
        else:
            found = network(tensor)
        classes = found[0].detach().cpu().float().numpy()
        chosen = range(len(classes)) if export_class == "all" else np.atleast_1d(np.asarray(export_class)).tolist()
        for index in chosen:
            if not isinstance(index, int) or not 0 <= index < len(classes):
                raise ConfigError(f"export_class is 'all' or a number from 0 to {len(classes) - 1}, not {index!r}")
        folder = self.save_path / "previews"
        folder.mkdir(exist_ok=True)
        files = []
        for z, suffix in _slices(image.shape, z_thick):
            raw = folder / f"{block_name}raw{suffix}.png"
            if not raw.exists():
                _save_grey(image[0] if z is None else image[0][..., z], raw)
                files.append(raw)
            for index in chosen:
                file = folder / f"{block_name}pred_{number:g}_c{index}{suffix}.png"
                _save_grey(classes[index] if z is None else classes[index][..., z], file, span=(0.0, 1.0))
                files.append(file)
        return files

    def preview_slice(self, number: float = 0, export_class: Any = "all", max_z_pred: int = 5) -> list[Path]:
        """Predict and write the ``preview_data`` of the config; see `predict_and_write`.

        Parameters
        ----------
        number : float
            Number in the names of the files.
        export_class : str, int or sequence of int
            ``"all"``, or the classes to write.
        max_z_pred : int
            Number of slices of a volume.
        """
        image = self.config.preview_data
        if image is None:
            raise ConfigError("the config has no preview_data")
        image = np.load(image, allow_pickle=False) if isinstance(image, (str, os.PathLike)) else image
        return self.predict_and_write(None, image, number, export_class, "preview_", max_z_pred)

    def preview_slice_from_traindata(
        self,
        cube_i: int = 0,
        off: Sequence[int] = (0, 0, 0),
        sh: Sequence[int] = (10, 400, 400),
        number: float = 0,
        export_class: Any = "all",
    ) -> list[Path]:
        """Predict and write a part of a training sample; see `predict_and_write`.

        Parameters
        ----------
        cube_i : int
            Number of the sample.
        off, sh : sequence of int
            First index and length of the part along each spatial axis; the last numbers count for images, and a part
            that is larger than the sample ends with it.
        number : float
            Number in the names of the files.
        export_class : str, int or sequence of int
            ``"all"``, or the classes to write.
        """
        dataset = dataset_of(self._train)
        require_whole("cube_i", cube_i, 0, len(dataset) - 1)
        image = np.asarray(dataset[cube_i]["data"])
        dims = image.ndim - 1
        starts, lengths = tuple(off)[-dims:], tuple(sh)[-dims:]
        if (
            len(starts) != dims
            or len(lengths) != dims
            or any(a >= n for a, n in zip(starts, image.shape[1:], strict=True))
        ):
            raise ConfigError(f"off={tuple(off)} and sh={tuple(sh)} are not within a sample of {image.shape[1:]}")
        window = (slice(None), *(slice(a, a + n) for a, n in zip(starts, lengths, strict=True)))
        return self.predict_and_write(None, image[window], number, export_class, f"train{cube_i}_")


class TracingTrainer(Trainer):
    """Training on sequences of targets, with one step of the optimizers per batch.

    The ``label`` of the data is (S, T, ...). ``trainer_kwargs`` of the config may have ``steps_per_target`` and
    ``truncate``, see `delira_nca.training.trajectory.TrajectoryTrainer`. ELEKTRONN2's trainer of this name learns to
    trace neurites.

    Parameters
    ----------
    exp_config : ExperimentConfig or str or path-like
        Config, or the path of its file.
    """

    _default: type[TrajectoryTrainer] = TrajectoryTrainer

    def _trainer_cls(self) -> Any:
        given = self.config.trainer_cls
        return given if isinstance(given, type) and issubclass(given, TrajectoryTrainer) else self._default

    def debug_getcnnbatch(self, extended: bool = False) -> Any:
        """Return the first training batch, and save it in ``debug_batch.npz``.

        Parameters
        ----------
        extended : bool
            Whether to return a tuple of the batch and the predictions at its targets.
        """
        batch = first_batch(self._train)
        key = self.trainer.sequence_keys[0]
        self.save_batch(batch["data"], batch[key], self.save_path / "debug_batch")
        if not extended:
            return batch
        return batch, [part.cpu().numpy() for part in self.trainer.predict_sequence(batch["data"], batch[key].shape[1])]

    @staticmethod
    def save_batch(img: Any, lab: Any, k: int | str | os.PathLike[str], lab_img: Any = None) -> Path:
        """Write the arrays of a batch into an ``.npz`` file, and return its path.

        Parameters
        ----------
        img, lab : array
            Images, and sequences of targets.
        k : int or str or path-like
            Path of the file without suffix; a number k gives ``batch_<k>.npz`` in the working directory.
        lab_img : array or None
            Further array.
        """
        path = absolute(f"batch_{k}" if isinstance(k, int) else k)
        arrays: dict[str, Any] = {"img": img, "lab": lab, **({} if lab_img is None else {"lab_img": lab_img})}
        with replaced(path.with_name(f"{path.name}.npz")) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        return path.with_name(f"{path.name}.npz")


class TracingTrainerRNN(TracingTrainer):
    """`TracingTrainer` with a step of the optimizers for every ``truncate`` targets.

    Parameters
    ----------
    exp_config : ExperimentConfig or str or path-like
        Config, or the path of its file.
    """

    _default = ChunkedTrajectoryTrainer


def user_input(local_vars: Mapping[str, Any], *, ask: Callable[[], str] | None = None) -> str:
    """Open the menu of a training, and return the command that left it: ``"continue"`` or ``"stop"``.

    Parameters
    ----------
    local_vars : mapping
        Variables, one of which is a `Trainer` or a trainer of `delira_nca.training`. No Python code is executed, unlike
        in ELEKTRONN2.
    ask : callable or None
        Function that returns the next line.
    """
    found = next((v for v in local_vars.values() if isinstance(v, (Trainer, PyTorchNetworkTrainer))), None)
    if found is None:
        raise ConfigError(f"none of the variables is a trainer: {sorted(local_vars)}")
    trainer: Any = found.trainer if isinstance(found, Trainer) else found
    console = next((c for c in trainer.callbacks if isinstance(c, Console)), Console("off"))
    epoch = int(trainer.history[-1]["epoch"]) if trainer.history else 0
    return str(console.open_menu(trainer, epoch, ask=ask))


class _Tracking(AbstractCallback):
    """Record every step and epoch in the tracker, and write previews."""

    def __init__(self, owner: Trainer) -> None:
        self._owner, self._start = owner, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        tables = {table: getattr(self._owner.tracker, table) for table in ("timeline", "history")}
        columns = {t: {name: torch.from_numpy(c) for name, c in table.items()} for t, table in tables.items()}
        return {**columns, "seconds": time.monotonic() - self._start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._start = time.monotonic() - float(state["seconds"])
        self._owner.tracker = HistoryTracker()
        for table, update in (
            ("timeline", self._owner.tracker.update_timeline),
            ("history", self._owner.tracker.update_history),
        ):
            columns = state[table]
            for row in zip(*(column.tolist() for column in columns.values()), strict=True):
                update(dict(zip(columns, row, strict=True)))

    def at_iter_end(self, trainer: Any, *, train: bool, metrics: Mapping[str, Any], **event: Any) -> None:
        if train:
            row = {"time": time.monotonic() - self._start, "loss": float(metrics["loss"])}
            self._owner.tracker.update_timeline(row)

    def at_iter_done(self, trainer: Any, *, global_iter_num: int, **event: Any) -> None:
        freq = self._owner.config.preview_freq
        if freq and (global_iter_num + 1) % freq == 0:
            begun = time.monotonic()
            try:
                self._owner.preview_slice(global_iter_num + 1)
            except Exception:  # a preview does not end a training
                _LOGGER.exception("the preview of step %d failed", global_iter_num + 1)
            self._start += time.monotonic() - begun  # its time is not that of the training

    def at_epoch_end(self, trainer: Any, *, val_metrics: Mapping[str, float], **event: Any) -> None:
        row = {name: float(value) for name, value in val_metrics.items()}
        row |= {"steps": trainer.global_iter_num, "time": time.monotonic() - self._start}
        row["lr"] = float(next(iter(trainer.optimizers.values())).param_groups[0]["lr"])
        self._owner.tracker.update_history(row)


def _endless(data: Any, batch_size: int, seed: int, steps: int) -> Any:
    """Data manager whose epochs have a number of batches."""
    if isinstance(data, AbstractDataset):
        count = batch_size * steps
        return DataManager(data, batch_size, sampler_cls=RandomSamplerWithReplacement, seed=seed, num_samples=count)
    if getattr(data, "n_batches", steps) != steps:
        raise ConfigError(f"train_data has {data.n_batches} batches, and an epoch history_freq={steps}: give a dataset")
    return data


def _slices(shape: Sequence[int], count: int) -> list[tuple[int | None, str]]:
    if len(shape) == 3:
        return [(None, "")]
    count = min(count, shape[-1])
    first = (shape[-1] - count) // 2
    return [(z, f"_z{z}") for z in range(first, first + count)]


def _save_grey(values: Array, path: Path, span: tuple[float, float] | None = None) -> None:
    low, high = span or (float(values.min()), float(values.max()))
    grey = (255 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)).round().astype(np.uint8)
    save_picture(np.repeat(grey[..., None], 3, axis=2), path, scale=1)
