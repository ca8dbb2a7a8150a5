"""Images: tools that look closer, placeholders that only images make, and nothing dropped in silence."""

import asyncio
import io
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageChops

from journeyman.environments.base import walked
from journeyman.environments.pictures import REDUCED, SIZE, Pictures, draw
from journeyman.errors import ConfigError, DataError, UserError
from journeyman.messages import Image, Message, ParsedTurn, ToolCall, ToolResult
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.sampler import SampleRequest
from journeyman.rollout.vision import Vision, contracted
from journeyman.tools.base import CallContext
from journeyman.tools.images import MAX_IMAGES, Crop, Gallery, Zoom
from journeyman.tools.pixels import decoded, encoded, size
from journeyman.trajectory import StopReason, Turn, read_trajectories, write_trajectories
from tests.unit import chat_templates as families
from tests.unit.fakes import ScriptedSampler, World, trajectory

PAD, START, END = "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"


def picture(width: int, height: int, colour: tuple[int, int, int] = (9, 99, 199)) -> Image:
    return encoded(Pillow.new("RGB", (width, height), colour))


def striped(width: int = 40, height: int = 20) -> Image:
    """Every pixel of another colour: its place."""
    pixels = Pillow.new("RGB", (width, height))
    pixels.putdata([(x, y, 7) for y in range(height) for x in range(width)])
    return encoded(pixels)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    """The folder of a model of the Qwen2-VL family, as far as the chat format reads it."""
    folder = tmp_path_factory.mktemp("vl")
    vl_folder(folder)
    return ChatFormat.of_folder(folder)


def vl_folder(folder: Path) -> None:
    from transformers import Qwen2VLConfig, Qwen2VLImageProcessorPil

    tokenizer = families.qwen_vl()
    tokenizer.save_pretrained(folder)
    Qwen2VLConfig(image_token_id=tokenizer.get_vocab()[PAD]).save_pretrained(folder)  # type: ignore[call-arg]
    processor = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, min_pixels=56 * 56, max_pixels=280 * 280)
    processor.save_pretrained(folder)


def call(tool: Any, **arguments: Any) -> ToolResult:
    return asyncio.run(tool.call(arguments))


def test_a_crop_is_the_part_as_it_is() -> None:
    crop = Crop(Gallery([striped()]))
    result = call(crop, image=1, box=[10, 5, 25, 20])
    assert result.ok and result.output == "image 2: 15 x 15 pixels, [10, 5, 25, 20] of image 1"
    seen = decoded(result.images[0])
    assert seen.size == (15, 15)
    assert seen.getpixel((0, 0)) == (10, 5, 7) and seen.getpixel((14, 14)) == (
        24,
        19,
        7,
    )  # right and bottom are outside


def test_a_crop_of_a_crop_and_a_zoom_into_it() -> None:
    gallery = Gallery([striped()])
    crop, zoom = Crop(gallery), Zoom(gallery)
    assert call(crop, image=1, box=[10, 0, 30, 20]).output.startswith("image 2: 20 x 20")
    result = call(zoom, image=2, box=[5, 5, 15, 15], factor=4)
    assert result.output == "image 3: 40 x 40 pixels, [5, 5, 15, 15] of image 2, 4 times as large"
    middle = decoded(result.images[0]).getpixel((20, 20))
    assert isinstance(middle, tuple)
    # The middle of the part: x = 10 + 5 + 5 = 20, y = 0 + 5 + 5 = 10, between the pixels.
    assert abs(middle[0] - 20) <= 1 and abs(middle[1] - 10) <= 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"image": 2, "box": [0, 0, 10, 10]}, "there is no image 2; there are 1"),
        ({"image": 0, "box": [0, 0, 10, 10]}, "there is no image 0; there are 1"),
        ({"image": -1, "box": [0, 0, 10, 10]}, "there is no image -1; there are 1"),
        ({"image": 1, "box": [0, 0, 10]}, "a box has four numbers"),
        ({"image": 1, "box": [0, 0, 41, 10]}, "is no box in image 1, which has 40 x 20 pixels"),
        ({"image": 1, "box": [-1, 0, 10, 10]}, "is no box in image 1"),
        ({"image": 1, "box": [10, 0, 10, 10]}, "is no box in image 1"),
        ({"image": 1, "box": [20, 0, 10, 10]}, "is no box in image 1"),
        ({"image": 1, "box": [0, 0, 7, 20]}, "is too thin"),
    ],
)
def test_a_wrong_box_is_an_observation(arguments: dict[str, Any], error: str) -> None:
    for tool in (Crop(Gallery([striped()])), Zoom(Gallery([striped()]))):
        result = call(tool, **arguments)
        assert not result.ok and error in result.output and not result.images
        assert len(tool.gallery) == 1


