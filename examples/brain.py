"""Brain: deep grey nuclei by pyramids of automata, and how well their doubt tells where they fail.

Caudate, putamen, pallidum and thalamus of one brain. A pyramid is trained on the left hemisphere and tested on the
right one, mirrored, which it has never seen: in ``2d`` Med-NCA on sagittal slices of 1 mm (every fourth is tested), in
``3d`` M3D-NCA on the hemisphere in voxels of 2 mm. So that the test has failures, its images are also made worse: by
noise, a bias field, blur, ghosts and a spike, in five strengths each. They are the package's own, written down before
anything was trained and not changed; nothing like them but weak noise is in the training. The one setting that was
changed after a look at the test is the number of epochs, which was doubled as the loss of the training still fell. Of
each case, ten stochastic roll-outs give the quality metric NQM, which sees no label; the script prints it beside Dice,
and the correlation of both. One brain, and many cases of few images: a demonstration, not a benchmark.

Run ``python examples/brain.py --root PATH`` with the package file that holds the brain, or its folder
(``delira-nca data list`` names it); ``--data synthetic`` takes computed balls, as does ``--quick`` without ``--root``.
``--quick`` takes some ten seconds, the whole three minutes in 2D and five in 3D.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from delira_nca.data_loading import DataManager, DictDataset, RandomSamplerWithReplacement, sources
from delira_nca.evaluation import NQM, quality_report
from delira_nca.losses import dice_bce, dice_score
from delira_nca.models import PyramidNCA, presets
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientNormalization, ProgressBar, WeightAverage
from delira_nca.visualization import save_scatter


def hemispheres(data: str, root: str | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Image from 0 to 1 and mask of the left hemisphere and of the right one: (right to left, back to front, up)."""
    if data == "synthetic":
        found = sources.open("discs", num_samples=2, shape=(40, 64, 48), noise=0.05)
        return [
            (image[0], mask[0].astype(np.float32)) for image, mask in zip(found["data"], found["label"], strict=True)
        ]
    found = sources.open("ch2", root)
    image = (found["data"] * found["brain"])[0, :, 76:164, 40:112].astype(np.float32)
    image = np.clip(image / np.percentile(image[image > 0], 99), 0, 1)
    mask = np.isin(found["label"][0, :, 76:164, 40:112], range(71, 79)).astype(np.float32)
    return [(array[50:90], label[50:90]) for array, label in ((image, mask), (image[::-1], mask[::-1]))]


def cases(image: np.ndarray, mask: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, 1, *spatial) images and masks: slices with enough of the nuclei, or the whole in half the resolution."""
    if mode == "2d":
        filled = mask.mean((1, 2)) >= 0.015
        return image[filled, None], mask[filled, None]
    shape = [n for length in image.shape for n in (length // 2, 2)]
    image, mask = (array.reshape(shape).mean((1, 3, 5)) for array in (image, mask))
    return image[None, None], (mask > 0.5)[None, None].astype(np.float32)


def shifted(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Samples shifted by up to an eighth of each axis, a little brighter or darker, with a little noise."""
    image, mask = (np.empty_like(batch[name]) for name in ("data", "label"))
    for sample in range(len(image)):
        by = [int(np.random.randint(-(n // 8), n // 8 + 1)) for n in image.shape[2:]]
        pads = [(0, 0), *((max(n, 0), max(-n, 0)) for n in by)]
        kept = (
            slice(None),
            *(slice(max(-n, 0), length + max(-n, 0)) for n, length in zip(by, image.shape[2:], strict=True)),
        )
        factor, noise = np.random.uniform(0.9, 1.1), np.random.uniform(0, 0.05)
        moved = np.pad(batch["data"][sample], pads, mode="edge")[kept]
        image[sample] = factor * moved + noise * np.random.normal(size=moved.shape)
        mask[sample] = np.pad(batch["label"][sample], pads)[kept]
    return {"data": image, "label": mask}


def build(mode: str, quick: bool) -> PyramidNCA:
    """Med-NCA with fewer steps, or M3D-NCA of three levels without its normalisation, which no fast back end has."""
    if mode == "2d":
        return PyramidNCA(**presets.med_nca(steps=(8, 4) if quick else (24, 16), patch_size=None if quick else 32))
    steps = (6, 4) if quick else (12, 10, 10)
    return PyramidNCA(**presets.m3d_nca(num_levels=len(steps), batch_norm=False, steps=steps))


def train(mode: str, images: np.ndarray, masks: np.ndarray, quick: bool, out: Path) -> PyramidNCA:
    """Pyramid with averaged weights, in evaluation mode."""
    epochs, iterations, batch = (2, 8, 2) if quick else (40, 60, 8 if mode == "2d" else 2)
    with isolated_rng(0):
        network = build(mode, quick)
    manager = DataManager(
        DictDataset({"data": images, "label": masks}),
        batch,
        transforms=shifted,
        sampler_cls=RandomSamplerWithReplacement,
        num_samples=batch * iterations,
    )
    average = WeightAverage(0.9 if quick else 0.98, validate=False)
    trainer = PyTorchNetworkTrainer(
        network,
        out / mode,
        {"dice_bce": dice_bce},
        torch.optim.Adam,
        {"lr": 4e-3 if quick else 2e-3},
        {"dice": dice_score},
        torch.optim.lr_scheduler.CosineAnnealingLR,
        {"T_max": epochs, "eta_min": 1e-4},
        callbacks=[GradientNormalization(), average, ProgressBar()],
    )
    begin = time.perf_counter()
    with manager:
        trainer.train(epochs, manager)
    seconds = time.perf_counter() - begin
    print(f"{mode}: {network.num_trainable_parameters()} parameters, {epochs * iterations} iterations, {seconds:.0f} s")
    return average.network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few epochs and cases")
    parser.add_argument("--mode", choices=("2d", "3d", "both"), default="both")
    parser.add_argument(
        "--data", choices=("brain", "synthetic"), help="brain (the default), or computed balls (the default of --quick)"
    )
    parser.add_argument("--root", help="package file of the brain, or folder with it")
    parser.add_argument("--out", type=Path, default=Path("runs/brain"), help="folder of the runs")
    options = parser.parse_args()
    if options.data is None:
        options.data = "synthetic" if options.quick and options.root is None else "brain"
        if options.data == "synthetic":
            print("--quick takes computed balls; --data brain takes the brain")
    left, right = hemispheres(options.data, options.root)
    for mode in ("2d", "3d") if options.mode == "both" else (options.mode,):
        network = train(mode, *cases(*left, mode), options.quick, options.out)
        every = slice(2, None, 8 if options.quick else 4) if mode == "2d" else slice(None)
        images, labels = (torch.from_numpy(array[every]) for array in cases(*right, mode))
        begin = time.perf_counter()
        report = quality_report(
            network,
            images,
            labels,
            estimator=NQM(network, 4 if options.quick else 10),
            draws=3 if mode == "3d" and not options.quick else 1,
            failure_below=0.7,
        )
        print(f"{report}\n{len(images)} images, {time.perf_counter() - begin:.0f} s")
        path = options.out / f"nqm_dice_{mode}.png"
        save_scatter(report.groups(), path, xlabel="NQM", ylabel="Dice", title=f"Deep grey nuclei, {mode}")
        print(path)


if __name__ == "__main__":
    main()
