"""The same in asyncio."""

import asyncio
import contextlib
import gc
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
        lock = store.lock("x", polling=leaselock.Polling.fast())
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
        tasks.append(asyncio.ensure_future(store.lock("x").acquire_async()))
        await asyncio.sleep(0)

    tasks = []
    run(main())
    with store.lock("x", ttl=30, timeout=PATIENCE) as guard:
        assert guard.is_held


def test_calls_are_coroutines(store):
    guard = asyncio.run(store.lock("x").acquire_async())
    assert asyncio.run(guard.release_async()) is True

    async def main():
        guard = await asyncio.create_task(store.lock("x").acquire_async())
        assert guard.is_held
        again = guard.release_async()
        assert await again is True
        with pytest.raises(RuntimeError):
            await again

    run(main())


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


def test_a_lease_at_risk_is_told_of(store):
    async def main():
        guard = await store.lock("x", ttl=2, keeper=False).acquire_async()
        assert await guard.at_risk_async() is True  # Half of its time passes without a renewal.
        assert guard.is_at_risk or not guard.is_held
        await guard.lost_async()
        assert await guard.at_risk_async() is False
        async with store.lock("y", ttl=30) as guard:
            waiting = asyncio.ensure_future(guard.at_risk_async())
            await asyncio.sleep(0)
        assert await waiting is False

    run(main())


def test_every_method_that_waits_has_a_twin():
    # What does not wait, or is for asyncio alone.
    plain = {
        leaselock.Guard: {"check", "touch", "on_lost", "fence", "lost_async", "at_risk_async", "run_async"},
        leaselock.Lock: set(),
        leaselock.Election: {"observe", "lead_async"},
        leaselock.Fence: set(),
        leaselock.Claimed: set(),
        leaselock.Objects: set(),
        leaselock.Latch: set(),
        leaselock.Barrier: set(),
        leaselock.Once: set(),
        leaselock.Run: {"check", "lost_async"},
        leaselock.Session: {"lock", "read_lock", "write_lock", "semaphore", "check", "on_lost", "lost_async"},
        leaselock.Store: {
            *("lock", "read_lock", "write_lock", "semaphore", "lock_all", "election", "once", "start_once"),
            *("latch", "barrier", "list", "names", "objects"),
        },
    }
    for kind, known in plain.items():
        names = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
        waiting = {name for name in names - known if not name.endswith("_async")}
        assert {f"{name}_async" for name in waiting} == {n for n in names - known if n.endswith("_async")}, kind


def test_sessions_and_what_is_held_under_them(store):
    async def main():
        async with await store.session_async(ttl=30) as session:
            assert 0 < session.remaining <= 27
            async with session.write_lock("table"):
                assert await session.read_lock("table").try_acquire_async() is None
            async with session.read_lock("table"), session.read_lock("table"):
                pass
            guard = await session.lock("x").acquire_async()
        assert not session.is_held and session.remaining == 0
        assert not guard.is_held

    run(main())


def test_writers_leases_and_limits(store):
    async def main():
        writer = await store.write_lock("w").acquire_async()
        async with await writer.downgrade_async() as reader:
            assert reader.is_held and reader.loss is None
        left = await (await store.lock("x", ttl=30, keeper=False).acquire_async()).detach_async()
        async with await store.lock("x").resume_async(left["holder"]) as guard:
            assert guard.token == left["token"]
        left = await (await store.lock("x", ttl=30, keeper=False).acquire_async()).detach_async()
        await store.lock("x").release_detached_async(left["holder"])
        async with store.semaphore("s", 3):
            await store.semaphore("s", 3).resize_async(4)
        held = await store.lock("x", owner="me").acquire_async()
        broken = await store.lock("x").break_lease_async(expect=held.token, reason="test")
        assert broken["holder"] == held.id and "me" in broken["owner"] and not broken["repaired"]

    run(main())


def test_objects_and_fences(store):
    async def main():
        objects = store.objects()
        await objects.put_new_async("data/a", b"1")
        with pytest.raises(leaselock.AlreadyExists):
            await objects.put_new_async("data/a", b"2")
        assert await objects.update_async("data/a", lambda old: old + b"2") == b"12"
        assert await objects.read_async("data/a") == b"12"
        async with store.lock("x") as guard:
            claimed = await guard.fence().claim_async("data/b")
            await claimed.put_async(b"3")
            assert claimed.data == b"3"
            await guard.fence().put_fenced_async("data/c", b"4")
            await guard.fence().put_new_async("data/d", b"5")
        assert await objects.read_async("data/b") == b"3"

    run(main())


