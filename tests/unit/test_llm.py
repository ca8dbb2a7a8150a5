"""Models that play a part, and policies besides the trained one, against a real HTTP server."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from journeyman.errors import InfrastructureError, UserError
from journeyman.llm import Cached, Endpoint, Reply, Scripted, _asked_wait
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
        self.retry_after = ""
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
        if self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
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


def test_what_a_reply_takes_is_the_servers_count_or_an_estimate(server: Server) -> None:
    server.answers = [
        (200, {**said("Hi."), "usage": {"prompt_tokens": 9, "completion_tokens": 2}}),
        (200, said("Hello!")),
        (200, {**said("Hello!"), "usage": {"prompt_tokens": None, "completion_tokens": 2}}),
    ]
    counted, guessed, odd = (asyncio.run(endpoint(server).reply(ASK, seed=0)) for _ in range(3))
    assert counted == Reply(text="Hi.", prompt_tokens=9, completion_tokens=2)
    # "Be kind." and "Hello?" are 14 characters, "Hello!" is 6: at four a token, rounded up, 4 and 2.
    assert guessed == odd == Reply(text="Hello!", prompt_tokens=4, completion_tokens=2, estimated=True)


@pytest.mark.parametrize("header", ["7", "later"])
def test_a_server_is_left_alone_as_long_as_it_asks(
    header: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("journeyman.llm.asyncio.sleep", sleep)
    server.answers, server.retry_after = [(429, {}), (200, said("Hi."))], header
    assert asyncio.run(endpoint(server).complete(ASK, seed=0)) == "Hi."
    assert waits == [7.0] if header == "7" else 0.5 <= waits[0] <= 1.0


def test_a_date_can_be_asked_for_too() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20))
    assert 17 < _asked_wait(soon) <= 20
    assert _asked_wait("Wed, 21 Oct 2015 07:28:00 GMT") == _asked_wait("") == _asked_wait("-3") == 0
    assert _asked_wait("100000") == 300


def test_every_try_keeps_to_the_pace(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journeyman.llm.FIRST_WAIT_S", 0.01)
    paced: list[int] = []

    async def pace() -> None:
        paced.append(1)

    server.answers = [(500, {}), (200, said("Hi."))]
    asyncio.run(endpoint(server, pace=pace).complete(ASK, seed=0))
    assert len(paced) == 2


def test_kept_answers_lie_in_subfolders_and_old_ones_and_damaged_ones_are_no_trouble(tmp_path: Path) -> None:
    def reply(says: list[str]) -> Reply:
        return asyncio.run(Cached(chat=Scripted(says), folder=tmp_path, name="m").reply(ASK, seed=0))

    made = reply(["one"])
    [path] = tmp_path.rglob("*.json")
    assert path.parent.parent == tmp_path and path.name.startswith(path.parent.name)
    assert reply([]) == replace(made, cached=True) and not made.cached
    old = tmp_path / path.name
    old.write_text(json.dumps({"answer": "from before"}))
    path.unlink()
    assert reply([]).text == "from before"
    old.write_text("{")
    assert reply(["two"]).text == "two"


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
