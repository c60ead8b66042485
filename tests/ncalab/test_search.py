import json

import numpy as np
import pytest
from torch.utils.data import DataLoader

from delira_nca.errors import ConfigError
from delira_nca.ncalab import GrowingNCADataset, GrowingNCAModel, ParameterSearch, ParameterSet


def test_combinations_are_all_pairs_and_can_be_iterated_again():
    parameters = ParameterSet(lr=[1e-3, 1e-2, 1e-1], hidden_size=np.array([16, 32]), name="run", steps=(48, 64))
    for _ in range(2):
        found = list(parameters)
        assert len(found) == len({tuple(one.values()) for one in found}) == len(parameters) == 6
    assert [next(parameters), parameters.next()] == found[:2]
    assert {one["steps"] for one in found} == {(48, 64)}
    assert {type(one["hidden_size"]) for one in found} == {int}
    assert (parameters.is_mutable("lr"), parameters.is_mutable("steps")) == (True, False)
    assert parameters.info() == "lr × hidden_size\n6 combinations"
    assert (list(ParameterSet()), ParameterSet().info()) == ([{}], "Empty set\n1 combinations")
    with pytest.raises(ConfigError, match="'lr' has no values"):
        ParameterSet(lr=[])


def test_every_combination_is_trained_in_a_folder_of_its_own(tmp_path):
    pytest.importorskip("pandas")
    pairs = GrowingNCADataset(np.full((6, 6, 4), 255, np.uint8), 8, batch_size=2)
    search = ParameterSearch(
        "cpu",
        GrowingNCAModel,
        ParameterSet(fire_rate=[0.5, 1.0], num_hidden_channels=4, hidden_size=8, training_timesteps=(2, 4)),
        ParameterSet(lr=[1e-3, 1e-2], max_epochs=1, model_path=tmp_path / "search"),
    )
    assert "Total combinations: 4" in search.info()
    table = search(DataLoader(pairs, batch_size=2))
    assert sorted(zip(table.lr, table.fire_rate, strict=True)) == [(1e-3, 0.5), (1e-3, 1.0), (1e-2, 0.5), (1e-2, 1.0)]
    folders = sorted(path.name for path in (tmp_path / "search").iterdir())
    assert folders[0] == "T_lr=0.001__M_fire_rate=0.5"
    assert len(folders) == 4
    for folder, rate in zip(folders, (0.5, 1.0, 0.5, 1.0), strict=True):
        history = json.loads((tmp_path / "search" / folder / "history.json").read_text())
        assert history["current_model"]["fire_rate"] == rate
