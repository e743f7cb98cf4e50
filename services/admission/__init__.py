"""Admission: what the API server asks before it stores an object of ours. Defaults are filled in, what must not be is refused with its field path."""
