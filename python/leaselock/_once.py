"""Work that is run once."""

from __future__ import annotations

from . import _leaselock
from .errors import LeaselockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Coroutine, TypeVar

    from typing_extensions import ParamSpec

    P = ParamSpec("P")

    T = TypeVar("T")


class Once:
    """Work that is run once under a key: made by ``Store.once``, called, or put before a function."""

    def __init__(self, store: _leaselock.Store, key: str, terms: dict[str, Any]) -> None:
        self._store, self._key, self._terms = store, key, terms
        self._native()  # Terms that there are not are told at once.

    def _native(self) -> _leaselock._NativeOnce:
        return self._store.start_once(self._key, **self._terms)

    def run(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run ``work``, or return what it has returned before, here or elsewhere, as JSON keeps it: tuples are lists.

        Whoever runs it gets what it returns as it is. What it raises is raised, and it may be run again at once, as
        when JSON does not have its result or that is longer than 64 KiB. Raises ``Lost`` when the lease was lost before the
        result was recorded, ``Unconfirmed`` when that is not known, ``Timeout`` when somebody else runs it for longer
        than ``timeout``.
        """
        started = self._native().start()
        if isinstance(started, dict):
            recorded: T = started["result"]
            return recorded
        try:
            result = work(*arguments, **named)
            started.finish(result)
        except BaseException:
            try:
                started.give_back()
            except LeaselockError:
                pass  # What went wrong matters more; the lease ends by itself.
            raise
        return result

    async def run_async(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **named: Any) -> T:
        """The same for work that is awaited. It is cancelled when the lease is lost, and ``Lost`` raised."""
        import asyncio

        from ._asyncio import run

        started = await self._native().start_async()
        if isinstance(started, dict):
            recorded: T = started["result"]
            return recorded
        results: list[T] = []

        async def working() -> None:
            results.append(await work(*arguments, **named))

        try:
            try:
                await run(started, working())
            except asyncio.CancelledError:
                if results:  # The work has ended all the same, and is not to be run again.
                    await started.finish_async(results[0])
                raise
            await started.finish_async(results[0])
        except GeneratorExit:  # Nothing can be awaited any more; a run that is dropped gives its key back.
            raise
        except BaseException:
            try:
                await started.give_back_async()
            except LeaselockError:
                pass
            raise
        return results[0]

    def inspect(self) -> dict[str, Any]:
        """What the record says, as ``leaselock show --once --json`` prints it."""
        return self._native().inspect()

    async def inspect_async(self) -> dict[str, Any]:
        """As ``inspect``."""
        return await self._native().inspect_async()

    def forget(self, **order: Any) -> _leaselock.Broken:
        """End a run that is under way, or forget a result: the next to ask runs the work.

        For operators; ``expect``, ``force``, ``reason`` and ``by`` as of ``Lock.break_lease``.
        """
        return self._native().forget(**order)

    async def forget_async(self, **order: Any) -> _leaselock.Broken:
        """As ``forget``."""
        return await self._native().forget_async(**order)

    def __call__(self, work: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function, or a coroutine function: ``{name}`` in the key is its argument of that name."""
        import functools
        import inspect
        import string

        signature = inspect.signature(work)
        for _, field, _, _ in string.Formatter().parse(self._key):
            name = (field or "").replace("[", ".").split(".")[0]
            if field is not None and name not in signature.parameters:
                raise ValueError(f"the key {self._key!r} names {name!r}, which {work.__name__} does not take")

        def keyed(arguments: Any, named: Any) -> Once:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            return Once(self._store, self._key.format_map(bound.arguments), self._terms)

        if inspect.iscoroutinefunction(work):

            @functools.wraps(work)
            async def once_async(*arguments: Any, **named: Any) -> Any:
                return await keyed(arguments, named).run_async(work, *arguments, **named)

            return once_async  # type: ignore[return-value]  # A coroutine function, as it was.

        @functools.wraps(work)
        def once(*arguments: P.args, **named: P.kwargs) -> T:
            return keyed(arguments, named).run(work, *arguments, **named)

        return once
