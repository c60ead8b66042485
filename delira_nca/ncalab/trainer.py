"""NCALab's trainer: its names and arguments, based on the trainer and callbacks of this package."""

from __future__ import annotations

import copy
import inspect
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR

from delira_nca.checks import plain_numbers, require_number, require_type, require_whole
from delira_nca.errors import ConfigError, ScoreKeyError, did_you_mean, require_choice
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import write_environment
from delira_nca.logging import JSONLSink
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.network import declared_loss_names
from delira_nca.models.prediction import Prediction
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.ncalab.history import TrainingHistory
from delira_nca.ncalab.listeners import (
    EarlyStopping,
    EarlyStoppingCallback,
    HistoryCallback,
    PoolOfSeeds,
    SchedulerCallback,
    WriterOfEvents,
)
from delira_nca.ncalab.model import NCALabNetwork
from delira_nca.ncalab.pairs import LABEL_LAYOUTS, PairBatches
from delira_nca.ncalab.pool import Pool
from delira_nca.ncalab.prediction import as_measured
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.callbacks.optimization import GradientClipping, LRSchedulerCallback
from delira_nca.training.callbacks.pool_update import BatchRepeat
from delira_nca.training.callbacks.reporting import MetricLogger
from delira_nca.training.optimizers import require_plain_steps
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
from delira_nca.training.scores import check_value_names, higher_is_better

__all__ = ["BasicNCATrainer", "NCALabRun", "TrainStep"]

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
DEFAULT_LR = 16e-4
Loader = Iterable[Any]
Automaton = BasicNCAModel | PyramidNCA


