"""Distributed locks with no lock server: leases on the object storage you already have.

>>> import leaselock
>>> store = leaselock.open("memory:///")           # or s3://bucket/locks, file:///var/locks, …
>>> with store.lock("etl/nightly", ttl=30, timeout=600) as guard:
...     guard.is_held
True

A lease is renewed in the background, by a thread that never waits for the interpreter's lock. When it cannot be, the
guard says so *before* anybody else may take over: ``guard.is_held`` turns false, ``guard.check()`` raises ``Lost``, and
what was given to ``guard.on_lost`` is called. What a guard cannot do is to stop a process that was paused between
asking it and acting: pass ``guard.token`` along, or write by ``guard.fence()``.

Times are seconds, or ``datetime.timedelta``. Every method that waits has a twin ``…_async``, a coroutine for
asyncio; ``async with store.lock(…)`` works as ``with`` does, and ``async for`` as ``for``.
"""

from __future__ import annotations

import atexit
import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing would take most of the time that the import takes.
    from typing import Any, Mapping, Optional, Sequence

    from ._leaselock import Seconds

from . import _leaselock
from ._leaselock import (
    Barrier,
    Claimed,
    Election,
    Fence,
    Guard,
    Latch,
    Lock,
    Objects,
    Polling,
    Run,
    Session,
    Store,
    WakeHints,
    __version__,
)
from ._once import Once
from .errors import (
    AlreadyExists,
    Conflict,
    EpochMismatch,
    Fenced,
    Forked,
    InvalidName,
    InvalidOptions,
    InvalidUrl,
    LeaselockError,
    LimitMismatch,
    Lost,
    MissingCredentials,
    NotHeld,
    OutsideRoot,
    PermissionDenied,
    ShutDown,
    StoreAbsent,
    Timeout,
    TokenMismatch,
    Unavailable,
    Unconfirmed,
    UnfitStore,
    UnreadableRecord,
    WrongKind,
)

__all__ = [
    "AlreadyExists",
    "Barrier",
    "Claimed",
    "Conflict",
    "Election",
    "EpochMismatch",
    "Fence",
    "Fenced",
    "Forked",
    "Guard",
    "InvalidName",
    "InvalidOptions",
    "InvalidUrl",
    "Latch",
    "LeaselockError",
    "LimitMismatch",
    "Lock",
    "Lost",
    "MissingCredentials",
    "NotHeld",
    "Objects",
    "Once",
    "OutsideRoot",
    "PermissionDenied",
    "Polling",
    "Quorum",
    "Run",
    "Session",
    "ShutDown",
    "Store",
    "StoreAbsent",
    "Timeout",
    "TokenMismatch",
    "Unavailable",
    "Unconfirmed",
    "UnfitStore",
    "UnreadableRecord",
    "WakeHints",
    "WrongKind",
    "__version__",
    "log_level",
    "open",
]

_stores: "weakref.WeakSet[Store]" = weakref.WeakSet()


def open(  # noqa: A001 (leaselock.open)
    url: str,
    *,
    prefix: Optional[str] = None,
    check: bool = True,
    options: Optional[Mapping[str, object]] = None,
    wake_hints: Optional[WakeHints] = None,
    **more: object,
) -> Store:
    """Open the store at ``url``; nothing is sent before a lock is used.

    ``url`` is ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``, ``file:///directory``, or
    ``memory:///`` for tests. Credentials come from the usual environment variables. Options of the store can be given
    in a mapping (``options={"aws_region": "eu-central-1"}``), as keywords (``aws_region="eu-central-1"``, or without the
    provider's name as other libraries have them: ``region=…``, ``endpoint=…``, ``allow_http=True``), or in the URL
    (``s3://bucket?aws_region=…``).

    ``check=False`` leaves out the check that the store honours conditional writes, once in each process: a store that
    does not gives a lock to two holders at once. ``wake_hints``: whoever gives a lock back tells who waits for it in a
    queue, so that nobody has to look.

    Raises ``InvalidUrl``, ``InvalidOptions``, ``MissingCredentials``; for a directory, ``StoreAbsent`` and
    ``PermissionDenied``.
    """
    given = {key: _text(value) for key, value in {**(options or {}), **more}.items() if value is not None}
    store = _leaselock.open(url, given, prefix, check, wake_hints)
    _stores.add(store)
    return store


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Quorum:
    """Locks on a majority of independent stores, an odd number of them: they survive the outage of a minority."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = list(stores)

    def lock(
        self,
        name: str,
        *,
        ttl: Optional[Seconds] = None,
        timeout: Optional[Seconds] = None,
        renew_every: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
        max_hold: Optional[Seconds] = None,
        payload: Any = None,
    ) -> Lock:
        """The lock called ``name`` on all of the stores; parameters as of ``Store.lock``."""
        return _leaselock.quorum(
            self._stores,
            name,
            ttl=ttl,
            timeout=timeout,
            renew_every=renew_every,
            owner=owner,
            note=note,
            max_hold=max_hold,
            payload=payload,
        )


def log_level(level: int) -> None:
    """Let the logger ``leaselock`` have what the library logs from this level on (``logging.INFO``, …).

    Warnings and errors unless this is called. Each line costs a hand-over to Python.
    """
    _leaselock.log_to_python(max(0, min(level, 50)))


def _end() -> None:
    """Give back what is held when the interpreter ends; what cannot be given back ends by itself."""
    _leaselock.end(list(_stores))


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leaselock.forked)
log_level(30)
