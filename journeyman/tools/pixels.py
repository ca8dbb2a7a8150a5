"""Images as pixels: sizes out of the head of a file, decoding with bounds, encoding."""

import io
from typing import TYPE_CHECKING

from journeyman.errors import DataError
from journeyman.messages import Image

if TYPE_CHECKING:
    from PIL import Image as Pillow

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 2**24
"""Of one image, decoded: a file of a few kilobytes can hold a thousand times as many (ours)."""


def size(image: Image) -> tuple[int, int]:
    """(width, height) in pixels, from the file's head. Raises `DataError`."""
    with _opened(image) as opened:
        return opened.size


def decoded(image: Image) -> "Pillow.Image":
    """The pixels, as RGB. Raises `DataError` where the file is broken."""
    with _opened(image) as opened:
        try:
            return opened.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:  # a file that was cut off, or tampered with
            raise DataError(f"an image that can't be read: {error}") from error


def encoded(pixels: "Pillow.Image") -> Image:
    """Pixels as a PNG."""
    buffer = io.BytesIO()
    pixels.save(buffer, format="PNG")
    return Image(data=buffer.getvalue())


def _opened(image: Image) -> "Pillow.Image":
    """Raises `DataError` for what is no image of a known kind, and for one with too many pixels."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    bombs = (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning)
    try:
        opened = Pillow.open(io.BytesIO(image.data), formats=FORMATS)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, *bombs) as error:
        raise DataError(f"an image that can't be read: {error}") from error
    if opened.width * opened.height > MAX_PIXELS:
        raise DataError(f"an image of {opened.width} x {opened.height} pixels; {MAX_PIXELS} are the most")
    return opened
