"""Cloning of templates, under the name by which the kinds of this service know it (``fleetwake.cloning``)."""

from __future__ import annotations

from fleetwake.cloning import TEMPLATE_SUFFIX, Clone, clone, cloned_from, inner_template, made_kind

__all__ = ["TEMPLATE_SUFFIX", "Clone", "clone", "cloned_from", "inner_template", "made_kind"]
