"""What ``to_html`` writes, and what it refuses."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from delira_nca import __version__
from delira_nca.errors import ConfigError, ExportError, ShapeError, UnknownNameError
from delira_nca.export import to_html
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception, make_seed, presets


def growing(**changes):
    return BasicNCAModel(**presets.growing(**{"rule": MLPRule(8), **changes}))


def looking(image=3, hidden=6, output=1, **changes):
    """A model that looks at a picture and answers in output channels."""
    parts = {"num_image_channels": image, "num_hidden_channels": hidden, "num_output_channels": output}
    return growing(**{**parts, "immutable_image_channels": True, "alive": None, **changes})


def steered(**changes):
    """A model of two fixed channels that say what to grow."""
    return looking(2, 5, 4, alive=AliveMask(10), **changes)


def unpacked(packed):
    values = np.frombuffer(base64.b64decode(packed["data"]), "<f2" if packed["type"] == "float16" else "<f4")
    return torch.from_numpy(values.astype("f4")).view(packed["shape"])


@pytest.fixture
def page_of(tmp_path):
    """Data of the page that is written."""

    def write(model, **options):
        text = to_html(model, tmp_path / "live.html", **options).read_text(encoding="utf-8")
        return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', text, re.S)[1])

    return write


# What is on the page --------------------------------------------------------------------------------------------------


def test_a_model_alone_makes_a_page(page_of):
    page = page_of(growing())
    assert page["delira_nca"] == __version__
    assert page["title"] == "Neural cellular automaton"
    assert (page["task"], page["grid"], page["horizon"], page["randomSeed"]) == ("grow", [64, 64], 96, 0)
    assert page["channelNames"][:5] == ["red", "green", "blue", "alpha", "hidden 1"]
    assert len(page["channelNames"]) == 16
    assert page["picture"] == {"first": 0, "count": 4}
    assert page["targets"] == [None]
    assert page["image"] is page["hiddenNoise"] is None
    assert page["goals"] == page["classes"] == page["figures"] == []
    assert len(page["explanation"]) == 3
    assert page["seed"]["whole"] is False
    assert torch.equal(unpacked(page["seed"]["block"]), make_seed(16, (1, 1)))


def test_pages_are_small_equal_for_equal_models_and_lie_where_they_were_asked_for(tmp_path):
    model = BasicNCAModel(**presets.growing())
    sizes = [to_html(model, tmp_path / f"{w}.html", weights=w).stat().st_size for w in ("float32", "float16")]
    assert sizes[0] < 1_000_000
    assert sizes[0] - sizes[1] == pytest.approx(8336 * 2 * 4 / 3, rel=0.05)
    path = to_html(model, str(tmp_path / "a" / "b" / "live.html"))
    assert path == tmp_path / "a" / "b" / "live.html"
    assert isinstance(path, Path)
    assert [file.name for file in path.parent.iterdir()] == ["live.html"]
    assert path.read_bytes() == (tmp_path / "float32.html").read_bytes()


@pytest.mark.parametrize(
    ("model", "options", "task"),
    [
        (growing, {}, "grow"),
        (looking, {}, "segment"),
        (lambda: looking(1), {}, "segment"),
        (lambda: looking(output=2), {"classes": ["a", "b"]}, "classify"),
        (steered, {"goals": {"a": [1, 0]}}, "grow"),
        (lambda: looking(output=3), {"task": "grow"}, "grow"),
        (lambda: looking(output=2), {"classes": ["a", "b"], "task": "segment"}, "segment"),
    ],
)
def test_task_is_that_of_the_model_unless_it_is_given(model, options, task, page_of):
    page = page_of(model(), **options)
    assert page["task"] == task
    assert (page["seed"] is None) == (task != "grow")


@pytest.mark.parametrize(
    ("model", "options", "grid"),
    [
        (growing, {"grid": (5, 7)}, [5, 7]),
        (growing, {"grid": [1, 1]}, [1, 1]),
        (growing, {"grid": (1, 2048)}, [1, 2048]),
        (growing, {"target": torch.zeros(4, 9, 12)}, [9, 12]),
        (growing, {"target": torch.zeros(4, 9, 12), "grid": (20, 30)}, [20, 30]),
        (steered, {"goals": {"a": [0, 1]}, "target": {"a": torch.zeros(4, 8, 6)}}, [8, 6]),
        (looking, {"image": torch.zeros(3, 11, 13)}, [11, 13]),
        (looking, {}, [64, 64]),
    ],
)
def test_grid_is_that_of_the_target_or_the_image_unless_it_is_given(model, options, grid, page_of):
    assert page_of(model(), **options)["grid"] == grid


def test_seed_is_trimmed_to_what_lives_around_its_middle(page_of, noise):
    seed, corner, full, empty = torch.zeros(16, 32, 40), torch.zeros(16, 8, 8), noise(16, 8, 9), torch.zeros(16, 6, 6)
    seed[:, 16, 20], seed[5, 14, 21] = 1.0, 0.5
    corner[:, 0, 0] = 1.0  # the first border of an even grid
    for given, grid, block, is_whole in (
        (seed, None, seed[:, 14:19, 19:22], False),
        (full, (8, 9), full, True),
        (corner, (8, 8), corner, True),
        (empty, None, empty[:, :1, :1], False),
    ):
        page = page_of(growing(), seed=given, grid=grid)
        assert torch.equal(unpacked(page["seed"]["block"]), block)
        assert page["seed"]["whole"] is is_whole


@pytest.mark.parametrize(
    ("make", "options", "living"),
    [
        (growing, {}, slice(3, 16)),
        (lambda: growing(alive=AliveMask(7)), {}, slice(7, 16)),
        (lambda: growing(alive=None), {}, slice(3, 16)),
        (lambda: growing(num_image_channels=2, num_hidden_channels=0, alive=None), {}, slice(1, 2)),
        (steered, {"goals": {"a": [1, 0]}}, slice(2, 11)),
    ],
)
def test_seed_by_default_is_a_cell_alive_from_the_alive_channel_on_without_a_goal(make, options, living, page_of):
    model = make()
    wanted = torch.zeros(model.num_channels, 1, 1)
    wanted[living] = 1.0
    assert torch.equal(unpacked(page_of(model, **options)["seed"]["block"]), wanted)


def test_target_lies_in_the_middle_where_a_seed_would_grow_it(page_of, noise):
    """The middle cell of the target, as ``make_seed`` counts it, is the middle cell of the grid."""
    for height, width in ((4, 4), (5, 4), (4, 5), (5, 5)):
        target = noise(4, height, width)
        (whole,) = map(unpacked, page_of(growing(), target=target, grid=(11, 12))["targets"])
        assert whole.shape == (4, 11, 12)
        top, left = 5 - height // 2, 6 - width // 2
        placed = whole[:, top : top + height, left : left + width]
        assert torch.equal(placed, target.half().float())
        assert whole.count_nonzero() == placed.count_nonzero()


def test_each_goal_has_its_values_and_its_target(page_of, noise):
    goals = {"lizard": [1, 0], "<b>": (0.0, 1.5), "none": torch.tensor([0.0, 0.0])}
    targets = {"<b>": noise(4, 6, 6), "lizard": noise(4, 6, 6, seed=1)}
    page = page_of(steered(), goals=goals, target=targets)
    assert page["goals"] == [
        {"name": "lizard", "values": [1.0, 0.0]},
        {"name": "<b>", "values": [0.0, 1.5]},
        {"name": "none", "values": [0.0, 0.0]},
    ]
    assert torch.equal(unpacked(page["targets"][0]), targets["lizard"].half().float())
    assert torch.equal(unpacked(page["targets"][1]), targets["<b>"].half().float())
    assert page["targets"][2] is None
    assert page["picture"] == {"first": 7, "count": 4}
    assert page["channelNames"][-4:] == ["red", "green", "blue", "alpha"]
    page = page_of(steered(), goals={"a": [1, 0], "b": [0, 1]}, target=torch.ones(4, 5, 5))
    assert [target is None for target in page["targets"]] == [False, True], "one target is that of the first goal"


def test_image_normalisation_and_noise_are_those_of_the_model(page_of, noise):
    image = noise(3, 5, 6)
    page = page_of(looking(), image=image, normalize=([0.1, 0.2, 0.3], torch.tensor([1.0, 2.0, 4.0])))
    assert torch.equal(unpacked(page["image"]), image.half().float())
    assert page["normalize"] == {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 4.0]}
    assert page_of(looking())["normalize"] == {"mean": [0.0] * 3, "std": [1.0] * 3}
    assert page["picture"] == {"first": 0, "count": 3}
    hidden = {"mean": 0.5, "std": 0.225, "first": 3, "count": 6}
    assert page_of(looking(pad_noise=True))["hiddenNoise"] == hidden
    assert page_of(looking(pad_noise=False))["hiddenNoise"] is None
    assert page_of(looking(pad_noise=True), seed=torch.zeros(10, 1, 1))["hiddenNoise"] is None


def test_classes_figures_explanation_horizon_and_seed_of_the_masks_are_written_down(page_of):
    page = page_of(looking(1, 5, 3), classes=["one", "two", 3])
    assert page["classes"] == ["one", "two", "3"]
    assert page["channelNames"] == ["image 1", *(f"hidden {k}" for k in range(1, 6)), "one", "two", "3"]
    assert page["outputs"] == {"first": 6, "count": 3}
    figures = {"parameters": 8336, "<b>": None, 3: 1.5}
    page = page_of(growing(), figures=figures, explanation=["</script>", "two"], random_seed=-1)
    assert page["figures"] == [["parameters", "8336"], ["<b>", "None"], ["3", "1.5"]]
    assert page["explanation"] == ["</script>", "two"]
    assert page["randomSeed"] == 2**32 - 1
    for trained, steps, horizon in ((70, None, 70), ((48, 64), None, 64), ((48, 64), 7, 7)):
        assert page_of(growing(training_timesteps=trained), steps=steps)["horizon"] == horizon


def test_arrays_are_taken_as_tensors_are(page_of):
    target = np.linspace(0, 1, 4 * 8 * 8).reshape(4, 8, 8)
    page = page_of(growing(), target=target, grid=np.array([8, 8]), seed=np.ones((16, 1, 1)))
    assert page["grid"] == [8, 8]
    assert torch.equal(unpacked(page["targets"][0]), torch.from_numpy(target).half().float())


@pytest.mark.parametrize("task", ["grow", "segment", "classify"])
@pytest.mark.parametrize(("kernel", "seen"), [("sobel", "its eight neighbours"), (5, "up to 2 cells away")])
def test_explanation_tells_how_far_a_cell_sees(task, kernel, seen, page_of):
    from delira_nca.models.perception import LearnedFilters

    filters = kernel if isinstance(kernel, str) else LearnedFilters(1, kernel)
    model = looking(output=2, perception=Perception("identity", filters))
    lines = page_of(model, task=task, classes=["a", "b"])["explanation"]
    assert seen in lines[0]
    assert not any("{" in line for line in lines)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_a_grid_must_be_larger_than_what_is_padded(padding, tmp_path):
    model = growing(perception=Perception("identity", "sobel", padding=padding), alive=None)
    with pytest.raises(ConfigError, match="grid of 1 x 9 cells is too small for a padding of 1 cells"):
        to_html(model, tmp_path / "live.html", grid=(1, 9))
    assert to_html(model, tmp_path / "live.html", grid=(2, 9)).exists()


NAN = float("nan")


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (growing, {"seed": torch.zeros(16)}, ShapeError, r"seed of this model is \(16, h, w\), not \(16,\)"),
        (growing, {"seed": torch.zeros(15, 3, 3)}, ShapeError, r"\(16, h, w\), not \(15, 3, 3\)"),
        (growing, {"seed": torch.zeros(1, 16, 3, 3)}, ShapeError, r"not \(1, 16, 3, 3\)"),
        (growing, {"seed": torch.zeros(16, 9, 3), "grid": (8, 8)}, ShapeError, r"seed of \(9, 3\) cells does not fit"),
        (growing, {"seed": torch.full((16, 1, 1), NAN)}, ConfigError, "seed holds NaN"),
        (growing, {"target": torch.zeros(3, 8, 8)}, ShapeError, r"target of this model is \(4, h, w\)"),
        (growing, {"target": torch.zeros(4, 8, 8), "grid": (7, 9)}, ShapeError, r"target of \(8, 8\) cells is larger"),
        (growing, {"target": torch.full((4, 8, 8), NAN)}, ConfigError, "target holds NaN"),
        (growing, {"target": {"a": torch.zeros(4, 8, 8)}}, UnknownNameError, "goal"),
        (looking, {"target": torch.zeros(3, 8, 8)}, ConfigError, "a target is what grows; this page is to segment"),
        (
            steered,
            {"goals": {"lizard": [1, 0]}, "target": {"lizzard": torch.zeros(4, 8, 8)}},
            UnknownNameError,
            "Did you mean 'lizard'",
        ),
        (steered, {"goals": {"a": [1]}}, ConfigError, "goal 'a' has 1 values, but the model has 2 fixed channels"),
        (growing, {"goals": {"a": [1]}}, ConfigError, "goal 'a' has 1 values, but the model has 0 fixed channels"),
        (growing, {"goals": {"a": []}}, ConfigError, "goal 'a' has 0 values"),
        (looking, {"image": torch.zeros(1, 8, 8)}, ShapeError, r"\(3, h, w\), not \(1, 8, 8\)"),
        (looking, {"image": torch.zeros(8, 8), "grid": (8, 8)}, ShapeError, r"not \(8, 8\)"),
        (looking, {"image": torch.full((3, 8, 8), NAN)}, ConfigError, "image holds NaN"),
        (growing, {"image": torch.zeros(4, 8, 8)}, ConfigError, "grows a picture of its own"),
        (growing, {"task": "gorw"}, UnknownNameError, "Did you mean 'grow'"),
        (growing, {"task": "segment"}, ConfigError, "this one has 0 and 0"),
        (lambda: looking(output=0), {}, ConfigError, "this one has 3 and 0"),
        (lambda: looking(2), {}, ConfigError, "1 or 3 channels, but the model looks at 2"),
        (lambda: looking(output=2), {"classes": ["a"]}, ConfigError, "1 classes for 2 output channels"),
        (lambda: looking(output=2), {"task": "classify"}, ConfigError, "needs classes"),
        (growing, {"classes": ["a"]}, ConfigError, "to classify, a model looks at fixed channels"),
        (looking, {"normalize": ([0.0], [1.0])}, ConfigError, "normalize is mean and std"),
        (looking, {"normalize": ([0.0] * 3, [1.0, 0.0, 1.0])}, ConfigError, "normalize is mean and std"),
        (growing, {"steps": 0}, ConfigError, "steps must be a whole number of at least 1, not 0"),
        (growing, {"steps": True}, ConfigError, "not True"),
        (growing, {"steps": 1.5}, ConfigError, "not 1.5"),
        (growing, {"explanation": []}, ConfigError, "one to three lines"),
        (growing, {"explanation": ["a"] * 4}, ConfigError, "one to three lines"),
        (growing, {"explanation": "a line"}, ConfigError, "one to three lines"),
        (growing, {"weights": "float8"}, UnknownNameError, "float8"),
        (lambda: growing(dims=3), {}, ExportError, "3 spatial dimensions"),
        (growing, {"grid": 64}, ConfigError, r"grid must be 2 whole numbers of at least 1, not 64"),
        *((growing, {"grid": grid}, ConfigError, "grid") for grid in ((0, 5), (5, -1), (5,), (5, 5, 5), (True, 5), ())),
        *((growing, {"grid": grid}, ConfigError, "grid") for grid in ((5.0, 5), ("a", "b"), (2049, 5), (5, 2049))),
        (growing, {"seed": "one cell"}, ConfigError, "the seed is a tensor or an array, not 'one cell'"),
        (growing, {"target": torch.full((4, 8, 8), 1e5)}, ConfigError, "the target holds 100000: .* up to 65504"),
        (growing, {"figures": ["a"]}, ConfigError, r"figures are names to values, not \['a'\]"),
        (growing, {"random_seed": None}, ConfigError, "random_seed must be a whole number, not None"),
        (growing, {"random_seed": 1.5}, ConfigError, "random_seed must be a whole number, not 1.5"),
        (growing, {"seed": torch.zeros(16, 0, 1)}, ConfigError, "does not fit into the grid"),
        (looking, {"normalize": 2.0}, ConfigError, r"normalize is \(mean, std\)"),
        (looking, {"normalize": ([0.0] * 3, [1.0, -1.0, 1.0])}, ConfigError, "std .above 0."),
        (looking, {"normalize": ([NAN] * 3, [1.0] * 3)}, ConfigError, "normalize is one finite number"),
        (looking, {"goals": {"a": [1.0, 0.0, 0.0]}, "task": "segment"}, ConfigError, "goals say what grows"),
        (looking, {"image": torch.zeros(3, 8, 8), "grid": (9, 8)}, ConfigError, "leave the grid out"),
        (lambda: looking(output=3), {"classes": "abc"}, ConfigError, "classes are several names, not the text 'abc'"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(model, options, error, message, tmp_path):
    path = tmp_path / "live.html"
    path.write_text("as it was")
    with pytest.raises(error, match=message):
        to_html(model(), path, **options)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_overwritten_and_one_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "live.html").mkdir()
    (tmp_path / "live.html" / "kept").touch()
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"cannot write the page .*live\.html: .*directory"):
        to_html(growing(), tmp_path / "live.html")
    with pytest.raises(ExportError, match=r"cannot write the page .*file"):
        to_html(growing(), tmp_path / "file" / "live.html")
    assert {file.name for file in tmp_path.rglob("*")} == {"live.html", "kept", "file"}
    assert (tmp_path / "file").read_bytes() == b""


def test_former_page_is_intact_after_a_failed_write(tmp_path, monkeypatch):
    path = to_html(growing(), tmp_path / "live.html")
    before = path.read_bytes()

    def fail(self, text, **_):
        self.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(ExportError, match=r"cannot write the page .*live\.html: No space left on device"):
        to_html(growing(), path, title="another")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
