"""Part of the Catalog's contract: the event log, and the cursors of its readers."""

from __future__ import annotations

import anyio

from ingestify.model.event import EventType, ReaderRow
from ingestify.ports import Catalog
from ingestify.testing.contracts.catalog_values import (
    NOON,
    CatalogFixtures,
    Opener,
    commit_all,
    dataset_commit,
    minutes,
    stored_file,
)


class EventsContract(CatalogFixtures):
    """The event log, and the cursors of its readers."""

    async def test_the_newest_event_can_be_asked_for(self, catalog: Catalog) -> None:
        """
        Its id is the last one that reading the log shows; 0 while nothing has happened.
        """
        assert await catalog.last_event() == 0
        await commit_all(catalog, dataset_commit(1, stored_file()), dataset_commit(2))

        events = await catalog.events()
        assert [each.type for each in events] == [
            EventType.DATASET_CREATED,
            EventType.REVISION_ADDED,
            EventType.DATASET_CREATED,
        ]
        assert await catalog.last_event() == events[-1].id

    async def test_a_new_reader_has_no_cursor(self, catalog: Catalog) -> None:
        """
        That somebody has never read is not the same as having read nothing.
        """
        assert await catalog.reader_cursor("app") is None
        assert await catalog.readers() == []
        assert await catalog.move_reader("app", event=0, expected=None, at=NOON)
        assert await catalog.reader_cursor("app") == 0

    async def test_a_cursor_stays_where_it_was_moved_to(
        self, catalog: Catalog, open_catalog: Opener
    ) -> None:
        """
        Each reader has a place of its own, which other processes see, too.
        """
        assert await catalog.move_reader("app", event=3, expected=None, at=NOON)
        assert await catalog.move_reader("report", event=1, expected=None, at=NOON)
        assert await catalog.move_reader("app", event=7, expected=3, at=minutes(1))

        async with open_catalog() as other:
            assert await other.reader_cursor("app") == 7
            assert await other.reader_cursor("report") == 1

    async def test_a_cursor_moves_only_from_where_it_was_expected(self, catalog: Catalog) -> None:
        """
        Whoever lost sight of a cursor is told so, and leaves it as it is.
        """
        assert not await catalog.move_reader("app", event=2, expected=1, at=NOON)
        assert await catalog.reader_cursor("app") is None
        assert await catalog.move_reader("app", event=2, expected=None, at=NOON)
        assert not await catalog.move_reader("app", event=5, expected=None, at=NOON)
        assert not await catalog.move_reader("app", event=5, expected=1, at=NOON)
        assert await catalog.reader_cursor("app") == 2

    async def test_of_two_who_move_one_cursor_one_succeeds(
        self, catalog: Catalog, open_catalog: Opener
    ) -> None:
        """
        Two processes that read under one name at the same time do not both go on.
        """
        moved: list[bool] = []

        async def move(place: Catalog, event: int) -> None:
            moved.append(await place.move_reader("app", event=event, expected=None, at=NOON))

        async with open_catalog() as other, anyio.create_task_group() as tg:
            tg.start_soon(move, catalog, 1)
            tg.start_soon(move, other, 2)
        assert sorted(moved) == [False, True]

    async def test_readers_are_listed_with_what_waits_for_them(self, catalog: Catalog) -> None:
        """
        By name, with their place, when it was moved, and how many events are beyond it.
        """
        await commit_all(catalog, dataset_commit(1, stored_file()), dataset_commit(2))
        first, *_, last = await catalog.events()
        await catalog.move_reader("slow", event=first.id, expected=None, at=NOON)
        await catalog.move_reader("app", event=last.id, expected=None, at=minutes(2))

        assert await catalog.readers() == [
            ReaderRow(name="app", event=last.id, moved_at=minutes(2), behind=0),
            ReaderRow(name="slow", event=first.id, moved_at=NOON, behind=2),
        ]
