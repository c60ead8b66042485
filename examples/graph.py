"""An automaton on a cloud of points, which grows a butterfly from one point and heals it.

The points are random; each perceives the points within a radius, with filters that depend on their displacement. The
pairs of neighbours are found once, and stored with the data. Half of the batch is damaged before each roll-out, so that
the automaton learns to heal.

``python examples/graph.py`` takes about three and a half minutes, ``--quick`` a few seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading import DataManager, repeat
from delira_nca.data_loading.sources import drawing, place
from delira_nca.losses import mse
from delira_nca.models import AliveMask, GraphNCA, GraphPerception, ball_damage, precompute_pairs
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import GradientNormalization, NaNGuard, PoolUpdate, ProgressBar


def cloud(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Points at random places of a square, about one per unit of area, and their colours (4, N)."""
    picture = place(drawing("butterfly", side - 6), side)
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    positions = cells + np.random.default_rng(0).uniform(0.15, 0.85, cells.shape)
    return positions, picture[:, cells[:, 0], cells[:, 1]].astype(np.float32)


def train(positions: np.ndarray, colours: np.ndarray, options: argparse.Namespace) -> tuple[GraphNCA, dict]:
    """Train the automaton on the cloud, and return it with a sample of the data."""
    steps, epochs, iterations = ((6, 9), 2, 4) if options.quick else ((24, 34), 40, 30)
    perception = GraphPerception("identity", "sobel", "laplacian", radius=1.9, normalize=True)
    with isolated_rng(0):
        network = GraphNCA(
            perception=perception,
            num_image_channels=4,
            num_hidden_channels=12,
            immutable_image_channels=False,
            alive=AliveMask(),
            hidden_size=96,
            fire_rate=0.75,
            training_timesteps=steps,
            inference_timesteps=steps[1],
        )
    seed = torch.zeros(16, len(positions))
    centre = int(np.linalg.norm(positions - positions.mean(0), axis=1).argmin())
    seed[3:, centre] = 1.0
    sample = precompute_pairs(
        network, {"data": seed[None].numpy(), "label": colours[None], "positions": positions[None]}
    )
    batch = 4
    data = DataManager(repeat({name: value[0] for name, value in sample.items()}, batch * iterations), batch)
    pool = PoolUpdate(SamplePool(seed, 64), num_damaged=1, damage=ball_damage(positions, len(positions) ** 0.5 / 5))
    trainer = PyTorchNetworkTrainer(
        network,
        options.out / "checkpoints",
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 3e-3},
        None,
        torch.optim.lr_scheduler.CosineAnnealingLR,
        {"T_max": epochs, "eta_min": 1e-4},
        callbacks=[NaNGuard(), GradientNormalization(), pool, ProgressBar()],
    )
    trainer.train(epochs, data)
    return network.eval(), sample


def draw(positions: np.ndarray, states: list[np.ndarray], titles: list[str], path: Path) -> None:
    """Draw the visible channels of states as clouds of points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(states), 2.7), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    for axes, state, title in zip(figure.subplots(1, len(states)), states, titles, strict=True):
        rgb = np.clip(state[:3] + 1 - np.clip(state[3:4], 0, 1), 0, 1).T
        axes.scatter(positions[:, 1], -positions[:, 0], c=rgb, s=22, linewidths=0)
        axes.scatter(positions[:, 1], -positions[:, 0], c="0.85", s=1, linewidths=0, zorder=0)
        axes.set_title(title, fontsize=9)
        axes.set_aspect("equal")
        axes.set_axis_off()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use few points and epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/graph"), help="folder of the run")
    options = parser.parse_args()
    positions, colours = cloud(14 if options.quick else 22)
    begin = time.perf_counter()
    network, sample = train(positions, colours, options)
    seconds = time.perf_counter() - begin
    print(f"{len(positions)} points, {network.num_trainable_parameters()} parameters, {seconds:.0f} s")

    horizon, pairs = network.inference_timesteps, network.pairs(sample)
    label = torch.from_numpy(colours)[None]
    kept = [0, horizon // 3, 2 * horizon // 3, horizon, 4 * horizon]
    grown = network.record(torch.from_numpy(sample["data"]), 4 * horizon, goal=pairs, keep=kept)
    cut = grown[-1].output_image.clone()
    cut[..., torch.from_numpy(positions[:, 1] > positions[:, 1].mean())] = 0.0
    healed = network.predict(cut, 2 * horizon, goal=pairs)
    for name, prediction in (("grown", grown[-2]), ("four horizons later", grown[-1]), ("healed", healed)):
        print(f"{name:>20}: error {float(mse(prediction.pred, label)):.5f}")
    states = [*(part.output_image for part in grown), cut, healed.output_image]
    titles = [*(f"{n} steps" for n in kept), "half cut off", f"{2 * horizon} steps later"]
    draw(positions, [state[0].detach().numpy() for state in states], titles, options.out / "cloud.png")
    print(options.out / "cloud.png")


if __name__ == "__main__":
    main()
