"""An API server in memory: for simulations, and as the emulated workload clusters of the development provider."""

from .binding import bind
from .builtin import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, NODES, PODS, WORKLOAD_KINDS
from .definitions import Column, ResourceDefinition, ScalePaths, definition_of_crd
from .eviction import evict
from .requests import DeleteOptions, ListOptions, PatchType, Settings, WatchOptions, WriteOptions
from .schema import admit_structure
from .server import Admission, ApiServer
from .status import ApiStatusError
from .store import Change, Entry, Key, Watch, WatchEvent
from .structure import ATOMIC, STRING_SET, Structure, list_map, structure

__all__ = [
    "ATOMIC",
    "CUSTOM_RESOURCE_DEFINITIONS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "STRING_SET",
    "WORKLOAD_KINDS",
    "Admission",
    "ApiServer",
    "ApiStatusError",
    "Change",
    "Column",
    "DeleteOptions",
    "Entry",
    "Key",
    "ListOptions",
    "PatchType",
    "ResourceDefinition",
    "ScalePaths",
    "Settings",
    "Structure",
    "Watch",
    "WatchEvent",
    "WatchOptions",
    "WriteOptions",
    "admit_structure",
    "bind",
    "definition_of_crd",
    "evict",
    "list_map",
    "structure",
]
