"""Pickles that do something when they are loaded: not here."""

import pickle
import zipfile

import pytest
import torch

from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["pickle", "legacy", "zip", "inside"])
def test_a_bomb_is_refused_and_does_not_go_off(path, tmp_path, form):
    mark = tmp_path / "mark"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif form == "inside":
        torch.save({"epoch": 1, "callbacks": [Bomb(mark)]}, path)
    else:
        torch.save(Bomb(mark), path, _use_new_zipfile_serialization=form == "zip")
        assert zipfile.is_zipfile(path) is (form == "zip")
    mark.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)
    assert not mark.exists()


def test_the_bomb_of_these_tests_goes_off_elsewhere(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark"))).close()
    assert (tmp_path / "mark").exists()
