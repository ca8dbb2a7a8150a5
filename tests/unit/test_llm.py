"""Models that play a part, and policies besides the trained one, against a real HTTP server."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from journeyman.errors import InfrastructureError, UserError
from journeyman.llm import Cached, Endpoint, Scripted
from journeyman.messages import Message
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.policies import RemoteSampler, Routed
from journeyman.rollout.sampler import SampleRequest
from tests.unit.fakes import ScriptedSampler, World, problem

ASK = (Message(role="system", content="Be kind."), Message(role="user", content="Hello?"))


class Server(ThreadingHTTPServer):
    """Answers with what `answers` says: (status, body)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str | None, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        status, answer = self.server.answers.pop(0)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def endpoint(server: Server, **fields: Any) -> Endpoint:
    return Endpoint(base_url=f"http://127.0.0.1:{server.server_port}/v1/", model="m", key_variable="TEST_KEY", **fields)


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_an_endpoint_is_asked_again_where_that_may_help(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "secret")
    server.answers = [(503, {}), (200, b"<html>"), (200, said("Hi."))]
    chat = endpoint(server)
    monkeypatch.setattr("journeyman.llm.FIRST_WAIT_S", 0.01)
    assert asyncio.run(chat.complete(ASK, seed=2**40 + 3, temperature=0.5, max_tokens=7)) == "Hi."
    assert [path for path, *_ in server.asked] == ["/v1/chat/completions"] * 3
    _, key, body = server.asked[0]
    assert key == "Bearer secret"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}],
        "seed": 3,
        "temperature": 0.5,
        "max_tokens": 7,
    }


def test_an_endpoint_that_refuses_is_not_asked_again(server: Server) -> None:
    server.answers = [(401, {"error": "who are you?"})]
    with pytest.raises(UserError, match=r"status 401.*who are you(.|\n)*set TEST_KEY"):
        asyncio.run(endpoint(server).complete(ASK, seed=0))
    server.answers = [(500, {})]
    with pytest.raises(InfrastructureError, match="1 tries failed, the last with status 500"):
        asyncio.run(endpoint(server, tries=1).complete(ASK, seed=0))
    server.answers = [(200, {"choices": []})]
    with pytest.raises(InfrastructureError, match="no chat completion"):
        asyncio.run(endpoint(server).complete(ASK, seed=0))
    nobody = Endpoint(base_url="http://127.0.0.1:9/v1", model="m", tries=1)
    with pytest.raises(InfrastructureError, match="ConnectError"):
        asyncio.run(nobody.complete(ASK, seed=0))


def test_answers_are_kept_by_content(tmp_path: Path) -> None:
    scripted = Scripted(["one", "two", "three"])
    chat = Cached(chat=scripted, folder=tmp_path, name="m")

    def ask(seed: int, text: str = "Hello?") -> str:
        return asyncio.run(chat.complete([Message(role="user", content=text)], seed=seed))

    assert [ask(0), ask(1), ask(0), ask(0, "Bye?"), ask(1)] == ["one", "two", "one", "three", "two"]
    assert (len(scripted.asked), chat.hits) == (3, 2)
    again = Cached(chat=Scripted([]), folder=tmp_path, name="m")
    assert asyncio.run(again.complete([Message(role="user", content="Hello?")], seed=1)) == "two"
    assert not list(tmp_path.glob("*.part"))


def test_a_remote_policy_takes_and_gives_token_ids(server: Server) -> None:
    choice = {"token_ids": [5, 6, 2], "logprobs": {"token_logprobs": [-0.1, -0.2, -0.3]}}
    server.answers = [(200, {"choices": [choice]}), (200, said("text only"))]
    sampler = RemoteSampler(endpoint(server))
    request = SampleRequest(prompt_ids=(1, 2), max_new_tokens=3, stop_ids=(2,), seed=9)
    made = asyncio.run(sampler.generate(request))
    assert (made.token_ids, made.logprobs, made.stopped) == ((5, 6, 2), (-0.1, -0.2, -0.3), True)
    path, _, body = server.asked[0]
    assert path == "/v1/completions" and body["prompt"] == [1, 2] and body["stop_token_ids"] == [2]
    with pytest.raises(InfrastructureError, match="no token ids"):
        asyncio.run(sampler.generate(request))


def test_a_turn_of_another_policy_is_recorded_and_not_learned_from(world: World) -> None:
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
    sampler = Routed(
        {"": ScriptedSampler(world.chat, ["<answer>42</answer>"]), "expert": ScriptedSampler(world.chat, [call])}
    )
    agent = Agent(sampler, world.chat, 1000)

    async def guided() -> Any:
        attempt = await agent.start(RolloutJob(problem=problem(tools=("calculator",)), max_new_tokens=90))
        await agent.step(attempt, policy="expert")
        return await agent.complete(attempt)

    made = asyncio.run(guided())
    assert [turn.policy for turn in made.turns] == ["expert", ""] and made.correct
    expert, own = made.turns
    assert not any(made.loss_mask[expert.start : expert.stop]) and all(made.loss_mask[own.start : own.stop])
    with pytest.raises(UserError, match=r"no policy is named 'nobody'(.|\n)*there is expert"):
        asyncio.run(agent.attempt(RolloutJob(problem=problem(), policy="nobody")))
