"""Numbers with units: thousands separators, fractions, powers of ten, per cent, currencies, units of measure by pint."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pint

MAX_EXPONENT = 300
_CURRENCIES = {
    "$": "dollar", "us$": "dollar", "usd": "dollar", "dollars": "dollar", "dollar": "dollar",
    "€": "euro", "eur": "euro", "euros": "euro", "euro": "euro",
    "£": "pound sterling", "gbp": "pound sterling",
    "¥": "yen", "jpy": "yen", "yen": "yen", "₹": "rupee", "inr": "rupee", "rupees": "rupee", "rupee": "rupee",
}  # fmt: skip
_PER_CENT = frozenset(("%", "percent", "per cent", "percentage"))
_SINGLE_LETTER_UNITS = frozenset("mgshlLJNWVAKCFTt")
"""Other letters behind a number are variables: 5x is no quantity."""
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,60})(?:\.[0-9]{0,60})?|\.[0-9]{1,60}"
_POWER = r"(?:[eE][+-]?[0-9]{1,4}|\s?[x×*·]\s?10\s?\^\s?\{?\(?[+-]?[0-9]{1,4}\)?\}?)"
NUMBER = rf"(?:{_DIGITS}){_POWER}?"
_QUANTITY = re.compile(
    rf"(?:about |approximately |approx\. |≈|~)?\s?(?P<sign>[+−-]?)\s?(?P<currency>US\$|[$€£¥₹]?)\s?(?P<sign2>-?)"
    rf"(?:(?P<whole>[0-9]{{1,20}}) )?(?P<top>{NUMBER})(?:\s?/\s?(?P<bottom>[0-9]{{1,60}}))?"
    r"(?P<gap>\s?)(?P<unit>(?:[^\W\d_]|[%°µΩ²³'’/^.·* -]|(?<=[\^a-zA-Z])-?[0-9])*)",
)
_PLAIN = (
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname|mbox|textit)\s*\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\d?t?frac\{\s*([0-9]{1,60})\s*\}\{\s*([0-9]{1,60})\s*\}"), r" \1/\2"),
    (re.compile(r"\\d?t?frac\s*([0-9])\s*([0-9])"), r" \1/\2"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree"), "°"),
    (re.compile(r"\\times|\\cdot"), "×"),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\\[,;:! ]|~|\\quad"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^\{([+-]?[0-9]{1,4})\}"), r"^\1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number, maybe with a unit."""

    value: Fraction
    exact: bool
    """A whole number or a decimal; false for a fraction that no decimal gives exactly."""
    unit: str = ""
    """Empty: none is said. `%` for per cent, a name of `_CURRENCIES`, else as written."""


def quantity(text: str) -> Quantity | None:
    """Read a text that is a number with or without a unit and nothing else; None for any other."""
    plain = without_latex(text)
    if len(plain) > 200:
        return None
    match = _QUANTITY.fullmatch(plain)
    if match is None:
        return None
    unit = _unit(match["currency"], match["unit"].strip(" ."))
    value = _value(match)
    if unit is None or value is None:
        return None
    negative = (match["sign"] in ("-", "−")) != (match["sign2"] == "-")
    return Quantity(value=-value if negative else value, exact=_terminates(value), unit=unit)


def same_value(one: Quantity, other: Quantity) -> bool:
    """Equal numbers; per cent counts as a number of hundredths or as the bare number beside it."""
    if (one.unit == "%") == (other.unit == "%"):
        return _close(one.value, other.value, one.exact and other.exact)
    per_cent, bare = (one, other) if one.unit == "%" else (other, one)
    both = one.exact and other.exact
    return _close(per_cent.value, bare.value, both) or _close(per_cent.value / 100, bare.value, both)


