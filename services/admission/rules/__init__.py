"""The rules: pure functions, a file a kind. What a definition's schema or CEL can say is said there (``schemas``), not here."""
