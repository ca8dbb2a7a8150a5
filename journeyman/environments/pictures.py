"""Numbers on shapes in a picture, too small to be read without crop or zoom (#13 #159). Nothing is downloaded.

The model sees the picture reduced; the tools have all of it. Typical mistakes: looking at another shape, adding up
without the second one.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from journeyman.environments.base import Course, Environment, Step, same_answer, walked
from journeyman.environments.episode import Episode
from journeyman.messages import Image, Message, ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.images import Crop, Gallery, Zoom
from journeyman.tools.pixels import decoded, encoded, size

if TYPE_CHECKING:
    from PIL import Image as Pillow
    from PIL import ImageDraw

SIZE = (1024, 768)
REDUCED = 4
"""How many times smaller the model sees the picture: figures of 12 pixels become 3."""
GRID = (4, 3)
SHAPES = ("circle", "square", "triangle", "diamond")
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (205, 60, 50),
    "blue": (60, 95, 205),
    "green": (50, 140, 75),
    "orange": (235, 150, 40),
    "purple": (130, 70, 165),
    "grey": (120, 120, 120),
}
PAPER, INK = (250, 248, 240), (255, 255, 255)
Item = Mapping[str, Any]
"""A shape of the picture as JSON: `shape`, `colour`, `number`, `box` in pixels."""


class Pictures(Environment):
    """Questions about small figures in a picture made on the spot, answered with crop and zoom (#13)."""

    name = "pictures"
    phrases = ("Which number is on the ", "What do the numbers on the ", " and the ", " add up to?")

    def tools(self) -> Mapping[str, Tool]:
        return {"crop": Crop(), "zoom": Zoom()}

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return Look(self, problem, context)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            items = _scene(rng)
            asked = rng.sample(range(len(items)), rng.choice((1, 2)))
            yield self._problem(items, asked)

    def _problem(self, items: Sequence[Item], asked: Sequence[int]) -> Problem:
        names = [f"{items[i]['colour']} {items[i]['shape']}" for i in asked]
        question = (
            f"Which number is on the {names[0]}?"
            if len(asked) == 1
            else f"What do the numbers on the {names[0]} and the {names[1]} add up to?"
        )
        data = {"items": list(items), "asked": list(asked)}
        return Problem(
            id=problem_id(self.name, question, data),
            family=self.name,
            question=question,
            answer=str(sum(items[i]["number"] for i in asked)),
            tools=("crop", "zoom"),
            min_calls=len(asked),
            data={**data, "key": problem_id(self.name, "", {"items": data["items"], "asked": sorted(asked)})},
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        items, asked = problem.data["items"], problem.data["asked"]
        other = next(i for i in range(len(items)) if i not in asked)
        wrong = [_course(items, [*asked[1:], other], mistake="looks at another shape")]
        if len(asked) == 2:
            wrong.append(_course(items, asked[:1], mistake="leaves the second shape out"))
        return _course(items, asked), *wrong

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def validate(self) -> None:
        """Gold courses must show the whole shape in full resolution and be accepted, mistaken ones must not.

        No tool says the answer in words, so that the check of other families does not fit. Raises `ValueError`.
        """
        asyncio.run(self._validate(list(islice(self.generate(random.Random(0)), 6))))

    async def _validate(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            gold, *mistaken = self.courses(problem)
            walk = await walked(self, problem, gold)
            results = [result for reaction in walk.reactions for result in reaction.results]
            picture = decoded(draw(problem.data["items"]))
            for result, index in zip(results, problem.data["asked"], strict=True):
                box = tuple(problem.data["items"][index]["box"])
                if not result.ok or not _shows(decoded(result.images[0]), picture.crop(box)):
                    raise ValueError(f"{problem.id}: a call of the gold course does not show {box}: {result.output}")
            if not walk.verdict.correct or self.verify(problem, "") or self.verify(problem, problem.question):
                raise ValueError(f"{problem.id}: the gold answer {gold.answer!r} is not the only one accepted")
            for course in mistaken:
                if (await walked(self, problem, course)).verdict.correct:
                    raise ValueError(f"{problem.id}: {course.mistake}: {course.answer!r} is accepted")


class Look(Episode):
    """An attempt at a picture: both tools share its images."""

    sequential = True  # images are numbered as they come

    def __init__(self, environment: Environment, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._picture = draw(problem.data["items"])
        gallery = Gallery([self._picture])
        shared: dict[str, Tool] = {"crop": Crop(gallery), "zoom": Zoom(gallery)}
        self.tools = {name: shared[name] for name in problem.tools or shared}

    def opening(self) -> tuple[Message, ...]:
        width, height = size(self._picture)
        shown = (width // REDUCED, height // REDUCED)
        text = (
            f"Image 1 has {width} x {height} pixels; you see it reduced to {shown[0]} x {shown[1]}. "
            f"Boxes are in pixels of the whole image.\n{self.problem.question}"
        )
        return (Message(role="user", content=text, images=(_reduced(self._picture, shown),)),)


def draw(items: Sequence[Item]) -> Image:
    """The picture of a scene: the same every time."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    pixels = Pillow.new("RGB", SIZE, PAPER)
    pen, font = ImageDraw.Draw(pixels), ImageFont.load_default(size=12)
    for item in items:
        left, top, right, bottom = item["box"]
        _outline(pen, item["shape"], (left, top, right, bottom), COLOURS[item["colour"]])
        centre = ((left + right) / 2, (top + bottom) / 2 + (bottom - top) / 8 * (item["shape"] == "triangle"))
        pen.text(centre, str(item["number"]), fill=INK, font=font, anchor="mm")
    return encoded(pixels)


def _shows(seen: "Pillow.Image", there: "Pillow.Image") -> bool:
    """Whether an image is a part of the picture as it is, or enlarged by a whole number, near enough."""
    from PIL import Image as Pillow
    from PIL import ImageChops, ImageStat

    small = seen if seen.size == there.size else seen.resize(there.size, Pillow.Resampling.BOX)
    return max(ImageStat.Stat(ImageChops.difference(small, there)).mean) < 3  # of 255


def _outline(
    pen: "ImageDraw.ImageDraw", shape: str, box: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    left, top, right, bottom = box
    across, down = (left + right) // 2, (top + bottom) // 2
    match shape:
        case "circle":
            pen.ellipse(box, fill=colour)
        case "square":
            pen.rectangle(box, fill=colour)
        case "triangle":
            pen.polygon([(across, top), (right, bottom), (left, bottom)], fill=colour)
        case _:
            pen.polygon([(across, top), (right, down), (across, bottom), (left, down)], fill=colour)


def _reduced(picture: Image, shown: tuple[int, int]) -> Image:
    from PIL import Image as Pillow

    return encoded(decoded(picture).resize(shown, Pillow.Resampling.BOX))


def _scene(rng: random.Random) -> list[dict[str, Any]]:
    """Five to seven shapes, no two alike, with different numbers, one a cell of the grid."""
    count = rng.randint(5, 7)
    kinds = rng.sample(list(product(SHAPES, COLOURS)), count)
    cells = rng.sample(list(product(range(GRID[0]), range(GRID[1]))), count)
    numbers = rng.sample(range(100, 1000), count)
    items = []
    for (shape, colour), (column, row), number in zip(kinds, cells, numbers, strict=True):
        side, cell = rng.randrange(72, 121, 8), (SIZE[0] // GRID[0], SIZE[1] // GRID[1])
        left = column * cell[0] + rng.randint(8, cell[0] - side - 8)
        top = row * cell[1] + rng.randint(8, cell[1] - side - 8)
        items.append({"shape": shape, "colour": colour, "number": number, "box": [left, top, left + side, top + side]})
    return items


def _course(items: Sequence[Item], looked: Sequence[int], mistake: str = "") -> Course:
    steps = []
    for index in looked:
        item = items[index]
        zoomed = index % 2 == 1
        call = ToolCall(
            name="zoom" if zoomed else "crop",
            arguments={"image": 1, "box": list(item["box"]), **({"factor": 2} if zoomed else {})},
        )
        steps.append(Step(thought=f"I look at the {item['colour']} {item['shape']}.", call=call))
    return Course(steps=tuple(steps), answer=str(sum(items[i]["number"] for i in looked)), mistake=mistake)
