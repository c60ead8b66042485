"""An automaton that plays a film: its roll-out passes through the frames, eight steps from each to the next.

The film of 30 frames is drawn by code: a heart that moves along a circle and beats. Each frame is a target of the
trajectory; the back-propagation is cut after every five frames, so that its memory does not grow with the film.

``python examples/film.py`` takes about three and a half minutes, ``--quick`` a few seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading.sources import drawing
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, Perception
from delira_nca.seeding import isolated_rng
from delira_nca.training import TrajectoryTrainer
from delira_nca.training.callbacks import GradientNormalization, NaNGuard, ProgressBar, ScheduleCallback
from delira_nca.training.schedules import Schedule
from delira_nca.visualization import film_strip, save_picture, to_rgb


def film(num_frames: int, grid: int) -> np.ndarray:
    """(T, 4, grid, grid) frames with premultiplied alpha."""
    frames = np.zeros((num_frames, 4, grid, grid), np.float32)
    for number, frame in enumerate(frames):
        phase = 2 * np.pi * number / num_frames
        size = grid // 2 + round(np.sin(3 * phase))
        heart = drawing("heart", max(size, 8))
        room = grid - heart.shape[1]
        top, left = (round(room * (0.5 + 0.4 * value)) for value in (np.sin(phase), np.cos(phase)))
        frame[:, top : top + heart.shape[1], left : left + heart.shape[2]] = heart
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use a short film and few iterations")
    parser.add_argument("--out", type=Path, default=Path("runs/film"), help="folder of the run")
    options = parser.parse_args()
    num_frames, grid, epochs, iterations = (4, 16, 2, 3) if options.quick else (30, 24, 60, 20)
    frames = film(num_frames, grid)
    with isolated_rng(0):
        network = BasicNCAModel(
            num_image_channels=4,
            num_hidden_channels=16,
            immutable_image_channels=False,
            perception=Perception("identity", "sobel", "laplacian", padding="zeros"),
            hidden_size=128,
            fire_rate=1.0,
        )
    start = np.concatenate([frames[0], np.zeros((16, grid, grid), np.float32)])[None]
    batch = {"data": start, "label": frames[None]}
    trainer = TrajectoryTrainer(
        network,
        options.out / "checkpoints",
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 2e-3},
        steps_per_target=8,
        truncate=5,
        callbacks=[
            NaNGuard(),
            GradientNormalization(),
            ScheduleCallback({"optimizer.lr": Schedule.cosine(2e-3, 1e-4, epochs * iterations)}),
            ProgressBar(),
        ],
    )
    begin = time.perf_counter()
    trainer.train(epochs, [batch] * iterations)
    seconds = time.perf_counter() - begin
    print(f"{num_frames} frames, {network.num_trainable_parameters()} parameters, {seconds:.0f} s")
    played = torch.cat(trainer.predict_sequence(start, num_frames))
    errors = (played - torch.from_numpy(frames)).square().flatten(1).mean(1)
    still = (torch.from_numpy(frames[:1]) - torch.from_numpy(frames)).square().mean()
    print(f"error over the film: {float(errors.mean()):.5f} (of a still picture: {float(still):.5f})")
    shown = list(range(0, num_frames, max(num_frames // 10, 1)))[:10]
    rows = np.concatenate([frames[shown], played[shown].numpy()])
    options.out.mkdir(parents=True, exist_ok=True)
    save_picture(film_strip(to_rgb(rows), len(shown), rows=2), options.out / "film.png", scale=4)
    print(options.out / "film.png")


if __name__ == "__main__":
    main()
