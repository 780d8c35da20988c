"""How many bytes of bodies are held at once: nobody waits for ever, and it is never too much."""

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from ingestify.http.in_memory import SMALL, Holder, Memory

BIG = SMALL + 1


@given(st.lists(st.tuples(st.integers(1, 25), st.integers(0, 5)), max_size=30))
def test_no_more_is_taken_than_there_is(bodies):
    """
    However large the bodies and however long they are held, all of them get their turn.
    """
    memory, done = Memory(10), []

    async def hold(size, turns):
        async with memory.held(size):
            assert memory.taken <= 10
            for _ in range(turns):
                await checkpoint()
            done.append(size)

    async def hold_all():
        async with anyio.create_task_group() as tg:
            for body in bodies:
                tg.start_soon(hold, *body)

    anyio.run(hold_all)
    assert len(done) == len(bodies)
    assert memory.taken == 0


async def test_first_come_is_first_served():
    """
    A large body is not passed by small ones for ever.
    """
    memory, order = Memory(10), []

    async def hold(size):
        async with memory.held(size):
            order.append(size)

    share = await memory.take(5)
    async with anyio.create_task_group() as tg:
        for size in (9, 1, 2):
            tg.start_soon(hold, size)
            await wait_all_tasks_blocked()
        assert order == []
        memory.give_back(share)
    assert order == [9, 1, 2]


async def test_whoever_gives_up_waiting_leaves_no_gap():
    """
    Cancelled while it waits, or in the moment of its turn: others get what it would have had.
    """
    memory, passed = Memory(10), []

    async def hold(size):
        async with memory.held(size):
            passed.append(size)

    share = await memory.take(5)
    async with anyio.create_task_group() as tg:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(hold, 9)
                await wait_all_tasks_blocked()
                tg.start_soon(hold, 2)
                await wait_all_tasks_blocked()
                assert passed == []
                scope.cancel()
        await wait_all_tasks_blocked()
        assert passed == [2]
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(hold, 9)
            await wait_all_tasks_blocked()
            memory.give_back(share)
            scope.cancel()
    assert memory.taken == 0


async def test_whoever_holds_something_does_not_wait():
    """
    A Source that reads a list while it goes through another one would never go on otherwise.
    """
    memory = Memory(2 * BIG)
    mine, others = Holder(memory), Holder(memory)
    with mine.hold() as first, others.hold() as second, mine.hold() as third:
        assert first.try_take(BIG)
        assert second.try_take(BIG)
        assert others.hold().try_take(SMALL)
        assert not Holder(memory).hold().try_take(BIG)
        with anyio.fail_after(5):
            await third.take(BIG)
        assert memory.taken == 3 * BIG
        assert third.try_take(BIG)
        assert memory.taken == 3 * BIG  # that was for the same body
        third.shrink(SMALL)
        assert memory.taken == 2 * BIG
    assert memory.taken == 0


@pytest.mark.parametrize("size", [BIG, 3 * BIG])
async def test_a_body_gives_back_what_it_does_not_need(size):
    """
    Its size is known for sure only when all of it is here; at the end all is given back.
    """
    memory = Memory(2 * BIG)
    with Holder(memory).hold() as hold:
        await hold.take(size)
        assert memory.taken == min(size, 2 * BIG)
        hold.shrink(BIG)
        assert memory.taken == BIG
        hold.release()
        assert memory.taken == 0
        await hold.take(size)
    assert memory.taken == 0


async def test_what_is_not_counted_never_waits():
    """
    Such as the answer to a login, which everybody waits for.
    """
    with Holder(None).hold() as hold:
        assert hold.try_take(10**12)
        await hold.take(10**13)


async def test_bodies_of_one_holder_do_not_wait_for_each_other():
    """
    Two that queued up at the same time: with the first share, the other one may go on as well.
    """
    memory = Memory(BIG)
    first, mine = Holder(memory), Holder(memory)
    share = await memory.take(BIG, first)
    ended = []

    async def take_two():
        with mine.hold() as one, mine.hold() as other:
            async with anyio.create_task_group() as tg:
                tg.start_soon(one.take, BIG)
                tg.start_soon(other.take, BIG)
        ended.append("mine")

    async def take_one():
        with Holder(memory).hold() as hold:
            await hold.take(BIG)
        ended.append("other")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(take_two)
            await wait_all_tasks_blocked()
            tg.start_soon(take_one)
            await wait_all_tasks_blocked()
            assert ended == []
            memory.give_back(share, first)
    assert ended == ["mine", "other"]
    assert memory.taken == 0


async def test_the_first_share_of_a_source_waits_for_nobody():
    """
    Further ones do, also for those of the same source; when it has none left, the next is first.
    """
    memory = Memory(BIG)
    stranger = await memory.take(BIG)
    one, other = Holder(memory, "a"), Holder(memory, "a")
    with one.hold() as first, other.hold() as second:
        assert first.try_take(2 * BIG)
        assert memory.taken == 2 * BIG
        assert not second.try_take(BIG)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tg:
                tg.start_soon(second.take, BIG)
                await wait_all_tasks_blocked()
                first.release()
        assert memory.taken == 2 * BIG
    memory.give_back(stranger)
    assert memory.taken == 0
