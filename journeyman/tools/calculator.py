"""Arithmetic without `eval`: numbers, + - * / and parentheses, within bounds."""

import ast
from decimal import Decimal, DivisionByZero, InvalidOperation, localcontext

from journeyman.tools.base import FunctionTool, ToolError

MAX_CHARACTERS = 200


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
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolError("not an arithmetic expression") from None
    with localcontext(prec=28):
        try:
            value = _evaluate(tree.body)
            rounded = round(value, 10) if value != value.to_integral_value() else value
        except (DivisionByZero, InvalidOperation, ZeroDivisionError):
            raise ToolError("division by zero or a number out of range") from None
    if abs(rounded) >= Decimal(10) ** 28:
        raise ToolError("number out of range")
    text = format(rounded, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _evaluate(node: ast.expr) -> Decimal:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Decimal(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _evaluate(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _evaluate(left) + _evaluate(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _evaluate(left) - _evaluate(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _evaluate(left) * _evaluate(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _evaluate(left) / _evaluate(right)
    raise ToolError("only numbers, + - * / and parentheses")
