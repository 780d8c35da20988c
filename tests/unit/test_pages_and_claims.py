"""What joins the stages of a Run, and who works on what."""

from __future__ import annotations

import asyncio

import pytest
from anyio import (
    CancelScope,
    ClosedResourceError,
    Event,
    create_task_group,
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from ingestify.pipeline.claims import Claims, RowIds
from ingestify.pipeline.pages import Pages
from ingestify.pipeline.pool import Places, Slot
from ingestify.pipeline.stop import Stop

EVENTS, LINEUPS = ("events", "v1"), ("lineups", "v1")
BOTH = frozenset([EVENTS, LINEUPS])


async def put_all(pages: Pages[int], count: int, done: list[int]) -> None:
    for number in range(count):
        await pages.put([number])
        done.append(number)


async def test_a_full_queue_holds_its_writer_back() -> None:
    """
    A writer gets ahead of its reader by what the queue holds, and goes on as room is made.
    """
    pages: Pages[int] = Pages(3)
    put: list[int] = []
    async with create_task_group() as tg:
        tg.start_soon(put_all, pages, 10, put)
        await wait_all_tasks_blocked()
        assert len(put) == 3

        assert await pages.take(2) == [0, 1]
        await wait_all_tasks_blocked()
        assert len(put) == 5

        while put[-1] < 9:
            await pages.take(100)
            await wait_all_tasks_blocked()


async def test_a_page_is_put_as_a_whole() -> None:
    """
    A queue with any room takes a whole page, and then nothing before it has been read.
    """
    pages: Pages[int] = Pages(3)
    await pages.put(range(2))
    await pages.put(range(100))
    assert len(pages) == 102

    async with create_task_group() as tg:
        tg.start_soon(pages.put, [7])
        await wait_all_tasks_blocked()
        assert len(pages) == 102
        assert len(await pages.take(100)) == 100
        await wait_all_tasks_blocked()
        assert len(pages) == 3


async def test_many_writers_exceed_a_queue_by_one_page() -> None:
    """
    However many writers wait for room, only one of them finds it.
    """
    pages: Pages[int] = Pages(4)
    async with create_task_group() as tg:
        for _ in range(20):
            tg.start_soon(pages.put, range(3))
        await wait_all_tasks_blocked()
        assert len(pages) == 6
        await pages.take(3)
        await wait_all_tasks_blocked()
        assert len(pages) == 6
        tg.cancel_scope.cancel()


async def test_a_reader_waits_for_something_to_take() -> None:
    """
    An empty queue makes its reader wait; what is waiting is taken at once, up to the most.
    """
    pages: Pages[int] = Pages(10)
    taken: list[list[int]] = []

    async def read() -> None:
        while page := await pages.take(4):
            taken.append(page)

    async with create_task_group() as tg:
        tg.start_soon(read)
        await wait_all_tasks_blocked()
        assert taken == []
        await pages.put(range(6))
        await wait_all_tasks_blocked()
        assert taken == [[0, 1, 2, 3], [4, 5]]
        pages.close()


async def test_a_closed_queue_is_read_to_its_end() -> None:
    """
    What was put before a queue was closed can be taken; then its end is told, again and again.
    """
    pages: Pages[int] = Pages(10)
    await pages.put([1, 2])
    pages.close()

    assert await pages.take(10) == [1, 2]
    assert await pages.take(10) == []
    assert await pages.take(10) == []


async def test_a_closed_queue_takes_nothing() -> None:
    """
    Nothing can be put where nobody would take it, neither afterwards nor by one who waits.
    """
    pages: Pages[int] = Pages(1)
    await pages.put([1])
    refused = Event()

    async def put() -> None:
        with pytest.raises(ClosedResourceError):
            await pages.put([2])
        refused.set()

    async with create_task_group() as tg:
        tg.start_soon(put)
        await wait_all_tasks_blocked()
        pages.close()
        await refused.wait()
    with pytest.raises(ClosedResourceError):
        await pages.put([3])
    assert pages.drain() == [1]


async def test_a_lingering_reader_waits_for_company() -> None:
    """
    With time to linger, a reader waits until there is as much as it wants, or the queue closes.
    """
    pages: Pages[int] = Pages(10)
    taken: list[list[int]] = []

    async def read() -> None:
        while page := await pages.take(3, linger=3600):
            taken.append(page)

    async with create_task_group() as tg:
        tg.start_soon(read)
        for number in range(4):
            await pages.put([number])
            await wait_all_tasks_blocked()
        assert taken == [[0, 1, 2]]
        pages.close()
    assert taken == [[0, 1, 2], [3]]


async def test_lingering_ends() -> None:
    """
    A reader that has lingered for long enough takes what there is.
    """
    pages: Pages[int] = Pages(10)
    await pages.put([1])

    assert await pages.take(2, linger=0.001) == [1]


@pytest.mark.parametrize("ticks", range(12))
async def test_cancelling_loses_nothing(ticks: int) -> None:
    """
    Whenever a writer and a reader are cancelled, every item is with exactly one of them or in
    the queue.
    """
    pages: Pages[int] = Pages(2)
    put: list[int] = []
    taken: list[int] = []

    async def read() -> None:
        while page := await pages.take(3, linger=0.001 * (ticks % 2)):
            taken.extend(page)
            await checkpoint()

    with CancelScope() as scope:
        async with create_task_group() as tg:
            tg.start_soon(put_all, pages, 1000, put)
            tg.start_soon(read)
            for _ in range(ticks):
                await checkpoint()
            scope.cancel()

    assert taken + pages.drain() == put


@given(st.lists(st.integers(0, 300)), st.integers(0, 400))
def test_row_ids_are_a_set(row_ids: list[int], other: int) -> None:
    """
    RowIds holds what was put in, once and ascending, and nothing else.
    """
    rows = RowIds()
    for row_id in row_ids:
        rows.add(row_id)

    assert list(rows) == sorted(set(row_ids))
    assert (other in rows) == (other in row_ids)


class Told:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int | None, bool]] = []

    def __call__(self, row_id: int | None, succeeded: bool) -> None:
        self.calls.append((row_id, succeeded))


