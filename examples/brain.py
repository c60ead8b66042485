"""Brain: segmentation of deep grey nuclei with pyramids of automata, and prediction of failures by NQM.

The structures are caudate, putamen, pallidum and thalamus of one brain. A pyramid is trained on the left hemisphere and
tested on the mirrored right one: with ``2d``, Med-NCA on sagittal slices of 1 mm (every fourth is tested); with ``3d``,
M3D-NCA on the hemisphere in voxels of 2 mm. To obtain failures, the test images are also degraded by noise, a bias
field, blur, ghosts and a spike, in five strengths each. These artefacts are the package's own and were fixed before any
training; the training images contain only weak noise. The only setting that was changed after a look at the test is the
number of epochs, which was doubled because the training loss was still falling. For each case, ten stochastic roll-outs
give the quality metric NQM, which needs no label; the script prints it beside Dice, and the correlation of both. The
cases come from one brain and few images: this is a demonstration, not a benchmark.

Run ``python examples/brain.py --root PATH`` with the package file of the brain, or its folder (``delira-nca data list``
names it). ``--data synthetic`` uses computed balls, as does ``--quick`` without ``--root``. ``--quick`` takes about ten
seconds; the full example takes three minutes in 2D and five in 3D.
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
    """Image in [0, 1] and mask of the left and of the right hemisphere; axes (right to left, back to front, up)."""
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
    """(N, 1, *spatial) images and masks: slices with enough nuclei, or the whole volume in half the resolution."""
    if mode == "2d":
        filled = mask.mean((1, 2)) >= 0.015
        return image[filled, None], mask[filled, None]
    shape = [n for length in image.shape for n in (length // 2, 2)]
    image, mask = (array.reshape(shape).mean((1, 3, 5)) for array in (image, mask))
    return image[None, None], (mask > 0.5)[None, None].astype(np.float32)


def shifted(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Shift samples by up to an eighth of each axis, scale their brightness slightly, and add weak noise."""
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
    """Med-NCA with fewer steps, or three-level M3D-NCA without batch normalisation, which no fast back end supports."""
    if mode == "2d":
        return PyramidNCA(**presets.med_nca(steps=(8, 4) if quick else (24, 16), patch_size=None if quick else 32))
    steps = (6, 4) if quick else (12, 10, 10)
    return PyramidNCA(**presets.m3d_nca(num_levels=len(steps), batch_norm=False, steps=steps))


def train(mode: str, images: np.ndarray, masks: np.ndarray, quick: bool, out: Path) -> PyramidNCA:
    """Train a pyramid and return it with averaged weights, in evaluation mode."""
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
    parser.add_argument("--quick", action="store_true", help="run few epochs and cases")
    parser.add_argument("--mode", choices=("2d", "3d", "both"), default="both")
    parser.add_argument(
        "--data", choices=("brain", "synthetic"), help="brain (default), or computed balls (default with --quick)"
    )
    parser.add_argument("--root", help="package file of the brain, or its folder")
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
