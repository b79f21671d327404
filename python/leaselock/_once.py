"""Work that is run once."""

from __future__ import annotations

from . import _leaselock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    T = TypeVar("T")


class Once:
    """Work that is run once under a key: made by ``Store.once``, called, or put before a function."""

    def __init__(self, store: _leaselock.Store, key: str, terms: dict[str, Any]) -> None:
        self._store, self._key, self._terms = store, key, terms

    def run(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run ``work``, or return what it has returned before, here or elsewhere, as JSON keeps it.

        What it raises is raised, and it may be run again at once. Raises ``Lost`` when the lease was lost before the
        result was recorded, ``Unconfirmed`` when that is not known, ``Timeout`` when somebody else runs it for longer
        than ``timeout``.
        """
        started = self._store.start_once(self._key, **self._terms).start()
        if isinstance(started, dict):
            recorded: T = started["result"]
            return recorded
        try:
            result = work(*arguments, **named)
        except BaseException:
            started.give_back()
            raise
        started.finish(result)
        return result

    def inspect(self) -> dict[str, Any]:
        """What the record says, as ``leaselock show --once --json`` prints it."""
        return self._store.start_once(self._key, **self._terms).inspect()

    def __call__(self, work: Callable[..., T]) -> Callable[..., T]:
        """Decorate a function: ``{name}`` in the key is its argument of that name."""
        import functools
        import inspect

        signature = inspect.signature(work)

        @functools.wraps(work)
        def once(*arguments: Any, **named: Any) -> T:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            key = self._key.format_map(bound.arguments)
            return Once(self._store, key, self._terms).run(work, *arguments, **named)

        return once
