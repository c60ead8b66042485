"""NCALab's trainer: the arguments of its page do what the page says."""

import gc
import json
import weakref

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from delira_nca.errors import ConfigError, ScoreKeyError, ShapeError, UnknownNameError
from delira_nca.io.checkpoint import load_checkpoint
from delira_nca.losses import dice_score
from delira_nca.models import BasicNCAModel, CascadeNCA, PyramidNCA, make_seed, presets
from delira_nca.models.tasks import BinarySegmentationNCAModel, ClassificationNCAModel
from delira_nca.ncalab import (
    BasicNCATrainer,
    DepthNCAModel,
    EarlyStopping,
    Pool,
    TrainingHistory,
    TrainingStatus,
    interpret_range_parameter,
    pad_input,
)
from delira_nca.ncalab.pairs import PairBatches
from delira_nca.ncalab.trainer import NCALabRun
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import AbstractCallback, ActivityLoss


class Rates(AbstractCallback):
    """Writes down the learning rate that each epoch begins with."""

    def at_training_begin(self, trainer):
        self.seen = []

    def at_epoch_begin(self, trainer, curr_epoch):
        self.seen.append(trainer.optimizers["default"].param_groups[0]["lr"])


class Breaks(AbstractCallback):
    """Ends a training like a crash."""

    def __init__(self, epoch):
        self.epoch = epoch

    def at_epoch_begin(self, trainer, curr_epoch):
        if curr_epoch == self.epoch:
            raise KeyboardInterrupt


def train(nca, loader, path=None, val=None, epochs=3, **options):
    rates = Rates()
    trainer = BasicNCATrainer(nca, path, max_epochs=epochs, callbacks=[rates], **options)
    return trainer.train(loader, val), rates.seen


def binary(**changes):
    arguments = {"hidden_size": 8, "training_timesteps": 3, "inference_timesteps": 3, **changes}
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return BinarySegmentationNCAModel(None, 1, 3, **arguments)


def test_defaults_are_those_of_the_page_and_the_optimizer_is_the_one_that_was_named(segmenter):
    trainer = BasicNCATrainer(segmenter(), None)
    assert (trainer.gradient_clipping, trainer.lr_gamma, trainer.adam_betas) == (False, 0.99, (0.9, 0.95))
    assert (trainer.batch_repeat, trainer.max_epochs, trainer.optimizer_method) == (2, 200, "adam")
    assert (trainer.pool, trainer.model_path) == (None, None)
    group = trainer._make_optimizer(trainer.nca).param_groups[0]
    assert (group["lr"], group["betas"]) == (16e-4, (0.9, 0.95))
    for method, cls in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        trainer = BasicNCATrainer(segmenter(), None, optimizer_method=method)
        assert type(trainer._make_optimizer(trainer.nca)) is cls


