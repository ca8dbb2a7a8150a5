"""Teachers of every kind, and the whole stage with one behind a server that fails, is killed and runs out of money."""

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from journeyman.actors.inline import InlineWorkers
from journeyman.config import (
    BudgetConfig,
    EndpointTeacherConfig,
    GeneratedProblems,
    ModelTeacherConfig,
    PipelineConfig,
    PolicyTeacherConfig,
    PretrainedModel,
    ScriptedTeacherConfig,
    SynthesizeConfig,
)
from journeyman.environments import environment_of
from journeyman.errors import ConfigError, InfrastructureError, UserError
from journeyman.expressions import options_of
from journeyman.llm import Scripted
from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.progress import Silent
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.seeds import derive
from journeyman.synthesis.base import Lesson, Studio, Teacher, asked
from journeyman.synthesis.courses import written_step
from journeyman.synthesis.fit import misfits
from journeyman.synthesis.lessons import KEPT_APART, Chunks, Tally, teach
from journeyman.synthesis.problems import read_problems
from journeyman.synthesis.scripted import UNKNOWN, WITHOUT_TOOLS, ScriptedTeacher, annotations_teacher
from journeyman.synthesis.sources import problems_of
from journeyman.synthesis.spending import BudgetError, Costs, Meter, booked
from journeyman.synthesis.stage import synthesize
from journeyman.synthesis.strategies import STRATEGIES, VOCABULARY, WRITES, WRITES_WITH, build_strategy
from journeyman.synthesis.strategies.attempts import plain, rejection
from journeyman.synthesis.teachers import Batches, ChatTeacher, Manner, PoolChat, PoolTeacher
from journeyman.trajectory import StopReason, Trajectory, read_trajectories
from tasks.recipes import plan
from tests.unit.fakes import COMPUTE, MAX_LENGTH, ScriptedSampler, World, some

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
SUM = Problem(
    id="sum", family="arithmetic", question="What is 6 times 7?", answer="42", tools=("calculator",), min_calls=1
)


def attempt(teacher: Teacher, problem: Problem = SUM, **asked_for: Any) -> Trajectory:
    return asyncio.run(teacher.attempt(problem, **{"seed": 0, **asked_for}))


def texts(trajectory: Trajectory) -> list[str]:
    return [turn.text for turn in trajectory.turns]


# ---- by script


def test_a_script_takes_another_course_with_another_seed_and_the_same_with_the_same() -> None:
    teacher, [problem] = ScriptedTeacher(ScriptedTeacherConfig(mistakes=0.5, repeats=0.5)), some("lookup", 1)
    drawn = [attempt(teacher, problem, seed=seed) for seed in range(12)]
    assert drawn[3].id == attempt(teacher, problem, seed=3).id and len({one.id for one in drawn}) == 12
    assert texts(drawn[3]) == texts(attempt(teacher, problem, seed=3))
    assert len({tuple(texts(one)) for one in drawn}) > 2 and {one.correct for one in drawn} == {True, False}


def test_a_hint_keeps_a_script_from_mistakes() -> None:
    teacher = ScriptedTeacher(ScriptedTeacherConfig(mistakes=1, repeats=1, broken=1))
    for problem in some("arithmetic", 5):
        made = attempt(teacher, problem, hint="mind the operator")
        assert made.correct and not made.needless_calls and "mind the operator" not in str(made)


def test_without_its_tools_a_script_is_wrong_and_says_so() -> None:
    [problem] = some("lookup", 1)
    made = attempt(annotations_teacher(), problem, tools=())
    assert (made.correct, made.answer, made.calls) == (False, UNKNOWN, ())
    assert made.provenance["mistake"] == WITHOUT_TOOLS


def test_a_script_goes_on_from_given_turns() -> None:
    problem = next(p for p in some("lookup", 30) if p.min_calls == 2)
    whole = attempt(annotations_teacher(), problem)
    for cut in range(len(whole.turns)):
        made = attempt(annotations_teacher(), problem, start=whole.turns[:cut])
        assert texts(made) == texts(whole) and made.correct