def same_quantity(one: Quantity, other: Quantity) -> tuple[bool, str]:
    """(whether they are the same, why not). A unit that only one side says is taken for the other's too."""
    if not one.unit or not other.unit or one.unit == other.unit:
        return same_value(one, other), "another number"
    if "%" in (one.unit, other.unit) or {one.unit, other.unit} & set(_CURRENCIES.values()):
        return False, f"another unit: {one.unit}, not {other.unit}"
    if same_words(one.unit, other.unit):
        return same_value(one, other), "another number"
    converted = _converted(one, other.unit)
    if converted is None:
        return False, f"another unit: {one.unit}, not {other.unit}"
    expected = float(other.value)
    return abs(converted - expected) <= 1e-9 * max(abs(converted), abs(expected)), "another quantity"


def same_words(one: str, other: str) -> bool:
    """Equal names of units: the plural, and what a longer one adds behind (`apples left`), don't count."""
    short, long = sorted((_stems(one), _stems(other)), key=len)
    return bool(short) and long[: len(short)] == short and (len(short) == len(long) or len(short[0]) > 2)


def _stems(unit: str) -> list[str]:
    words = unit.split()
    if len(words) == 1 and len(unit) <= 3:
        return [unit]  # of a symbol the case counts: mW, MW
    return [word.casefold().removesuffix("s") if len(word) > 3 else word.casefold() for word in words]


def without_latex(text: str) -> str:
    """Take off what only sets a number or words: dollars around, `\\text{}`, spaces, plain fractions."""
    text = text.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            text = text[len(opening) : -len(closing)].strip()
            break
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _value(match: re.Match[str]) -> Fraction | None:
    top = _number(match["top"])
    if top is None:
        return None
    if match["bottom"]:
        if not int(match["bottom"]):
            return None
        top /= int(match["bottom"])
    elif match["whole"]:
        return None  # two numbers side by side are no mixed number
    return top + int(match["whole"] or 0)


def _number(text: str) -> Fraction | None:
    base, exponent = text.replace(",", ""), 0
    if found := re.search(_POWER, base):
        exponent = int(re.sub(r"^\s?(?:[eE]|[x×*·]\s?10\s?\^)|[\s{}()]", "", found.group()))
        base = base[: found.start()]
    if abs(exponent) > MAX_EXPONENT:
        return None
    return Fraction(base.rstrip(".") if not base.startswith(".") else f"0{base}") * Fraction(10) ** exponent


def _unit(currency: str, unit: str) -> str | None:
    """None: what stands behind the number is no unit."""
    word = unit.casefold()
    if currency:
        name = _CURRENCIES[currency.casefold()]
        return name if not word or _CURRENCIES.get(word, name) == name else None
    if word in _PER_CENT:
        return "%"
    if word in _CURRENCIES:
        return _CURRENCIES[word]
    if len(unit) == 1 and unit.isascii() and unit not in _SINGLE_LETTER_UNITS:
        return None
    return None if unit and not re.match(r"[^\W\d_]|°", unit) else unit


def _terminates(value: Fraction) -> bool:
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return bottom == 1


def _close(one: Fraction, other: Fraction, exact: bool) -> bool:
    """Whole numbers exactly, decimals but for the noise of floats, fractions against decimals to six digits."""
    if one == other:
        return True
    if one.denominator == other.denominator == 1:
        return False
    return abs(one - other) <= Fraction(1, 10**9 if exact else 10**6) * max(abs(one), abs(other))


def _converted(quantity: Quantity, unit: str) -> float | None:
    """The number in another unit of measure; None where pint doesn't know both or they measure different things."""
    import pint

    if max(len(quantity.unit), len(unit)) > 40 or re.search(r"[0-9]{2}", quantity.unit + unit):
        return None
    registry = _registry()
    try:
        wanted, given = (_parsed(registry, name) for name in (unit, quantity.unit))
        return float(registry.Quantity(float(quantity.value), given).to(wanted).magnitude)
    except (pint.PintError, ValueError, TypeError, AttributeError, ArithmeticError):
        return None


def _parsed(registry: "pint.UnitRegistry", name: str) -> "pint.Unit":
    text = name.replace("²", "^2").replace("³", "^3").replace("°C", "degC").replace("°F", "degF").replace("°", "degree")
    return registry.parse_units(text if len(text) <= 3 else text.replace("square ", "square_").lower())


@cache
def _registry() -> "pint.UnitRegistry":
    import pint

    return pint.UnitRegistry()
