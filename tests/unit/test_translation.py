"""Translation with a dictionary: BLEU by hand, an invented language that follows its seed, parallel rows."""

import asyncio
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.base import walked
from journeyman.environments.bleu import sentence_bleu, words
from journeyman.environments.invented_language import Language, Phrase, Sentence, sentence
from journeyman.environments.translation import Translation
from journeyman.problem import Problem
from journeyman.tools.base import CallContext

WORLD = Translation()


def some(world: Translation, count: int, seed: int = 0) -> list[Problem]:
    return list(islice(world.generate(random.Random(seed)), count))


def test_bleu_by_hand() -> None:
    assert sentence_bleu("a b c d", "a b c d") == sentence_bleu("A b, c d!", "a b c d") == 1.0
    # p1 = 3/4; with 1 added to both counts p2 = (2+1)/(3+1) = 3/4, p3 = (1+1)/(2+1) = 2/3, p4 = (0+1)/(1+1) = 1/2:
    # (0.75 * 0.75 * 0.6667 * 0.5)^(1/4) = 0.1875^(1/4) = 0.658.
    assert sentence_bleu("a b c d", "a b c e") == pytest.approx(0.658, abs=5e-4)
    # "a b" of "a b c d": all that is there is right, (1 * 2/2 * 1/1 * 1/1) = 1, but it is short: exp(1 - 4/2) = 0.368.
    assert sentence_bleu("a b", "a b c d") == pytest.approx(0.3679, abs=5e-5)
    # A word counts as often as the reference has it: p1 = 1/4, p2 = 1/4, p3 = 1/3, p4 = 1/2: (1/96)^(1/4) = 0.319.
    assert sentence_bleu("a a a a", "a b c d") == pytest.approx((1 / 96) ** 0.25)
    assert sentence_bleu("x y", "a b") == sentence_bleu("", "a") == sentence_bleu("a", "") == 0.0


@settings(max_examples=100)
@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), min_size=1, max_size=8))
def test_bleu_is_between_zero_and_one_and_one_only_for_the_same_words(made: list[str], gold: list[str]) -> None:
    score = sentence_bleu(" ".join(made), " ".join(gold))
    assert 0 <= score <= 1 + 1e-12
    assert (score > 1 - 1e-9) == (made == gold)


def test_words_keep_what_stands_inside_them() -> None:
    assert words("Don't, well-known… 12 «Éa»!") == ["don't", "well-known", "12", "éa"]


SENTENCE = Sentence(
    subject=Phrase(noun="farmer", adjective="old"),
    verb="see",
    object=Phrase(noun="knife", number="two", plural=True),
    tense="past",
    negated=True,
    place="near",
    where=Phrase(noun="river"),
)


def test_english_by_hand() -> None:
    assert SENTENCE.english() == "the old farmer did not see the two knives near the river"
    assert replace(SENTENCE, negated=False, where=None).english() == "the old farmer saw the two knives"
    assert replace(SENTENCE, tense="future", where=None).english() == "the old farmer will not see the two knives"
    assert (
        replace(SENTENCE, tense="present", negated=False, where=None).english() == "the old farmer sees the two knives"
    )
    assert SENTENCE.plain().english() == "the old farmer does not see the two knife near the river"


def test_the_invented_words_are_put_together_as_the_grammar_says() -> None:
    language = Language(17)
    of = {meaning.split(" (")[0]: word for word, meaning in language.glossary.items()}
    written = language.write(SENTENCE).split()
    negated = [of["not"], of["see"] + language.past]
    subject, object_ = [of["farmer"], of["old"]], [of["two"], of["knife"] + language.plural + language.object]
    parts = {"S": subject, "V": negated, "O": object_}
    assert written == [word for letter in language.order for word in parts[letter]] + [of["river"], of["near"]]
    assert set(language.stems(SENTENCE)) == {
        of[w] for w in ("not", "see", "farmer", "old", "two", "knife", "river", "near")
    }
    assert f"-{language.plural} makes a noun plural" in language.grammar()


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_every_language_has_a_word_of_its_own_for_everything(seed: int) -> None:
    language = Language(seed)
    assert language.glossary == Language(seed).glossary
    assert len(set(language.glossary.values())) == len(language.glossary) > 90
    assert len({language.plural, language.object, language.past, language.future}) == 4
    rng, meanings = random.Random(seed), dict[str, str]()
    for _ in range(200):
        made = sentence(rng)
        assert meanings.setdefault(language.write(made), made.english()) == made.english()


def test_another_seed_is_another_language() -> None:
    one, other = Language(1), Language(2)
    assert len(set(one.glossary) & set(other.glossary)) < 10


def test_the_world_is_valid_and_follows_its_seed() -> None:
    WORLD.validate()
    assert some(WORLD, 50, 3) == some(Translation(), 50, 3) != some(WORLD, 50, 4)
    mistakes = [name for problem in some(WORLD, 100) for name in problem.data["mistakes"]]
    assert set(mistakes) == {"word for word", "ignores the endings", "subject and object swapped"}


def test_inflected_words_are_found_in_the_dictionary() -> None:
    dictionary = WORLD.tools()["dictionary"]
    for problem in some(WORLD, 30):
        inflected = problem.data["key"].split()
        for i in range(0, len(inflected), 4):
            output = asyncio.run(dictionary.call({"words": inflected[i : i + 4]})).output
            for word in inflected[i : i + 4]:
                stem = max((s for s in problem.data["stems"] if word.startswith(s)), key=len)
                assert f"  {stem} = " in output


def test_the_score_is_bleu_and_correct_means_the_same_words() -> None:
    problem = replace(some(WORLD, 1)[0], answer="a b c e")

    async def verdicts() -> list[tuple]:
        episode = WORLD.reset(problem, CallContext())
        found = [await episode.verify(answer) for answer in ("A b c e.", "a b c d", "", None)]
        return [(verdict.correct, verdict.score) for verdict in found]

    right, near, *none = asyncio.run(verdicts())
    assert right == (True, 1.0) and near == (False, pytest.approx(0.658, abs=5e-4)) and none == [(False, 0.0)] * 2


def test_the_grammar_can_stand_before_the_question() -> None:
    world = Translation(show_grammar=True)
    problem = some(world, 1)[0]
    system, user = world.reset(problem, CallContext()).opening()
    assert system.role == "system" and system.content == world.language.grammar() and user.content == problem.question
    assert len(WORLD.reset(problem, CallContext()).opening()) == 1


def test_parallel_rows_become_problems_with_a_glossary_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("casa\thouse\nroja\tred\n", encoding="utf-8")
    world = Translation(glossary=tmp_path / "words.tsv", source="es", target="en")
    reading = world.read(
        [
            {"es": "La casa es roja.", "en": "The house is red."},
            {"translation": {"es": "Hola", "en": "Hello"}},
            {"es": "solo"},
            {"es": "...", "en": "!"},
        ]
    )
    house, hello = reading.problems
    assert house.question == "Translate from es into en: La casa es roja." and house.data["stems"] == ["casa", "roja"]
    assert (house.min_calls, hello.min_calls) == (1, 0)
    assert [(row.row, row.reason) for row in reading.apart] == [
        (2, "no text in es and en"),
        (3, "a text without words"),
    ]
    walk = asyncio.run(walked(world, house, world.courses(house)[0]))
    assert walk.outputs == ["casa:\n  casa = house\nroja:\n  roja = red"] and walk.verdict.correct
    assert world.verify(house, "the house is RED") and not world.verify(house, "the red house")
