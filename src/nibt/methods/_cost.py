"""Evaluation of the formulas in which methods state their costs."""

import ast
import operator
from collections.abc import Mapping

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def evaluate(formula: str, values: Mapping[str, float]) -> float:
    """Return the value of a formula of sums, differences, products (``x``) and quotients.

    >>> evaluate("1 + about 3 x steps x (1 - layer / depth)", {"steps": 2.0, "layer": 9.0, "depth": 12.0})
    2.5
    """
    try:
        return _value(ast.parse(formula.replace("about ", "").replace(" x ", " * "), mode="eval").body, values)
    except (SyntaxError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"the cost {formula!r} is not a formula of {', '.join(values)}") from error


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.BinOp(left, operation, right):
            return _OPERATORS[type(operation)](_value(left, values), _value(right, values))
        case ast.Name():
            return values[node.id]
        case ast.Constant(value=int(number) | float(number)):
            return float(number)
    raise KeyError(type(node).__name__)
