"""What ``async with`` does."""

from __future__ import annotations

from . import _leaselock


async def enter(lock: _leaselock.Lock) -> _leaselock.Guard:
    """Acquire a lock for a block.

    A coroutine, and not a future: between the guard and the block there is no moment in which the task could be
    cancelled, so that nobody would leave what has been entered.
    """
    guard = await lock.acquire_async()
    lock._entered(guard)
    return guard
