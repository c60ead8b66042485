"""Automata on graphs: neighbours, perception, and equality with the automaton of a grid."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from delira_nca.data_loading import DataManager
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.io.network import load_network, save_network
from delira_nca.losses import mse
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    GraphNCA,
    GraphPerception,
    MLPRule,
    Perception,
    ball_damage,
    find_pairs,
    precompute_pairs,
)
from delira_nca.models.graph import pair_keys
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import PoolUpdate

HEIGHT, WIDTH = 7, 9
GRID = np.stack(np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij"), -1).reshape(-1, 2).astype(float)
POINTS = np.random.default_rng(0).random((30, 2)) * 4


def as_sets(pairs):
    """Neighbours of every node with their rounded displacements."""
    rows = zip(pairs.neighbours, pairs.displacements, pairs.neighbours >= 0, strict=True)
    return [
        {(int(other), *np.round(vector, 4)) for other, vector in zip(others[mask], vectors[mask], strict=True)}
        for others, vectors, mask in rows
    ]


def test_neighbours_are_the_points_within_the_radius():
    distances = cdist(POINTS, POINTS)
    vectors = np.round((POINTS[None] - POINTS[:, None]).astype("f4"), 4)
    near = (distances <= 1.0) & (distances > 0)
    expected = [{(int(j), *vectors[i, j]) for j in np.flatnonzero(near[i])} for i in range(30)]
    assert as_sets(find_pairs(POINTS, radius=1.0)) == expected


def test_nearest_neighbours_and_given_edges():
    nearest = find_pairs(POINTS, num_neighbours=5)
    assert nearest.neighbours.shape == (30, 5)
    order = cdist(POINTS, POINTS).argsort(1)[:, 1:6]
    assert [set(row) for row in nearest.neighbours.tolist()] == [set(row) for row in order.tolist()]
    pairs = find_pairs(POINTS, edges=[[3, 0, 3], [5, 1, 4]])
    assert pairs.neighbours[[0, 3, 4]].tolist() == [[1, -1], [4, 5], [-1, -1]]
    np.testing.assert_allclose(pairs.displacements[3, 1], POINTS[5] - POINTS[3], rtol=1e-6)


def test_a_periodic_box_has_the_neighbours_of_its_copies(refuses):
    pairs = find_pairs([[0.1, 0.5], [0.9, 0.5]], radius=0.3, box=1.0)
    assert as_sets(pairs) == [{(1, np.float32(-0.2), np.float32(0.0))}, {(0, np.float32(0.2), np.float32(0.0))}]
    alone = find_pairs([[0.5]], radius=2.5, box=1.0, n_images=3)
    assert sorted(alone.displacements[0, :, 0].tolist()) == [-2.0, -1.0, 1.0, 2.0]
    assert (alone.neighbours == 0).all()
    refuses(ConfigError, "raise n_images", find_pairs, [[0.5]], radius=2.5, box=1.0, n_images=2)
    edge = find_pairs([[0.1], [0.9]], edges=[[0], [1]], box=1.0)
    assert edge.displacements[0, 0, 0] == pytest.approx(-0.2)


def make_pair(filters, randomise, **options):
    """An automaton on a grid and one on the graph of the grid with the same weights."""
    common = {"num_image_channels": 4, "num_hidden_channels": 4, "immutable_image_channels": False, **options}
    grid = BasicNCAModel(perception=Perception(*filters, padding="zeros"), rule=MLPRule(16), dims=2, **common)
    graph = GraphNCA(perception=GraphPerception(*filters, radius=1.5), rule=MLPRule(16), **common)
    randomise(grid)
    weights = {name: w for name, w in grid.state_dict().items() if name.startswith("rule")}
    own = graph.state_dict()
    graph.load_state_dict({**own, **{name: w.reshape(own[name].shape) for name, w in weights.items()}})
    return grid, graph


@pytest.mark.parametrize("filters", [("identity", "sobel"), ("identity", "sobel", "laplacian"), ("laplacian",)])
@pytest.mark.parametrize("alive", [None, AliveMask()], ids=["all live", "alive mask"])
def test_on_a_grid_it_is_the_automaton_of_the_grid(filters, alive, randomise, noise):
    grid, graph = make_pair(filters, randomise, alive=alive)
    grid, graph = grid.double(), graph.double()
    state = 0.5 * noise(2, 8, HEIGHT, WIDTH).double()
    pairs = graph.pairs({"positions": np.stack([GRID, GRID])})
    expected = grid.predict(state, steps=6, seed=3).output_image
    found = graph.predict(state.flatten(2), steps=6, seed=3, goal=pairs).output_image
    torch.testing.assert_close(found, expected.flatten(2), rtol=1e-9, atol=1e-9)
    assert expected.abs().max() > 0.1


def test_gradients_are_those_of_the_grid(randomise, noise):
    grid, graph = make_pair(("identity", "sobel"), randomise)
    state, label = 0.5 * noise(2, 8, HEIGHT, WIDTH), noise(2, 4, HEIGHT, WIDTH, seed=1)
    pairs = graph.pairs({"positions": np.stack([GRID, GRID])})
    grid(state, 4, seed=1).pred.sub(label).square().mean().backward()
    graph(state.flatten(2), 4, seed=1, goal=pairs).pred.sub(label.flatten(2)).square().mean().backward()
    for ours, theirs in zip(graph.rule.parameters(), grid.rule.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad.reshape(ours.shape), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_normalised_filters_see_slopes_whatever_the_density(dims):
    axis = np.arange(0, 6, 0.5)
    points = np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), -1).reshape(-1, dims)
    perception = GraphPerception("sobel", radius=2.9, normalize=True, space_dims=dims)
    model = GraphNCA(perception=perception, num_image_channels=1, num_hidden_channels=1)
    pairs = perception.find_pairs(points)
    cell = model.with_goal(tuple(torch.from_numpy(part)[None] for part in pairs), 1)
    inner = ((points > 2) & (points < 3.5)).all(1)
    for number in range(dims):
        ramp = torch.from_numpy(points[:, dims - 1 - number]).float().expand(1, 2, -1)
        seen = cell.perceive(ramp, 0)[0, ::2, inner]  # ordered by filter, then by channel
        others = [n for n in range(dims) if n != number]
        assert float(seen[number].std()) < 1e-4
        assert float(seen[number].mean()) > 0.5
        assert all(float(seen[n].abs().max()) < 1e-4 for n in others)


def make_model(**options):
    torch.manual_seed(0)
    sizes = {"num_image_channels": 1, "num_hidden_channels": 5, "immutable_image_channels": False, "hidden_size": 16}
    steps = {"training_timesteps": 4, "inference_timesteps": 4}
    return GraphNCA(**{"perception": GraphPerception(radius=1.2), **sizes, **steps, **options})


def make_data(samples=4):
    positions = np.stack([np.random.default_rng(n).random((30, 2)) * 4 for n in range(samples)])
    label = (np.linalg.norm(positions - 2, axis=-1) < 1.2).astype("f4")[:, None]
    return {"data": np.ones((samples, 1, 30), "f4"), "label": label, "positions": positions}


@pytest.mark.parametrize("make_dense", [False, True])
def test_precomputed_pairs_change_nothing(make_dense):
    data, values = make_data(), []
    for given in (data, precompute_pairs(make_model(), data, batch_size=3, make_dense=make_dense)):
        trainer = PyTorchNetworkTrainer(make_model(), None, {"mse": mse}, optimizer_params={"lr": 1e-2})
        trainer.train(2, DataManager(given, 2))
        values.append([row["mse"] for row in trainer.history])
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_pairs_of_other_settings_are_refused(refuses):
    data = precompute_pairs(make_model(), make_data())
    model = make_model(perception=GraphPerception(radius=0.8))
    refuses(UnknownNameError, "are pairs of other settings: call precompute_pairs again", model.pairs, data)
    assert set(pair_keys(make_model())) <= set(data)
    normalized = make_model(perception=GraphPerception(radius=1.2, normalize=True))
    assert normalized.pairs(data).neighbours.shape[:2] == (4, 30)


def test_it_learns_on_points_and_goes_on_after_a_stop(tmp_path):
    data = precompute_pairs(make_model(), make_data())

    def make(folder):
        return PyTorchNetworkTrainer(make_model(), folder, {"mse": mse}, optimizer_params={"lr": 3e-2})

    straight = make(tmp_path / "a")
    straight.train(10, DataManager(data, 4))
    assert straight.history[-1]["mse"] < 0.6 * straight.history[0]["mse"]
    make(tmp_path / "b").train(4, DataManager(data, 4))
    resumed = make(tmp_path / "b")
    resumed.train(10, DataManager(data, 4), resume="auto")
    assert resumed.history == straight.history


def test_a_pool_of_states_on_one_graph_is_damaged_in_balls(refuses):
    points = make_data(1)["positions"][0]
    model = make_model(alive=AliveMask(channel=0))
    seed = torch.zeros(6, 30)
    seed[:, 0] = 1.0
    pairs = model.perception.find_pairs(points)
    keys = pair_keys(model)
    sample = {"data": seed.numpy(), "label": np.ones((1, 30), "f4"), keys[0]: pairs[0], keys[1]: pairs[1]}
    data = {name: np.stack([value] * 8) for name, value in sample.items()}
    update = PoolUpdate(SamplePool(seed, 8), num_damaged=1, damage=ball_damage(points, 0.8), reseed_dead=False)
    trainer = PyTorchNetworkTrainer(model, None, {"mse": mse}, callbacks=[update])
    trainer.train(2, DataManager(data, 4))
    assert update.pool.states.shape == (8, 6, 30)
    mask = ball_damage(points, 0.8)(np.random.default_rng(0), (30,))
    assert 0 < int(mask.sum()) < 30
    inside = points[mask.numpy()]
    assert cdist(inside, inside).max() <= 1.6
    refuses(ShapeError, "does not fit states of shape", ball_damage(points, 0.8), np.random.default_rng(0), (31,))


def test_a_description_makes_the_same_model(tmp_path, randomise):
    model = make_model(
        perception=GraphPerception("identity", "laplacian", num_neighbours=6, box=(4.0, 4.0), normalize=True)
    )
    randomise(model)
    save_network(model, tmp_path / "graph")
    found = load_network(next(tmp_path.iterdir()), GraphNCA)
    assert found.perception.to_dict() == model.perception.to_dict()
    data = make_data(2)
    pairs = model.pairs(data)
    image = torch.from_numpy(data["data"])
    assert torch.equal(model.predict(image, 3, goal=pairs).pred, found.predict(image, 3, goal=found.pairs(data)).pred)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: find_pairs([1.0, 2.0], radius=1), ShapeError, r"finite numbers \(N, D\), not of shape \(2,\)"),
        (lambda: find_pairs([[np.nan]], radius=1), ShapeError, "finite numbers"),
        (lambda: find_pairs(POINTS), ConfigError, "one of radius, num_neighbours and edges, not none"),
        (lambda: find_pairs(POINTS, radius=1, num_neighbours=2), ConfigError, "not .'radius', 'num_neighbours'."),
        (lambda: find_pairs(POINTS, radius=-1), ConfigError, "radius must be a number above 0"),
        (lambda: find_pairs(POINTS, num_neighbours=30), ConfigError, "needs more than the 30 points"),
        (lambda: find_pairs(POINTS, edges=[[0], [30]]), ConfigError, "indices from 0 to 29, not from 0 to 30"),
        (lambda: find_pairs(POINTS, edges=[0, 1]), ShapeError, r"integers \(2, E\)"),
        (lambda: find_pairs(POINTS, radius=1, box=(4.0, -1.0)), ConfigError, "2 lengths above 0"),
        (lambda: GraphPerception("sobl", radius=1), UnknownNameError, "Did you mean 'sobel'"),
        (lambda: GraphPerception(), ConfigError, "has a radius or num_neighbours"),
        (lambda: GraphPerception(radius=1, space_dims=4), ConfigError, "space_dims must be a whole number from 1 to 3"),
        (lambda: GraphNCA(perception=Perception("identity")), ConfigError, "is a GraphPerception, not Perception"),
        (lambda: make_model(dims=2), ConfigError, "has no dims"),
        (lambda: make_model()(torch.zeros(1, 6, 30), 1), ConfigError, "needs the pairs of its nodes"),
        (lambda: make_model().pairs({"data": 1}), UnknownNameError, "positions"),
        (lambda: precompute_pairs(make_model(), {"data": 1}), UnknownNameError, "positions"),
        (lambda: precompute_pairs(make_model(), make_data(), device="cuda"), ConfigError, "found on the CPU"),
        (lambda: precompute_pairs(torch.nn.Identity(), make_data()), ConfigError, "not of a Identity"),
    ],
)
def test_what_cannot_work_is_refused(make, error, text, refuses):
    refuses(error, text, make)


def test_pairs_that_do_not_fit_are_refused(refuses):
    model, data = make_model(), make_data(2)
    neighbours, displacements = model.pairs(data)
    state = torch.zeros(2, 6, 30)
    with pytest.raises(ShapeError, match="2 samples need as many graphs, not 1"):
        model(state, 1, goal=(neighbours[:1], displacements[:1]))
    refuses(ShapeError, "displacements", model, state, 1, goal=(neighbours, displacements[..., :1]))
    refuses(ConfigError, "indices from -1 to 29", model, state, 1, goal=(neighbours + 30, displacements))
