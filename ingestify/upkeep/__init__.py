"""Upkeep: compare the lake with its Catalog, and remove what does not belong to it."""

from __future__ import annotations

from ingestify.upkeep.again import what_failed, what_is_damaged
from ingestify.upkeep.removing import Collected, collect, delete
from ingestify.upkeep.verifying import Damage, DamagedFile, Verification, verify

__all__ = [
    "Collected",
    "Damage",
    "DamagedFile",
    "Verification",
    "collect",
    "delete",
    "verify",
    "what_failed",
    "what_is_damaged",
]
