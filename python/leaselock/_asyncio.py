"""What takes a coroutine of Python's: blocks, and work that ends with the lease."""

from __future__ import annotations

from .errors import LeaselockError, Lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Awaitable, Callable, Coroutine, Protocol, TypeVar

    from . import _leaselock

    T = TypeVar("T")

    class Lease(Protocol):
        @property
        def loss(self) -> str | None: ...
        def check(self) -> None: ...
        def lost_async(self) -> Coroutine[Any, Any, str | None]: ...


async def enter(lock: _leaselock.Lock) -> _leaselock.Guard:
    """Acquire a lock for a block.

    A coroutine, and not a future: between the guard and the block there is no moment in which the task could be
    cancelled, so that nobody would leave what has been entered.
    """
    guard = await lock.acquire_async()
    lock._entered(guard)
    return guard


async def entered(thing: T) -> T:
    """Enter what is there already: a coroutine for the same reason."""
    return thing


async def awaited(call: _leaselock.Awaited) -> Any:
    """Do what was asked for."""
    return await call.begin()


async def run(lease: Lease, work: Awaitable[T]) -> T:
    """Await ``work`` while the lease is held: it is cancelled when the lease is lost, and ``Lost`` is raised."""
    import asyncio

    try:
        lease.check()
        lost = asyncio.ensure_future(lease.lost_async())
    except BaseException:
        if asyncio.iscoroutine(work):
            work.close()  # It has not begun, and nobody is told that it was never awaited.
        raise
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait({working, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and lost.result() is None:  # It was given back.
            await asyncio.wait({working})
    except GeneratorExit:  # Nothing can be awaited any more.
        working.cancel()
        raise
    except BaseException:
        await _ended(working)
        raise
    finally:
        lost.cancel()
    if not working.done():
        await _ended(working)
        try:
            lease.check()
        except Lost as reason:
            raise reason from (None if working.cancelled() else working.exception())
    done = working.result()
    # Work that never awaited anything may have outlived the lease.
    if lease.loss is not None:
        lease.check()
    return done


async def _ended(working: asyncio.Future[Any]) -> None:
    """Cancel what is under way and wait until it has ended, however often this is cancelled meanwhile.

    Until then the lock must not be given back.
    """
    import asyncio

    cancelled = None
    while not working.done():
        working.cancel()
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError as error:
            cancelled = error
    if not working.cancelled():
        working.exception()  # Seen: what is raised is something else.
    if cancelled is not None:
        raise cancelled


async def lead(election: _leaselock.Election, work: Callable[[_leaselock.Guard], Awaitable[T]]) -> T:
    """Campaign, and run ``work`` as the leader, anew in each term, until it is done in one."""
    while True:
        guard = await election.acquire_async(forever=True)
        try:
            done = await run(guard, work(guard))
        except GeneratorExit:  # Nothing can be awaited any more; a guard that is dropped gives its lock back.
            raise
        except BaseException as error:
            await _give_back(guard)  # What went wrong in the work matters more.
            if isinstance(error, Lost) and guard.loss is not None:
                continue
            raise
        await _give_back(guard)  # What the work came to is worth more than what the store says now.
        return done


async def _give_back(guard: _leaselock.Guard) -> None:
    try:
        await guard.release_async()
    except LeaselockError:
        pass
