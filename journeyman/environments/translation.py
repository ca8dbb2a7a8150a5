"""Translation with a dictionary at hand (#14): out of a language that nobody has seen, or of parallel rows.

The score is sentence BLEU, smoothed; an answer is correct where it has the reference's words. There is no reward for a
look-up: looking up pays by the better translation.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from journeyman.environments.base import Course, Environment, Step, walked
from journeyman.environments.bleu import sentence_bleu, words
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.invented_language import Language, Sentence, sentence
from journeyman.environments.rows import BadRow, Reading, read_each
from journeyman.messages import Message, ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.dictionary import MAX_WORDS, Dictionary, normal

WORLD_SEED = 17
"""The language is the same in every run; only the sentences follow the run's seed."""


class Translation(Environment):
    """Translation into English out of an invented language, and of rows between any two languages.

    Args:
        seed: of the invented language.
        show_grammar: whether its grammar stands before the question; else it is there to be found out.
        glossary: dictionary for rows, TSV or JSON; by default that of the invented language.
        source, target: the columns of rows, and the languages' names in the question.
    """

    name = "translation"
    columns: Sequence[str] = ()

    def __init__(
        self,
        *,
        seed: int = WORLD_SEED,
        show_grammar: bool = False,
        glossary: Path | str | None = None,
        source: str = "source",
        target: str = "target",
    ) -> None:
        self.language, self.show_grammar = Language(seed), show_grammar
        self._source, self._target = source, target
        dictionary = Dictionary(self.language.glossary) if glossary is None else Dictionary(path=glossary)
        self._tools: dict[str, Tool] = {"dictionary": dictionary}
        self._known = {normal(entry) for entry in dictionary.entries}
        self.phrases = (f"Translate from {self.language.name} into English: ",)

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return TranslationEpisode(self, problem, context)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            yield self._problem(sentence(rng))

    def _problem(self, made: Sentence) -> Problem:
        text, stems = self.language.write(made), self.language.stems(made)
        question = f"{self.phrases[0]}{text}"
        wrong = {
            "word for word": self.language.literal(made),
            "ignores the endings": made.plain().english(),
            "subject and object swapped": _swapped(made).english(),
        }
        right = made.english()
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=right,
            min_calls=-(-len(stems) // MAX_WORDS),
            data={
                "key": text,
                "stems": stems,
                "mistakes": {name: answer for name, answer in wrong.items() if answer != right},
            },
        )

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row with a text in both languages, its own columns or within `translation`."""
        return read_each(rows, self._read)

    def _read(self, row: Mapping[str, Any]) -> Problem:
        pair = row.get("translation") if isinstance(row.get("translation"), Mapping) else row
        assert isinstance(pair, Mapping)
        source, target = (pair.get(name) for name in (self._source, self._target))
        if not isinstance(source, str) or not isinstance(target, str):
            raise BadRow(f"no text in {self._source} and {self._target}")
        if not words(source) or not words(target):
            raise BadRow("a text without words")
        return self._row(source.strip(), target.strip())

    def _row(self, source: str, target: str) -> Problem:
        question = f"Translate from {self._source} into {self._target}: {source}"
        stems = [word for word in dict.fromkeys(words(source)) if normal(word) in self._known]
        return Problem(
            id=problem_id(self.name, question, {"answer": target}),
            family=self.name,
            question=question,
            answer=target,
            tools=("dictionary",),
            min_calls=-(-len(stems) // MAX_WORDS),
            data={"stems": stems, "mistakes": {}},
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        """Look-ups of all words that the dictionary has, four at once, then the reference."""
        stems = problem.data["stems"]
        steps = tuple(
            Step(
                thought="I look up the words.",
                call=ToolCall(name="dictionary", arguments={"words": stems[i : i + MAX_WORDS]}),
            )
            for i in range(0, len(stems), MAX_WORDS)
        )
        gold = Course(steps=steps, answer=problem.answer)
        wrong = [Course(steps=steps, answer=text, mistake=name) for name, text in problem.data["mistakes"].items()]
        return gold, *wrong

    def verify(self, problem: Problem, answer: str) -> bool:
        """Whether the words are those of the reference; case and punctuation don't count."""
        return bool(words(answer)) and words(answer) == words(problem.answer)

    def validate(self) -> None:
        """Raise `ValueError` where the dictionary lacks a word, or a verdict is off."""
        asyncio.run(self._validate(islice(self.generate(random.Random(0)), 60)))

    async def _validate(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            gold, *mistaken = self.courses(problem)
            walk = await walked(self, problem, gold)
            if walk.calls != problem.min_calls or walk.verdict.score != 1 or not walk.verdict.correct:
                raise ValueError(f"{problem.id}: the gold course is off: {problem.question}")
            looked_up = "\n".join(walk.outputs)
            if missing := [stem for stem in problem.data["stems"] if f"  {stem} = " not in looked_up]:
                raise ValueError(f"{problem.id}: not in the dictionary: {', '.join(missing)}")
            for course in mistaken:
                verdict = (await walked(self, problem, course)).verdict
                if verdict.correct or verdict.score is None or not 0 <= verdict.score < 1:
                    raise ValueError(f"{problem.id}: {course.mistake}: {course.answer!r} has {verdict.score}")


class TranslationEpisode(Episode):
    """An attempt whose score is BLEU."""

    environment: Translation

    def opening(self) -> tuple[Message, ...]:
        if not self.environment.show_grammar:
            return super().opening()
        return Message(role="system", content=self.environment.language.grammar()), *super().opening()

    async def verify(self, answer: str | None) -> Verdict:
        correct = answer is not None and self.environment.verify(self.problem, answer)
        bleu = sentence_bleu(answer or "", self.problem.answer)
        return Verdict(correct=correct, score=1.0 if correct else min(bleu, 1.0), parts={"bleu": bleu})


def _swapped(made: Sentence) -> Sentence:
    """Who does what to whom, the other way round."""
    return replace(made, subject=made.object, object=made.subject)
