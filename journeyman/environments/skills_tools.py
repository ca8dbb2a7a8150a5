"""Eighteen small tools, all local and deterministic, over an invented country: what the skills of #16 are tried on.

The paper tries 18 services of the web; these are ours.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from statistics import fmean, median
from typing import Literal

from journeyman.seeds import derive
from journeyman.tools.base import Tool, ToolError, function_tool
from journeyman.tools.calculator import calculate

TOWNS = ("Karden", "Vossel", "Mirow", "Tellin", "Ostra", "Brenn", "Luzen", "Halmar")
PEOPLE = ("Ida Brandt", "Tom Averin", "Mara Quist", "Jon Ferrow", "Lea Sand", "Nils Okar", "Vera Holm", "Pia Stein")
BOOKS = ("The Long Pier", "Salt and Snow", "A Quiet Bell", "Nine Rivers", "The Glass Orchard", "Low Tide")
ITEMS = ("lamp", "rope", "kettle", "basket", "mirror", "blanket", "candle", "hammer")
DISHES = ("dumplings", "pancakes", "flatbread", "noodles", "rye cake")
TRAINS = ("R12", "R27", "E40", "E55", "N03", "N81")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LANGUAGE = "Lorian"
"""An invented language."""
SCALES: Mapping[tuple[str, str], tuple[float, float]] = {
    ("celsius", "fahrenheit"): (1.8, 32.0),
    ("kilometres", "miles"): (0.621371, 0.0),
    ("grams", "ounces"): (0.035274, 0.0),
    ("kilograms", "pounds"): (2.204623, 0.0),
}
"""(from, to) -> factor and what is added."""
RATES: Mapping[str, float] = {"marks": 1.0, "crowns": 3.5, "talers": 0.4}
"""What one mark is worth."""


def _drawn(*parts: str) -> random.Random:
    """Whatever the country's records say follows from what they are asked."""
    return random.Random(derive("country", *parts))


def text(number: float) -> str:
    """A number with at most two decimals."""
    rounded = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if rounded == "-0" else rounded


def _known(value: str, among: Sequence[str], what: str) -> str:
    found = {one.casefold(): one for one in among}.get(value.strip().casefold())
    if found is None:
        raise ToolError(f"no {what} {value!r}; there are {', '.join(among)}")
    return found


def _day(value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ToolError("a date is written like 2031-05-17") from None


def calculator(expression: str) -> str:
    """Compute an arithmetic expression."""
    return calculate(expression)


def search(query: str) -> str:
    """Find out who is the mayor of a town: name the town."""
    towns = [town for town in TOWNS if town.casefold() in query.casefold()]
    return f"{_drawn('mayor', towns[0]).choice(PEOPLE)}" if towns else "nothing found"


def table(item: str, column: Literal["price", "weight"]) -> str:
    """Look an item up in the shop's table: its price in marks or its weight in kilograms."""
    item = _known(item, ITEMS, "item")
    return text(_drawn("table", item, column).randint(20, 900) / (1 if column == "price" else 100))


def weather(town: str, day: str) -> str:
    """Look up the temperature in a town on a day of the week, in degrees Celsius."""
    town, day = _known(town, TOWNS, "town"), _known(day, DAYS, "day")
    return text(_drawn("weather", town, day).randint(-120, 330) / 10)


def calendar(day: str, days: int) -> str:
    """Find the weekday that so many days after a date falls on, the date written like 2031-05-17."""
    if abs(days) > 100_000:
        raise ToolError("at most 100000 days")
    try:
        return DAYS[(_day(day) + timedelta(days=days)).weekday()]
    except OverflowError:
        raise ToolError("that is beyond the calendar") from None


def units(value: float, source: str, target: str) -> str:
    """Convert celsius to fahrenheit, kilometres to miles, grams to ounces, kilograms to pounds."""
    scale = SCALES.get((source.casefold(), target.casefold()))
    if scale is None:
        raise ToolError(f"it converts {', '.join(f'{a} to {b}' for a, b in SCALES)}")
    return text(value * scale[0] + scale[1])


def currency(amount: float, source: str, target: str) -> str:
    """Exchange marks, crowns and talers."""
    first, second = (_known(name, list(RATES), "currency") for name in (source, target))
    return text(amount / RATES[first] * RATES[second])


def translate(word: str) -> str:
    """Translate a word into Lorian."""
    word = word.strip().casefold()
    if not word.isalpha() or len(word) > 30:
        raise ToolError("it translates single words")
    rng = _drawn("translate", word)
    return "".join(rng.choice("bdfgklmnrstv") + rng.choice("aeiou") for _ in range(rng.randint(2, 5)))


def distance(start: str, end: str) -> str:
    """Measure the distance between two towns in kilometres."""
    pair = sorted(_known(town, TOWNS, "town") for town in (start, end))
    return text(_drawn("distance", *pair).randint(20, 400) if pair[0] != pair[1] else 0)


def clock(town: str) -> str:
    """Tell the hour in a town when it is noon here."""
    return text(_drawn("clock", _known(town, TOWNS, "town")).randint(4, 20))


def population(town: str) -> str:
    """Count the inhabitants of a town."""
    return text(_drawn("population", _known(town, TOWNS, "town")).randint(1_000, 99_000))


def contacts(person: str) -> str:
    """Find the town that a person lives in."""
    return _drawn("contacts", _known(person, PEOPLE, "person")).choice(TOWNS)


def trains(train: str) -> str:
    """Find the town that a train goes to."""
    return _drawn("trains", _known(train, TRAINS, "train")).choice(TOWNS)


def books(title: str) -> str:
    """Find the author of a book."""
    return _drawn("books", _known(title, BOOKS, "book")).choice(PEOPLE)


def recipes(dish: str) -> str:
    """Find the flour that a dish needs for one person, in grams."""
    return text(_drawn("recipes", _known(dish, DISHES, "dish")).randint(60, 240))


def statistics(numbers: list[float], measure: Literal["mean", "median", "sum"]) -> str:
    """Take the mean, the median or the sum of numbers."""
    if not 1 <= len(numbers) <= 100:
        raise ToolError("give 1 to 100 numbers")
    return text({"mean": fmean, "median": median, "sum": sum}[measure](numbers))


def letters(word: str) -> str:
    """Count the letters of a word."""
    return text(sum(character.isalpha() for character in word))


def sort(numbers: list[float], place: int) -> str:
    """Sort numbers, the highest first, and give the one at a place, counted from 1."""
    if not 1 <= place <= len(numbers) <= 100:
        raise ToolError("the place is one of the list")
    return text(sorted(numbers, reverse=True)[place - 1])


FUNCTIONS: Mapping[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        *(calculator, search, table, weather, calendar, units, currency, translate, distance),
        *(clock, population, contacts, trains, books, recipes, statistics, letters, sort),
    )
}
"""The eighteen."""


def make_tools() -> dict[str, Tool]:
    return {name: function_tool(function) for name, function in FUNCTIONS.items()}
