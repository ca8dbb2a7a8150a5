"""Other policies than the trained one behind the Sampler protocol: teachers and experts, side by side with it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from journeyman.errors import InfrastructureError, UserError
from journeyman.llm import Endpoint
from journeyman.rollout.sampler import Completion, Sampler, SampleRequest

if TYPE_CHECKING:
    import torch


class Routed:
    """Several policies as one sampler: a request goes to the one that it names.

    The empty name is the trained policy: it alone takes weights, scores rows and is interrupted.
    """

    def __init__(self, policies: Mapping[str, Sampler]) -> None:
        if "" not in policies:
            raise UserError("no policy is the trained one", remedy="give it the empty name")
        self._policies = dict(policies)

    async def generate(self, request: SampleRequest) -> Completion:
        policy = self._policies.get(request.policy)
        if policy is None:
            known = ", ".join(name for name in self._policies if name) or "only the trained one"
            raise UserError(f"no policy is named {request.policy!r}", remedy=f"there is {known}")
        return await policy.generate(request)

    async def load_weights(self, weights: "Mapping[str, torch.Tensor]", version: int) -> None:
        await self._policies[""].load_weights(weights, version)

    async def interrupt(self) -> None:
        await self._policies[""].interrupt()

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return await self._policies[""].score(rows)

    async def close(self) -> None:
        for policy in self._policies.values():
            await policy.close()


class RemoteSampler:
    """A model behind an OpenAI-compatible server that takes and gives token ids, as vLLM's `/v1/completions` does.

    It must have the same tokenizer. It takes no weights; its completions carry policy version 0.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def generate(self, request: SampleRequest) -> Completion:
        body = {
            "model": self._endpoint.model,
            "prompt": list(request.prompt_ids),
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "seed": request.seed % 2**31,
            "stop_token_ids": list(request.stop_ids),
            "ignore_eos": True,
            "logprobs": 0,
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
        answer = await self._endpoint.post("completions", body)
        try:
            choice: dict[str, Any] = answer["choices"][0]
            ids = tuple(choice["token_ids"])
            logprobs = tuple(float(value) for value in choice["logprobs"]["token_logprobs"])
        except (KeyError, IndexError, TypeError):
            raise InfrastructureError(f"{self._endpoint.base_url} gives no token ids: is it vLLM?") from None
        if len(ids) != len(logprobs):
            raise InfrastructureError(
                f"{self._endpoint.base_url} gave {len(ids)} ids, {len(logprobs)} log-probabilities"
            )
        return Completion(
            token_ids=ids, logprobs=logprobs, stopped=bool(ids) and ids[-1] in request.stop_ids, policy_version=0
        )

    async def load_weights(self, weights: "Mapping[str, torch.Tensor]", version: int) -> None:
        raise UserError("a remote policy takes no weights", place=self._endpoint.base_url)

    async def interrupt(self) -> None: ...

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        raise UserError("a remote policy scores no rows", place=self._endpoint.base_url)

    async def close(self) -> None: ...