def test_what_a_script_breaks_is_found_broken() -> None:
    teacher = ScriptedTeacher(ScriptedTeacherConfig(mistakes=0, repeats=0, broken=1))
    ends = [attempt(teacher, problem, seed=seed) for seed, problem in enumerate(some("arithmetic", 12))]
    assert {one.provenance["slip"] for one in ends} == {"format", "tool error"}
    for one in ends:
        broken = one.provenance["slip"] == "format"
        assert (one.stop_reason is StopReason.FORMAT_ERROR, one.correct) == (broken, not broken)


def test_a_problem_without_a_course_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(environment_of(SUM)), "courses", lambda self, problem: ())
    made = attempt(annotations_teacher())
    assert (made.correct, made.stop_reason, made.turns) == (None, StopReason.ENVIRONMENT, ())
    assert asyncio.run(annotations_teacher().logged(SUM)) == []


# ---- behind a chat


def test_a_chat_is_told_the_tools_and_plays_in_the_real_world() -> None:
    chat = Scripted([CALL, "<answer>42</answer>"])
    made = attempt(ChatTeacher(chat, name="m"), hint="multiply")
    assert (made.correct, made.answer, made.source, len(made.calls)) == (True, "42", "m", 1)
    assert made.turns[0].results[0].output == "42"
    first, second = chat.asked
    assert '"calculator"' in first[0].content and first[1].content == "What is 6 times 7?\n\nmultiply"
    assert [message.role for message in second] == ["system", "user", "assistant", "user"]
    assert second[3].content == "<tool_response>\n42\n</tool_response>"
    assert "multiply" not in str(made)
    assert made.provenance["teacher"] == "m" and made.provenance["seed"] == 0


def test_seeds_temperatures_and_limits_reach_the_chat() -> None:
    seen: list[tuple[int, float, int]] = []

    class Chat:
        async def complete(
            self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
        ) -> str:
            seen.append((seed, temperature, max_tokens))
            return CALL

    manner = Manner(temperature=0.5, max_turns=2, max_tokens=99)
    made = attempt(ChatTeacher(Chat(), name="m", manner=manner), seed=7, temperature=0.6)
    assert seen == [(derive(7, 0), 0.3, 99), (derive(7, 1), 0.3, 99)]
    assert (made.stop_reason, made.correct) == (StopReason.MAX_TURNS, False)


def test_a_server_that_is_down_says_nothing_about_the_problem() -> None:
    def down(messages: Sequence[Message]) -> str:
        raise InfrastructureError("down")

    with pytest.raises(InfrastructureError, match="down"):
        attempt(ChatTeacher(Scripted(down), name="m"))


# ---- behind samplers


class ScriptedPool:
    """Plays jobs with texts that a function gives; keeps the batches."""

    def __init__(self, world: World, says: Callable[[RolloutJob], Sequence[str]]) -> None:
        self._world, self._says = world, says
        self.batches: list[list[RolloutJob]] = []

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.batches.append(list(jobs))
        return [asyncio.run(self._play(job)) for job in jobs]

    async def _play(self, job: RolloutJob) -> Trajectory:
        return await Agent(ScriptedSampler(self._world.chat, self._says(job)), self._world.chat, 2000).attempt(job)

    def load_weights(self, weights: Mapping[str, Any], version: int) -> None: ...

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return []

    def samplers(self, model: Path) -> "ScriptedPool":
        return self


def pooled(pool: ScriptedPool, meter: Meter | None = None) -> PoolTeacher:
    return PoolTeacher(Batches(pool, meter or Meter()), name="policy", manner=Manner(max_tokens=90))


