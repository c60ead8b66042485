"""Scripts in the shape of NCALab's own run with one import changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPTS = Path(__file__).parent / "scripts"
TASKS = {
    "growing": (["growing_train", "growing_eval"], "growing_emoji.gif"),
    "growing, fine-tuned": (["growing_finetune"], None),
    "growing, searched": (["growing_search"], None),
    "self-classification": (["selfclass_train", "selfclass_eval"], "selfclass_mnist_predictions.png"),
    "segmentation, compiled": (["segmentation_train", "segmentation_eval"], "segmentation_kvasir_seg.gif"),
    "classification, weighted sampler": (["bloodmnist_train", "bloodmnist_eval"], "classification_bloodmnist.gif"),
    "classification, time": (["dermamnist_train", "dermamnist_eval"], "classification_dermamnist.gif"),
    "classification, range of steps": (["pathmnist_train", "pathmnist_eval"], "classification_pathmnist.gif"),
    "classification, cascade": (["cifar10_train", "cifar10_eval"], "classification_cifar10.gif"),
}


def test_every_script_belongs_to_a_task():
    files = {path.stem for path in SCRIPTS.glob("*.py")} - {"small_data"}
    assert files == {name for names, _ in TASKS.values() for name in names}
    assert len(files) == 16


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_scripts_of_a_task_run(task, tmp_path):
    names, figure = TASKS[task]
    for name in names:
        environment = {**os.environ, "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, str(SCRIPTS / f"{name}.py")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, f"{name}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{name}:\n{done.stderr}"
    if figure is not None:
        with Image.open(tmp_path / "figures" / figure) as picture:
            assert min(picture.size) > 100
            assert getattr(picture, "n_frames", 1) > 5 or figure.endswith(".png")
