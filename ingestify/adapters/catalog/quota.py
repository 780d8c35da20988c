"""The daily quotas of Sources: what is granted, and how it is written down."""

from __future__ import annotations

from datetime import date, timedelta

from ingestify.adapters.catalog.connection import Session

KEPT = timedelta(days=7)  # for people to look at


def granted(used: int, *, count: int, most: int) -> int:
    """How much of *count* there is where *used* of *most* are; what is given back is negative."""
    return max(-used, min(count, max(0, most - used)))


async def spend(session: Session, source: str, *, day: date, count: int, most: int) -> int:
    """Write down what of *count* is granted. A new day's first request forgets old days."""
    key = {"source": source, "day": day.isoformat()}
    row = await session.row("quota_used", key)
    if row is None:
        await session.run("forget_quotas", {"before": (day - KEPT).isoformat()})
    used = row[0] if row else 0
    given = granted(used, count=count, most=most)
    if given:
        await session.run("set_quota", {**key, "used": used + given})
    return given
