"""Exceptions: all of them are ``LeaselockError``, and what Python has a word for is that, too."""


class LeaselockError(Exception):
    """Whatever goes wrong in leaselock."""


class Timeout(LeaselockError, TimeoutError):
    """The lock was not to be had in time. Says who holds it."""


class Lost(LeaselockError):
    """The lease is lost: taken over, expired, broken. Or the lock has been given back."""


class Forked(LeaselockError, RuntimeError):
    """It belongs to the process that this one was forked from."""


class InvalidName(LeaselockError, ValueError):
    """A lock's name is a path such as ``etl/nightly``."""


class InvalidOptions(LeaselockError, ValueError):
    """Options that contradict each other, or are out of range."""


class InvalidUrl(LeaselockError, ValueError):
    """A URL, or an option of a store, that is not understood."""


class MissingCredentials(LeaselockError, PermissionError):
    """There are no credentials."""


class PermissionDenied(LeaselockError, PermissionError):
    """The store denies access."""


class StoreAbsent(LeaselockError, FileNotFoundError):
    """There is no such bucket or directory."""


class Unavailable(LeaselockError, ConnectionError):
    """The store does not answer. Whatever was asked may be tried again."""


class Unconfirmed(LeaselockError):
    """It is not known whether it was done."""


class UnfitStore(LeaselockError):
    """The store does not honour conditional writes: two would hold a lock at once."""


class UnreadableRecord(LeaselockError):
    """A record is damaged, or of a newer version. It is left untouched."""


class WrongKind(LeaselockError, TypeError):
    """The name belongs to another primitive."""


class LimitMismatch(LeaselockError, ValueError):
    """The semaphore, latch or barrier has another number."""


class EpochMismatch(LeaselockError):
    """A latch or a barrier is in another epoch."""


class TokenMismatch(LeaselockError):
    """Another holder has it by now."""


class NotHeld(LeaselockError):
    """Nobody holds it."""


class Fenced(LeaselockError):
    """A later holder has written: this one is out."""


class Conflict(LeaselockError):
    """Somebody else has written it in between."""


class AlreadyExists(LeaselockError, FileExistsError):
    """There is an object of this name already."""


class OutsideRoot(LeaselockError):
    """A link leads out of the store's directory."""


class ShutDown(LeaselockError):
    """The store was shut down."""
