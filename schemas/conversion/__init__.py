"""Objects of one API version, said in another. Pure: JSON values in, JSON values out.

v1beta2 is the hub; every older version is converted to it and from it and never to another older one. A kind's differences are a table of rules
(``rules``), which work in both directions; what a version has no field for is left out by the version's own schema (``shape``). An object in an older version
carries the whole hub object in an annotation, and on its way back only what was changed there is changed (``restoring``): read, edit, write in an old version
and only the edit arrives.
"""

from schemas.conversion.convert import from_hub, said_in, to_hub
from schemas.conversion.rules import Context, ConversionError
from schemas.sensitive import CONVERSION_DATA

__all__ = ["CONVERSION_DATA", "Context", "ConversionError", "from_hub", "said_in", "to_hub"]
