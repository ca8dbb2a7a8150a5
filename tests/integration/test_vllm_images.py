"""Images through real vLLM, in its own environment: what is recorded is what a learner needs."""

import json
import pickle
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image as Pillow

from journeyman.config import VllmSampler
from journeyman.messages import Image, Message, ToolResult
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.tools.pixels import decoded, encoded
from tests.unit import chat_templates as families

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PYTHON = Path(VllmSampler().python).absolute()
MAX_LENGTH = 384


pytestmark = [
    pytest.mark.integration,
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON.is_file(), reason=f"no vLLM environment at {PYTHON}: make vllm"),
]


@pytest.fixture(autouse=True)
def _torchvision() -> None:
    """vLLM's Qwen-VL models import it. Its wheels on PyPI are for CUDA and fail to import beside a CPU's torch."""
    found = subprocess.run([PYTHON, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"the vLLM environment has no torchvision that works: {found.stderr.splitlines()[-1]}")


def make_model(folder: Path) -> "PreTrainedModel":
    """A small Qwen2-VL with weights large enough for uneven distributions, its processor and its tokenizer."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil

    tokenizer = families.qwen_vl()
    vocabulary = tokenizer.get_vocab()
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": 384,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": MAX_LENGTH,
            "rope_parameters": rope,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
    )
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, min_pixels=56**2, max_pixels=112**2).save_pretrained(folder)
    return model


def gradient(width: int, height: int, blue: int) -> Image:
    pixels = Pillow.new("RGB", (width, height))
    pixels.putdata([(x * 255 // width, y * 255 // height, blue) for y in range(height) for x in range(width)])
    return encoded(pixels)


def generate(model: Path, requests: list[SampleRequest], folder: Path) -> tuple[list[Completion], str]:
    """Those of an engine in the vLLM environment, and why it refuses an image without a place."""
    (folder / "requests").write_bytes(pickle.dumps(requests))
    script = Path(__file__).with_name("images_in_vllm.py")
    command = [PYTHON, script, model, folder / "requests", folder / "completions", str(MAX_LENGTH)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    made = json.loads((folder / "completions").read_text())
    return [Completion(**one) for one in made["completions"]], made["refusal"]


def plain(model: "PreTrainedModel", ids: list[int], images: list[Image], folder: Path) -> list[float]:
    """Log-probabilities of tokens 1..T-1 by a forward pass over the recorded ids and the images' pixels."""
    import torch
    from transformers import AutoImageProcessor

    seen = AutoImageProcessor.from_pretrained(folder)(images=[decoded(image) for image in images], return_tensors="pt")
    row = torch.tensor([ids])
    types = (row == model.config.image_token_id).int()
    with torch.no_grad():
        logits = model(input_ids=row, mm_token_type_ids=types, **seen).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, row[0, 1:, None])[:, 0].tolist()


def test_logprobs_agree_with_a_forward_pass_over_the_recorded_ids(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = make_model(folder)
    chat = ChatFormat.of_folder(folder)
    small, wide = gradient(56, 84, 30), gradient(112, 56, 200)
    cut = gradient(60, 60, 90)
    opening = [Message(role="user", content="Which?", images=(small, wide))]
    turn = chat.turn('<tool_call>\n{"name": "crop", "arguments": {}}\n</tool_call>')
    seen = chat.observation([ToolResult(name="crop", ok=True, output="image 3", images=(cut,))])
    first = chat.prompt(opening, [])
    cases = [(first, [small, wide]), (first, [wide, small]), (first + turn + seen, [small, wide, cut])]
    cases[1] = (chat.prompt([Message(role="user", content="Which?", images=(wide, small))], []), [wide, small])
    requests = [
        SampleRequest(prompt_ids=tuple(ids), images=tuple(images), max_new_tokens=12, seed=seed)
        for seed, (ids, images) in enumerate(cases)
    ]
    completions, refusal = generate(folder, requests, tmp_path)
    assert refusal == "the prompt has places for 0 images, but 1 are given"
    for request, completion in zip(requests, completions, strict=True):
        assert len(completion.token_ids) == 12
        expected = plain(model, [*request.prompt_ids, *completion.token_ids], list(request.images), folder)
        assert completion.logprobs == pytest.approx(expected[len(request.prompt_ids) - 1 :], abs=2e-3)
    blind = plain(model, [*first, *completions[0].token_ids], [wide, small][::-1], folder)
    other = [gradient(56, 84, 220), wide]
    assert plain(model, [*first, *completions[0].token_ids], other, folder) != pytest.approx(blind, abs=2e-3)
