import numpy as np
import pytest

from delira_nca.data_loading import DataManager, DictDataset
from delira_nca.errors import ConfigError
from delira_nca.rollout.job import BatchPart
from delira_nca.training.distributed import PerSample
from delira_nca.training.distributed.shards import Shards, shard_of_batch


class Watched(DictDataset):
    def __init__(self, number):
        super().__init__({"data": np.arange(float(number))})
        self.asked = []

    def take(self, indices):
        self.asked.append([int(index) for index in indices])
        return super().take(indices)


def drawn(batch):
    return {"data": batch["data"] + np.random.rand(*batch["data"].shape)}


def together(source, size, epoch=1, start=0):
    """Whole batches, put together again, and their parts."""
    parts = [list(Shards(rank, size).of(source, epoch, start)) for rank in range(size)]
    rows = [[part["data"][: part.part.size] for part in of_one] for of_one in parts]
    return [np.concatenate(batch) for batch in zip(*rows, strict=True)], parts


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("transform", [None, drawn, PerSample(drawn)], ids=["none", "whole", "per_sample"])
def test_the_parts_of_a_data_manager_are_its_batches(transform, size):
    manager = DataManager(Watched(11), 4, transforms=transform, seed=3)
    for epoch, start in ((1, 0), (2, 1)):
        whole = [batch["data"] for batch in manager.get_batchgen(epoch=epoch, start=start)]
        for ours, theirs in zip(together(manager, size, epoch, start)[0], whole, strict=True):
            assert np.array_equal(ours, theirs)


def test_a_part_is_built_alone_only_where_the_rest_does_not_decide_about_it():
    for transform, expected in ((None, [[0, 1], [4]]), (PerSample(drawn), [[0, 1], [4]]), (drawn, [[0, 1, 2, 3], [4]])):
        data = Watched(5)
        manager = DataManager(data, 4, transforms=transform)
        assert len(list(Shards(0, 2).of(manager, 1))) == 2
        assert data.asked == expected


def test_a_dataset_that_may_draw_is_loaded_as_a_whole():
    data = Watched(4)
    data.is_deterministic = False
    list(Shards(1, 2).of(DataManager(data, 4), 1))
    assert data.asked == [[0, 1, 2, 3]]


def test_a_setting_that_is_changed_counts_from_the_next_epoch():
    manager, parts = DataManager({"data": np.arange(6.0)}, 2), Shards(0, 2)
    assert [len(batch["data"]) for batch in parts.of(manager, 1)] == [1, 1, 1]
    manager.update_state_from_dict({"batch_size": 6})
    assert [len(batch["data"]) for batch in parts.of(manager, 2)] == [3]
    parts.close()


def test_worker_processes_build_parts_and_end():
    manager, parts = DataManager({"data": np.arange(6.0)}, 4, n_process_augmentation=1), Shards(1, 2)
    assert [batch["data"].tolist() for batch in parts.of(manager, 1)] == [[2.0, 3.0], [5.0]]
    workers = parts._managers[id(manager)]._workers
    parts.close()
    assert workers._idle is None


def test_any_iterable_is_cut_and_closed_and_keeps_its_length():
    closed = []

    def endless():
        try:
            while True:
                yield {"data": np.arange(4)}
        finally:
            closed.append(True)

    batches = iter(Shards(1, 2).of(endless(), 1))
    assert next(batches)["data"].tolist() == [2, 3]
    batches.close()
    assert closed == [True]


def test_what_has_no_samples_belongs_to_every_part():
    batch = {"data": np.arange(4), "name": "disc", "weights": np.ones(3), "number": 2, "names": list("abcd")}
    part = shard_of_batch(batch, 1, 2)
    assert part.part == BatchPart(2, 2, 4)
    assert (part["name"], part["number"], part["names"], len(part["weights"])) == ("disc", 2, ["c", "d"], 3)


def test_a_transform_per_sample_is_the_same_however_a_batch_is_cut_and_differs_from_sample_to_sample():
    manager = DataManager({"data": np.zeros(6)}, 6, transforms=PerSample(drawn))
    (batch,) = manager.get_batchgen()
    assert len(set(batch["data"].tolist())) == 6


def test_a_transform_per_sample_refuses_what_is_none_or_gives_several():
    with pytest.raises(ConfigError, match="cannot be called"):
        PerSample("noise")
    with pytest.raises(ConfigError, match="twice has to give one sample for one, but its 'data'"):
        PerSample(twice)({"data": np.zeros(2)})
    assert repr(PerSample(twice)) == "PerSample(twice)"


def twice(batch):
    return {"data": np.concatenate([batch["data"]] * 2)}