def test_attempts_that_wait_are_sampled_together_and_their_tokens_dropped(world: World) -> None:
    pool, meter = ScriptedPool(world, lambda job: [CALL, "<answer>42</answer>"]), Meter()

    async def several() -> tuple[list[Trajectory], Any]:
        teacher = pooled(pool, meter)
        with booked() as costs:
            return list(await asyncio.gather(*(teacher.attempt(SUM, seed=seed) for seed in range(5)))), costs

    made, costs = asyncio.run(several())
    assert [len(batch) for batch in pool.batches] == [5]
    assert [one.seed for one in made] == list(range(5)) and all(one.correct for one in made)
    for one in made:
        assert (one.token_ids, one.loss_mask, one.logprobs, one.source) == ((), (), (), "policy")
        assert texts(one) == [CALL, "<answer>42</answer>"] and {(t.start, t.stop) for t in one.turns} == {(0, 0)}
        assert one.provenance["cost"]["requests"] == 2
    assert costs.requests == meter.spent.requests == 10 and costs.completion_tokens > 0


def test_a_hint_is_behind_the_question_and_not_in_what_is_stored(world: World) -> None:
    pool = ScriptedPool(world, lambda job: ["<answer>42</answer>"])
    made = attempt(pooled(pool), hint="It is 42.", tools=())
    [[job]] = pool.batches
    assert job.problem.question == "What is 6 times 7?\n\nIt is 42." and job.problem.tools == ()
    assert made.question == SUM.question and made.tools == SUM.tools and "It is 42." not in str(made)


def test_a_world_that_does_not_show_the_question_is_hinted_in_words(world: World) -> None:
    [problem] = some("calls", 1)
    shown = replace(problem, data={**problem.data, "opening": [{"role": "user", "content": "Please."}]})
    pool = ScriptedPool(world, lambda job: ["No."])
    teacher = pooled(pool)
    made = attempt(teacher, shown, hint="Use a tool.")
    assert [message.content for message in made.opening] == ["Please."] and "Use a tool." not in str(made)
    asked_in_words = pool.batches[1][0].problem.data["opening"]
    assert asked_in_words[1]["content"] == "Please.\n\nUse a tool."
    attempt(teacher, shown, hint="Use a tool.")
    assert len(pool.batches) == 3, "the second time it is asked in words at once"


def test_an_attempt_goes_on_from_given_turns_in_words(world: World) -> None:
    start = attempt(ChatTeacher(Scripted([CALL, "<answer>42</answer>"]), name="m")).turns[:1]
    pool = ScriptedPool(world, lambda job: ["<answer>42</answer>"])
    made = attempt(pooled(pool), start=start)
    assert made.correct and len(made.calls) == 1
    [[job]] = pool.batches
    assert [message["role"] for message in job.problem.data["opening"]] == ["system", "user", "assistant", "user"]


def test_a_pool_writes_texts(world: World) -> None:
    pool = ScriptedPool(world, lambda job: ["As you like."])

    async def write() -> str:
        return await asked(PoolChat(Batches(pool, Meter())), "Write.", seed=3, system="Be short.")

    assert asyncio.run(write()) == "As you like."
    [[job]] = pool.batches
    assert (job.seed, job.temperature, job.max_turns) == (3, 0.0, 1)


def test_a_pool_that_fails_ends_whoever_waits(world: World) -> None:
    class Broken(ScriptedPool):
        def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
            raise InfrastructureError("no sampler is left")

    with pytest.raises(InfrastructureError, match="no sampler"):
        attempt(pooled(Broken(world, lambda job: [])))
    spent = Meter(BudgetConfig(requests=1))
    spent.record(Costs(requests=1))
    with pytest.raises(BudgetError):
        attempt(pooled(Broken(world, lambda job: []), spent))


# ---- strategies


def studio(teacher: Teacher, **fields: Any) -> Studio:
    return Studio(teacher=teacher, **fields)


def test_plain_by_hand() -> None:
    [lesson] = asyncio.run(plain(Lesson(problem=SUM), studio(ChatTeacher(Scripted(["<answer>41</answer>"]), name="m"))))
    [made] = lesson.trajectories
    assert made.correct is False and made.provenance["strategies"] == ["plain"] and lesson.refused == ()


