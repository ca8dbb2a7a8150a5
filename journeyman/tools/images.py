"""Looking closer: crop and zoom on the images of an attempt, which get numbers as they come (#13 #116 #149 #159)."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.errors import DataError
from journeyman.messages import Image
from journeyman.tools.base import CallContext, FunctionTool, ToolError, ToolOutput
from journeyman.tools.pixels import decoded, encoded, size

MAX_IMAGES = 64
"""Most images of an attempt, the first ones included (ours)."""
MIN_SIDE = 8
"""Smallest side of a cut-out, in pixels: models take no slivers (ours)."""
MAX_RATIO = 100
"""Longest side over shortest: Qwen's image processors refuse 200."""
MAX_SIDE = 2048
"""Longest side of an image that a tool makes, in pixels (ours)."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are not part of it."""


class Gallery:
    """The images of one attempt: those it began with, then those that tools made, numbered from 1."""

    def __init__(self, images: Sequence[Image] = ()) -> None:
        self._images: list[Image | None] = list(images)

    def __len__(self) -> int:
        return len(self._images)

    def get(self, number: int) -> Image:
        """Raises `ToolError` where there is none of that number."""
        image = self._images[number - 1] if 0 < number <= len(self._images) else None
        if image is None:
            raise ToolError(f"there is no image {number}; there are {len(self._images)}")
        return image

    def reserve(self) -> int:
        """The next number, taken at once, so that calls that run at the same time number their images in order."""
        if len(self._images) >= MAX_IMAGES:
            raise ToolError(f"there are {MAX_IMAGES} images already, and no more can be made")
        self._images.append(None)
        return len(self._images)

    def put(self, number: int, image: Image) -> None:
        self._images[number - 1] = image

    def state_dict(self) -> dict[str, Any]:
        return {"images": [image and base64.b64encode(image.data).decode() for image in self._images]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._images = [data and Image(data=base64.b64decode(data)) for data in state["images"]]


class _Cutter(FunctionTool):
    """A tool that makes an image out of a part of another."""

    def __init__(self, gallery: Gallery | None = None) -> None:
        self.gallery = gallery or Gallery()

    def open(self, context: CallContext) -> "_Cutter":
        """Images that were given stay; those that an attempt makes are its own."""
        own = Gallery()
        own.load_state_dict(self.gallery.state_dict())
        return type(self)(own)

    def state_dict(self) -> dict[str, Any]:
        return self.gallery.state_dict() if len(self.gallery) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if others := set(state) - {"images"}:
            raise ValueError(f"{self.name} keeps images, but was given {', '.join(sorted(others))}")
        self.gallery.load_state_dict(state or {"images": []})

    async def cut(self, number: int, box: list[int], factor: int) -> ToolOutput:
        """The part as an image of its own, enlarged; all that can be wrong about the arguments is said first."""
        source = self.gallery.get(number)
        part = _checked(source, number, box)
        width, height = (part[2] - part[0]) * factor, (part[3] - part[1]) * factor
        if max(width, height) > MAX_SIDE:
            raise ToolError(f"that makes {width} x {height} pixels; a side may have {MAX_SIDE}")
        made = self.gallery.reserve()
        image = await asyncio.to_thread(_cut, source, part, (width, height))
        self.gallery.put(made, image)
        enlarged = f", {factor} times as large" if factor > 1 else ""
        return ToolOutput(
            text=f"image {made}: {width} x {height} pixels, {list(part)} of image {number}{enlarged}", images=(image,)
        )


class Crop(_Cutter):
    """Cuts a part out of an image, at its full resolution (#13)."""

    name = "crop"

    async def run(self, image: int, box: list[int]) -> ToolOutput:
        """Cut a part out of an image and look at it.

        Args:
            image: the image's number, from 1.
            box: left, top, right and bottom of the part, in pixels of that image.
        """
        return await self.cut(image, box, 1)


class Zoom(_Cutter):
    """Cuts a part out of an image and enlarges it (#13 #159)."""

    name = "zoom"

    async def run(self, image: int, box: list[int], factor: int = 2) -> ToolOutput:
        """Enlarge a part of an image and look at it.

        Args:
            image: the image's number, from 1.
            box: left, top, right and bottom of the part, in pixels of that image.
            factor: how many times as wide and as high it becomes, from 1 to 8.
        """
        if not 1 <= factor <= 8:
            raise ToolError(f"the factor must be from 1 to 8, but is {factor}")
        return await self.cut(image, box, factor)


def _checked(image: Image, number: int, box: list[int]) -> Box:
    """The box, where it lies in the image and is no sliver."""
    try:
        width, height = size(image)
    except DataError as error:
        raise ToolError(str(error)) from error
    if len(box) != 4:
        raise ToolError(f"a box has four numbers, left, top, right, bottom, but this has {len(box)}")
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ToolError(f"{box} is no box in image {number}, which has {width} x {height} pixels")
    short, long = sorted((right - left, bottom - top))
    if short < MIN_SIDE or long > MAX_RATIO * short:
        raise ToolError(f"{box} is too thin: a side needs {MIN_SIDE} pixels, and {MAX_RATIO} times the other at most")
    return left, top, right, bottom


def _cut(image: Image, part: Box, made: tuple[int, int]) -> Image:
    from PIL import Image as Pillow

    try:
        pixels = decoded(image).crop(part)
    except DataError as error:
        raise ToolError(str(error)) from error
    return encoded(pixels if pixels.size == made else pixels.resize(made, Pillow.Resampling.LANCZOS))