def test_the_rate_falls_by_gamma_or_by_the_scheduler_of_the_user(segmenter, loader):
    nca = segmenter()
    optimizer = torch.optim.SGD(nca.parameters(), lr=0.1)
    for options, expected in (
        ({"lr": 0.1, "lr_gamma": 0.5}, [0.1, 0.05, 0.025, 0.0125]),
        ({"lr": 0.1, "lr_gamma": 1.0}, [0.1] * 4),
        ({"lr": 0.1, "lr_scheduler": lambda optimizer: ConstantLR(optimizer, 1.0)}, [0.1] * 4),
        ({"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 2, 0.1)}, [0.1, 0.1, 0.01, 0.01]),
        ({"optimizer": optimizer, "lr_scheduler": lambda o: StepLR(o, 2, 0.1)}, [0.1, 0.1, 0.01, 0.01]),
    ):
        optimizer.param_groups[0]["lr"] = 0.1
        _, rates = train(nca, loader(), epochs=4, **options)
        assert rates == pytest.approx(expected), options


def test_a_scheduler_of_plateaus_follows_the_score_of_validation(segmenter, loader):
    nca = segmenter()
    optimizer = torch.optim.SGD(nca.parameters(), lr=1e-9)
    plateau = ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=0, eps=0)
    _, rates = train(nca, loader(), val=loader(shuffle=False), optimizer=optimizer, lr_scheduler=plateau)
    assert rates == pytest.approx([1e-9, 1e-9, 0.5e-9])
    with pytest.raises(ConfigError, match="follows the score of validation"):
        train(nca, loader(), optimizer=optimizer, lr_scheduler=plateau)


@pytest.mark.processor
def test_a_training_learns_and_chooses_by_dice(segmenter, loader):
    trainer = BasicNCATrainer(segmenter(), None, lr=1e-2, lr_gamma=1.0, max_epochs=20, batch_repeat=1)
    history = trainer.train(loader(), loader(shuffle=False), loader(shuffle=False))
    assert sum(history.loss[-5:]) / 5 < 0.8 * history.loss[0]
    scores = [epoch["val_dice"] for epoch in history.epochs]
    assert history.best_accuracy == max(scores)
    assert history.best_epoch == 1 + scores.index(max(scores))
    assert history.metrics["dice"] == scores[-1]
    assert history.test_metrics["dice"] == pytest.approx(max(scores), abs=0.1)
    assert history.status is TrainingStatus.STATUS_DONE


def test_dice_of_a_validation_is_dice_of_the_masks(segmenter):
    class Copies(type(segmenter())):
        def metrics(self, pred, label):
            return {"dice": float(dice_score(pred.image_channels - 0.5, label))}

    found, wanted = torch.zeros(2, 2, 1, 6, 6).unbind()
    found[0, 0, :3, :4] = found[1, 0, 1, 1] = 1
    wanted[0, 0, 1:3, 1:6] = wanted[1, 0, 1, :2] = 1
    expected = (2 * 6 / (12 + 10) + 2 * 1 / (1 + 2)) / 2
    for x, y in ((found, wanted), (found.mT, wanted.mT)):
        pairs = DataLoader(TensorDataset(x, y), batch_size=1)
        history, _ = train(segmenter(Copies), pairs, val=pairs, epochs=1)
        assert history.metrics["dice"] == pytest.approx(expected)


def test_labels_of_every_declared_layout_give_the_same_losses(segmenter, loader):
    losses = [
        train(segmenter(), loader(label_axes=layout), label_layout=layout)[0].loss
        for layout in ("channels_first", "channels_last", "no_channel")
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.slow
def test_memory_of_a_validation_does_not_grow_with_its_batches(segmenter, loader):
    alive, most = [], []

    class Watched(type(segmenter())):
        def metrics(self, pred, label):
            alive.append(weakref.ref(pred.output_image))
            gc.collect()
            most.append(sum(ref() is not None for ref in alive))
            return super().metrics(pred, label)

    train(segmenter(Watched), loader(), val=loader(size=1, names=[str(n) for n in range(20)]), epochs=1)
    assert len(most) == 20
    assert max(most) <= 2


def test_the_last_epoch_is_saved_however_often_the_others_are_also_of_an_interrupted_training(
    segmenter, loader, tmp_path
):
    for epochs in (1, 5):
        path = tmp_path / str(epochs)
        history = BasicNCATrainer(nca := segmenter(), path, max_epochs=epochs).train(loader(), save_every=3)
        saved = torch.load(path / "last_model.pth", weights_only=True)
        assert all(torch.equal(value, saved[name]) for name, value in nca.state_dict().items())
        assert json.loads((path / "history.json").read_text())["current_epoch"] == epochs == history.current_epoch
        assert load_checkpoint(path / f"checkpoint_epoch_{epochs}.safetensors")["epoch"] == epochs
    with pytest.raises(KeyboardInterrupt):
        BasicNCATrainer(segmenter(), tmp_path, max_epochs=9, callbacks=[Breaks(3)]).train(loader(), save_every=100)
    state = json.loads((tmp_path / "history.json").read_text())
    assert (state["current_epoch"], len(state["loss"]), state["status"]) == (2, 2, 1)
    assert (tmp_path / "last_model.pth").is_file()


def test_a_killed_training_goes_on_bit_for_bit(segmenter, loader, tmp_path, assert_same):
    def trained(name, callbacks=(), **options):
        optimizer = torch.optim.Adam((nca := segmenter()).parameters(), lr=1e-2)
        given = {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 2, 0.5), "callbacks": callbacks}
        trainer = BasicNCATrainer(nca, tmp_path / name, True, max_epochs=5, **given)
        return trainer.train(loader(), loader(), earlystopping=EarlyStopping(20), **options)

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("killed", [Breaks(4)])
    torch.rand(17)  # what the global generators hold does not matter
    gone_on = trained("killed", resume="auto")
    states = [load_checkpoint(tmp_path / name / "checkpoint_epoch_5.safetensors") for name in ("whole", "killed")]
    for state in states:
        state["callbacks"]["HistoryKeeper"]["history"].pop("created_timestamp")
        state.pop("circumstances")
    assert_same(states[1], states[0])
    assert (gone_on.loss, gone_on.best_epoch) == (whole.loss, whole.best_epoch)
    assert_same(dict(gone_on.best_model.state_dict()), dict(whole.best_model.state_dict()))


def test_a_pool_of_the_page_is_a_pool():
    seed, target = make_seed(8, (8, 8)).expand(4, -1, -1, -1), torch.rand(1, 4, 8, 8).expand(4, -1, -1, -1)
    nca = BasicNCAModel(**presets.growing(num_hidden_channels=4, training_timesteps=3))
    pool = Pool(n_seed=1, capacity=12)
    trainer = BasicNCATrainer(nca, None, pool=pool, max_epochs=6, batch_repeat=2)
    trainer.train(DataLoader(TensorDataset(seed, target), batch_size=4))
    assert pool.pool.num_draws == 6
    assert pool.pool.losses.isfinite().sum() > 8  # one draw holds 8 states
    assert len(pool.batch) == 8


def test_gradients_are_clipped_in_and_outside_of_a_training(segmenter, loader):
    norms = []

    class Norms(AbstractCallback):
        def at_training_begin(self, trainer):
            trainer.optimizers["default"].register_step_pre_hook(lambda *_: norms.append(norm(trainer.network)))

    class Steep(type(segmenter())):
        def loss(self, prediction, label):
            return {name: 1e3 * value for name, value in super().loss(prediction, label).items()}

    def norm(network):
        return float(torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm())

    for clips in (False, True):
        trainer = BasicNCATrainer(segmenter(Steep), None, clips, max_epochs=1, callbacks=[Norms()])
        trainer.train(loader())
        optimizer = torch.optim.SGD(trainer.nca.parameters(), lr=0.0)
        trainer._train_iteration(*next(iter(loader())), optimizer, 0)
    assert norm(trainer.nca) == pytest.approx(1.0, abs=1e-4)
    assert min(norms[:2]) > 10
    assert max(norms[2:]) <= 1.0001


def test_a_step_of_the_users_own_and_a_term_of_a_callback_are_used(segmenter, loader):
    class Own(BasicNCATrainer):
        taken = ()

        def _train_iteration(self, x, y, optimizer, total_batch_iterations, summary_writer=None):
            self.taken = (*self.taken, (total_batch_iterations, len(x)))
            return super()._train_iteration(x, y, optimizer, total_batch_iterations, summary_writer)

    own = Own(segmenter(), None, max_epochs=2)
    own.train(loader())
    assert own.taken == ((0, 6), (1, 6), (2, 6), (3, 6))
    history = BasicNCATrainer(segmenter(), None, max_epochs=1, callbacks=[ActivityLoss(0.5)]).train(loader())
    epoch = history.epochs[0]
    assert epoch["activity"] > 0
    assert epoch["loss"] == pytest.approx(epoch["dice_bce"] + epoch["activity"], rel=1e-5)


def test_early_stopping_ends_the_training_and_without_a_metric_the_lowest_loss_decides(segmenter, loader):
    trainer = BasicNCATrainer(segmenter(), None, lr=1e-12, max_epochs=50)
    history = trainer.train(loader(), loader(shuffle=False), earlystopping=EarlyStopping(2))
    assert history.current_epoch == 3
    with pytest.raises(ConfigError, match="give dataloader_val"):
        trainer.train(loader(), earlystopping=EarlyStopping(2))
    history, _ = train(segmenter(validation_metric=None), loader(), val=loader(shuffle=False), epochs=4)
    losses = [epoch["val_loss"] for epoch in history.epochs]
    assert (history.best_accuracy, history.mode) == (min(losses), "lowest")


class Writer:
    """Writes down what it is called with."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, *args))


class Drawing:
    """Draws the shapes of arrays."""

    def show(self, model, image, prediction, label):
        assert isinstance(image, np.ndarray)
        return image.shape, label.shape


def test_the_writer_gets_the_tags_of_ncalab(segmenter, loader):
    writer = Writer()
    nca = segmenter(plot_function=Drawing())
    BasicNCATrainer(nca, None, max_epochs=1).train(loader(), loader(size=1), summary_writer=writer)
    tags = {call[1]: call for call in writer.calls if len(call) > 1}
    assert tags.keys() == {
        *("Training Info", "Training Batch", "Validation Batch", "Loss/train_total", "Loss/train_dice_bce"),
        *("Acc/Val/dice", "Acc/Val/loss", "Acc/Val/dice_bce"),
    }
    assert tags["Loss/train_total"][3] == 1
    assert tags["Training Batch"][2] == ((6, 1, 10, 10), (6, 1, 10, 10))
    assert tags["Validation Batch"][2] == ((1, 1, 10, 10), (1, 1, 10, 10))
    assert "| batch_repeat | 2 |" in tags["Training Info"][2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer_method": "adm"}, UnknownNameError, "Did you mean 'adam'"),
        ({"label_layout": "channel_last"}, UnknownNameError, "Did you mean 'channels_last'"),
        ({"batch_repeat": 0}, ConfigError, "batch_repeat must be a whole number of at least 1, not 0"),
        ({"max_epochs": 2.5}, ConfigError, "max_epochs must be a whole number of at least 1, not 2.5"),
        ({"lr": -1.0}, ConfigError, "lr must be a number above 0, not -1.0"),
        ({"gradient_clipping": 1.0}, ConfigError, "gradient_clipping must be of type bool, not float"),
        ({"pool": object()}, ConfigError, "pool is a Pool, not a object"),
        ({"optimizer": 3}, ConfigError, "optimizer is one of torch"),
        ({"lr_scheduler": 3}, ConfigError, "lr_scheduler is one of torch"),
        ({"lr": 1.0, "optimizer": torch.optim.Adam}, ConfigError, "given twice"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_once(segmenter, options, error, message):
    with pytest.raises(error, match=message):
        BasicNCATrainer(segmenter(), None, **options)


def test_objects_that_do_not_belong_together_are_refused(segmenter):
    ours, optimizer = segmenter(), torch.optim.Adam(segmenter().parameters())
    for arguments, options, message in (
        ((ours, None), {"optimizer": optimizer}, "none of the nca's"),
        ((ours, None), {"lr_scheduler": StepLR(optimizer, 1)}, "an optimizer that this trainer is not given"),
        ((ours, None, True, optimizer), {}, "the fourth argument is lr: give the optimizer by name"),
        ((torch.nn.Linear(2, 2), None), {}, "nca must be of type BasicNCAModel or PyramidNCA, not Linear"),
        ((CascadeNCA(binary(), [2, 1], [2, 2]), None), {"pool": Pool()}, "begins with an image: leave pool out"),
    ):
        with pytest.raises(ConfigError, match=message):
            BasicNCATrainer(*arguments, **options)


def test_a_training_is_that_of_the_packages_own_trainer(segmenter, loader, assert_same):
    ours, theirs = segmenter(), segmenter()
    BasicNCATrainer(ours, None, max_epochs=2, batch_repeat=1, lr=1e-2).train(loader())
    options = {"optimizer_params": {"lr": 1e-2, "betas": (0.9, 0.95)}, "lr_scheduler_params": {"gamma": 0.99}}
    trainer = PyTorchNetworkTrainer(theirs, None, lr_scheduler_cls=ExponentialLR, **options)
    trainer.train(2, PairBatches(loader()))
    assert_same(dict(ours.state_dict()), dict(theirs.state_dict()))
    assert trainer.score_names() is None  # of a loss that does not say its names


def test_models_and_pyramids_say_which_way_is_better_and_what_they_measure(loader):
    nca = binary()
    trainer = BasicNCATrainer(nca, None, max_epochs=2)
    history = trainer.train(loader(), loader(shuffle=False))
    assert history.mode == "highest"
    assert history.best_accuracy == max(epoch[f"val_{nca.validation_metric}"] for epoch in history.epochs)
    assert BasicNCATrainer(nca, None, validation_mode="lowest")._score()[1] == "lowest"
    trainer.nca.validation_metric, trainer.validation_mode = "loss_of_none", "lowest"
    with pytest.raises(ScoreKeyError, match="the score 'loss_of_none' that decides which epoch is best is not compute"):
        trainer.train(loader(), loader())
    drawing = object()
    pyramid = PyramidNCA([binary(), binary(plot_function=drawing)], [2, 1], [2, 2])
    assert (pyramid.validation_metric, pyramid.validation_mode) == ("dice", "highest")
    assert pyramid.plot_function is drawing
    assert list(pyramid.metrics) == ["dice"]


@pytest.mark.parametrize("options", [{}, {"single_model": False}, {"patch_size": 6}], ids=["one", "copies", "patches"])
def test_a_cascade_is_trained_chosen_by_dice_and_loaded_again(loader, tmp_path, options):
    cascade = CascadeNCA(binary(), [2, 1], [3, 2], **options)
    before = {name: value.clone() for name, value in cascade.state_dict().items()}
    trainer = BasicNCATrainer(cascade, tmp_path, lr=5e-2, max_epochs=6)
    history = trainer.train(loader(), loader(shuffle=False), earlystopping=EarlyStopping(6))
    assert history.loss[-1] < history.loss[0]
    assert history.mode == "highest"
    assert history.best_accuracy == max(epoch["val_dice"] for epoch in history.epochs)
    assert not [name for name, value in cascade.state_dict().items() if torch.equal(value, before[name])]
    loaded = TrainingHistory.load(tmp_path, CascadeNCA(binary(), [2, 1], [3, 2], **options)).best_model
    image = torch.rand(2, 1, 10, 10)
    assert torch.equal(loaded.predict(image).output_image, history.best_model.predict(image).output_image)
    assert "| steps | (3, 2) |" in trainer.info()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_trained_and_saved_under_its_own_names(loader, tmp_path, assert_same):
    plain, compiled = binary(), binary()
    histories = [
        BasicNCATrainer(nca, tmp_path / name, max_epochs=2).train(loader())
        for name, nca in (("plain", plain), ("compiled", torch.compile(compiled)))
    ]
    assert histories[0].loss == histories[1].loss
    saved = [torch.load(tmp_path / name / "last_model.pth", weights_only=True) for name in ("plain", "compiled")]
    assert_same(saved[0], saved[1])
    assert_same(dict(compiled.state_dict()), dict(plain.state_dict()))


@pytest.mark.parametrize("wrapped", [False, True])
def test_images_that_cannot_be_trained_on_are_refused_before_a_step(wrapped):
    nca = CascadeNCA(binary(), [2, 1], [2, 2]) if wrapped else binary()
    before = {name: value.clone() for name, value in nca.state_dict().items()}
    image, label = torch.zeros(2, 1, 8, 8), torch.ones(2, 8, 8)
    for x, y, error, message in (
        (image.byte(), label, ConfigError, r"is of floats, not torch\.uint8"),
        (image.expand(2, 3, 8, 8), label, ShapeError, r"\(B, 1, .*not \(2, 3, 8, 8\)"),
        (image, 255 * label, ConfigError, r"labels run from 255\.0 to 255\.0, but a mask has 0 outside and 1 inside"),
    ):
        with pytest.raises(error, match=message):
            train(nca, DataLoader(TensorDataset(x, y), batch_size=2), epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in nca.state_dict().items())


def test_a_metric_of_a_set_does_not_depend_on_the_batch_size():
    found = []
    for size in (1, 3, 6):
        torch.manual_seed(0)
        nca = ClassificationNCAModel(num_image_channels=1, num_hidden_channels=4, num_classes=3)
        images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        labels = torch.tensor([0, 0, 1, 2, 2, 2])
        batches = [{"data": images[i : i + size], "label": labels[i : i + size]} for i in range(0, 6, size)]
        found.append(NCALabRun(nca, None, step=lambda *arguments: None).evaluate(batches)["accuracy_macro"])
    assert found == pytest.approx([found[0]] * 3)


def test_metrics_may_be_named_like_a_loss_and_losses_may_be_plain_numbers(segmenter, loader):
    class Plain(type(segmenter())):
        def loss(self, pred, label):
            return {**super().loss(pred, label), "weight": 0.25}

    nca = segmenter(Plain, validation_metric="dice_bce")
    nca.metrics = lambda pred, label: {"dice_bce": 0.125}
    history = BasicNCATrainer(nca, None, max_epochs=1).train(loader(), loader())
    (epoch,) = history.epochs
    assert (epoch["val_dice_bce"], history.best_accuracy) == (0.125, 0.125)
    assert epoch["dice_bce"] == epoch["loss"] != 0.125
    assert (epoch["weight"], epoch["val_weight"]) == (0.25, 0.25)


@pytest.mark.parametrize("named", ["lr_gamma=0.9: ", "lr_scheduler=StepLR: ", "lr_scheduler: ", None])
def test_a_rate_that_vanishes_early_is_a_warning_with_the_name_of_its_argument(segmenter, loader, caplog, named):
    nca = segmenter()
    optimizer = torch.optim.Adam(nca.parameters(), lr=0.1)
    options = {
        "lr_gamma=0.9: ": {"lr_gamma": 0.9},
        "lr_scheduler=StepLR: ": {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 1, 0.1)},
        "lr_scheduler: ": {"optimizer": optimizer, "lr_scheduler": lambda optimizer: ExponentialLR(optimizer, 0.5)},
        None: {"lr_gamma": 0.9999},
    }[named]
    with pytest.raises(KeyboardInterrupt):
        BasicNCATrainer(nca, None, max_epochs=5000, callbacks=[Breaks(1)], **options).train(loader())
    found = [record.message for record in caplog.records if "the learning rate falls" in record.message]
    assert [named in message for message in found] == ([True] if named else [])


def test_a_training_iteration_that_is_written_as_in_nca_lab_trains(segmenter, loader):
    class Own(BasicNCATrainer):
        def _train_iteration(self, x, y, head_optimizer, total_batch_iterations, summary_writer=None):
            self.nca.train()
            self.optimizer.zero_grad()
            if head_optimizer is not None:
                head_optimizer.zero_grad()
            prediction = self.nca(pad_input(x.clone(), self.nca, noise=False), steps=interpret_range_parameter((3, 6)))
            losses = self.nca.loss(prediction, y)
            losses["total"].backward()
            self.optimizer.step()
            if head_optimizer is not None:
                head_optimizer.step()
            return prediction, {**losses, "share": 0.5}

    nca = segmenter()
    trainer = Own(nca, None, max_epochs=4, lr=1e-2)
    trainer.optimizer.param_groups[0]["lr"] = 2e-2
    history = trainer.train(loader())
    assert history.loss[-1] < history.loss[0]
    assert history.epochs[0]["share"] == 0.5
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(2e-2 * 0.99**4)


def depth(metrics, chosen="ssim"):
    nca = DepthNCAModel("cpu", 1, 3, hidden_size=8, training_timesteps=2, inference_timesteps=2)
    nca.metrics, nca.validation_metric = metrics, chosen
    return nca


def test_what_cannot_be_trained_is_refused_before_the_first_step(segmenter, loader):
    for nca, options, error, message in (
        (segmenter(), {"pool": Pool()}, ConfigError, "'data' differs from sample to sample"),
        (segmenter(), {"optimizer": torch.optim.LBFGS}, ConfigError, "'default' is a LBFGS, whose step computes the"),
        (segmenter(validation_metric="val_dcie"), {}, ScoreKeyError, "Did you mean 'val_dice'"),
        (depth({}), {}, ScoreKeyError, "'ssim' is not among the metrics of DepthNCAModel"),
        (depth({"loss": lambda pred, label: torch.tensor(7.0)}, "loss"), {}, ConfigError, "'loss'"),
    ):
        with pytest.raises(error, match=message):
            train(nca, loader(), val=loader(), epochs=1, **options)
    assert train(depth({}, None), loader(), val=loader(), epochs=1)[0].best_epoch == 1


@pytest.mark.parametrize(("every", "count"), [(1, 12), (3, 4)])
def test_figures_are_drawn_when_the_history_is_saved(segmenter, loader, every, count):
    trainer, writer = BasicNCATrainer(segmenter(), None, max_epochs=6), Writer()
    trainer.train(loader(), loader(), save_every=every, summary_writer=writer, plot_function=Drawing())
    assert sum(call[0] == "add_figure" for call in writer.calls) == count