def test_bounds_of_the_image_tools() -> None:
    zoom = Zoom(Gallery([picture(900, 400)]))
    assert "from 1 to 8" in call(zoom, image=1, box=[0, 0, 100, 100], factor=9).output
    assert "2700 x 1200 pixels; a side may have 2048" in call(zoom, image=1, box=[0, 0, 900, 400], factor=3).output
    assert "too thin" in call(zoom, image=1, box=[0, 0, 801, 8]).output  # 801 > 100 * 8
    full = Crop(Gallery([striped()] * MAX_IMAGES))
    assert "no more can be made" in call(full, image=1, box=[0, 0, 10, 10]).output


def test_files_that_are_no_images_or_too_large_ones() -> None:
    bomb = io.BytesIO()
    Pillow.new("1", (2**13, 2**12)).save(bomb, format="PNG")  # 2^25 pixels in a few kilobytes
    assert len(bomb.getvalue()) < 10_000
    gif = io.BytesIO()
    Pillow.new("P", (20, 20)).save(gif, format="GIF")
    cut_off = striped().data[:60]
    for data in (b"", b"\x89PNG", bomb.getvalue(), gif.getvalue(), cut_off):
        result = call(Crop(Gallery([Image(data=data)])), image=1, box=[0, 0, 10, 10])
        assert not result.ok and result.output.startswith("error: "), data[:9]
        with pytest.raises(DataError):
            decoded(Image(data=data))


def test_attempts_do_not_see_each_others_images() -> None:
    crop = Crop(Gallery([striped()]))
    one, other = crop.open(CallContext()), crop.open(CallContext())
    call(one, image=1, box=[0, 0, 10, 10])
    assert call(other, image=1, box=[0, 0, 12, 12]).output.startswith("image 2")
    assert len(crop.gallery) == 1
    resumed = Crop()
    resumed.load_state_dict(one.state_dict())
    assert call(resumed, image=2, box=[0, 0, 9, 9]).output.startswith("image 3: 9 x 9")
    with pytest.raises(ValueError, match="keeps images, but was given files"):
        resumed.load_state_dict({"files": []})


def test_calls_at_the_same_time_number_their_images_in_order() -> None:
    async def both() -> list[str]:
        tool = Zoom(Gallery([striped()]))
        boxes = ([0, 0, 20, 20], [0, 0, 10, 10], [0, 0, 8, 8])
        made = await asyncio.gather(*(tool.call({"image": 1, "box": box}) for box in boxes))
        return [result.output.partition(":")[0] for result in made]

    assert asyncio.run(both()) == ["image 2", "image 3", "image 4"]


def test_pictures_validate() -> None:
    Pictures().validate()


