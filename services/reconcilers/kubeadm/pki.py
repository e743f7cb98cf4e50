"""The certificate functions the kubeadm kinds use, imported in this one place."""

from fleetwake.kube.pki import (
    CA_VALIDITY_DAYS,
    KeyPair,
    public_key_hash,
    self_signed_ca,
    service_account_pair,
)

__all__ = [
    "CA_VALIDITY_DAYS",
    "KeyPair",
    "public_key_hash",
    "self_signed_ca",
    "service_account_pair",
]
