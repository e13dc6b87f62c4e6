"""Axes with round numbers, for the plots that a report's tables hold."""

from __future__ import annotations

import math

Ticks = tuple[tuple[float, str], ...]
"""(value, text) of each."""


def scale(low: float, high: float) -> tuple[float, float, Ticks]:
    """Return the ends of an axis that holds both values, and its ticks: three to six round numbers."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(step for step in (0.2 * power, 0.5 * power, power, 2.0 * power, 5.0 * power) if span / step <= 4.5)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple((index * step, f"{index * step:,.{decimals(step)}f}") for index in range(first, last + 1))
    return first * step, last * step, ticks


def ratio_scale(low: float, high: float) -> tuple[float, float, Ticks]:
    """Return the ends of a logarithmic axis that holds both values, and its ticks: few of 1, 2, 5 times a power of 10.

    low, high: above 0.
    """
    for steps in ((1, 2, 5), (1, 3), (1,)):
        marks = [step * 10.0**power for power in range(-12, 13) for step in steps]
        first = max(index for index, mark in enumerate(marks) if mark <= low * (1 + 1e-9))
        last = min(index for index, mark in enumerate(marks) if mark >= high * (1 - 1e-9))
        if first == last:
            last += 1
        chosen = marks[first : last + 1]
        if len(chosen) <= 6:
            break
    return chosen[0], chosen[-1], tuple((mark, f"{mark:,.{decimals(mark)}f}") for mark in chosen)


def decimals(value: float) -> int:
    """Return after how many decimals the first digit of a number above 0 stands; 0 from 1 on."""
    return max(0, -math.floor(math.log10(value) + 1e-9))