def test_what_was_never_met_is_missing_as_a_whole() -> None:
    """
    Not having met a Dataset differs from having met all of its Files, also where it has none.
    """
    claims = Claims()
    assert claims.missing("a", None, BOTH) is None
    assert claims.missing("a", None, frozenset()) is None

    claims.open("a", BOTH)
    assert claims.missing("a", None, BOTH) == frozenset()
    claims.open("b", frozenset())
    assert claims.missing("b", None, frozenset()) == frozenset()


def test_a_second_meeting_may_add_files() -> None:
    """
    Of a Dataset that somebody works on, only the Files that nobody has claimed are missing.
    """
    claims = Claims()
    claims.open("a", frozenset([EVENTS]))

    assert claims.missing("a", None, BOTH) == frozenset([LINEUPS])


@pytest.mark.parametrize("row_id", [None, 7])
def test_who_waits_is_told_once_the_work_is_done(row_id: int | None) -> None:
    """
    Those who wait for a claim are told its outcome when it is settled; later ones are at once.
    """
    claims, early, late = Claims(), Told(), Told()
    claim = claims.open("a", BOTH)
    claims.wait("a", row_id, early)
    assert early.calls == []

    with claims.looking():  # before it was there
        claim.settle(7, succeeded=True, is_new=row_id is None)

        claims.wait("a", row_id, late)
        assert early.calls == late.calls == [(7, True)]
        assert claims.missing("a", row_id, BOTH) == frozenset()


def test_new_datasets_are_remembered_while_somebody_looks() -> None:
    """
    Whoever looks in the Catalog afterwards finds them there, by their rows; so memory does not
    grow with what is new.
    """
    claims = Claims()
    with claims.looking(), claims.looking():
        claims.open("a", BOTH).settle(7, succeeded=True, is_new=True)
        one = claims.open("b", frozenset([EVENTS]))
        claims.open("b", frozenset([LINEUPS])).settle(8, succeeded=True, is_new=True)
        assert claims.missing("a", None, BOTH) == frozenset()
    assert claims.missing("a", None, BOTH) is None
    assert claims.missing("a", 7, BOTH) == frozenset()
    told = Told()
    claims.wait("b", None, told)
    one.settle(None, succeeded=False)
    assert told.calls == [(8, False)]

    claims.open("c", BOTH).settle(9, succeeded=True, is_new=True)
    assert claims.missing("c", None, BOTH) is None


def test_failed_work_is_not_tried_again_in_the_same_run() -> None:
    """
    What failed stays claimed for the rest of the Run, and whoever meets it again is told.
    """
    claims, told = Claims(), Told()
    claims.open("a", BOTH).settle(None, succeeded=False)

    assert claims.missing("a", None, BOTH) == frozenset()
    claims.wait("a", None, told)
    assert told.calls == [(None, False)]


@pytest.mark.parametrize("fails_first", [True, False])
def test_who_waits_is_told_when_all_of_it_is_settled(fails_first: bool) -> None:
    """
    Where several work on Files of one Dataset, its outcome is known when the last is done, and
    it has failed if any of them has.
    """
    claims, told = Claims(), Told()
    one = claims.open("a", frozenset([EVENTS]))
    other = claims.open("a", frozenset([LINEUPS]))
    claims.wait("a", None, told)

    first, last = (one, other) if fails_first else (other, one)
    first.settle(7, succeeded=first is other, is_new=True)
    assert told.calls == []
    last.settle(7, succeeded=last is other, is_new=True)
    assert told.calls == [(7, False)]