def test_rejection_by_hand() -> None:
    """Wrong, right, right: with keep=1 the second is taken, the first refused, and the third not asked for."""
    chat = Scripted(["<answer>41</answer>", "<answer>42</answer>", "<answer>42</answer>"])
    [lesson] = asyncio.run(rejection(Lesson(problem=SUM), studio(ChatTeacher(chat, name="m")), tries=3))
    [right], [wrong] = lesson.trajectories, lesson.refused
    assert (right.answer, right.provenance["attempt"], wrong.provenance["refused"]) == ("42", 1, "wrong")
    assert len(chat.asked) == 2
    never = ChatTeacher(Scripted(["<think>"] * 2), name="m")
    [lesson] = asyncio.run(rejection(Lesson(problem=SUM), studio(never), tries=2, keep=2))
    assert lesson.trajectories == () and len(lesson.refused) == 2


def test_what_needs_a_writer_is_refused_where_nothing_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journeyman.synthesis.fit.WRITES", frozenset({"rejection"}))
    block = SynthesizeConfig(strategies=["plain", "rejection(tries=2)"])
    [(key, fault, remedy)] = misfits(block.model_dump())
    assert key == "strategies" and "rejection needs a model that writes" in fault and "synthesize.writer" in remedy
    endpoint = EndpointTeacherConfig(base_url="http://x/v1", model="m")
    assert not list(misfits(block.model_copy(update={"writer": endpoint}).model_dump()))
    assert not list(misfits(block.model_copy(update={"teacher": endpoint}).model_dump()))
    assert not list(misfits(SynthesizeConfig().model_dump()))
    [(key, fault, _)] = misfits(SynthesizeConfig(writer=endpoint).model_dump())
    assert key == "writer" and "none of the strategies writes" in fault


@pytest.mark.parametrize("name", WRITES_WITH)
def test_an_option_that_needs_a_writer_is_refused_where_nothing_writes(name: str) -> None:
    option, value = WRITES_WITH[name]
    parameter = options_of(STRATEGIES[name], VOCABULARY)[option]
    assert parameter.default != value and name not in WRITES
    [(key, fault, _)] = misfits(SynthesizeConfig(strategies=[f"{name}({option}={value!r})"]).model_dump())
    assert key == "strategies" and fault.startswith(f"{name} needs")
    assert not list(misfits(SynthesizeConfig(strategies=[name]).model_dump()))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_that_asks_a_writer_is_known_to(name: str) -> None:
    """The text of its module says whether it does."""
    module = sys.modules[STRATEGIES[name].__module__]
    asks = f'writer("{name}")' in inspect.getsource(module) or (
        getattr(module, "NAME", "") == name and "writer(NAME)" in inspect.getsource(module)
    )
    assert asks == (name in WRITES or name in WRITES_WITH)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_can_be_named(name: str) -> None:
    assert asyncio.iscoroutinefunction(STRATEGIES[name])


# ---- the stage


def config(**synthesize_block: Any) -> PipelineConfig:
    return PipelineConfig(
        problems=GeneratedProblems(families={"arithmetic": 1, "lookup": 1}, train=10, dev=10, heldout=10),
        synthesize=SynthesizeConfig.model_validate({"demonstrations": 24, **synthesize_block}),
    )


