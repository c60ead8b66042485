"""Sources of images: targets, textures, digits and nuclei."""

from __future__ import annotations

import numpy as np

from delira_nca.data_loading.sources import decode
from delira_nca.data_loading.sources.dahlia import FLOWER_SHA256, cut_dahlia
from delira_nca.data_loading.sources.emoji import emoji
from delira_nca.data_loading.sources.packages import MNIST, NOTO, SKIMAGE, SKLEARN, STARDIST
from delira_nca.data_loading.sources.source import Arrays, ArraySpec, PackageFile, Source

__all__ = ["PICTURES", "TARGET"]

TARGET = (ArraySpec("data", (4, "size", "size"), "float32", "premultiplied red, green, blue, alpha, 0 to 1"),)
"""Description of the arrays of a target."""


def _dahlia(photograph: bytes, *, size: int = 48) -> Arrays:
    return {"data": cut_dahlia(photograph, size)}


def _emoji(font: bytes, *, character: str = "\N{LIZARD}", size: int = 40) -> Arrays:
    return {"data": emoji(character, size, font=font)}


def _digits(table: bytes) -> Arrays:
    rows = decode.read_table(table)
    return {"data": rows[:, :-1].reshape(-1, 1, 8, 8).astype(np.uint8), "label": rows[:, -1].copy()}


def _texture(picture: bytes) -> Arrays:
    return {"data": decode.read_picture(picture)[None]}


def _nuclei(picture: bytes, mask: bytes) -> Arrays:
    return {"data": decode.read_tiff(picture)[None], "label": decode.read_tiff(mask)[None]}


def _mnist(images: bytes, labels: bytes) -> Arrays:
    return {"data": decode.read_idx(images)[:, None], "label": decode.read_idx(labels).astype(np.int64)}


def _texture_source(name: str, summary: str, sha256: str, origin: str) -> Source:
    return Source(
        name=name,
        summary=summary,
        package=SKIMAGE,
        files=(PackageFile(f"skimage/data/{name}.png", sha256),),
        arrays=(ArraySpec("data", (1, 512, 512), "uint8", "grey levels"),),
        licence="CC0-1.0",
        citation="van der Walt et al. (2014), scikit-image: image processing in Python, PeerJ 2:e453",
        decode=_texture,
        note=f"From {origin}; the licence is stated in the docstring of skimage.data.{name}.",
    )


def _nuclei_source(
    name: str, summary: str, files: tuple[PackageFile, ...], shape: tuple[int, ...], **known: str
) -> Source:
    return Source(
        name=name,
        summary=summary,
        package=STARDIST,
        files=files,
        arrays=(
            ArraySpec("data", shape, "int32", "brightness, 16 bits in the file"),
            ArraySpec("label", shape, "int32", "0 ground, else the number of a nucleus; not all numbers are used"),
        ),
        licence="BSD-3-Clause (of the package; none is stated for the pictures)",
        decode=_nuclei,
        **known,
    )


def _mnist_source(name: str, part: str, count: int, files: tuple[PackageFile, ...]) -> Source:
    return Source(
        name=name,
        summary=f"MNIST: {count} handwritten digits, the {part} set",
        package=MNIST,
        files=files,
        arrays=(
            ArraySpec("data", (count, 1, 28, 28), "uint8", "ink, 0 to 255"),
            ArraySpec("label", (count,), "int64", "the digit"),
        ),
        licence="not stated (the package is ISC, and says that the data are not its own)",
        citation="LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition, "
        "Proc. IEEE 86(11):2278-2324",
        decode=_mnist,
        note="A folder with the uncompressed idx files under their usual names will do as well.",
    )


PICTURES = (
    Source(
        name="dahlia",
        summary="a real flower on a transparent ground, a target to grow",
        package=SKLEARN,
        files=(PackageFile("sklearn/datasets/images/flower.jpg", FLOWER_SHA256),),
        arrays=TARGET,
        licence="CC BY 2.0",
        citation="photograph by danielbuechele (vultilion on Flickr); Pedregosa et al. (2011), JMLR 12:2825-2830",
        decode=_dahlia,
        note="Cut out by hue; name the photographer when you publish a picture made from it.",
    ),
    Source(
        name="emoji",
        summary="a colour emoji on a transparent ground, a target to grow",
        package=NOTO,
        files=(
            PackageFile(
                "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
                "e5899ed38b8ed83e08bd3ac5de09791e9d19d288333a796de1d35ad17396f1ec",
                is_fixed=False,
            ),
        ),
        arrays=TARGET,
        licence="Apache-2.0 (Noto's pictures), OFL-1.1 (the font)",
        citation="Noto Emoji, Google",
        decode=_emoji,
        note="Any colour-emoji font will do; another one than Noto's has a licence of its own.",
    ),
    Source(
        name="digits",
        summary="1797 handwritten digits of 8 x 8 pixels",
        package=SKLEARN,
        files=(
            PackageFile(
                "sklearn/datasets/data/digits.csv.gz",
                "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
            ),
        ),
        arrays=(
            ArraySpec("data", (1797, 1, 8, 8), "uint8", "ink, 0 to 16"),
            ArraySpec("label", (1797,), "int64", "the digit"),
        ),
        licence="BSD-3-Clause (of the package; none is stated for the data)",
        citation="Alpaydin, Kaynak (1998), Cascading classifiers, Kybernetika 34(4):369-374",
        decode=_digits,
        note="The test set of the UCI repository's optical recognition of handwritten digits: 13 writers.",
    ),
    _texture_source(
        "grass",
        "texture: grass",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    ),
    _texture_source(
        "gravel",
        "texture: gravel",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "https://cc0textures.com/view.php?tex=Gravel04",
    ),
    _texture_source(
        "brick",
        "texture: a brick wall",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "https://cc0textures.com/view.php?tex=Bricks25",
    ),
    _nuclei_source(
        "nuclei_2d",
        "125 nuclei of cells under a fluorescence microscope, each labelled",
        (
            PackageFile(
                "stardist/data/images/img2d.tif", "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750"
            ),
            PackageFile(
                "stardist/data/images/mask2d.tif", "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f"
            ),
        ),
        (1, 512, 512),
        citation="Caicedo et al. (2019), Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, "
        "Nature Methods 16:1247-1253; Schmidt et al. (2018), Cell detection with star-convex polygons, MICCAI",
        note="One picture of the Data Science Bowl 2018; split it by place.",
    ),
    _nuclei_source(
        "nuclei_3d",
        "51 computed nuclei in a volume, each labelled",
        (
            PackageFile(
                "stardist/data/images/img3d.tif", "f5626d500c7a738cd321698f43df36e2ac149d98456579c5cbcf8af48c7253e8"
            ),
            PackageFile(
                "stardist/data/images/mask3d.tif", "a2ff51b712941a90cf3a5628b11f04f5d7fa3f29c808c065d3be6ff938b215a1"
            ),
        ),
        (1, 31, 61, 57),
        citation="Weigert et al. (2020), Star-convex polyhedra for 3D object detection and segmentation in microscopy, "
        "WACV",
        note="Not a photograph: the docstring in stardist/data calls these nuclei synthetic.",
    ),
    _mnist_source(
        "mnist",
        "training",
        60000,
        (
            PackageFile(
                "data/train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
            ),
            PackageFile(
                "data/train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
            ),
        ),
    ),
    _mnist_source(
        "mnist_test",
        "test",
        10000,
        (
            PackageFile(
                "data/t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
            ),
            PackageFile(
                "data/t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
            ),
        ),
    ),
)
