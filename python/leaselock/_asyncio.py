"""What takes a coroutine of Python's: blocks, and work that ends with the lease."""

from __future__ import annotations

from .errors import LeaselockError, Lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Awaitable, Callable, Protocol, TypeVar

    from . import _leaselock

    T = TypeVar("T")

    class Lease(Protocol):
        @property
        def loss(self) -> str | None: ...
        def check(self) -> None: ...
        def lost_async(self) -> Awaitable[str | None]: ...


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


async def run(lease: Lease, work: Awaitable[T]) -> T:
    """Await ``work`` while the lease is held: it is cancelled when the lease is lost, and ``Lost`` is raised."""
    import asyncio

    working, lost = asyncio.ensure_future(work), asyncio.ensure_future(lease.lost_async())
    try:
        await asyncio.wait({working, lost}, return_when=asyncio.FIRST_COMPLETED)
        if lost.done() and lost.result() is None:  # It was given back.
            await asyncio.wait({working})
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
            lease.check()
        done = working.result()
        # Work that never awaited anything may have outlived the lease.
        if lease.loss is not None:
            lease.check()
        return done
    finally:
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
        lost.cancel()


async def lead(election: _leaselock.Election, work: Callable[[_leaselock.Guard], Awaitable[T]]) -> T:
    """Campaign, and run ``work`` as the leader, anew in each term, until it is done in one."""
    while True:
        guard = await election.acquire_async(forever=True)
        try:
            done = await run(guard, work(guard))
        except BaseException as error:
            over = isinstance(error, Lost) and guard.loss is not None
            try:
                await guard.release_async()
            except LeaselockError:
                pass  # What went wrong in the work matters more.
            if not over:
                raise
            continue
        try:
            await guard.release_async()
        except LeaselockError:
            pass  # What the work came to is worth more than what the store says now.
        return done
