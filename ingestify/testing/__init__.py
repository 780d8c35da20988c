"""Fakes that are good enough for our own tests, for authors of Sources."""

from ingestify.testing.behaviours import hang_until, reset_connection, status, too_many_requests
from ingestify.testing.limits import RateLimit, RetryAfter
from ingestify.testing.records import RequestRecord
from ingestify.testing.simulator import ProviderSimulator, Script
from ingestify.testing.source import FakeSource, Offer
from ingestify.testing.statsbomb_lists import SeasonSpec
from ingestify.testing.statsbomb_world import DEMO_SEASONS, Change, MatchSize, StatsBombWorld
from ingestify.testing.worlds import EvolvingWorld, FolderWorld, Resource, World

__all__ = [
    "DEMO_SEASONS",
    "Change",
    "EvolvingWorld",
    "FakeSource",
    "FolderWorld",
    "MatchSize",
    "Offer",
    "ProviderSimulator",
    "RateLimit",
    "RequestRecord",
    "Resource",
    "RetryAfter",
    "Script",
    "SeasonSpec",
    "StatsBombWorld",
    "World",
    "hang_until",
    "reset_connection",
    "status",
    "too_many_requests",
]
