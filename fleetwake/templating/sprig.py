"""The functions of a ClusterClass's templates: Go's own and those of sprig whose result depends on their arguments alone.

Left out are what needs a clock, chance or keys (``now``, ``genCA``, ``htpasswd``, ...): a template that asks for one is refused, and says so.

Source: Cluster API v1.14 (value templates: sprig v3.3.0, its hermetic functions); masterminds.github.io/sprig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fleetwake.templating import go_format
from fleetwake.templating.sprig_collections import COLLECTIONS
from fleetwake.templating.sprig_encoding import ENCODING
from fleetwake.templating.sprig_numbers import NUMBERS
from fleetwake.templating.sprig_semver import VERSIONS
from fleetwake.templating.sprig_texts import TEXTS

FUNCTIONS: Mapping[str, Callable[..., Any]] = {**go_format.FUNCTIONS, **TEXTS, **NUMBERS, **COLLECTIONS, **ENCODING, **VERSIONS}
"""All of them by name. ``slice`` is sprig's, as in Go, where its functions come after Go's own."""