@plain_numbers
class BasicNCATrainer:
    """Train an automaton on loaders of (image, label) pairs, with NCALab's names and arguments.

    Parameters
    ----------
    nca : Automaton
        Automaton, or pyramid such as a ``CascadeNCA``, which is trained in place to minimise the ``"total"`` of its
        ``loss``. A model wrapped by ``torch.compile`` is unwrapped: roll-outs have their own back ends and are not
        compiled. The names of the weights in the files of a compiled model of :mod:`delira_nca.ncalab` begin with
        ``_orig_mod.``, as in NCALab, so that they can be loaded into a compiled model.
    model_path : str or path, optional
        Folder of the history, the models and the checkpoints; nothing is written if None.
    gradient_clipping : bool
        Whether to clip the common norm of all gradients to 1.
    lr : float, optional
        Learning rate, 16e-4 by default.
    lr_gamma : float
        Factor of the learning rate per epoch, if ``lr_scheduler`` is not given; 1 for a constant rate.
    adam_betas : tuple
        Betas of Adam and AdamW.
    batch_repeat : int
        Number of copies of each sample in a batch.
    max_epochs : int
        Number of epochs.
    optimizer_method : str
        Name of the optimizer: adam, adamw or sgd.
    pool : Pool, optional
        Pool of states, for a data set with one seed and one label.
    optimizer : Optimizer or callable, optional
        Optimizer of weights of ``nca``, or a function of weights that returns one, instead of ``lr``, ``adam_betas``
        and ``optimizer_method``.
    lr_scheduler : object
        Scheduler of that optimizer, or a function of an optimizer that returns one; it is stepped once per epoch.
    label_layout : str
        Layout of the labels in the loaders: ``"channels_first"``, ``"channels_last"`` or ``"no_channel"``; ``"auto"``
        recognises whether the channels of images and labels are first or last.
    validation_mode : str, optional
        Whether the highest or the lowest ``validation_metric`` of the model is the best. The mode of the model by
        default, or highest if it has none.
    callbacks : sequence
        Callbacks of the package, in addition to those of the arguments.
    device : str or torch.device, optional
        Device of the training; that of the model by default.
    seed : int
        Seed of all random numbers of the training.

    Notes
    -----
    Each call of :meth:`train` is a separate run, with a new optimizer unless one was given.

    Examples
    --------
    >>> import torch
    >>> from delira_nca.models import BasicNCAModel
    >>> nca = BasicNCAModel(None, 1, 4, 1, training_timesteps=4, inference_timesteps=4)
    >>> pairs = torch.utils.data.TensorDataset(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8))
    >>> trainer = BasicNCATrainer(nca, None, max_epochs=2)
    >>> history = trainer.train(torch.utils.data.DataLoader(pairs, batch_size=2))
    >>> history.current_epoch, len(history.loss), history.status.name
    (2, 2, 'STATUS_DONE')
    """

    def __init__(
        self,
        nca: Automaton,
        model_path: str | os.PathLike[str] | None,
        gradient_clipping: bool = False,
        lr: float | None = None,
        lr_gamma: float = 0.99,
        adam_betas: tuple[float, float] = (0.9, 0.95),
        batch_repeat: int = 2,
        max_epochs: int = 200,
        optimizer_method: str = "adam",
        pool: Pool | None = None,
        optimizer: Optimizer | Callable[..., Optimizer] | None = None,
        lr_scheduler: Any = None,
        *,
        label_layout: str = "auto",
        validation_mode: str | None = None,
        callbacks: Sequence[Any] = (),
        device: str | torch.device | None = None,
        seed: int = 0,
    ) -> None:
        given: Any = nca
        self.nca: Automaton = unwrapped(given)
        require_type("nca", self.nca, BasicNCAModel, PyramidNCA)
        self.model_path = None if model_path is None else absolute(model_path)
        self._prefix = "_orig_mod." if isinstance(self.nca, NCALabNetwork) and self.nca is not given else ""
        self.gradient_clipping, self.lr, self.lr_gamma = gradient_clipping, lr, lr_gamma
        self.adam_betas, self.batch_repeat, self.max_epochs = tuple(adam_betas), batch_repeat, max_epochs
        self.optimizer_method, self.pool = optimizer_method, pool
        self._optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.label_layout, self.validation_mode = label_layout, validation_mode
        self.callbacks, self.device, self.seed = tuple(callbacks), device, seed
        self._run: NCALabRun | None = None
        self._check()

    @property
    def optimizer(self) -> Any:
        """Optimizer of the training under way, else the given one, else a new one that the next training uses."""
        if self._run is not None:
            return self._run.optimizers["default"]
        if self._optimizer is None:
            self._optimizer = self._make_optimizer(self.nca)
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer | Callable[..., Optimizer] | None) -> None:
        self._optimizer = value

    def _check(self) -> None:
        require_choice("optimizer_method", self.optimizer_method, OPTIMIZERS)
        require_choice("label_layout", self.label_layout, LABEL_LAYOUTS)
        higher_is_better("highest" if self.validation_mode is None else self.validation_mode)
        derive_seed(self.seed)
        require_type("gradient_clipping", self.gradient_clipping, bool)
        for name in ("batch_repeat", "max_epochs"):
            require_whole(name, getattr(self, name), 1)
        if isinstance(self.lr, Optimizer):
            raise ConfigError("the fourth argument is lr: give the optimizer by name, optimizer=")
        for name, rate in (("lr", self.lr), ("lr_gamma", self.lr_gamma)):
            if rate is not None:
                require_number(name, rate, above=0)
        if self.pool is not None and not isinstance(self.pool, Pool):
            raise ConfigError(f"pool is a Pool, not a {type(self.pool).__name__}; PoolUpdate takes a SamplePool")
        if self.pool is not None and isinstance(self.nca, PyramidNCA):
            raise ConfigError("a pool holds states to begin with, and a pyramid begins with an image: leave pool out")
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        given, scheduler = self._optimizer, self.lr_scheduler
        if given is not None and self.lr is not None:
            raise ConfigError("the learning rate is given twice: by lr and by the optimizer")
        if isinstance(given, Optimizer):
            known = {id(p) for p in self.nca.parameters()}
            if any(id(p) not in known for group in given.param_groups for p in group["params"]):
                raise ConfigError("the optimizer holds weights that are none of the nca's")
        elif given is not None and not callable(given):
            raise ConfigError(f"optimizer is one of torch, or a function of weights, not {given!r}")
        followed = getattr(scheduler, "optimizer", None)
        if isinstance(followed, Optimizer) and followed is not given:
            raise ConfigError("lr_scheduler follows an optimizer that this trainer is not given: pass optimizer= too")
        if scheduler is not None and followed is None and not callable(scheduler):
            raise ConfigError(f"lr_scheduler is one of torch, or a function of an optimizer, not {scheduler!r}")

    def info(self) -> str:
        """Table of the settings, in Markdown."""
        rows = (f"| {key} | {value} |" for key, value in self.settings().items())
        return "\n".join(["| setting | value |", "|---|---|", *rows])

    def settings(self) -> dict[str, Any]:
        """Settings by name."""
        optimizer = self.optimizer_method if self._optimizer is None else _name(self._optimizer)
        schedule = f"x {self.lr_gamma} per epoch" if self.lr_scheduler is None else _name(self.lr_scheduler)
        return {
            "model": type(self.nca).__name__,
            "trainable parameters": self.nca.num_trainable_parameters(),
            **_steps(self.nca),
            "model_path": self.model_path,
            "optimizer": optimizer,
            "learning rate": self._rate(),
            "schedule": schedule,
            "adam_betas": self.adam_betas,
            "gradient_clipping": self.gradient_clipping,
            "batch_repeat": self.batch_repeat,
            "max_epochs": self.max_epochs,
            "pool": None if self.pool is None else f"n_seed={self.pool.n_seed}, capacity={self.pool.capacity}",
            "seed": self.seed,
        }

    def _rate(self) -> Any:
        if isinstance(self._optimizer, Optimizer):
            return self._optimizer.param_groups[0]["lr"]
        return "the optimizer's" if self._optimizer is not None else DEFAULT_LR if self.lr is None else self.lr

    def _make_optimizer(self, network: Automaton, *args: Any, **kwargs: Any) -> Optimizer:
        """Optimizer of a run: the given one, or a new one for all weights that require gradients."""
        if isinstance(self._optimizer, Optimizer):
            return self._optimizer
        weights = [p for p in network.parameters() if p.requires_grad]
        if self._optimizer is not None:
            return self._optimizer(weights)
        lr = DEFAULT_LR if self.lr is None else self.lr
        options: dict[str, Any] = {} if self.optimizer_method == "sgd" else {"betas": self.adam_betas}
        return OPTIMIZERS[self.optimizer_method](weights, **{"lr": lr, **options})

    def _train_iteration(
        self, x: Tensor, y: Tensor, optimizer: Optimizer, total_batch_iterations: int, summary_writer: Any = None
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Run one training step. Override it for a custom step.

        Parameters
        ----------
        x : Tensor
            Images or states (B, C, *spatial), repeated or drawn from the pool according to the arguments.
        y : Tensor
            Labels.
        optimizer : Optimizer
            Optimizer of the weights.
        total_batch_iterations : int
            Number of the iteration in the run, from 0, from which its random numbers are derived.
        summary_writer : object
            Writer of ``Loss/train_<name>``.

        Returns
        -------
        tuple of (prediction, losses with ``"total"``), detached
        """
        run = self._run
        options = {} if run is None else run.ranks.closure_options()
        if run is not None and run.loss_terms:
            options["terms"] = run.loss_terms
        self.nca.train()
        with self._clipping(optimizer) if run is None else nullcontext():
            _, losses, prediction = self.nca.closure(
                self.nca,
                {"data": x.to(self.nca.device), "label": y.to(self.nca.device)},
                {"default": optimizer},
                {},
                {},
                seed=derive_seed(self.seed, "rollout", "train", total_batch_iterations),
                **options,
            )
        losses["total"] = losses.pop("loss")
        if summary_writer is not None:
            for name, value in losses.items():
                summary_writer.add_scalar(f"Loss/train_{name}", float(value), total_batch_iterations)
        return prediction, losses

    @contextmanager
    def _clipping(self, optimizer: Optimizer) -> Iterator[None]:
        """Clip gradients in a step outside of a training, in which no callback does."""

        def clip(stepped: Optimizer, args: Any, kwargs: Any) -> None:
            nn.utils.clip_grad_norm_([p for group in stepped.param_groups for p in group["params"]], 1.0)

        handle = optimizer.register_step_pre_hook(clip) if self.gradient_clipping else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()

    def train(
        self,
        dataloader_train: Loader,
        dataloader_val: Loader | None = None,
        dataloader_test: Loader | None = None,
        save_every: int | None = None,
        summary_writer: Any = None,
        plot_function: Any = None,
        earlystopping: EarlyStopping | None = None,
        *,
        resume: str | os.PathLike[str] = "never",
    ) -> TrainingHistory:
        """Train for ``max_epochs`` epochs, and keep the model with the best validation score.

        Parameters
        ----------
        dataloader_train, dataloader_val, dataloader_test : iterable
            Loaders of (x, y) pairs. Images are (B, c, *spatial); the layout of labels is ``label_layout``. The best
            model is evaluated once on the test data.
        save_every : int, optional
            Number of epochs between two saves, 1 by default. The last epoch is always saved.
        summary_writer : object
            TensorBoard writer, or an object with ``add_scalar``, ``add_text`` and ``add_figure``.
        plot_function : object
            Object with a method ``show`` that draws figures for the writer; that of the model by default.
        earlystopping : EarlyStopping, optional
            Early stopping, which is stepped once per epoch with the score that selects the best model.
        resume : str or path
            ``"auto"`` resumes from the newest checkpoint in ``model_path``; see
            :meth:`~delira_nca.training.AbstractNetworkTrainer.train`.

        Returns
        -------
        TrainingHistory
            Its ``best_model`` is that of the epoch with the best ``nca.validation_metric``, or with the lowest
            validation loss if the model has none; without validation, that of the last epoch.

        Raises
        ------
        ConfigError
            Before the first batch, for early stopping without validation, or unsuitable arguments.
        """
        if earlystopping is not None and dataloader_val is None:
            raise ConfigError("earlystopping follows a score of validation: give dataloader_val")
        save_every = 1 if save_every is None else require_whole("save_every", save_every, 1)
        key, mode = self._score() if dataloader_val is not None else (None, "highest")
        history = TrainingHistory(self.model_path, {}, 0, self.nca, mode=mode)
        history.prefix = self._prefix
        listeners = self._listeners(history, save_every, summary_writer, plot_function, earlystopping)
        train, valid = self._pairs(dataloader_train, "train"), self._pairs(dataloader_val, "valid")
        test = self._pairs(dataloader_test, "test")
        run = self._run = self._make_run(self.nca, self.model_path, listeners, save_every, summary_writer)
        if self.model_path is not None:
            run.register_callback(MetricLogger(JSONLSink(self.model_path / "metrics.jsonl")))
            self._write("config.json", {"task": {"score": key, "mode": mode}, "settings": self.settings()})
            write_environment(self.model_path)
        begin = time.perf_counter()
        try:
            run.train(self.max_epochs, train, valid, key, mode, resume=resume)
        finally:
            self._run = None
        if test is not None and history.best_model is not None:
            judge = self._make_run(history.best_model, None, (), 1, None)
            history.test_metrics = judge.evaluate(test.get_batchgen(1))
            if history.path is not None:
                history.save()
        if self.model_path is not None:
            place = {"name": self.model_path.name, "folder": str(self.model_path)}
            measured = {"test_scores": dict(history.test_metrics or {}), "seconds": time.perf_counter() - begin}
            self._write("result.json", {**place, **run.summary(), **measured, "outcome": {}})
        return history

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write plain values to a file in the folder of the run."""
        if self.model_path is not None:
            with replaced(self.model_path / name) as temporary:
                temporary.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")

    def _score(self) -> tuple[str, str]:
        metric, metrics = self.nca.validation_metric, getattr(self.nca, "metrics", None)
        if metric is None:
            return "loss", "lowest"
        mode = self.validation_mode or getattr(self.nca, "validation_mode", None)
        if mode is None and isinstance(metrics, Mapping) and metric not in metrics:
            raise ScoreKeyError(
                f"validation_metric {metric!r} is not among the metrics of {type(self.nca).__name__}. "
                f"{did_you_mean(metric, metrics)} None selects the epoch with the lowest loss"
            )
        return metric, str(mode or "highest")

    def _pairs(self, loader: Loader | None, stream: str) -> Any:
        if loader is None:
            return None
        options: dict[str, Any] = {"label_layout": self.label_layout, "network": self.nca, "seed": self.seed}
        return PairBatches(loader, **options, stream=stream, every_epoch_anew=stream == "train")

    def _listeners(
        self, history: TrainingHistory, save_every: int, writer: Any, plot: Any, stopping: EarlyStopping | None
    ) -> list[Any]:
        scheduler = self.lr_scheduler
        listeners: list[Any] = [BatchRepeat(self.batch_repeat)] if self.batch_repeat > 1 else []
        if self.pool is not None:
            listeners.append(PoolOfSeeds(self.pool))
        if self.gradient_clipping:
            listeners.append(GradientClipping(1.0))
        listeners += self.callbacks
        if isinstance(getattr(scheduler, "optimizer", None), Optimizer):
            listeners.append(SchedulerCallback(scheduler))
        else:
            is_ours = scheduler is None
            made = LRSchedulerCallback(*((ExponentialLR, {"gamma": self.lr_gamma}) if is_ours else (scheduler,)))
            made.argument = f"lr_gamma={self.lr_gamma}" if is_ours else "lr_scheduler"
            listeners.append(made)
        if stopping is not None:
            listeners.append(EarlyStoppingCallback(stopping))
        if writer is not None:
            drawing = getattr(self.nca, "plot_function", None) if plot is None else plot
            listeners.append(WriterOfEvents(writer, self.info(), drawing, save_every))
        return [*listeners, HistoryCallback(history, save_every)]

    def _make_run(
        self, network: Automaton, path: Path | None, listeners: Sequence[Any], save_every: int, writer: Any
    ) -> NCALabRun:
        device = getattr(network, "device", None) if self.device is None else self.device
        run = NCALabRun(
            network,
            path,
            save_freq=save_every,
            optim_fn=self._make_optimizer if network is self.nca else _frozen,
            callbacks=listeners,
            device=device,
            seed=self.seed,
            step=self._train_iteration,
            writer=writer,
        )
        if type(self)._train_iteration is BasicNCATrainer._train_iteration:
            require_plain_steps(run.optimizers)
        return run

    def for_fold(self, nca: Automaton, model_path: Path | None) -> BasicNCATrainer:
        """Copy this trainer, including optimizer, scheduler and pool, for a copy of a model.

        Parameters
        ----------
        nca : Automaton
            Model to copy: that of this trainer, or an untrained one of the same architecture.
        model_path : str or path, optional
            Folder of the copy.
        """
        fold = copy.copy(self)
        memo: dict[int, Any] = {}
        fold.nca = copy.deepcopy(nca, memo)
        if nca is not self.nca:  # let copied references to weights of the trainer's model refer to those of the copy
            for ours, theirs in zip(self.nca.parameters(), fold.nca.parameters(), strict=True):
                memo[id(ours)] = theirs
        fold._optimizer, fold.lr_scheduler, fold.pool, fold.callbacks = copy.deepcopy(
            (self._optimizer, self.lr_scheduler, self.pool, self.callbacks), memo
        )
        fold.model_path, fold._run = model_path, None
        return fold


def _frozen(network: Automaton, *args: Any, **kwargs: Any) -> Optimizer:
    """Optimizer of a run that only evaluates."""
    return torch.optim.SGD(list(network.parameters()), lr=0.0)


def _steps(nca: Automaton) -> dict[str, Any]:
    if isinstance(nca, PyramidNCA):
        return {"scales": nca.scales, "steps": nca.steps}
    return {"training steps": nca.training_timesteps, "inference steps": nca.inference_timesteps}


def _name(thing: Any) -> str:
    return str(getattr(thing, "__name__", type(thing).__name__))


TrainStep = Callable[[Tensor, Tensor, Any, int, Any], tuple[Any, dict[str, Tensor]]]
"""Function of images, labels, optimizer, number of the iteration and writer that returns prediction and losses."""


class NCALabRun(PyTorchNetworkTrainer):
    """Trainer with a custom step function that evaluates the network's own metrics.

    Parameters
    ----------
    step : callable
        Function that is called once per training iteration.
    writer : object
        Writer for the step.
    network : object
        Network to train. Its ``metrics`` are used in validation.
    *args, **kwargs
        Arguments of :class:`~delira_nca.training.PyTorchNetworkTrainer`.
    """

    def __init__(self, network: Any, *args: Any, step: TrainStep, writer: Any = None, **kwargs: Any) -> None:
        super().__init__(network, *args, **kwargs)
        own = getattr(network, "metrics", None)
        # a method measures single batches, metrics by name measure the whole set
        self.measure = None if isinstance(own, Mapping) else own
        self.metrics, self.metric_keys = as_measured(own if isinstance(own, Mapping) else {})
        check_value_names({}, self.metrics)
        self.train_step, self.writer = step, writer
        third = [*inspect.signature(step).parameters][2:3]
        self._has_head_optimizer = "head_optimizer" in third  # the argument of NCALab 0.5, which is always None

    def _closure(self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool) -> tuple[dict[str, Any], Any]:
        """Run the training step, or predict and evaluate."""
        if not train:
            seed = derive_seed(self.seed, "rollout", "valid", iter_num)
            with isolated_rng(derive_seed(self.seed, "closure", "valid", iter_num)), self.ranks.working():
                measured, losses, prediction = self.network.closure(
                    *(self.network, data_dict, {}, {}, self._measuring),
                    keys=self.metric_keys,
                    precision=self.precision,
                    seed=seed,
                    **self.ranks.closure_options(),
                )
            if self.measure is not None:
                measured = self.measure(prediction, data_dict["label"])
            # in NCALab, a loss term and a metric may have one name: validation records the metric
            return {**losses, **{name: value for name, value in measured.items() if value is not None}}, prediction
        self._memory_check(self.network, data_dict, self.precision)
        seed = derive_seed(self.seed, "closure", "train", self.step, *self.ranks.stream)
        with isolated_rng(seed), self.ranks.working():
            optimizer = None if self._has_head_optimizer else self.optimizers["default"]
            prediction, losses = self.train_step(
                data_dict["data"], data_dict["label"], optimizer, self.step, self.writer
            )
        values = {name: torch.as_tensor(value).detach() for name, value in losses.items() if name != "total"}
        return {**values, "loss": losses["total"].detach()}, prediction.detach()

    def _validate_single_epoch(self, batchgen: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
        """Evaluate, by the network's own ``validate`` or ``predict`` if a subclass overrides one, as in NCALab."""
        own = {name: getattr(type(self.network), name, None) for name in ("validate", "predict")}
        ours = (NCALabNetwork.validate, BasicNCAModel.predict, PyramidNCA.predict, PyramidNCA.validate)
        if not isinstance(self.network, NCALabNetwork) or all(method in ours for method in own.values()):
            return super()._validate_single_epoch(batchgen, epoch)
        network: Any = self.network
        metrics, _ = network.validate([(batch["data"], batch["label"]) for batch in batchgen])
        return {name: float(value) for name, value in metrics.items()}

    def evaluate(self, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        """Evaluate losses and metrics as means over samples, without training."""
        return self._validate_single_epoch(batches, self.start_epoch)

    @property
    def _training_metrics(self) -> dict[str, Any]:
        """Metrics of training batches: none, as in NCALab."""
        return {}

    def _score_names(self, *, validated: bool) -> list[str] | None:
        """Names of losses, and of metrics if they are a dict, or None if unknown."""
        losses, metrics = declared_loss_names(self.network), getattr(self.network, "metrics", {})
        if losses is None or not isinstance(metrics, Mapping):
            return None
        names = [*(name for name in losses if name != "total"), "loss"]
        return [*names, *(f"val_{name}" for name in (*names, *metrics))] if validated else names