def test_a_picture_shows_its_numbers_only_from_near() -> None:
    problem = next(Pictures().generate(random.Random(3)))
    (opening,) = Pictures().reset(problem, CallContext()).opening()
    assert size(opening.images[0]) == (SIZE[0] // REDUCED, SIZE[1] // REDUCED) and problem.question in opening.content
    items = problem.data["items"]
    assert draw(items) == draw(items)
    one, other = (decoded(draw([{**items[0], "number": number}])) for number in (111, 888))
    where = ImageChops.difference(one, other).getbbox()
    assert where is not None
    # What tells the numbers apart is 12 pixels high at most, and so 3 in what the model sees at first.
    assert 6 <= where[3] - where[1] <= 12 and REDUCED == 4


def test_pictures_courses_are_real() -> None:
    environment = Pictures()
    for problem in islice(environment.generate(random.Random(1)), 3):
        gold, *mistaken = environment.courses(problem)
        walk = asyncio.run(walked(environment, problem, gold))
        assert walk.verdict.correct and walk.calls == problem.min_calls
        assert all(result.images for reaction in walk.reactions for result in reaction.results)
        assert mistaken and all(course.answer != gold.answer for course in mistaken)


def test_an_attempt_goes_on_elsewhere_with_its_images() -> None:
    problem = next(Pictures().generate(random.Random(2)))
    episode = Pictures().reset(problem, CallContext())
    first = ParsedTurn(calls=(ToolCall(name="crop", arguments={"image": 1, "box": [0, 0, 64, 64]}),))
    second = ParsedTurn(calls=(ToolCall(name="zoom", arguments={"image": 2, "box": [0, 0, 32, 32]}),))
    asyncio.run(episode.step(first))
    fork = episode.fork(CallContext())
    (here,), (there,) = (asyncio.run(one.step(second)).results for one in (episode, fork))
    assert here.output.startswith("image 3: 64 x 64") and replace(here, seconds=0) == replace(there, seconds=0)


def test_an_image_takes_as_many_tokens_as_the_model_sees(chat: ChatFormat) -> None:
    # 224 x 168 pixels: 16 x 12 patches of 14, four of which merge into one: 8 * 6 = 48.
    message = Message(role="user", content="What is this?", images=(picture(224, 168), picture(56, 84)))
    text = str(chat.tokenizer.decode(chat.prompt([message], [])))
    assert f"user\n{START}{PAD * 48}{END}{START}{PAD * 6}{END}What is this?<|im_end|>" in text  # 4 x 6 / 4 = 6


def test_the_arithmetic_is_the_processors(chat: ChatFormat, tmp_path: Path) -> None:
    """Whatever the size: an image is made to fit whole patches, and neither too many nor too few."""
    from transformers import AutoImageProcessor

    vl_folder(tmp_path)
    processor, vision = AutoImageProcessor.from_pretrained(tmp_path), Vision.of_folder(tmp_path)
    assert vision is not None
    for width, height in ((20, 20), (33, 77), (224, 168), (500, 40), (1024, 768)):
        grid = processor(images=[decoded(picture(width, height))])["image_grid_thw"][0]
        assert vision.tokens(picture(width, height)) == int(grid[0] * grid[1] * grid[2]) // 4


def test_results_with_images(chat: ChatFormat) -> None:
    """Golden: images before the text of their result, within the tool's answer, and none of it learned."""
    turns = (
        Turn(
            text='<tool_call>\n{"name": "crop", "arguments": {}}\n</tool_call>',
            calls=(ToolCall(name="crop", arguments={}),),
            results=(ToolResult(name="crop", ok=True, output="image 2", images=(picture(56, 56),)),),
        ),
        Turn(text="<answer>7</answer>"),
    )
    opening = (Message(role="user", content="Which number?", images=(picture(56, 84),)),)
    one = trajectory(opening=opening, turns=turns, token_ids=(), loss_mask=(), logprobs=())
    [(ids, mask)] = chat.encode(one, [])
    learned = str(chat.tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m]))
    assert learned == turns[0].text + "<|im_end|>" + turns[1].text + "<|im_end|>"
    assert str(chat.tokenizer.decode(ids)).endswith(
        f"<|im_start|>user\n{START}{PAD * 6}{END}Which number?<|im_end|>\n<|im_start|>assistant\n"
        f"{turns[0].text}<|im_end|>\n"
        f"<|im_start|>user\n<tool_response>\n{START}{PAD * 4}{END}image 2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<answer>7</answer><|im_end|>"
    )


class Squares(Vision):
    """Four tokens an image, whatever its size."""

    def __init__(self) -> None:
        super().__init__(None, families.qwen_vl().get_vocab()[PAD])

    def tokens(self, image: Image) -> int:
        return 4


SQUARES = ChatFormat(families.qwen_vl(), vision=Squares())


@settings(max_examples=30)
@given(st.lists(st.sampled_from([PAD, START, END, PAD * 3, f"{START}{PAD}{END}", "a"]), max_size=5).map("".join))
def test_text_makes_no_placeholder(text: str) -> None:
    chat = SQUARES
    pad = chat.tokenizer.get_vocab()[PAD]
    result = ToolResult(name=text, ok=True, output=text)
    for ids in (chat.prompt(text, []), chat.observation([result], reply=text), chat.turn(text)):
        assert pad not in ids
    message = Message(role="user", content=text, images=(picture(56, 56),))
    assert chat.prompt([message], []).count(pad) == 4


