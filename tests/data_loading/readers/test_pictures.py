"""Bit depths, byte orders and pages of picture files; the files are written byte by byte, as other programs do."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading import PairedFolderDataset
from delira_nca.data_loading.readers import read_array, read_image, read_label
from delira_nca.errors import ConfigError

FORMATS = {"u": 1, "b": 1, "i": 2, "f": 3}


def write_tiff(path, pages, order="<", *, photometric=1, description="", tags=(), tags_of_second=()):
    """Uncompressed TIFF; a page is (H, W) or (H, W, samples)."""
    content, offset_at = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0)), 4
    for number, page in enumerate(pages):
        samples = 1 if page.ndim == 2 else page.shape[2]
        data = page.astype(page.dtype.newbyteorder(order)).tobytes()
        entries = {
            256: ("I", [page.shape[1]]),
            257: ("I", [page.shape[0]]),
            258: ("H", [page.dtype.itemsize * 8] * samples),
            259: ("H", [1]),
            262: ("H", [photometric]),
            270: ("s", description.encode() + b"\0"),
            273: ("I", [len(content)]),
            277: ("H", [samples]),
            278: ("I", [page.shape[0]]),
            279: ("I", [len(data)]),
            339: ("H", [FORMATS[page.dtype.kind]] * samples),
            **dict(tags if number == 0 else tags_of_second),
        }
        content += data + b"\0" * (len(data) % 2)
        ifd = []
        for tag, (kind, values) in sorted(entries.items()):
            packed = values if kind == "s" else struct.pack(f"{order}{len(values)}{kind}", *values)
            if len(packed) > 4:
                place, packed = len(content), packed + b"\0" * (len(packed) % 2)
                content += packed
                packed = struct.pack(f"{order}I", place)
            code = {"s": 2, "H": 3, "I": 4}[kind]
            ifd.append(struct.pack(f"{order}HHI", tag, code, len(values)) + packed.ljust(4, b"\0"))
        content[offset_at : offset_at + 4] = struct.pack(f"{order}I", len(content))
        content += struct.pack(f"{order}H", len(ifd)) + b"".join(ifd) + b"\0\0\0\0"
        offset_at = len(content) - 4
    path.write_bytes(content)


def write_png(path, rows, width, bits, colour_type):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def some(dtype, shape=(4, 5), seed=0):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.random.default_rng(seed).normal(0, 1000, shape).astype(kind)
    bounds = np.iinfo(kind)
    values = np.random.default_rng(seed).integers(bounds.min, bounds.max, shape, dtype=kind, endpoint=True)
    values.flat[:2] = bounds.min, bounds.max
    return values


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16", "int32"])
def test_a_tiff_of_integers_is_scaled_by_its_type_in_both_byte_orders(tmp_path, dtype, order):
    values = some(dtype)
    write_tiff(tmp_path / "a.tif", [values], order)
    expected = np.maximum(values / np.float64(np.iinfo(dtype).max), -1)
    assert np.allclose(read_image(tmp_path / "a.tif"), expected[None], atol=1e-7)
    assert np.array_equal(read_label(tmp_path / "a.tif"), values)
    assert read_array(tmp_path / "a.tif").dtype == np.dtype(dtype)


def test_a_tiff_of_32_unsigned_bits_is_scaled_or_refused_by_name(tmp_path):
    values = some("uint32")
    write_tiff(tmp_path / "a.tif", [values])
    assert np.allclose(read_image(tmp_path / "a.tif"), values[None] / (2**32 - 1), atol=1e-7)
    assert np.array_equal(read_label(tmp_path / "a.tif"), values)
    write_tiff(tmp_path / "a.tif", [values], ">")
    with pytest.raises(ConfigError, match=r"a.tif' is a big-endian TIFF of unsigned integers of 32 bits, 1 in a pixel"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("float64", "floating-point numbers of 64"),
        ("float16", "floating-point numbers of 16"),
        ("uint64", "integers of 64"),
    ],
)
def test_a_tiff_that_pillow_does_not_read_is_refused_with_its_type(tmp_path, dtype, kind):
    write_tiff(tmp_path / "a.tif", [some(dtype)] * 2)
    for read in (read_image, read_label):
        with pytest.raises(
            ConfigError, match=f"a.tif' is a TIFF of .*{kind} bits, 1 in a pixel, which Pillow does not"
        ):
            read(tmp_path / "a.tif")


def test_a_tiff_of_floats_keeps_its_values(tmp_path):
    for order in "<>":
        write_tiff(tmp_path / "a.tif", [some("float32")], order)
        assert np.array_equal(read_image(tmp_path / "a.tif"), some("float32")[None]), order


@pytest.mark.parametrize(("order", "channels"), [("<", 3), (">", 3), ("<", 4)])
def test_colours_of_16_bits_are_exact(tmp_path, order, channels):
    values = some("uint16", (4, 5, channels))
    write_tiff(tmp_path / "a.tif", [values], order, photometric=2, tags={338: ("H", [2])} if channels == 4 else ())
    write_png(tmp_path / "b.png", [row.astype(">u2").tobytes() for row in values], 5, 16, {3: 2, 4: 6}[channels])
    for name in ("a.tif", "b.png"):
        assert np.array_equal(read_array(tmp_path / name), values)
        assert np.allclose(read_image(tmp_path / name), values.transpose(2, 0, 1) / 65535, atol=1e-7)
    classes = np.arange(20, dtype=np.uint16).reshape(4, 5) * 300  # a grey mask that was saved in colours
    write_tiff(tmp_path / "a.tif", [np.repeat(classes[..., None], 3, axis=2)], photometric=2)
    assert np.array_equal(read_label(tmp_path / "a.tif"), classes)


def test_what_pillow_would_read_in_part_is_refused_by_name(tmp_path):
    two = some("uint8", (4, 5, 2))
    write_tiff(tmp_path / "two.tif", [two], tags={338: ("H", [0])})
    with pytest.raises(ConfigError, match="two.tif' has 2 values in a pixel, of which Pillow reads 1"):
        read_image(tmp_path / "two.tif")
    write_png(tmp_path / "grey_alpha.png", [row.astype(">u2").tobytes() for row in two], 5, 16, 4)
    with pytest.raises(ConfigError, match="grey_alpha.png' has colours of 16 bits"):
        read_image(tmp_path / "grey_alpha.png")
    write_tiff(tmp_path / "side.tif", [some("uint8")], tags={274: ("H", [6])})
    with pytest.raises(ConfigError, match="side.tif' is stored on its side"):
        read_image(tmp_path / "side.tif")


def test_white_as_zero(tmp_path):
    values = some("uint8")
    write_tiff(tmp_path / "a.tif", [values], photometric=0)
    assert np.allclose(read_image(tmp_path / "a.tif"), 1 - values[None] / 255)
    write_tiff(tmp_path / "b.tif", [some("uint16")], photometric=0)
    for call in (lambda: read_label(tmp_path / "a.tif"), lambda: read_image(tmp_path / "b.tif")):
        with pytest.raises(ConfigError, match="tif' is a TIFF in which 0 is white"):
            call()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits_are_scaled_as_images_and_raw_as_masks(tmp_path, bits):
    values = np.arange(8).reshape(2, 4) % 2**bits
    rows = [np.packbits([int(b) for v in row for b in f"{v:0{bits}b}"]).tobytes() for row in values]
    write_png(tmp_path / "a.png", rows, 4, bits, 0)
    assert np.allclose(read_image(tmp_path / "a.png"), values[None] / (2**bits - 1))
    assert np.array_equal(read_label(tmp_path / "a.png"), values)


def test_grey_with_alpha_has_two_channels_and_an_opaque_mask_one(tmp_path):
    Image.merge("LA", (Image.fromarray(some("uint8")), Image.new("L", (5, 4), 255))).save(tmp_path / "a.png")
    assert np.allclose(read_image(tmp_path / "a.png"), np.stack([some("uint8") / 255, np.ones((4, 5))]))
    assert np.array_equal(read_label(tmp_path / "a.png"), some("uint8"))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_tiff_stack_is_a_volume(tmp_path, dtype, order):
    volume = some(dtype, (5, 6, 8))
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    write_tiff(tmp_path / "images" / "cell.tif", list(volume), order)
    write_tiff(tmp_path / "masks" / "cell.tiff", list((volume > 100).astype(np.uint8)))
    sample = PairedFolderDataset(tmp_path / "images", tmp_path / "masks")[0]
    largest = 1 if dtype == "float32" else np.iinfo(dtype).max
    assert np.allclose(sample["data"], volume[None] / largest)
    assert np.array_equal(sample["label"], volume[None] > 100)


def test_a_stack_of_colours_has_its_channels_first(tmp_path):
    volume = some("uint8", (2, 6, 8, 3))
    write_tiff(tmp_path / "a.tif", list(volume), photometric=2)
    assert np.allclose(read_image(tmp_path / "a.tif"), np.moveaxis(volume, -1, 0) / 255)
    write_tiff(tmp_path / "m.tif", list(np.repeat(volume[..., :1], 3, axis=3)), photometric=2)
    assert np.array_equal(read_label(tmp_path / "m.tif"), volume[..., 0])


def test_a_stack_written_by_pillow_is_a_volume_and_a_smaller_copy_of_a_page_is_no_slice(tmp_path):
    volume = some("uint8", (3, 6, 8))
    first, *others = map(Image.fromarray, volume)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression="tiff_lzw")
    assert np.array_equal(read_array(tmp_path / "a.tif"), volume)
    write_tiff(tmp_path / "a.tif", [some("uint8"), some("uint8", (2, 3))], tags_of_second={254: ("I", [1])})
    assert np.array_equal(read_array(tmp_path / "a.tif"), some("uint8"))


def test_pages_that_differ_are_named(tmp_path):
    write_tiff(tmp_path / "a.tif", [some("uint8"), some("uint8", (2, 5))])
    with pytest.raises(ConfigError, match=r"a.tif' is not a stack: page 1 is \(2, 5\) .* page 0 is \(4, 5\)"):
        read_image(tmp_path / "a.tif")
    write_tiff(tmp_path / "b.tif", [some("uint8"), some("uint16")])
    with pytest.raises(ConfigError, match=r"page 1 is .* up to 65535, page 0 is .* up to 255"):
        read_image(tmp_path / "b.tif")


OME = '<OME><Image><Pixels DimensionOrder="XYCZT" SizeX="5" SizeY="4" SizeC="{}" SizeZ="{}" SizeT="1"/></Image></OME>'


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.54f\nimages=6\nslices=6\n",
        "ImageJ=1.54f\nimages=6\n",
        OME.format(1, 6),
        '{"shape": [6, 4, 5]}',
        '{"shape": [1, 6, 4, 5]}',
        '{"shape": [4, 5]}',
    ],
)
def test_slices_that_the_file_declares_are_a_volume(tmp_path, description):
    write_tiff(tmp_path / "a.tif", [some("uint8")] * 6, description=description)
    assert read_array(tmp_path / "a.tif").shape == (6, 4, 5)


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.54f\nimages=6\nchannels=3\nslices=2\nhyperstack=true\n",
        "ImageJ=1.54f\nimages=6\nframes=6\n",
        "ImageJ=1.54f\nimages=600\nslices=600\n",
        OME.format(3, 2),
        '{"shape": [2, 3, 4, 5]}',
    ],
)
def test_pages_that_are_channels_or_time_points_are_refused(tmp_path, description):
    write_tiff(tmp_path / "a.tif", [some("uint8")] * 6, description=description)
    with pytest.raises(ConfigError, match="a.tif' has 6 pages that are not the slices of one volume"):
        read_image(tmp_path / "a.tif")


def test_an_animation_is_refused(tmp_path):
    first, second = Image.fromarray(some("uint8")), Image.fromarray(some("uint8", seed=1))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    for read in (read_image, read_label):
        with pytest.raises(ConfigError, match="a.png' is an animation of 2 pictures"):
            read(tmp_path / "a.png")


def test_a_mask_that_is_not_finite_or_holds_no_numbers_is_refused_with_its_file(tmp_path):
    mask = np.eye(4, 5, dtype=np.float32)
    for binarise in (None, 0.5):
        for wrong in (np.nan, np.inf, -np.inf):
            mask[0, 3] = wrong
            np.save(tmp_path / "a.npy", mask)
            write_tiff(tmp_path / "a.tif", [mask])
            for name in ("a.npy", "a.tif"):
                message = rf"{name}' is not a mask of classes: 1 of 20 values are NaN or infinite"
                with pytest.raises(ConfigError, match=message):
                    read_label(tmp_path / name, binarise)
        np.save(tmp_path / "a.npy", np.array(["a", "b"]))
        with pytest.raises(ConfigError, match="a.npy' is not a mask of classes, but <U1"):
            read_label(tmp_path / "a.npy", binarise)
