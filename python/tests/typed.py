"""What a typed program looks like: checked by mypy and pyright, not run."""

from __future__ import annotations

from datetime import timedelta

import leaselock


def work(store: leaselock.Store) -> int:
    with store.lock("etl/nightly", ttl=30, timeout=timedelta(minutes=10)) as guard:
        guard.check()
        token = guard.token
        assert token is not None
        manifest = guard.fence().claim("tables/events/manifest.json")
        manifest.put((manifest.data or b"") + b"one\n")
        return token


async def work_in_asyncio(store: leaselock.Store) -> bool:
    async with store.semaphore("permits", 3, permits=2) as guard:
        await guard.renew_async()
    taken = await store.lock("x").try_acquire_async()
    return taken is not None and await taken.release_async()


async def lead(store: leaselock.Store) -> str:
    async def reconcile(guard: leaselock.Guard) -> str:
        return f"term {guard.token}"

    async for leader in store.election("x").observe():
        if leader is None:
            return await store.election("x").lead_async(reconcile)
    async with await store.session_async() as session, session.lock("x") as guard:
        return await guard.run_async(reconcile(guard))


async def pay_once_in_asyncio(store: leaselock.Store) -> str:
    @store.once("pay/{order}")
    async def pay(order: int) -> str:
        return f"paid {order}"

    return await pay(7)


def count(store: leaselock.Store) -> list[str]:
    store.objects().update("count", lambda old: (old or b"") + b"1")
    return [info["name"] for info in store.list()]


def pay_once(store: leaselock.Store) -> str:
    @store.once("pay/{order}", retention=3600)
    def pay(order: int) -> str:
        return f"paid {order}"

    return pay(7)


def several(stores: list[leaselock.Store]) -> dict[str, int]:
    with leaselock.Quorum(stores).lock("x", ttl=10) as guard:
        return guard.tokens