def test_a_dataset_that_needed_no_work_is_a_duplicate_later() -> None:
    """
    What was merely met is remembered by its row, with the Files that it was met with.
    """
    claims = Claims()
    claims.meet(7, frozenset([EVENTS]))

    assert claims.missing("a", 7, frozenset([EVENTS])) == frozenset()
    assert claims.missing("a", 7, BOTH) == frozenset([LINEUPS])
    assert claims.missing("a", 8, BOTH) is None


async def test_a_slot_is_lent_while_any_part_waits() -> None:
    """
    A Task gives its place up once, while one or more of its parts wait, and takes it back once.
    """
    workers = Places(1)
    await workers.take()
    slot = Slot(workers, Stop())
    gates = [Event(), Event()]

    async def wait_for(gate: Event) -> None:
        async with slot.released():
            await gate.wait()

    async with create_task_group() as tg:
        for gate in gates:
            tg.start_soon(wait_for, gate)
        await wait_all_tasks_blocked()
        assert workers.free == 1
        gates[0].set()
        await wait_all_tasks_blocked()
        assert workers.free == 1
        gates[1].set()
    assert workers.free == 0
    slot.leave()
    assert workers.free == 1


async def test_a_place_is_never_given_up_twice() -> None:
    """
    A part that begins to wait while another one waits for the place to be free gives up nothing,
    also when both are cancelled.
    """
    workers = Places(1)
    await workers.take()
    slot = Slot(workers, Stop())
    first, second = Event(), Event()

    async def wait_for(gate: Event) -> None:
        async with slot.released():
            await gate.wait()

    async with create_task_group() as tg:
        tg.start_soon(wait_for, first)
        await wait_all_tasks_blocked()
        await workers.take()  # another Task is faster
        first.set()
        await wait_all_tasks_blocked()
        tg.start_soon(wait_for, second)
        await wait_all_tasks_blocked()
        assert workers.free == 0
        tg.cancel_scope.cancel()
    slot.leave()
    assert workers.free == 0
    workers.leave()
    assert workers.free == 1


async def test_a_place_is_never_taken_twice() -> None:
    """
    Parts that stop waiting while the place is taken, one after the other, get one place back.
    """
    workers = Places(2)
    await workers.take()
    slot = Slot(workers, Stop())

    async def wait_for(gate: Event) -> None:
        async with slot.released():
            await gate.wait()

    async with create_task_group() as tg:
        gates = [Event(), Event(), Event()]
        tg.start_soon(wait_for, gates[0])
        await wait_all_tasks_blocked()
        await workers.take()
        await workers.take()  # other Tasks are faster
        gates[0].set()
        await wait_all_tasks_blocked()
        for gate in gates[1:]:
            tg.start_soon(wait_for, gate)
            await wait_all_tasks_blocked()
            gate.set()
            await wait_all_tasks_blocked()
        workers.leave()
        workers.leave()
    assert workers.free == 1
    slot.leave()
    assert workers.free == 2


@pytest.mark.parametrize("how", ["scope", "task"])
@pytest.mark.parametrize("others", [0, 1])
async def test_who_is_cancelled_as_a_place_becomes_free_does_not_take_it(
    how: str, others: int
) -> None:
    """
    The place goes to who comes next, or stays free; nothing but the cancellation is raised.
    """
    places, scope = Places(1), CancelScope()
    await places.take()
    taken: list[int] = []

    async def take(number: int, scope: CancelScope) -> None:
        with scope:
            await places.take()
            taken.append(number)

    tasks = [asyncio.create_task(take(0, scope))]
    tasks += [asyncio.create_task(take(1, CancelScope())) for _ in range(others)]
    await wait_all_tasks_blocked()
    if how == "scope":
        scope.cancel()
    else:
        tasks[0].cancel()
    places.leave()  # in the same turn of the loop
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(each is None or isinstance(each, asyncio.CancelledError) for each in ended)
    assert taken == [1] * others
    assert places.free == 1 - others


@pytest.mark.parametrize("how", ["scope", "task"])
async def test_who_is_cancelled_as_there_is_room_has_put_nothing(how: str) -> None:
    """
    A writer that gives up in the very moment in which a reader makes room raises nothing else.
    """
    pages: Pages[int] = Pages(1)
    await pages.put([1])
    scope = CancelScope()

    async def put() -> None:
        with scope:
            await pages.put([2])

    task = asyncio.create_task(put())
    await wait_all_tasks_blocked()
    if how == "scope":
        scope.cancel()
    else:
        task.cancel()
    assert await pages.take(1) == [1]
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert ended is None or isinstance(ended, asyncio.CancelledError)
    assert len(pages) == 0
