"""W3C trace context as text, and ids that several processes derive alike."""

from __future__ import annotations

import hashlib
import os
from contextvars import Token
from typing import NamedTuple

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags

TRACEPARENT_ANNOTATION = "tracing.k8s.io/traceparent"
"""Annotation on objects whose creation or spec was written with a known cause. Source: Kubernetes KEP-5915."""


class SpanId(NamedTuple):
    """A span: its trace and itself, lower-case hex of 32 and 16 digits."""

    trace: str
    span: str

    def traceparent(self) -> str:
        """The W3C header, always sampled."""
        return f"00-{self.trace}-{self.span}-01"

    def child(self) -> SpanId:
        """A new span of the same trace."""
        return SpanId(self.trace, os.urandom(8).hex())

    @classmethod
    def parse(cls, text: str) -> SpanId | None:
        """Read a traceparent; None when it is none."""
        parts = text.split("-")
        if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
            return None
        return cls(parts[1], parts[2])

    @classmethod
    def derive(cls, text: str) -> SpanId:
        """The root span that everybody who reads the same record in the same order names alike."""
        return cls.root(hashlib.sha256(text.encode()).hexdigest()[:32])

    @classmethod
    def root(cls, trace: str) -> SpanId:
        """The root span of a derived trace, told from the trace's id alone: results carry no more."""
        return cls(trace, hashlib.sha256(trace.encode()).hexdigest()[:16])

    @classmethod
    def fresh(cls) -> SpanId:
        """A root of its own."""
        return cls(os.urandom(16).hex(), os.urandom(8).hex())


def attach(identity: SpanId) -> Token[Context]:
    """Make a span of ours the current one, so that log lines and instrumented libraries belong to it."""
    found = SpanContext(int(identity.trace, 16), int(identity.span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return context.attach(trace.set_span_in_context(trace.NonRecordingSpan(found)))


def detach(token: Token[Context]) -> None:
    """Undo ``attach``."""
    context.detach(token)