def test_an_image_that_the_model_made_up_is_an_offence(chat: ChatFormat) -> None:
    """It may sample the placeholder; an image that comes later would then stand in the wrong place."""
    pad = chat.tokenizer.get_vocab()[PAD]
    sampled = chat.decode([*chat.outside("<answer>1</answer>"), pad, chat.end_id])
    assert chat.parse(sampled).error == "an image that no tool gave"
    assert chat.parse("<answer>1</answer>").answer == "1"


def test_a_prompt_for_samplers_that_repeat_placeholders_themselves() -> None:
    assert contracted([1, 9, 9, 9, 2, 9, 3], 9, 2) == [1, 9, 2, 9, 3]
    assert contracted([1, 2], 9, 0) == [1, 2]
    with pytest.raises(ValueError, match="places for 1 images, but 2"):
        contracted([1, 9, 9], 9, 2)


def test_a_model_without_images_refuses_them(world: World) -> None:
    message = Message(role="user", content="?", images=(picture(56, 56),))
    with pytest.raises(UserError, match="takes no images"):
        world.chat.prompt([message], [])
    with pytest.raises(UserError, match="takes no images"):
        world.chat.observation([ToolResult(name="crop", ok=True, output="", images=message.images)])
    with pytest.raises(UserError, match="no place for images"):
        ChatFormat(families.qwen3(), vision=Vision(None, 0))


def test_the_torch_sampler_refuses_images(world: World) -> None:
    async def ask() -> None:
        from journeyman.rollout.torch_sampler import TorchEngine

        engine = TorchEngine.__new__(TorchEngine)  # it refuses before it looks at its model
        await engine.generate(SampleRequest(prompt_ids=(1,), max_new_tokens=1, images=(picture(56, 56),)))

    with pytest.raises(ConfigError, match="reads text only"):
        asyncio.run(ask())


def test_a_family_whose_images_are_not_known_here_is_refused(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessorPil, LlavaConfig

    LlavaConfig().save_pretrained(tmp_path)
    CLIPImageProcessorPil().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="images of this model family are not known here"):
        Vision.of_folder(tmp_path)
    assert Vision.of_folder(tmp_path / "nowhere") is None


def test_an_attempt_shows_its_images_to_the_sampler(tmp_path: Path) -> None:
    """Two calls in one turn, one in the next, then the answer; stored, and read back as it was."""
    problem = next(one for one in Pictures().generate(random.Random(4)) if one.min_calls == 1)
    wire = SQUARES.calls
    boxes = [{"image": 1, "box": [0, 0, 64, 64]}, {"image": 1, "box": [0, 0, 9, 999]}]
    texts = [
        wire.render("both", [ToolCall(name="crop", arguments=box) for box in boxes]),
        wire.render("closer", [ToolCall(name="zoom", arguments={"image": 2, "box": [0, 0, 32, 32]})]),
        wire.render("", answer=problem.answer),
    ]
    sampler, pad = ScriptedSampler(SQUARES, texts), SQUARES.tokenizer.get_vocab()[PAD]
    made = asyncio.run(Agent(sampler, SQUARES, 8192).attempt(RolloutJob(problem=problem, max_new_tokens=512)))
    assert made.stop_reason is StopReason.ANSWER and made.correct
    assert [len(one.images) for one in sampler.requests] == [1, 2, 3]  # the first turn's second call fails
    assert all(contracted(one.prompt_ids, pad, len(one.images)) for one in sampler.requests)
    assert [len(result.images) for turn in made.turns for result in turn.results] == [1, 0, 1]
    pads = [i for i, token in enumerate(made.token_ids) if token == pad]
    assert len(pads) == 3 * 4 and not any(made.loss_mask[i] for i in pads)
    write_trajectories([made], tmp_path / "one.parquet")
    (back,) = read_trajectories(tmp_path / "one.parquet")
    assert replace(back, logprobs=made.logprobs) == made and back.opening[0].images  # stored in single precision


def test_images_are_stored_and_read_back(tmp_path: Path) -> None:
    opening = (Message(role="user", content="?", images=(picture(9, 9), striped())),)
    result = ToolResult(name="crop", ok=True, output="image 3", images=(striped(12, 9),))
    one = trajectory(opening=opening, turns=(Turn(text="a", results=(result,)),))
    write_trajectories([one], tmp_path / "one.parquet")
    (back,) = read_trajectories(tmp_path / "one.parquet")
    assert back == one and back.turns[0].results[0].images == result.images