def test_lists_diagnoses_and_gatherings(store):
    async def main():
        for name in "abc":
            await (await store.lock(f"l/{name}").acquire_async()).release_async()
        assert sorted([info["name"] async for info in store.list("l/")]) == ["l/a", "l/b", "l/c"]
        assert sorted([name async for name in store.names("l/")]) == ["l/a", "l/b", "l/c"]
        assert (await store.diagnose_async())["fit"] is True
        latch = store.latch("latch", 1)
        assert (await latch.arrive_async("m"))["open"]
        assert (await latch.inspect_async())["arrived"] == 1
        assert await latch.reset_async(epoch=0) == 1
        assert await latch.reset_async(epoch=0) == 1
        barrier = store.barrier("barrier", 2)
        assert (await barrier.arrive_async("m"))["arrived"] == 1
        assert (await barrier.inspect_async())["epoch"] == 0
        await store.shutdown_async()
        with pytest.raises(leaselock.ShutDown):
            await store.lock("x").acquire_async()

    run(main())


def test_work_is_run_once(store):
    runs = []

    @store.once("pay/{order}")
    async def pay(order):
        await asyncio.sleep(0)
        runs.append(order)
        return {"paid": order}

    async def main():
        paid = await asyncio.gather(*(pay(7) for _ in range(4)))
        assert paid == [{"paid": 7}] * 4 and runs == [7]
        once = store.once("pay/7")
        assert (await once.inspect_async())["state"] == "done"
        await once.forget_async(force=True)
        assert await pay(order=7) == {"paid": 7} and runs == [7, 7]

        async def fail():
            raise OSError("the disk is full")

        with pytest.raises(OSError, match="disk"):
            await store.once("x").run_async(fail)
        assert (await store.once("x").inspect_async())["state"] == "free"

    run(main())


def test_work_that_ended_as_it_was_cancelled_is_not_run_again(store):
    async def main():
        once = store.once("pay/7")

        async def pay():
            paying.cancel()
            return {"paid": 7}

        paying = asyncio.ensure_future(once.run_async(pay))
        with pytest.raises(asyncio.CancelledError):
            await paying
        assert await once.run_async(asyncio.sleep, PATIENCE) == {"paid": 7}

    run(main())


def test_work_ends_with_its_lease(store):
    async def main():
        ended = []

        async def work():
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                ended.append(True)
                raise

        guard = await store.lock("x", ttl=2).acquire_async()
        working = asyncio.ensure_future(guard.run_async(work()))
        lost = guard.lost_async()
        await asyncio.sleep(0)
        await store.lock("x").break_lease_async(force=True)
        with pytest.raises(leaselock.Lost, match="broken|lost"):
            await working
        assert ended == [True] and await lost == guard.loss
        # Work that swallows its cancellation comes to nothing either.
        guard = await store.lock("x", ttl=2).acquire_async()

        async def stubborn():
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                return "done"

        working = asyncio.ensure_future(guard.run_async(stubborn()))
        await asyncio.sleep(0)
        await store.lock("x").break_lease_async(force=True)
        with pytest.raises(leaselock.Lost):
            await working

    run(main())


def test_work_that_ends_in_time_is_not_touched(store):
    async def main():
        async def work(fails=False):
            await asyncio.sleep(0.01)
            if fails:
                raise OSError("the disk is full")
            return 7

        async with store.lock("x") as guard:
            assert await guard.run_async(work()) == 7
            with pytest.raises(OSError, match="disk"):
                await guard.run_async(work(fails=True))
            working = asyncio.ensure_future(guard.run_async(asyncio.sleep(PATIENCE)))
            await asyncio.sleep(0.01)
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            assert guard.is_held

        async def gives_back(guard):
            await guard.release_async()
            await asyncio.sleep(0.01)
            return 8

        guard = await store.lock("x").acquire_async()
        assert await guard.run_async(gives_back(guard)) == 8
        assert await guard.lost_async() is None

    run(main())


def test_a_leader_begins_anew_in_each_term(store):
    async def main():
        election = store.election("x", ttl=2, owner="me", payload={"at": "here"})
        terms = []

        async def reconcile(guard):
            terms.append(guard.token)
            if len(terms) == 1:
                await store.lock("x").break_lease_async(force=True)
                await asyncio.sleep(PATIENCE)
            return "done"

        assert await election.lead_async(reconcile) == "done"
        assert len(terms) == 2 and terms[0] < terms[1]
        assert await election.leader_async() is None

        async def fail(guard):
            raise leaselock.Lost("of something else")

        with pytest.raises(leaselock.Lost, match="something else"):
            await election.lead_async(fail)
        assert await election.leader_async() is None

    run(main())


def test_who_leads_is_followed(store):
    async def main():
        election = store.election("x", owner="me", payload={"at": "here"})
        seen = election.observe()
        assert await seen.__anext__() is None
        async with election as guard:
            leader = await seen.__anext__()
            assert leader["term"] == guard.token and leader["id"] == guard.id
            assert leader["payload"] == {"at": "here"} and "me" in leader["owner"]
            assert leader == await election.leader_async()
            # Who no longer wants to know loses nothing for others.
            waiting = asyncio.ensure_future(seen.__anext__())
            await asyncio.sleep(0.05)
            waiting.cancel()
        async for leader in seen:
            assert leader is None
            break

    run(main())


