import hashlib
import importlib

import numpy as np
import pytest
from PIL import Image, ImageFont

from delira_nca.data_loading.sources import area_resize, dahlia, emoji, fit_square, load_image, place, premultiply
from delira_nca.errors import ConfigError, MissingDependencyError, ShapeError

dahlia_module = importlib.import_module("delira_nca.data_loading.sources.dahlia")  # the names are the functions'
emoji_module = importlib.import_module("delira_nca.data_loading.sources.emoji")

needs_font = pytest.mark.skipif(
    emoji_module.find_emoji_font() is None, reason="no colour-emoji font here (Debian: fonts-noto-color-emoji)"
)


def save(path, pixels, mode="RGBA"):
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).convert(mode).save(path)
    return path


def assert_is_target(target, size):
    assert target.shape == (4, size, size)
    assert target.dtype == np.float32
    assert target.min() >= 0
    assert target.max() <= 1
    assert (target[:3] <= target[3]).all()


# -- pixels ----------------------------------------------------------------------------------------------------------


def test_premultiply_multiplies_colour_by_alpha_of_eight_bit_rgba_only():
    pixels = np.array([[[255, 128, 0, 255], [255, 128, 64, 0]], [[100, 200, 50, 51], [0, 0, 0, 128]]], dtype=np.uint8)
    expected = pixels.astype(np.float64).transpose(2, 0, 1) / 255
    expected[:3] *= expected[3]
    target = premultiply(pixels)
    assert target.dtype == np.float32
    np.testing.assert_allclose(target, expected, rtol=1e-6)
    assert target[:, 0, 1].tolist() == [0, 0, 0, 0]
    for wrong in (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 4), np.float32)):
        with pytest.raises(ShapeError, match="uint8"):
            premultiply(wrong)


