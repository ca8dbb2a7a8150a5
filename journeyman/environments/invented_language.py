"""A language that nobody has seen: words and grammar by seed, and sentences with their English (#14's setting, ours)."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

NOUNS = (
    *("dog", "cat", "bird", "horse", "goat", "farmer", "teacher", "queen", "sailor", "baker", "girl", "boy", "friend"),
    *("house", "river", "boat", "road", "garden", "tree", "stone", "bridge", "lamp", "book", "letter", "basket", "cup"),
    *("field", "market", "tower", "window", "blanket", "drum", "knife", "rope", "cloud", "island", "well", "gate"),
)
PEOPLE = NOUNS[:13]
IRREGULAR_PLURALS = {"knife": "knives"}
VERBS = {
    **{base: (f"{base}s", f"{base}ed") for base in ("follow", "help", "visit", "paint", "clean", "open", "call")},
    **{"carry": ("carries", "carried"), "watch": ("watches", "watched"), "love": ("loves", "loved")},
    **{"see": ("sees", "saw"), "find": ("finds", "found"), "take": ("takes", "took"), "hold": ("holds", "held")},
    **{"break": ("breaks", "broke"), "draw": ("draws", "drew"), "forget": ("forgets", "forgot")},
    **{"build": ("builds", "built"), "sell": ("sells", "sold"), "steal": ("steals", "stole")},
}
"""Base form to third person and past."""
ADJECTIVES = (
    *(
        "big",
        "small",
        "old",
        "new",
        "red",
        "green",
        "white",
        "black",
        "quiet",
        "loud",
        "warm",
        "cold",
        "heavy",
        "light",
    ),
    *("clean", "broken", "tall", "short", "strange", "beautiful"),
)
NUMBERS = ("two", "three", "four", "five", "six", "seven")
PLACES = ("near", "behind", "above", "under")
Tense = Literal["present", "past", "future"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """`the two old boats`."""

    noun: str
    adjective: str = ""
    number: str = ""
    plural: bool = False

    def english(self) -> str:
        noun = IRREGULAR_PLURALS.get(self.noun, f"{self.noun}s") if self.plural else self.noun
        return " ".join(part for part in ("the", self.number, self.adjective, noun) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """`the farmer did not see the boats near the bridge`."""

    subject: Phrase
    verb: str
    object: Phrase
    tense: Tense = "present"
    negated: bool = False
    place: str = ""
    where: Phrase | None = None
    """The noun behind `place`."""

    def english(self) -> str:
        parts = [self.subject.english(), self._verb(), self.object.english()]
        if self.where is not None:
            parts += [self.place, self.where.english()]
        return " ".join(parts)

    def _verb(self) -> str:
        third, past = VERBS[self.verb]
        if self.tense == "future":
            return f"will {'not ' if self.negated else ''}{self.verb}"
        if self.negated:
            return f"{'did' if self.tense == 'past' else 'do' if self.subject.plural else 'does'} not {self.verb}"
        return past if self.tense == "past" else self.verb if self.subject.plural else third

    def plain(self) -> "Sentence":
        """Without what the endings say: all singular, in the present."""
        bare = [None if one is None else replace(one, plural=False) for one in (self.subject, self.object, self.where)]
        subject, object_, where = bare
        assert subject is not None and object_ is not None
        return replace(self, subject=subject, object=object_, where=where, tense="present")


def sentence(rng: random.Random) -> Sentence:
    """Any sentence."""
    where = _phrase(rng, NOUNS) if rng.random() < 0.35 else None
    return Sentence(
        subject=_phrase(rng, PEOPLE),
        verb=rng.choice(list(VERBS)),
        object=_phrase(rng, NOUNS),
        tense=rng.choice(("present", "past", "future")),
        negated=rng.random() < 0.25,
        place=rng.choice(PLACES) if where else "",
        where=where,
    )


def _phrase(rng: random.Random, nouns: tuple[str, ...]) -> Phrase:
    plural = rng.random() < 0.4
    return Phrase(
        noun=rng.choice(nouns),
        adjective=rng.choice(ADJECTIVES) if rng.random() < 0.4 else "",
        number=rng.choice(NUMBERS) if plural and rng.random() < 0.4 else "",
        plural=plural,
    )


class Language:
    """Words and grammar; the same seed gives the same language."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._onsets, self._vowels = rng.sample("bdfghjklmnprstvz", 11), rng.sample("aeiou", 4)
        taken: set[str] = set()
        self.name = self._word(rng, taken, 2).capitalize()
        english = {"noun": NOUNS, "verb": VERBS, "adjective": ADJECTIVES, "other": (*NUMBERS, *PLACES, "not")}
        self._kinds = {
            kind: {word: self._word(rng, taken, rng.choice((2, 2, 3))) for word in words}
            for kind, words in english.items()
        }
        self.plural, self.object, self.past, self.future = rng.sample(
            [f"{vowel}{onset}" for vowel in self._vowels for onset in self._onsets], 4
        )
        self.order = rng.choice(("VSO", "SOV", "VOS", "OSV", "OVS"))

    def _word(self, rng: random.Random, taken: set[str], syllables: int) -> str:
        while True:
            made = "".join(rng.choice(self._onsets) + rng.choice(self._vowels) for _ in range(syllables))
            made += rng.choice(("", "", "n", "l", "s"))
            if made not in taken:
                taken.add(made)
                return made

    @cached_property
    def glossary(self) -> Mapping[str, str]:
        """Invented word to English, and the endings."""
        words = {
            word: english if kind == "other" else f"{english} ({kind})"
            for kind, made in self._kinds.items()
            for english, word in made.items()
        }
        endings = {self.plural: "plural", self.object: "object of the verb", self.past: "past", self.future: "future"}
        return dict(sorted(words.items())) | {f"-{ending}": f"({meaning})" for ending, meaning in endings.items()}

    def stems(self, made: Sentence) -> list[str]:
        """The words of a sentence as the dictionary has them, each once, in the order of the sentence."""
        return list(dict.fromkeys(self._write(made.plain(), endings=False)))

    def write(self, made: Sentence) -> str:
        return " ".join(self._write(made, endings=True))

    def grammar(self) -> str:
        """What a learner would be told."""
        names = {"S": "subject", "V": "verb", "O": "object"}
        return (
            f"In {self.name} the order is {', '.join(names[letter] for letter in self.order)}. There is no article. "
            f"An adjective stands behind its noun, a number before it. -{self.plural} makes a noun plural, "
            f"-{self.object} behind that marks the object. -{self.past} on the verb is the past, -{self.future} the "
            f"future. The word for `not` stands before the verb. A place comes last, its preposition behind the noun."
        )

    def _write(self, made: Sentence, *, endings: bool) -> list[str]:
        tense = {"present": "", "past": self.past, "future": self.future}[made.tense]
        verb = self._kinds["verb"][made.verb] + (tense if endings else "")
        parts = {
            "S": self._noun(made.subject, endings),
            "V": [*([self._kinds["other"]["not"]] if made.negated else []), verb],
            "O": self._noun(made.object, endings, self.object),
        }
        where = [] if made.where is None else [*self._noun(made.where, endings), self._kinds["other"][made.place]]
        return [word for letter in self.order for word in parts[letter]] + where

    def _noun(self, phrase: Phrase, endings: bool, case: str = "") -> list[str]:
        ending = (self.plural if phrase.plural else "") + case if endings else ""
        number = [self._kinds["other"][phrase.number]] if phrase.number else []
        adjective = [self._kinds["adjective"][phrase.adjective]] if phrase.adjective else []
        return [*number, self._kinds["noun"][phrase.noun] + ending, *adjective]

    def literal(self, made: Sentence) -> str:
        """The English of each word in the order of this language."""
        english = {word: meaning.split(" (")[0] for word, meaning in self.glossary.items()}
        return " ".join(english[word] for word in self._write(made.plain(), endings=False))
