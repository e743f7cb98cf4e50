"""What can go wrong with a rig."""


class RigError(Exception):
    """A rig cannot do what was asked; the message names the part, what failed and what to try."""
