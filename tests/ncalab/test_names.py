"""Every public name of NCALab has a home here, and the helpers work."""

import importlib
import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import delira_nca.ncalab as face
import delira_nca.training.ncalab as alias
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.ncalab import (
    MCMC,
    NQM,
    AutoStepper,
    BasicNCAModel,
    BinarySegmentationNCAModel,
    Color,
    GrowingNCADataset,
    GrowingNCAModel,
    UncertaintyEstimator,
    fix_random_seed,
    get_compute_device,
    intepret_range_parameter,
    pad_input,
    paths,
    print_NCALab_banner,
    release_random_seed,
    unwrap,
)

ROOT = Path(__file__).parents[2]


def test_the_table_lists_every_name_of_nca_lab_with_its_home():
    spec = importlib.util.spec_from_file_location("ncalab_names", ROOT / "docs" / "ncalab_names.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    assert table.PAGE.read_text(encoding="utf-8") == table.render(), "run python docs/ncalab_names.py"
    names = [name for group in (table.NAMES, table.OLDER) for found in group.values() for name in found]
    assert len(names) == len(set(names)) == 69
    assert set(names) == set(face.__all__) - {"load_ncalab"} == set(dir(face)) - {"load_ncalab"}


def test_the_former_path_is_an_alias():
    assert dir(alias) == dir(face)
    assert all(getattr(alias, name) is getattr(face, name) for name in face.__all__ if not name.endswith("_PATH"))
    found = {}
    exec("from delira_nca.training.ncalab import *", found)
    assert len(set(found) & set(alias.__all__)) == 14
    with pytest.raises(AttributeError, match="BasicNCATrainr"):
        alias.BasicNCATrainr  # noqa: B018
    with pytest.raises(ModuleNotFoundError):  # a second copy of a module would have other classes
        importlib.import_module("delira_nca.training.ncalab.pool")


def test_helpers_do_what_the_page_says(capsys, tmp_path, monkeypatch):
    nca = BasicNCAModel(None, 1, 3, 1)
    assert pad_input(torch.ones(2, 1, 4, 4), nca).shape == (2, 5, 4, 4)
    assert intepret_range_parameter((3, 4)) == 3
    assert unwrap(0) == 0
    assert get_compute_device("cpu") == torch.device("cpu")
    assert get_compute_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    print_NCALab_banner()
    assert "NCALab" in capsys.readouterr().out
    prediction = AutoStepper(3, 9, 2, False, 1e-2).run(GrowingNCAModel("cpu", 4), torch.rand(2, 8, 6, 6))
    assert (prediction.steps, prediction.output_image.shape) == (3, (2, 8, 6, 6))
    assert Color((0.1, 0.3, 0.3, 0.7)).rgba4b == (25, 76, 76, 178)
    assert Color.from_hsva4f(*Color(0.2, 0.4, 0.6).hsva4f).rgb3f == pytest.approx((0.2, 0.4, 0.6))
    with pytest.raises(ConfigError, match="from 0 to 1, not"):
        Color(2.0)
    monkeypatch.chdir(tmp_path)
    assert (tmp_path, tmp_path / "weights", tmp_path / "tasks") == (face.ROOT_PATH, face.WEIGHTS_PATH, paths.TASK_PATH)
    assert not list(tmp_path.iterdir())


def test_global_generators_are_seeded_and_released():
    with torch.random.fork_rng([]):
        states = random.getstate(), np.random.get_state()
        drawn = []
        for _ in range(2):
            fix_random_seed()
            drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
        seed = release_random_seed()
        assert drawn[0] == drawn[1] != (random.random(), np.random.rand(), torch.rand(1).item())
        assert seed > 1_700_000_000
        random.setstate(states[0])
        np.random.set_state(states[1])


def test_the_data_set_of_growing_is_copies_of_a_seed_and_an_image():
    image = np.zeros((6, 9, 4), np.uint8)
    image[2, 3] = (255, 0, 51, 255)
    pairs = GrowingNCADataset(image, num_channels=10, batch_size=3)
    seed, target = pairs[2]
    assert (len(pairs), len(list(pairs))) == (3, 3)
    assert seed.nonzero().tolist() == [[channel, 3, 4] for channel in range(3, 10)]
    assert target[2, 3].tolist() == pytest.approx([1, 0, 0.2, 1])
    for wrong, error, message in (
        (np.zeros((4, 6, 9)), ShapeError, r"is \(H, W, 4\), not \(4, 6, 9\)"),
        (np.full((6, 9, 4), 0.5), ConfigError, "from 0 to 255; its maximum is 0.5"),
    ):
        with pytest.raises(error, match=message):
            GrowingNCADataset(wrong, 10)


@pytest.mark.parametrize("normalize", [False, True])
def test_estimators_measure_what_nca_labs_do(normalize):
    model = BinarySegmentationNCAModel("cpu", 2, 3, hidden_size=8, inference_timesteps=6)
    torch.nn.init.normal_(model.rule.network[2].weight, std=0.3, generator=torch.Generator().manual_seed(0))
    image = torch.rand(2, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    heatmap, predictions, score = NQM(model, N=4, normalize=normalize)(image)
    outputs = torch.stack([one.output_channels for one in predictions])
    expected = outputs.std(0)
    if normalize:
        expected = expected / (outputs > 0).sum((3, 4), keepdim=True).float().mean(0).clamp(min=1)
    assert (len(predictions), expected.max() > 0) == (4, True)
    torch.testing.assert_close(heatmap, expected)
    torch.testing.assert_close(score, expected.mean((2, 3)))
    heatmap, predictions, _ = MCMC(model, N_last=10, normalize=normalize).estimate(image, "max")
    hidden = torch.stack([one.hidden_channels for one in model.record(image)])
    torch.testing.assert_close(heatmap, hidden.std(0) / (10 if normalize else 1))
    assert [one.steps for one in predictions] == [1, 2, 3, 4, 5, 6]

    class Own(UncertaintyEstimator):
        def _estimate(self, image):
            return image, []

    _, _, score = Own(None).estimate(torch.arange(4.0).view(1, 1, 2, 2), reduce="min")
    assert score.tolist() == [[0.0]]
