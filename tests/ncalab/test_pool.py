import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.ncalab import Pool


@pytest.fixture
def seeds():
    return torch.full((4, 3, 6, 6), 2.0)


def test_it_gives_seeds_at_first_and_then_what_became_of_them(seeds):
    pool = Pool(n_seed=1, capacity=4)
    assert pool.batch is None
    assert torch.equal(pool.sample(seeds), seeds)
    pool.update(seeds * 3, losses=torch.tensor([0.4, 0.3, 0.2, 0.1]))
    batch = pool.sample(seeds)
    assert sorted(batch[:, 0, 0, 0].tolist()) == [2.0, 6.0, 6.0, 6.0]
    assert torch.equal(batch, pool.batch)


def test_it_replaces_the_worst(seeds):
    pool = Pool(n_seed=2, capacity=4)
    pool.sample(seeds)
    values = torch.tensor([3.0, 4.0, 5.0, 6.0]).view(4, 1, 1, 1)
    pool.update(values.expand(4, 3, 6, 6), losses=torch.tensor([0.1, 0.9, 0.2, 0.8]))
    assert sorted(pool.sample(seeds)[:, 0, 0, 0].tolist()) == [2.0, 2.0, 3.0, 5.0]


def test_it_draws_every_slot_and_its_states_grow_old():
    pool, seed = Pool(n_seed=1, capacity=12), torch.zeros(4, 1, 2, 2)
    for draw in range(60):
        states = pool.sample(seed)
        drawn = pool._draw.indices.tolist()
        before = pool.pool.states.clone()
        assert len(set(drawn)) == 4
        pool.update(states + 1, torch.arange(4.0).roll(draw))
        untouched = [slot for slot in range(12) if slot not in drawn]
        assert torch.equal(pool.pool.states[untouched], before[untouched])
        assert int((states.flatten(1).amax(1) == 0).sum()) >= 1
    assert pool.pool.losses.isfinite().all()
    assert pool.pool.states[:, 0, 0, 0].max() > 2


def test_it_damages_none_all_or_some_but_never_a_seed(seeds):
    def damaged(p_damage):
        pool, counts = Pool(n_seed=1, damage=True, p_damage=p_damage, capacity=4), []
        for _ in range(30):
            batch = pool.sample(seeds)
            assert not bool((batch[0] == 0).any())
            counts.append(sum(bool((state == 0).any()) for state in batch))
            pool.update(seeds)
        return counts

    assert set(damaged(0.0)) == {0}
    assert set(damaged(1.0)) == {3}
    assert 0.25 < sum(damaged(0.5)) / 90 < 0.75
    undamaged = Pool(damage=False, p_damage=1.0, capacity=4)
    assert not bool((undamaged.sample(seeds) == 0).any())


def test_it_refuses_what_cannot_be(seeds):
    for make, message in (
        (lambda: Pool(capacity=3).sample(seeds), "batch of 4 cannot be drawn from a pool of 3"),
        (lambda: Pool(n_seed=5, damage=True).sample(seeds), "5 seeds .* batch of 4"),
        (lambda: Pool().update(seeds), "call sample"),
        (lambda: Pool(p_damage=1.5), r"p_damage .* not 1\.5"),
        (lambda: Pool(n_seed=-1), "n_seed must be a whole number of at least ., not -1"),
        (lambda: Pool(n_seed=1.5), "n_seed must be a whole number of at least ., not 1.5"),
        (lambda: Pool(capacity=0), "capacity must be a whole number of at least ., not 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_another_seed_needs_another_pool(seeds):
    pool = Pool(capacity=8)
    pool.update(pool.sample(seeds) + 1)
    with pytest.raises(ConfigError, match=r"began with another seed, of \(3, 6, 6\).*\(3, 5, 5\): make a new Pool"):
        pool.sample(seeds[..., :5, :5])
    with pytest.raises(ConfigError, match="began with another seed"):
        pool.sample(seeds + 1)
    assert pool.sample(seeds).shape == seeds.shape


def test_it_goes_on_from_its_state(seeds):
    pool = Pool(n_seed=1, damage=True, p_damage=0.5, capacity=8)
    assert pool.state_dict() == {}
    pool.sample(seeds)
    pool.update(seeds * 2, losses=torch.rand(4))
    resumed = Pool(n_seed=1, damage=True, p_damage=0.5, capacity=8)
    resumed.load_state_dict(pool.state_dict())
    for _ in range(3):
        assert torch.equal(pool.sample(seeds), resumed.sample(seeds))
        for each in (pool, resumed):
            each.update(each.batch + 1, losses=each.batch.mean((1, 2, 3)))


def test_a_state_that_is_not_finite_begins_anew(seeds):
    pool = Pool(n_seed=0, capacity=4)
    states = pool.sample(seeds) + 1
    states[1, 0, 2, 2], states[3, 1, 0, 0] = torch.nan, -torch.inf
    pool.update(states, losses=torch.tensor([0.1, torch.nan, 0.3, torch.inf]))
    again = pool.sample(seeds)
    assert again.isfinite().all()
    assert sorted(again[:, 0, 0, 0].tolist()) == [2.0, 2.0, 3.0, 3.0]
