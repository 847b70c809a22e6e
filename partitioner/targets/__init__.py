"""Targets: the hardware a bundle is built for, as tables of figures with their sources.

A target names backends in order of preference and carries what plans are estimated from. The tables
are the files of ``tables/``; users' files have the same form, which ``schema.py`` is.
"""

from __future__ import annotations

from partitioner.targets.catalogue import ENVIRONMENT, all_targets, find_target
from partitioner.targets.facts import Device, Limits, Price, Target

__all__ = ["ENVIRONMENT", "Device", "Limits", "Price", "Target", "all_targets", "find_target"]
