"""Arithmetic without `eval`: numbers, + - * / and parentheses, within bounds."""

import ast
import re
from decimal import Decimal, localcontext

from journeyman.tools.base import FunctionTool, ToolError

MAX_CHARACTERS = 200
_ALPHABET = re.compile(r"[0-9.eE+\-*/() \t]*")
_ONLY = "only numbers, + - * / and parentheses"


class Calculator(FunctionTool):
    """Computes an arithmetic expression in decimal arithmetic of 28 digits."""

    name = "calculator"

    async def run(self, expression: str) -> str:
        """Compute an arithmetic expression."""
        return calculate(expression)


def calculate(expression: str) -> str:
    """The value as text without an exponent or trailing zeros, at most 10 decimals. Raises `ToolError`."""
    if len(expression) > MAX_CHARACTERS:
        raise ToolError(f"an expression has at most {MAX_CHARACTERS} characters")
    source = expression.strip()
    if not _ALPHABET.fullmatch(source):
        raise ToolError(_ONLY)
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, RecursionError, MemoryError):
        raise ToolError("not an arithmetic expression") from None
    with localcontext(prec=28) as context:
        try:
            value = _evaluate(tree.body, source)
            context.prec = 40  # room for ten decimals behind 28 digits
            rounded = round(value, 10) if value != value.to_integral_value() else value
        except ArithmeticError:
            raise ToolError("division by zero or a number out of range") from None
        if rounded.adjusted() >= 28:
            raise ToolError("number out of range")
    text = format(rounded, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _evaluate(node: ast.expr, source: str) -> Decimal:
    match node:
        case ast.Constant(value=int() | float()):
            # The digits as written: a float would lose those beyond the 17th.
            return Decimal(source[node.col_offset : node.end_col_offset])
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, source)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _evaluate(operand, source)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _evaluate(left, source) + _evaluate(right, source)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _evaluate(left, source) - _evaluate(right, source)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _evaluate(left, source) * _evaluate(right, source)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _evaluate(left, source) / _evaluate(right, source)
    raise ToolError(_ONLY)
