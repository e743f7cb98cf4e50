"""The terminal: one way to make a console, to write durations and to shorten times."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import TextIO

from rich.console import Console

WIDTH_OF_A_FILE = 180
"""Columns when the output is no terminal and COLUMNS does not say otherwise: wide enough that nothing is cut that a reader greps for."""


def console(stream: TextIO | None = None) -> Console:
    """A console on standard output, or on ``stream``."""
    stream = stream if stream is not None else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else WIDTH_OF_A_FILE
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def took(span: timedelta) -> str:
    """A duration as people say it: ``340 µs``, ``12 ms``, ``1.84 s``, ``3 m 20 s``."""
    seconds = span.total_seconds()
    if seconds < 0.001:
        return f"{max(seconds, 0.0) * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s"


def age(span: timedelta) -> str:
    """An age as kubectl writes it: ``7s``, ``4m12s``, ``38m``, ``5h3m``, ``2d4h``, ``90d``. Source: apimachinery duration.HumanDuration (1.36)."""
    seconds = max(int(span.total_seconds()), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"