def same(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """But for the seconds that calls took."""
    return [
        replace(t, turns=tuple(replace(u, results=tuple(replace(r, seconds=0.0) for r in u.results)) for u in t.turns))
        for t in trajectories
    ]


def files(folder: Path) -> list[list[Trajectory]]:
    return [same(read_trajectories(folder / f"{name}.parquet")) for name in ("demonstrations", "refused")]


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server whose model knows the courses, is wrong for a third of the seeds, and fails at times."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.courses = {p.question: environment_of(p).courses(p)[0] for p in problems_of(config(), Silent()).taught}
        self.answered: list[str] = []
        """What was answered, request by request."""
        self.requests = 0
        self.fails: Callable[[int], bool] = lambda number: number % 7 == 3
        self.on_request: Callable[[int], None] = lambda number: None
        self._lock = threading.Lock()

    def count(self) -> int:
        with self._lock:
            self.requests += 1
            return self.requests

    def say(self, body: Mapping[str, Any]) -> str:
        messages = body["messages"]
        course = self.courses[messages[1]["content"]]
        made = sum(message["role"] == "assistant" for message in messages)
        if not made and body["seed"] % 3 == 0:
            return "<answer>-1</answer>"
        if made < len(course.steps):
            return written_step(course.steps[made])
        answer = course.answer or messages[-1]["content"].removeprefix("<tool_response>\n").removesuffix(
            "\n</tool_response>"
        )
        return f"<answer>{answer}</answer>"


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_POST(self) -> None:
        text = self.rfile.read(size := int(self.headers["Content-Length"])).decode()
        if len(text.encode()) < size:  # whoever asked was killed meanwhile
            return
        number = self.server.count()
        self.server.on_request(number)
        if self.server.fails(number):
            if number % 3 == 0:
                self.close_connection = True  # no answer at all
                return
            self.send_response(429 if number % 3 == 1 else 500)
            self.send_header("Retry-After", "0.01")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.answered.append(text)
        said = self.server.say(json.loads(text))
        usage = {"prompt_tokens": len(text) // 5, "completion_tokens": len(said) // 5}
        data = json.dumps({"choices": [{"message": {"content": said}}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("journeyman.llm.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("journeyman.synthesis.lessons.CHUNK", 6)
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def taught_by(server: Server, **more: Any) -> PipelineConfig:
    teacher = {
        "type": "endpoint",
        "base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "model": "m",
        "price_per_million_output_tokens": 10,
    }
    return config(teacher=teacher, strategies=["rejection(tries=3)"], concurrency=4, **more)


def test_a_stage_with_a_server_that_fails_at_times(server: Server, tmp_path: Path) -> None:
    summary = synthesize(taught_by(server), tmp_path, Silent())
    taken, refused = files(tmp_path)
    assert len(taken) + summary["refused"].get("wrong", 0) >= 24 and summary["demonstrations"] == len(taken) > 20
    assert all(t.correct for t in taken) and not any(t.correct for t in refused) and refused
    assert {t.provenance["refused"] for t in refused} == {"wrong"} and summary["refused"] == {"wrong": len(refused)}
    assert summary["strategies"] == {"rejection": len(taken)}
    assert len(set(server.answered)) == len(server.answered) == summary["cost"]["requests"] < server.requests
    rows = pq.read_table(tmp_path / "costs.parquet").to_pylist()
    assert [row["problem_id"] for row in rows] == [p.id for p in problems_of(config(), Silent()).taught]
    assert sum(row["requests"] for row in rows) == summary["cost"]["requests"]
    assert summary["cost"]["cost"] == pytest.approx(summary["cost"]["completion_tokens"] * 10 / 1e6)
    first = taken[0].provenance
    assert (first["teacher"], first["verified"], first["strategies"]) == ("m", "environment", ["rejection"])
    assert set(first["cost"]) == set(first["lesson_cost"]) == {"requests", "prompt_tokens", "completion_tokens"}
    own = [row for row in rows if row["problem_id"] == taken[0].problem_id]
    assert first["lesson_cost"]["requests"] == own[0]["requests"]
    assert not list(tmp_path.glob(".lessons-*"))


def test_a_killed_stage_goes_on_and_asks_nothing_twice(server: Server, tmp_path: Path) -> None:
    """Killed in the middle of a chunk, after others: what was answered to the dead is not asked again."""
    settings = taught_by(server)
    synthesize(settings, tmp_path / "whole", Silent())
    whole, server.answered, server.requests = sorted(server.answered), [], 0
    program = (
        "import sys; from pathlib import Path; import journeyman.synthesis.lessons as lessons; lessons.CHUNK = 6;"
        "from journeyman.config import PipelineConfig; from journeyman.progress import Silent;"
        "from journeyman.synthesis.stage import synthesize;"
        "synthesize(PipelineConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]) / 'dead', Silent(),"
        " work=Path(sys.argv[2]) / 'work')"
    )
    child = subprocess.Popen([sys.executable, "-c", program, settings.model_dump_json(), str(tmp_path)])

    def kill(number: int) -> None:
        if number == 45:
            os.kill(child.pid, signal.SIGKILL)

    server.on_request = kill
    assert child.wait() == -signal.SIGKILL
    stored = list((tmp_path / "work" / "lessons").rglob("*.json"))
    kept = len(list((tmp_path / "work" / "answers").rglob("*.json")))
    assert 1 <= len(stored) < 4 and kept > 0
    for folder in ("resumed", "again"):
        summary = synthesize(settings, tmp_path / folder, Silent(), work=tmp_path / "work")
        assert files(tmp_path / folder) == files(tmp_path / "whole")
    # Only what was under way when it was killed may have been answered to nobody: four requests at most.
    assert sorted(set(server.answered)) == whole and len(server.answered) <= len(whole) + 4
    assert summary["cost"]["requests"] == len(whole)


def test_a_spent_budget_keeps_what_is_made_and_goes_on_when_raised(server: Server, tmp_path: Path) -> None:
    server.fails = lambda number: False
    synthesize(taught_by(server), tmp_path / "whole", Silent())
    whole, server.answered = sorted(server.answered), []
    poor, rich = taught_by(server, budget={"requests": 30}), taught_by(server, budget={"requests": len(whole)})
    for _ in range(2):  # the second time nothing is asked
        with pytest.raises(BudgetError, match=r"budget of 30 requests is spent: 30 requests(.|\n)*raise it") as told:
            synthesize(poor, tmp_path / "poor", Silent(), work=tmp_path / "work")
        assert isinstance(told.value, UserError) and len(server.answered) == 30
    synthesize(rich, tmp_path / "rich", Silent(), work=tmp_path / "work")
    assert sorted(server.answered) == whole and files(tmp_path / "rich") == files(tmp_path / "whole")


def test_a_server_that_is_gone_ends_the_stage_and_finished_lessons_are_kept(server: Server, tmp_path: Path) -> None:
    settings = taught_by(server)
    server.fails = lambda number: number > 50
    with pytest.raises(InfrastructureError, match="6 tries failed"):
        synthesize(settings, tmp_path / "out", Silent(), work=tmp_path / "work")
    answered, server.fails = len(server.answered), lambda number: False
    assert answered >= 40 and list((tmp_path / "work" / "lessons").rglob("*.json"))
    synthesize(settings, tmp_path / "out", Silent(), work=tmp_path / "work")
    assert len(set(server.answered)) == len(server.answered) > answered


def test_another_run_takes_the_answers_from_the_cache(server: Server, tmp_path: Path) -> None:
    settings = taught_by(server)
    synthesize(settings, tmp_path / "one", Silent(), cache=tmp_path / "cache")
    answered = len(server.answered)
    summary = synthesize(settings, tmp_path / "two", Silent(), cache=tmp_path / "cache")
    assert len(server.answered) == answered == summary["cost"]["cached"] == summary["cost"]["requests"]
    assert summary["cost"]["cost"] == 0 and files(tmp_path / "one") == files(tmp_path / "two")


def test_the_policy_and_another_model_teach_through_the_stages_samplers(world: World, tmp_path: Path) -> None:
    pool = ScriptedPool(world, lambda job: ["<answer>-1</answer>"])
    block = SynthesizeConfig(teacher=PolicyTeacherConfig(max_tokens=90), demonstrations=6)
    own = PretrainedModel(path=str(world.model))
    settings = config().model_copy(update={"model": own, "synthesize": block})
    summary = synthesize(settings, tmp_path / "policy", Silent(), workers=pool)
    assert summary["demonstrations"] == 6 and {t.source for t in files(tmp_path / "policy")[0]} == {"policy"}
    assert max(len(batch) for batch in pool.batches) == 6
    other = config(teacher=ModelTeacherConfig(path=str(world.model)).model_dump(), demonstrations=2)
    synthesize(other, tmp_path / "model", Silent(), workers=pool)
    assert {t.source for t in files(tmp_path / "model")[0]} == {world.model.name}
    with pytest.raises(ConfigError, match="needs samplers"):
        synthesize(other, tmp_path / "none", Silent())
    with pytest.raises(ValueError, match="from scratch can teach nothing"):
        config(teacher=PolicyTeacherConfig().model_dump())


def test_problems_that_strategies_make_are_kept_and_held_against_what_is_kept_apart(tmp_path: Path) -> None:
    [own, new, secret] = some("arithmetic", 3)

    async def make(lesson: Lesson, studio: Studio) -> Sequence[Lesson]:
        taught = [await plain(replace(lesson, problem=problem), studio) for problem in (own, new, secret)]
        return [one for lessons in taught for one in lessons]

    told: list[Tally] = []
    chunks = Chunks(tmp_path)
    work = studio(annotations_teacher(), apart=[replace(secret, id="other", question=secret.question.upper())])
    report = lambda chunk, *, earlier: told.append(chunk)  # noqa: E731
    asyncio.run(teach([own], work, [make], chunks=chunks, report=report))
    assert [row["id"] for row in chunks.rest(0)["made"]] == [new.id]
    assert (told[0].taken, dict(told[0].refused)) == (2, {KEPT_APART: 1})
    [cost] = chunks.rest(0)["costs"]
    assert (cost["made"], cost["kept_apart"]) == (1, 1)


def test_a_real_sampler_teaches_the_same_again(world: World, tmp_path: Path) -> None:
    teacher = ModelTeacherConfig(path=str(world.model), max_turns=2, max_tokens=12)
    settings = config(teacher=teacher.model_dump(), demonstrations=4, strategies=["rejection(tries=2)"])
    for folder, concurrency in (("one", 16), ("two", 1)):
        block = settings.synthesize.model_copy(update={"concurrency": concurrency})
        with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
            synthesize(settings.model_copy(update={"synthesize": block}), tmp_path / folder, Silent(), workers=workers)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one == two and sum(map(len, one)) >= 4
    assert {turn.text for t in one[1] for turn in t.turns} and not any(t.token_ids for t in one[1])


def test_what_does_not_change_the_data_does_not_change_the_artifacts_name() -> None:
    def key(**block: Any) -> str:
        endpoint = {"type": "endpoint", "base_url": "http://x/v1", "model": "m", **block.pop("teacher", {})}
        return plan(config(teacher=endpoint, **block), "synthesize", []).recipe(config(), {}).key

    assert key() == key(budget={"tokens": 5}, concurrency=1, requests_per_minute=9, cache="x")
    assert key() == key(teacher={"tries": 1, "key_variable": "X", "timeout_s": 1, "price_per_million_input_tokens": 3})
    assert len({key(), key(teacher={"model": "n"}), key(strategies=["rejection"]), key(demonstrations=5)}) == 4


def test_made_problems_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def doubled(lesson: Lesson, studio: Studio) -> Sequence[Lesson]:
        other = replace(lesson.problem, id=f"new {lesson.problem.id}", question=f"Again: {lesson.problem.question}")
        return [lesson, *await plain(Lesson(problem=other), studio)]

    monkeypatch.setitem(STRATEGIES, "doubled", doubled)
    settings = config(strategies=["plain", "doubled"], demonstrations=4)
    summary = synthesize(settings, tmp_path, Silent())
    made = read_problems(tmp_path / "problems" / "made.parquet")
    assert summary["problems_made"] == len(made) == 4 and all(p.id.startswith("new ") for p in made)


def test_a_fault_in_a_strategy_is_raised_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def faulty(lesson: Lesson, studio: Studio) -> Sequence[Lesson]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(STRATEGIES, "faulty", faulty)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        synthesize(config(strategies=["faulty"]), tmp_path, Silent())
    assert build_strategy("plain") is plain
