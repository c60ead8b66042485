"""Brain templates (MRI) with tissues and regions; 1 mm voxels, axes to the right, front and top."""

from __future__ import annotations

import numpy as np

from delira_nca.data_loading.sources import decode
from delira_nca.data_loading.sources.packages import MRICRON, NILEARN
from delira_nca.data_loading.sources.source import Arrays, ArraySpec, PackageFile, Source

__all__ = ["BRAINS"]

_MNI152 = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_CH2 = "usr/share/mricron/templates/{}.nii.gz"


def _mni152(t1: bytes, grey: bytes, white: bytes) -> Arrays:
    tissues = np.stack([decode.read_nifti(grey), decode.read_nifti(white)])
    return {"data": decode.read_nifti(t1)[None], "label": tissues}


def _ch2(t1: bytes, brain: bytes, regions: bytes) -> Arrays:
    return {
        "data": decode.read_nifti(t1)[None],
        "label": decode.read_nifti(regions)[None],
        "brain": (decode.read_nifti(brain)[None] > 0).astype(np.uint8),
    }


BRAINS = (
    Source(
        name="mni152",
        summary="mean brain of 152 people, with grey and white matter",
        package=NILEARN,
        files=(
            PackageFile(_MNI152.format("t1"), "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"),
            PackageFile(_MNI152.format("gm"), "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed"),
            PackageFile(_MNI152.format("wm"), "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db"),
        ),
        arrays=(
            ArraySpec("data", (1, 197, 233, 189), "uint8", "T1-weighted, 0 outside the brain"),
            ArraySpec("label", (2, 197, 233, 189), "uint8", "grey and white matter, 255 is a probability of 1"),
        ),
        licence="BSD-3-Clause (of the package, which calls that of the template unknown)",
        citation="Fonov et al. (2011), Unbiased average age-appropriate atlases for pediatric studies, "
        "NeuroImage 54(1):313-327; Fonov et al. (2009), NeuroImage 47(S1):S102",
        decode=_mni152,
        note="Exactly symmetric: the right half is the mirror image of the left, so a split into halves puts the test "
        "set into the training set; split by slabs. The template is one brain: what is learned here is a "
        "demonstration, not a benchmark.",
    ),
    Source(
        name="ch2",
        summary="one brain (Colin 27), with 116 regions (AAL) and a brain mask",
        package=MRICRON,
        files=(
            PackageFile(_CH2.format("ch2"), "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309"),
            PackageFile(_CH2.format("ch2bet"), "592a2d20abdf36eefcb540ca8958428040edffc1bc1a18ba1dcfbabac77c5dd1"),
            PackageFile(_CH2.format("aal"), "b512dcd3f36b77f56be7a9a038134096e66314b7e8c31d25875b96bcf6991454"),
        ),
        arrays=(
            ArraySpec("data", (1, 181, 217, 181), "uint8", "T1-weighted, the whole head"),
            ArraySpec("label", (1, 181, 217, 181), "uint8", "0 none, 1 to 116 regions, odd left and even right to 108"),
            ArraySpec("brain", (1, 181, 217, 181), "uint8", "1 in the brain"),
        ),
        licence="BSD-3-Clause (of the package; none is stated for the templates)",
        citation="Holmes et al. (1998), Enhancement of MR images using registration for signal averaging, "
        "J. Comput. Assist. Tomogr. 22(2):324-333; Tzourio-Mazoyer et al. (2002), Automated anatomical labeling of "
        "activations in SPM, NeuroImage 15(1):273-289",
        decode=_ch2,
        note="Names of the regions are in aal.nii.txt of the package: 37 and 38 hippocampus, 71 and 72 caudate, "
        "73 and 74 putamen, 77 and 78 thalamus. One brain is one person, and neighbouring slices are alike: a "
        "demonstration, not a benchmark; split by blocks of slices.",
    ),
)
