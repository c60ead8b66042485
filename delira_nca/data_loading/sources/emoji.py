"""Emoji as target images, drawn with a colour font of the system."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_whole
from delira_nca.data_loading.sources.rgba import Target, fit_square, premultiply
from delira_nca.errors import ConfigError, MissingDependencyError
from delira_nca.io.paths import absolute

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = ["emoji", "find_emoji_font"]

# In order of preference: Noto's bitmaps are the artwork of the growing-NCA article.
_FONT_FILES = (
    "NotoColorEmoji.ttf",
    "Apple Color Emoji.ttc",
    "seguiemj.ttf",
    "Twemoji.Mozilla.ttf",
    "TwemojiMozilla.ttf",
    "JoyPixels.ttf",
)
_HOW_TO_GET_ONE = (
    "Debian/Ubuntu: apt install fonts-noto-color-emoji; Fedora: dnf install google-noto-color-emoji-fonts; "
    "Arch: pacman -S noto-fonts-emoji; Alpine: apk add font-noto-emoji; macOS and Windows have one "
    "(Apple Color Emoji, Segoe UI Emoji). Anywhere: put NotoColorEmoji.ttf into ~/.fonts"
)
# Bitmap fonts open only at the sizes of their bitmaps: 109 for Noto, 160 to 20 for Apple; outline fonts at any.
_FONT_SIZES = (109, 160, 137, 136, 128, 96, 72, 64, 48, 40, 32, 20)
# Joiner, keycap frame, presentation selectors, skin tones, tags (in flags such as Scotland's).
_ATTACHING = ((0x200D, 0x200D), (0x20E3, 0x20E3), (0xFE0E, 0xFE0F), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))
_FACE = "\N{GRINNING FACE}"  # every emoji font has it
_UNASSIGNED = "\U000effff"  # in no font, so it draws the glyph for missing characters


def emoji(character: str, size: int, *, font: str | os.PathLike[str] | bytes | None = None) -> Target:
    """Draw one emoji with a colour-emoji font, cropped to its content.

    Parameters
    ----------
    character : str
        One visible emoji. Skin tones, flags and joined emoji count as one if the font and Pillow can join them (this
        needs Pillow with libraqm).
    size : int
        Side of the target in cells, at least 1; 40 in the growing-NCA article.
    font : str, path-like, bytes or None
        Font file or its content; by default the system font found by :func:`find_emoji_font`.

    Returns
    -------
    (4, size, size) float32 array in [0, 1], premultiplied

    Raises
    ------
    MissingDependencyError
        If Pillow cannot draw any colour-emoji font. The message names a package with one.
    ConfigError
        If ``character`` is not one emoji, or the font cannot draw it in colour.

    Notes
    -----
    The artwork of Noto Color Emoji is under the Apache licence 2.0, the font under the SIL Open Font License
    1.1; other fonts have other licences.

    Examples
    --------
    >>> emoji("two", 40)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: 'two' is not one emoji...
    """
    require_whole("size", size, 1)
    _require_one(character)
    given = font if font is None or isinstance(font, bytes) else absolute(font)
    source = find_emoji_font() if given is None else given
    if source is None:
        raise MissingDependencyError(f"no colour-emoji font was found on this system. {_HOW_TO_GET_ONE}")
    name = "that was given" if isinstance(source, bytes) else Path(source).name
    opened = _open_font(source)
    pixels = _draw(opened, character)
    missing = _draw(opened, _UNASSIGNED)
    if not pixels[..., 3].any() or (pixels.shape == missing.shape and np.array_equal(pixels, missing)):
        if not _draw(opened, _FACE)[..., 3].any():
            raise MissingDependencyError(f"Pillow draws nothing with the font {name}. {_HOW_TO_GET_ONE}")
        raise ConfigError(f"the font {name} has no picture for {character!r} ({_codes(character)})")
    _require_one_picture(opened, character, name)
    return fit_square(premultiply(pixels), size)


def find_emoji_font() -> Path | None:
    """Find a colour-emoji font of this system, in the usual folders and then by fontconfig.

    Returns
    -------
    Path of the most preferred font found, or None.
    """
    found = {path.name: path for path in _fonts_in_folders()}
    for name in _FONT_FILES:
        if name in found:
            return found[name]
    return next(_fonts_of_fontconfig(), None)


def _fonts_in_folders() -> Iterator[Path]:
    home = Path.home()
    data_home = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    if sys.platform == "darwin":
        folders = [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    elif sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA") or home) / "Microsoft/Windows/Fonts"
        folders = [local, Path(os.environ.get("WINDIR") or "C:/Windows") / "Fonts"]
    else:
        folders = [data_home / "fonts", home / ".fonts", Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]
    for folder in reversed(folders):  # the last one is kept, so that fonts of the user take precedence
        for parent, _, names in os.walk(folder):
            yield from (Path(parent, name) for name in names if name in _FONT_FILES)


def _fonts_of_fontconfig() -> Iterator[Path]:
    program = shutil.which("fc-list")
    if program is None:
        return
    query = [program, ":color=true", "--format", "%{file}\n"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return
    yield from (Path(line) for line in sorted(set(listed.splitlines())) if "emoji" in Path(line).name.lower())


def _open_font(source: str | os.PathLike[str] | bytes) -> FreeTypeFont:
    from PIL import ImageFont

    for size in _FONT_SIZES:
        try:
            return ImageFont.truetype(io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source), size)
        except OSError as error:  # "invalid pixel size": a bitmap font without this size
            reason = error
    name = "that was given" if isinstance(source, bytes) else os.fspath(source)
    raise MissingDependencyError(f"Pillow cannot open the font {name}: {reason}. {_HOW_TO_GET_ONE}") from reason


def _draw(font: FreeTypeFont, text: str) -> npt.NDArray[np.uint8]:
    """Draw a text in colour and crop it to its content, (H, W, 4); one empty pixel if nothing is drawn."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(text)
    margin = 16
    canvas = Image.new("RGBA", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((margin - left, margin - top), text, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    return np.asarray(canvas.crop(box or (0, 0, 1, 1)))


def _require_one(character: str) -> None:
    if not isinstance(character, str) or not character.strip():
        raise ConfigError(f"{character!r} is not one emoji; give one, as in emoji('\\N{{LIZARD}}', 40)")
    if character.isascii() or _count(character) != 1:
        raise ConfigError(f"{character!r} is not one emoji ({_codes(character)}); a target is one picture")


def _count(text: str) -> int:
    """Return the number of visible emoji, without characters that join the previous one."""
    number, joined, flag_half = 0, False, False
    for code in map(ord, text):
        is_flag = 0x1F1E6 <= code <= 0x1F1FF
        attaches = code in (0x200D, 0x20E3, 0xFE0E, 0xFE0F) or 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F
        if not (joined or (number and attaches) or (is_flag and flag_half)):
            number += 1
        joined, flag_half = code == 0x200D, is_flag and not flag_half
    return number


def _require_one_picture(font: FreeTypeFont, character: str, font_name: str) -> None:
    """Check that the font does not draw a joined emoji as several images."""
    advance, one = font.getlength(character), max(font.getlength(part) for part in character)
    if advance > 1.5 * one:
        raise ConfigError(
            f"{character!r} ({_codes(character)}) comes out as several pictures side by side: the font "
            f"{font_name} or this Pillow cannot join them. Choose a simple emoji, or install a Pillow with libraqm"
        )


def _codes(text: str) -> str:
    return " ".join(f"U+{ord(char):04X}" for char in text)
