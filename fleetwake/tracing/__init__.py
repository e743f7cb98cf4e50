"""Why things happened: causes of changes, intents, spans. No other module starts a span or writes a traceparent."""