def test_area_resize_is_the_mean_over_blocks_and_keeps_the_mean_at_any_factor():
    image = np.random.default_rng(0).random((4, 6, 9), dtype=np.float32)
    blocks = image.reshape(4, 2, 3, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(area_resize(image, 2, 3), blocks, rtol=1e-6)
    assert np.array_equal(area_resize(image, 6, 9), image)
    image = np.random.default_rng(0).random((4, 50, 37), dtype=np.float32)
    for height, width in ((7, 11), (49, 36), (53, 91)):
        resized = area_resize(image, height, width)
        np.testing.assert_allclose(resized.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-6)
        assert image.min() <= resized.min() <= resized.max() <= image.max() + 1e-6


def test_fit_square_keeps_the_aspect_ratio_and_centres():
    fitted = fit_square(np.ones((4, 30, 10), dtype=np.float32), 9)
    assert fitted[3].sum(axis=0).tolist() == [0, 0, 0, 9, 9, 9, 0, 0, 0]


def test_place_centres_a_target_that_fits_on_the_grid():
    target = np.random.default_rng(0).random((4, 4, 3), dtype=np.float32)
    placed = place(target, 8)
    assert placed.shape == (4, 8, 8)
    assert np.array_equal(placed[:, 2:6, 2:5], target)
    assert placed.sum() == pytest.approx(target.sum())
    assert np.array_equal(place(placed, 8), placed)
    with pytest.raises(ShapeError, match=r"4 x 9 does not fit on a grid of 8 x 8"):
        place(np.ones((4, 4, 9), dtype=np.float32), 8)
    for shape in ((3, 4, 4), (4, 4), (4, 0, 4)):
        with pytest.raises(ShapeError, match="red, green, blue, alpha"):
            place(np.ones(shape, dtype=np.float32), 8)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8"])
@pytest.mark.parametrize("source", [dahlia, lambda size: emoji("\N{LIZARD}", size), lambda size: load_image("x", size)])
def test_size_must_be_an_integer_of_at_least_one(source, size):
    with pytest.raises(ConfigError, match="size must be a whole number of at least 1"):
        source(size)


# -- files -----------------------------------------------------------------------------------------------------------


def test_load_image_premultiplies_before_it_averages_and_keeps_the_aspect_ratio_in_a_square(tmp_path):
    # red beside transparent green: the green must not bleed into the mean
    path = save(tmp_path / "x.png", [[[255, 0, 0, 255], [0, 255, 0, 0]], [[255, 0, 0, 255], [0, 255, 0, 0]]])
    assert load_image(path, 1).ravel().tolist() == [0.5, 0, 0, 0.5]
    assert load_image(path, 2)[:, 0].tolist() == [[1, 0], [0, 0], [0, 0], [1, 0]]
    target = load_image(str(save(tmp_path / "wide.png", np.full((10, 40, 4), 255))), 20)
    assert_is_target(target, 20)
    assert target[3].sum(axis=1).tolist() == [0] * 7 + [20] * 5 + [0] * 8
    assert load_image(save(tmp_path / "opaque.png", np.full((2, 2, 4), 255)), 2).min() == 1
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert load_image(tmp_path / "palette.png", 2)[:, 0].tolist() == [[0, 1], [0, 0], [0, 0], [0, 1]]


def test_load_image_refuses_a_file_without_alpha_or_without_anything_and_a_missing_one(tmp_path):
    path = save(tmp_path / "x.png", np.zeros((2, 2, 4)), mode="RGB")
    with pytest.raises(ConfigError, match=r"no alpha channel .its mode is 'RGB'.*convert\('RGBA'\)"):
        load_image(path, 2)
    with pytest.raises(ConfigError, match="nothing to grow"):
        load_image(save(tmp_path / "x.png", np.zeros((2, 2, 4))), 2)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        load_image(tmp_path / "none.png", 2)


# -- dahlia ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [24, 48, 64])
def test_dahlia_is_one_round_flower_that_fills_the_square(size):
    target = dahlia(size)
    assert_is_target(target, size)
    alpha = target[3]
    for border in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
        assert border.max() > 0.2
    assert alpha[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    assert alpha.sum() == pytest.approx(np.pi / 4 * size**2, rel=0.03)
    rows, columns = np.mgrid[:size, :size] + 0.5 - size / 2
    radius = np.hypot(rows, columns) / (size / 2)
    assert alpha[radius < 0.9].min() > 0.9
    assert alpha[radius > 1.1].max() == 0


def test_dahlia_has_a_soft_edge_of_its_own_colour():
    target = dahlia(48)
    alpha = target[3]
    edge = (alpha > 0.1) & (alpha < 0.9)
    assert edge.sum() > 50
    red, green, blue = target[:3, alpha > 0.1] / alpha[alpha > 0.1]
    assert (red > green).all()  # no pixel of the teal leaves
    assert (green > blue).mean() > 0.99
    assert red.min() > 0.35


def test_dahlia_is_refused_when_the_photograph_is_another_one_or_scikit_learn_is_missing(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(dahlia_module.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
            dahlia(8)
    other = tmp_path / "flower.jpg"
    other.write_bytes(b"another")
    monkeypatch.setattr(dahlia_module, "_find_photograph", lambda: other)
    with pytest.raises(ConfigError) as error:
        dahlia(8)
    assert dahlia_module.FLOWER_SHA256 in str(error.value)
    assert hashlib.sha256(b"another").hexdigest() in str(error.value)


# -- emoji -----------------------------------------------------------------------------------------------------------


def test_emoji_without_a_font_or_with_a_broken_one_says_which_package_brings_one(monkeypatch, tmp_path):
    monkeypatch.setattr(emoji_module, "find_emoji_font", lambda: None)
    with pytest.raises(MissingDependencyError, match=r"fonts-noto-color-emoji.*google-noto-color-emoji-fonts.*Apple"):
        emoji("\N{LIZARD}", 8)
    broken = tmp_path / "broken-emoji.ttf"  # by a known name Pillow would find another file
    broken.write_bytes(b"no font")
    monkeypatch.setattr(emoji_module, "find_emoji_font", lambda: broken)
    with pytest.raises(MissingDependencyError, match=r"cannot open the font .*broken-emoji\.ttf"):
        emoji("\N{LIZARD}", 8)
    for font, name in ((broken, ".*broken-emoji"), (b"no font", "that was given")):
        with pytest.raises(MissingDependencyError, match=f"cannot open the font {name}"):
            emoji("\N{LIZARD}", 8, font=font)


def test_emoji_font_is_found_in_the_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr(emoji_module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    font = tmp_path / "fonts" / "noto" / "NotoColorEmoji.ttf"
    font.parent.mkdir(parents=True)
    font.touch()
    assert emoji_module.find_emoji_font() == font


@pytest.mark.parametrize("text", ["", " ", "a", "5", "two", "\N{LIZARD}\N{BUTTERFLY}", "\N{LIZARD}a", None, 7])
def test_what_is_not_one_emoji_is_refused(text):
    with pytest.raises(ConfigError, match="is not one emoji"):
        emoji(text, 8)


@needs_font
@pytest.mark.parametrize("character", ["\N{LIZARD}", "\N{BUTTERFLY}", "\N{HEAVY BLACK HEART}\ufe0f"])
def test_emoji_is_drawn_in_colour_and_fills_the_square(character):
    target = emoji(character, 40)
    assert_is_target(target, 40)
    alpha = target[3]
    assert max(alpha[0].max(), alpha[:, 0].max()) > 0
    assert 0.1 < alpha.mean() < 0.9
    assert np.ptp(target[:3, alpha > 0.5], axis=0).max() > 0.3


@needs_font
def test_character_that_the_font_lacks_is_refused_but_not_blamed_if_pillow_draws_nothing(monkeypatch):
    for character in ("\N{LATIN SMALL LETTER E WITH ACUTE}", "\u4e2d", "\U000e0fff"):
        with pytest.raises(ConfigError, match=r"has no picture for .*U\+"):
            emoji(character, 8)
    monkeypatch.setattr(emoji_module, "_draw", lambda font, text: np.zeros((1, 1, 4), np.uint8))
    with pytest.raises(MissingDependencyError, match="Pillow draws nothing"):
        emoji("\N{LIZARD}", 8)


@needs_font
def test_joined_emoji_that_falls_apart_is_refused(monkeypatch):
    path = emoji_module.find_emoji_font()
    size = emoji_module._open_font(path).size
    basic = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    monkeypatch.setattr(emoji_module, "_open_font", lambda path: basic)
    with pytest.raises(ConfigError, match="several pictures side by side"):
        emoji("\N{WOMAN}\u200d\N{ROCKET}", 8)


@needs_font
def test_font_is_given_as_a_file_or_as_its_content():
    path = emoji_module.find_emoji_font()
    expected = emoji("\N{LIZARD}", 16)
    for font in (path, str(path), path.read_bytes()):
        assert np.array_equal(emoji("\N{LIZARD}", 16, font=font), expected)
