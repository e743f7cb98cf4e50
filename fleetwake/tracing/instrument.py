"""The OpenTelemetry instrumentations a service uses: logging, Redis, and kafka-python where a process has it.

They see the context that our spans set, so log lines carry the trace of the run they were written in and calls of these libraries made inside a run become its
children. A call outside any run (the flush of the read model, say) has no cause to belong to and makes no span: the sampler keeps only what has a parent.
aiokafka's and aiohttp's instrumentations are not used: the first does not see Faust's consumer, the second would double the spans of our requests.
"""

from __future__ import annotations

import sys

from opentelemetry import trace
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from fleetwake.connections.otlp import Otlp
from fleetwake.tracing.export import resource_of

QUEUE_MAX = 32_768
FLUSH_MS = 1_000


def instrument(service: str, instance: str, otlp: Otlp) -> None:
    """Instrument the libraries of this process; spans are exported only with an endpoint, trace ids reach the logs always."""
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), resource=resource_of(service, instance))
    if otlp:
        provider.add_span_processor(BatchSpanProcessor(otlp.exporter(), max_queue_size=QUEUE_MAX, schedule_delay_millis=FLUSH_MS))
    trace.set_tracer_provider(provider)
    LoggingInstrumentor().instrument(tracer_provider=provider, inject_trace_context=True, enable_log_auto_instrumentation=False)
    if not otlp:
        # spans that nobody gets would cost as much as others
        return
    RedisInstrumentor().instrument(tracer_provider=provider)
    if "kafka" in sys.modules:
        # to instrument it is to import it, a third of a second; the services that reconcile speak to Kafka through Faust and aiokafka alone
        from opentelemetry.instrumentation.kafka import KafkaInstrumentor

        KafkaInstrumentor().instrument(tracer_provider=provider)