def test_a_block_is_left_by_another_task(store):
    """As asynchronous generators are that are not used up, and exit stacks that are entered in tasks."""

    async def main():
        lock = store.lock("x")

        async def holding():
            async with lock:
                yield

        async for _ in holding():
            break
        gc.collect()
        async with store.lock("x", timeout=PATIENCE):
            pass
        stack = contextlib.AsyncExitStack()
        await asyncio.ensure_future(stack.enter_async_context(lock))
        assert store.lock("x").try_acquire() is None
        await stack.aclose()
        async with store.lock("x", timeout=PATIENCE):
            pass
        with pytest.raises(RuntimeError, match="not been entered"):
            await lock.__aexit__(None, None, None)

    run(main())


def test_work_that_tidies_up_keeps_its_lock_until_it_has(store):
    """However often it is cancelled."""

    async def main():
        seen = []

        async def work():
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                for _ in range(5):
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.05)
                seen.append(store.lock("x").try_acquire() is None)

        async def under(run_it):
            task = asyncio.ensure_future(run_it)
            for _ in range(3):
                await asyncio.sleep(0.02)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async def held():
            async with store.lock("x") as guard:
                await guard.run_async(work())

        async def led(guard):
            await work()

        await under(held())
        await under(store.election("x", timeout=PATIENCE).lead_async(led))
        assert seen == [True, True]

        async def once():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(PATIENCE)
            await asyncio.sleep(0.1)
            seen.append(store.once("y").inspect()["state"])

        await under(store.once("y").run_async(once))
        assert seen[2:] in ([], ["held"])

    run(main())


def test_work_is_not_begun_without_its_lock(store):
    async def main():
        begun = []

        async def work():
            begun.append(True)

        guard = await store.lock("x", ttl=2).acquire_async()
        await guard.release_async()
        with pytest.raises(leaselock.Lost, match="given back"):
            await guard.run_async(work())
        with pytest.raises(leaselock.Lost):
            async with guard:
                begun.append(True)
        assert begun == []

    run(main())


def test_what_goes_wrong_in_the_end_is_the_cause(store):
    async def main():
        async def work():
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                raise OSError("the disk is full")

        guard = await store.lock("x", ttl=2).acquire_async()
        working = asyncio.ensure_future(guard.run_async(work()))
        await asyncio.sleep(0.01)
        await store.lock("x").break_lease_async(force=True)
        with pytest.raises(leaselock.Lost) as lost:
            await working
        assert isinstance(lost.value.__cause__, OSError)

    run(main())


def test_callbacks_that_wait_are_in_nobodys_way(store):
    """Neither of each other, nor of what is awaited."""

    async def main():
        loop = asyncio.get_running_loop()
        told = []
        held = store.lock("other").acquire()

        async def awaiting():
            async with store.lock("third"):
                told.append("third")

        async def acquired():
            async with store.lock("free", timeout=PATIENCE):
                return True

        def waits(reason):
            with store.lock("other"):
                told.append("other")

        guards = [await store.lock(f"l/{number}", ttl=2).acquire_async() for number in range(3)]
        guards[0].on_lost(waits)
        guards[1].on_lost(lambda reason: asyncio.run_coroutine_threadsafe(awaiting(), loop).result())
        guards[2].on_lost(lambda reason: told.append("at once"))
        for guard in guards:
            await store.lock(guard.name).break_lease_async(force=True)
        for guard in guards:
            await guard.lost_async()
        assert await acquired()
        while len(told) < 2:
            await asyncio.sleep(0.01)
        assert sorted(told) == ["at once", "third"]
        held.release()
        while len(told) < 3:
            await asyncio.sleep(0.01)

    run(main())


def test_an_update_may_wait(url):
    store = leaselock.open(url)

    async def main():
        held = await store.lock("x").acquire_async()

        def change(old):
            with store.lock("x", timeout=PATIENCE):
                return b"1"

        changing = asyncio.ensure_future(store.objects().update_async("data/x", change))
        await asyncio.sleep(0.05)
        async with store.lock("y"):
            pass
        await held.release_async()
        assert await changing == b"1"
        for _ in range(3):
            count = await store.objects().update_async("data/x", lambda old: old + b"1")
        assert count == b"1111"

    run(main())


def test_coroutines_that_are_closed_leave_nothing_behind(store):
    """As those are whose loop has ended: they cannot await anything any more."""

    async def main():
        async def work(_=None):
            await asyncio.sleep(PATIENCE)

        guard = await store.lock("x").acquire_async()
        for begun in [
            guard.run_async(work()),
            store.election("y").lead_async(work),
            store.once("z").run_async(work),
        ]:
            begun.send(None)
            await asyncio.sleep(0.05)
            begun.close()
        assert guard.is_held
        await guard.release_async()
        async with store.election("y", timeout=PATIENCE):
            pass
        assert await store.once("z", timeout=PATIENCE).run_async(asyncio.sleep, 0) is None

    run(main())
