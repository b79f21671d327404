"""The same in asyncio."""

import asyncio
import time

import pytest

import leaselock
from conftest import PATIENCE, eventually


def run(main):
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


def test_async_with_on_every_store(url):
    async def main():
        store = leaselock.open(url)
        async with store.lock("x", ttl=30) as guard:
            assert guard.is_held
            assert await store.lock("x").try_acquire_async() is None
            with pytest.raises(leaselock.Timeout):
                await store.lock("x").acquire_async(timeout=0.1)
            await guard.renew_async()
            await guard.set_payload_async([1])
            assert (await store.lock("x").inspect_async())["payload"] == [1]
        assert not guard.is_held

    run(main())


def test_the_event_loop_goes_on_while_a_lock_is_waited_for(store):
    async def main():
        ticks = 0
        held = store.lock("x").acquire()
        waiting = asyncio.ensure_future(store.lock("x").acquire_async())
        while ticks < 20:
            await asyncio.sleep(0.01)
            ticks += 1
        assert not waiting.done()
        await held.release_async()
        assert (await waiting).is_held

    run(main())


def test_tasks_exclude_each_other(store):
    async def main():
        inside, most = 0, 0
        lock = store.lock("x")

        async def work():
            nonlocal inside, most
            for _ in range(5):
                async with lock:
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0)
                    inside -= 1

        await asyncio.gather(*(work() for _ in range(8)))
        assert most == 1

    run(main())


def test_a_cancelled_wait_leaves_nothing_behind(store):
    async def main():
        held = store.lock("x").acquire()
        waiting = asyncio.ensure_future(store.lock("x").acquire_async())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await held.release_async()
        async with store.lock("x", timeout=PATIENCE):
            pass

    run(main())


def test_a_block_that_is_cancelled_at_the_last_moment_holds_nothing(store):
    """The lock is acquired, and the task that wanted it cancelled, in one step of the event loop."""

    async def main():
        lock = store.lock("x", fast=True)
        held = await store.lock("x").acquire_async()

        async def work():
            async with lock:
                raise AssertionError("it was cancelled before")

        working = asyncio.ensure_future(work())
        await asyncio.sleep(0.05)
        held.release()
        # The loop stands still: it will hear of the acquisition and of the cancellation at once.
        eventually("it is acquired", lambda: store.lock("x").inspect()["state"] == "held")
        time.sleep(0.2)
        asyncio.get_running_loop().call_soon(working.cancel)
        with pytest.raises(asyncio.CancelledError):
            await working
        async with store.lock("x", timeout=PATIENCE / 2):
            pass

    run(main())


def test_a_loop_that_ends_gives_the_lock_back(store):
    async def main():
        store.lock("x").acquire_async()  # never awaited

    run(main())
    with store.lock("x", ttl=30, timeout=PATIENCE) as guard:
        assert guard.is_held


def test_without_a_loop_it_says_so(store):
    with pytest.raises(RuntimeError, match="no running event loop"):
        store.lock("x").acquire_async()


def test_latches_are_awaited(store):
    async def main():
        latch = store.latch("x", 1)
        waiting = asyncio.ensure_future(latch.wait_async())
        await asyncio.sleep(0.05)
        latch.arrive("m")
        assert await waiting == 0
        assert await store.barrier("b", 1).wait_async("m") == 0
        with pytest.raises(leaselock.Timeout):
            await store.barrier("c", 2).wait_async("m", 0.05)

    run(main())


def test_losses_are_told_while_the_loop_is_blocked(store):
    reasons = []

    async def main():
        guard = await store.lock("x", ttl=2).acquire_async()
        guard.on_lost(reasons.append)
        store.lock("x").break_lease(force=True)
        end = time.monotonic() + PATIENCE
        while not reasons and time.monotonic() < end:
            time.sleep(0.01)
        assert reasons

    run(main())
