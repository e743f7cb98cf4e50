"""Kinds of runtime.cluster.x-k8s.io/v1beta2."""

from schemas.api.runtime.v1beta2.extension_config import (
    GROUP,
    VERSION,
    ClientConfig,
    ExtensionConfig,
    ExtensionConfigSpec,
    ExtensionConfigStatus,
    ExtensionHandler,
    GroupVersionHook,
    ServiceReference,
)

__all__ = [
    "GROUP",
    "VERSION",
    "ClientConfig",
    "ExtensionConfig",
    "ExtensionConfigSpec",
    "ExtensionConfigStatus",
    "ExtensionHandler",
    "GroupVersionHook",
    "ServiceReference",
]
