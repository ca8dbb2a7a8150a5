"""Runs in the vLLM environment: completions of requests with images, from pickle to JSON."""

import asyncio
import json
import pickle
import sys
from pathlib import Path

from journeyman.config import ComputeConfig, VllmSampler
from journeyman.rollout.sampler import Completion, SampleRequest
from journeyman.rollout.vllm_sampler import VllmEngine


async def sample(model: Path, requests: list[SampleRequest], max_length: int) -> tuple[list[Completion], str]:
    """(completions, why a request with an image too many is refused)."""
    compute = ComputeConfig(device="cpu", dtype="float32", sampler=VllmSampler(python=sys.executable))
    engine = VllmEngine(model, compute, max_length)
    try:
        await engine.generate(SampleRequest(prompt_ids=(1,), max_new_tokens=1, images=requests[0].images[:1]))
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    made = await asyncio.gather(*(engine.generate(request) for request in requests))
    await engine.close()
    return list(made), refusal


if __name__ == "__main__":
    model, given, made, max_length = sys.argv[1:]
    requests = pickle.loads(Path(given).read_bytes())  # written a moment ago by the test that runs this
    completions, refusal = asyncio.run(sample(Path(model), requests, int(max_length)))
    names = ("token_ids", "logprobs", "stopped", "policy_version")
    rows = [{name: getattr(one, name) for name in names} for one in completions]
    Path(made).write_text(json.dumps({"completions": rows, "refusal": refusal}))
