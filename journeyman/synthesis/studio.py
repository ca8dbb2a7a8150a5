"""The studio of a stage, as pipelines.yaml describes it: its teacher, its writer, and what they share."""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from journeyman.config import (
    AnnotationsTeacherConfig,
    EndpointTeacherConfig,
    ModelTeacherConfig,
    PipelineConfig,
    PolicyTeacherConfig,
    PretrainedModel,
    ScriptedTeacherConfig,
)
from journeyman.errors import ConfigError
from journeyman.llm import Cached, Chat, Endpoint
from journeyman.provenance import content_digest
from journeyman.rollout.job import SamplerPool
from journeyman.synthesis.base import Studio, Teacher
from journeyman.synthesis.scripted import ScriptedTeacher, annotations_teacher
from journeyman.synthesis.sources import Sources
from journeyman.synthesis.spending import Booked, Meter, Pace, Paid, price_of
from journeyman.synthesis.teachers import Batches, ChatTeacher, Manner, PoolChat, PoolTeacher


class Samplers(Protocol):
    """Who has samplers, such as the `Workers` of a stage."""

    def samplers(self, model: Path) -> SamplerPool:
        """Start them with the model of a folder."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplies:
    """What a studio is made with."""

    meter: Meter
    work: Path
    """For models that are fetched."""
    cache: Path | None = None
    """Where answers are kept by content; None: none is kept."""
    workers: Samplers | None = None
    """Who has samplers; needed for a teacher of type model or policy."""


@asynccontextmanager
async def studio_of(config: PipelineConfig, sources: Sources, supplies: Supplies) -> AsyncIterator[Studio]:
    """The studio that a config describes; with the block its models end."""
    block = config.synthesize
    async with AsyncExitStack() as ending:
        maker = _Maker(config, sources, supplies, ending)
        teacher, chat = maker.teacher()
        if block.writer is not None:
            chat = maker.chat(block.writer)
        yield Studio(
            teacher=teacher,
            chat=chat,
            seed=config.seed,
            problems=sources.taught,
            apart=[*sources.splits["dev"], *sources.splits["heldout"]],
            parallel=block.concurrency,
        )


class _Maker:
    def __init__(self, config: PipelineConfig, sources: Sources, supplies: Supplies, ending: AsyncExitStack) -> None:
        self._config, self._sources, self._supplies, self._ending = config, sources, supplies, ending
        block = config.synthesize
        self._turns = Semaphore(block.concurrency)
        self._pace = Pace(block.requests_per_minute) if block.requests_per_minute else None

    def teacher(self) -> tuple[Teacher, Chat | None]:
        """The teacher, and how it writes where it can."""
        block = self._config.synthesize.teacher
        match block:
            case ScriptedTeacherConfig():
                leaked = self._sources.splits["heldout"]
                return ScriptedTeacher(block, seed=self._config.seed, leaked=leaked), None
            case AnnotationsTeacherConfig():
                return annotations_teacher(self._config.seed), None
            case EndpointTeacherConfig():
                chat = self.chat(block)
                return ChatTeacher(chat, name=block.model, manner=_manner(block)), chat
            case ModelTeacherConfig() | PolicyTeacherConfig():
                return self._pooled(block)

    def _pooled(self, block: ModelTeacherConfig | PolicyTeacherConfig) -> tuple[Teacher, Chat]:
        workers = self._supplies.workers
        if workers is None:
            raise ConfigError(
                f"a teacher of type {block.type} needs samplers",
                place="synthesize.teacher",
                remedy="run it as a stage of a pipeline, or hand in `workers`",
            )
        own = self._config.model
        if block.path or not isinstance(own, PretrainedModel):
            own = PretrainedModel(path=block.path)
        batches = Batches(workers.samplers(self._folder(own)), self._supplies.meter)
        self._ending.callback(batches.close)
        name = Path(own.path).name if block.type == "model" else "policy"
        return PoolTeacher(batches, name=name, manner=_manner(block)), PoolChat(batches)

    def chat(self, block: EndpointTeacherConfig | ModelTeacherConfig) -> Chat:
        """A model that is asked in texts: within the budget and the rate, and never the same twice."""
        if isinstance(block, EndpointTeacherConfig):
            asked: Chat = Endpoint(
                base_url=block.base_url,
                model=block.model,
                key_variable=block.key_variable,
                tries=block.tries,
                timeout_s=block.timeout_s,
                pace=self._pace,
            )
            name, price = f"{block.base_url} {block.model}", price_of(block)
        else:
            asked, name, price = *self._sampled(block), lambda reply: 0.0
        paid = Paid(chat=asked, meter=self._supplies.meter, turns=self._turns, price=price)
        cache = self._supplies.cache
        kept = Cached(chat=paid, folder=cache, name=name) if cache else paid
        return Booked(chat=kept, price=price, max_tokens=block.max_tokens)

    def _sampled(self, block: ModelTeacherConfig) -> tuple[Chat, str]:
        """A model of its own in this process, for the samplers of the stage have the teacher's; and its digest."""
        from journeyman.rollout.chat import ChatFormat
        from journeyman.rollout.sampler_judge import SamplerChat
        from journeyman.rollout.worker import build_sampler

        folder = self._folder(PretrainedModel(path=block.path))
        sampler = build_sampler(folder, self._config.compute, block.max_length)
        self._ending.push_async_callback(sampler.close)
        return SamplerChat(sampler, ChatFormat.of_folder(folder), max_length=block.max_length), content_digest(folder)

    def _folder(self, model: PretrainedModel) -> Path:
        """A model's folder; one of the Hub, or one that is told how it writes calls, is copied."""
        if Path(model.path).is_dir() and model.calls == "auto":
            return Path(model.path)
        from journeyman.rollout.pretrained import copy_pretrained

        folder = self._supplies.work / "models" / model.path.replace("/", "--")
        if not folder.exists():
            part = folder.with_suffix(".part")
            copy_pretrained(model, part)
            part.rename(folder)
        return folder


def _manner(block: EndpointTeacherConfig | ModelTeacherConfig | PolicyTeacherConfig) -> Manner:
    return Manner(temperature=block.temperature, max_turns=block.max_turns, max_tokens=block.max_tokens)
