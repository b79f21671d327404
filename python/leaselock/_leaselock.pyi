"""Types of the native part."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Optional, TypedDict, Union, final

from ._once import Once

__version__: str

Seconds = Union[float, timedelta]

class LeftLease(TypedDict):
    """A lease that was left on record."""

    name: str
    holder: str
    token: int
    ttl: float
    deadline: float

class Arrival(TypedDict):
    """How a latch or a barrier stands."""

    epoch: int
    arrived: int
    needed: int
    open: bool

@final
class Guard:
    @property
    def name(self) -> str: ...
    @property
    def token(self) -> Optional[int]: ...
    @property
    def tokens(self) -> dict[str, int]: ...
    @property
    def id(self) -> Optional[str]: ...
    @property
    def is_held(self) -> bool: ...
    @property
    def is_at_risk(self) -> bool: ...
    @property
    def remaining(self) -> float: ...
    def check(self) -> None: ...
    def touch(self) -> None: ...
    def renew(self) -> None: ...
    def renew_async(self) -> Awaitable[None]: ...
    def set_payload(self, payload: Any) -> None: ...
    def set_payload_async(self, payload: Any) -> Awaitable[None]: ...
    def release(self) -> bool: ...
    def release_async(self) -> Awaitable[bool]: ...
    def on_lost(self, callback: Callable[[str], object]) -> None: ...
    def fence(self, name: Optional[str] = None) -> Fence: ...
    def downgrade(self) -> Guard: ...
    def detach(self) -> LeftLease: ...
    def __enter__(self) -> Guard: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        _exc: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> Literal[False]: ...

@final
class Lock:
    @property
    def name(self) -> str: ...
    def acquire(self, timeout: Optional[Seconds] = None, *, forever: bool = False) -> Guard: ...
    def acquire_async(self, timeout: Optional[Seconds] = None, *, forever: bool = False) -> Awaitable[Guard]: ...
    def try_acquire(self) -> Optional[Guard]: ...
    def try_acquire_async(self) -> Awaitable[Optional[Guard]]: ...
    def inspect(self) -> dict[str, Any]: ...
    def inspect_async(self) -> Awaitable[dict[str, Any]]: ...
    def resize(self, limit: int) -> None: ...
    def resume(self, holder: str) -> Guard: ...
    def release_detached(self, holder: str) -> None: ...
    def break_lease(
        self,
        *,
        expect: Optional[int] = None,
        force: bool = False,
        reason: Optional[str] = None,
        by: Optional[str] = None,
    ) -> None: ...
    def __enter__(self) -> Guard: ...
    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        _exc: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> Literal[False]: ...
    def _entered(self, guard: Guard) -> None: ...
    def __aenter__(self) -> Awaitable[Guard]: ...
    def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        _exc: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> Awaitable[None]: ...

@final
class Fence:
    @property
    def token(self) -> int: ...
    def put_new(self, path: str, data: bytes) -> None: ...
    def put_new_async(self, path: str, data: bytes) -> Awaitable[None]: ...
    def put_fenced(self, path: str, data: bytes) -> None: ...
    def put_fenced_async(self, path: str, data: bytes) -> Awaitable[None]: ...
    def claim(self, path: str) -> Claimed: ...
    def claim_async(self, path: str) -> Awaitable[Claimed]: ...

@final
class Claimed:
    @property
    def path(self) -> str: ...
    @property
    def token(self) -> int: ...
    @property
    def data(self) -> Optional[bytes]: ...
    def put(self, data: bytes) -> None: ...

@final
class Latch:
    def arrive(self, member: str) -> Arrival: ...
    def wait(self, timeout: Optional[Seconds] = None) -> int: ...
    def wait_async(self, timeout: Optional[Seconds] = None) -> Awaitable[int]: ...
    def inspect(self) -> dict[str, Any]: ...
    def reset(self) -> int: ...

@final
class Barrier:
    def wait(
        self, member: str, timeout: Optional[Seconds] = None, *, epoch: Optional[int] = None
    ) -> int: ...
    def wait_async(
        self, member: str, timeout: Optional[Seconds] = None, *, epoch: Optional[int] = None
    ) -> Awaitable[int]: ...
    def inspect(self) -> dict[str, Any]: ...

@final
class Run:
    @property
    def is_held(self) -> bool: ...
    @property
    def token(self) -> int: ...
    def finish(self, result: Any) -> None: ...
    def give_back(self) -> None: ...

@final
class _NativeOnce:
    def start(self) -> Union[Run, dict[str, Any]]: ...
    def inspect(self) -> dict[str, Any]: ...

@final
class Session:
    @property
    def is_held(self) -> bool: ...
    def lock(
        self,
        name: str,
        *,
        timeout: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
    ) -> Lock: ...
    def semaphore(
        self,
        name: str,
        limit: int,
        *,
        permits: int = 1,
        timeout: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
    ) -> Lock: ...
    def close(self) -> None: ...
    def __enter__(self) -> Session: ...
    def __exit__(self, *_raised: object) -> Literal[False]: ...

@final
class Store:
    @property
    def url(self) -> str: ...
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
        min_hold: Optional[Seconds] = None,
        progress_within: Optional[Seconds] = None,
        payload: Any = None,
        fair: bool = False,
        keeper: bool = True,
        store_clock: bool = True,
        local_handover: bool = True,
        fast: bool = False,
        trust_wall_clock: Optional[Seconds] = None,
    ) -> Lock: ...
    def read_lock(
        self,
        name: str,
        *,
        ttl: Optional[Seconds] = None,
        timeout: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
        max_hold: Optional[Seconds] = None,
    ) -> Lock: ...
    def write_lock(
        self,
        name: str,
        *,
        ttl: Optional[Seconds] = None,
        timeout: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
        max_hold: Optional[Seconds] = None,
    ) -> Lock: ...
    def semaphore(
        self,
        name: str,
        limit: int,
        *,
        permits: int = 1,
        ttl: Optional[Seconds] = None,
        timeout: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
        max_hold: Optional[Seconds] = None,
    ) -> Lock: ...
    def lock_all(
        self,
        names: Sequence[str],
        *,
        ttl: Optional[Seconds] = None,
        timeout: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
        max_hold: Optional[Seconds] = None,
    ) -> Lock: ...
    def election(
        self,
        name: str,
        *,
        ttl: Optional[Seconds] = None,
        timeout: Optional[Seconds] = None,
        renew_every: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
        payload: Any = None,
    ) -> Lock: ...
    def once(
        self,
        key: str,
        *,
        ttl: Optional[Seconds] = None,
        timeout: Optional[Seconds] = None,
        retention: Optional[Seconds] = None,
        owner: Optional[str] = None,
        note: Optional[str] = None,
        max_hold: Optional[Seconds] = None,
    ) -> Once: ...
    def start_once(self, key: str, **terms: Any) -> _NativeOnce: ...
    def session(
        self,
        *,
        ttl: Optional[Seconds] = None,
        renew_every: Optional[Seconds] = None,
        owner: Optional[str] = None,
    ) -> Session: ...
    def latch(self, name: str, needed: int) -> Latch: ...
    def barrier(self, name: str, parties: int) -> Barrier: ...
    def list(self, prefix: str = "") -> Iterator[dict[str, Any]]: ...
    def read_object(self, path: str) -> Optional[bytes]: ...
    def diagnose(self) -> dict[str, Any]: ...
    def shutdown(self) -> None: ...

def open(url: str, options: Mapping[str, str], prefix: Optional[str], check: bool) -> Store: ...
def quorum(
    stores: Sequence[Store],
    name: str,
    *,
    ttl: Optional[Seconds] = None,
    timeout: Optional[Seconds] = None,
    renew_every: Optional[Seconds] = None,
    owner: Optional[str] = None,
    note: Optional[str] = None,
    max_hold: Optional[Seconds] = None,
    payload: Any = None,
) -> Lock: ...
def forked() -> None: ...
def log_to_python(level: int) -> None: ...
