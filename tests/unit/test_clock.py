"""The clocks: the real one, and the one for tests."""

from datetime import UTC, timedelta

import anyio
from anyio.lowlevel import checkpoint

from ingestify.clock import SystemClock
from ingestify.testing.clock import VirtualClock


async def test_the_system_clock_is_aware_and_goes_on():
    """
    The wall clock has a time zone; sleeping lets time pass, and negative sleep does not wait.
    """
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.001)
    await clock.sleep(-5)
    assert clock.monotonic() - before >= 0.001
    assert clock.now().tzinfo is UTC


async def test_sleepers_of_a_virtual_clock_wake_in_order():
    """
    Time jumps from one sleeper to the next; those who do other things first are not left behind.
    """
    clock = VirtualClock()
    woken = []

    async def sleep(name, seconds, work=0):
        for _ in range(work):
            await checkpoint()
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async with anyio.create_task_group() as tg:
        tg.start_soon(sleep, "late", 3600)
        tg.start_soon(sleep, "early", 1)
        tg.start_soon(sleep, "busy", 0.5, 10)
        tg.start_soon(sleep, "early, too", 1)

    assert woken == [("busy", 0.5), ("early", 1), ("early, too", 1), ("late", 3600)]


async def test_a_virtual_clock_can_be_advanced_by_hand():
    """
    Without `auto`, nobody wakes until time is advanced, and then at their own times.
    """
    clock = VirtualClock(auto=False)
    woken = []

    async def tick():
        for _ in range(3):
            await clock.sleep(10)
            woken.append(clock.monotonic())

    async with anyio.create_task_group() as tg:
        tg.start_soon(tick)
        await clock.advance(25)
        assert woken == [10, 20]
        assert clock.monotonic() == 25
        await clock.advance(5)
        assert woken == [10, 20, 30]


async def test_jumps_of_the_wall_clock_wake_nobody():
    """
    Setting the wall clock changes what is written down, not who waits for how long.
    """
    clock = VirtualClock()
    start = clock.now()
    clock.jump(timedelta(days=-1))
    await clock.sleep(60)
    assert clock.monotonic() == 60
    assert clock.now() == start - timedelta(days=1) + timedelta(seconds=60)


async def test_a_cancelled_sleeper_holds_nobody_up():
    """
    Time does not wait for somebody who is gone.
    """
    clock = VirtualClock(auto=False)
    async with anyio.create_task_group() as tg:
        tg.start_soon(clock.sleep, 5)
        await clock.advance(1)
        tg.cancel_scope.cancel()
    await clock.advance(10)
    assert clock.monotonic() == 11
