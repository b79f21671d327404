"""A task as Airflow runs it: a function in a process of its own, which may be started again while its predecessor hangs.

`@locked("etl/nightly")` goes below `@task`, so that only the work is done under the lock. Run this file to see it.
"""

import functools
import os
import sys
import tempfile

import leaselock

STORE = os.environ.get("LEASELOCK_STORE") or f"file://{tempfile.mkdtemp()}/locks"


def locked(name, **terms):
    """Runs a function under a lock; its guard is the keyword argument `guard`."""

    def decorate(work):
        @functools.wraps(work)
        def under_lock(*arguments, **named):
            store = leaselock.open(STORE)
            with store.lock(name, **terms) as guard:
                return work(*arguments, guard=guard, **named)

        return under_lock

    return decorate


# from airflow.sdk import task
# @task(retries=3)
@locked("etl/nightly", ttl=60, timeout=600, owner="airflow")
def nightly(day, *, guard):
    for part in range(3):
        guard.check()  # raises leaselock.Lost: the task fails, and is retried
        print(f"{day}, part {part}, under token {guard.token}")
    return guard.token


if __name__ == "__main__":
    first = nightly("2026-11-22")
    assert nightly("2026-11-23") > first
    # Exactly once, however often the scheduler starts it:
    once = leaselock.open(STORE).once("etl/report/2026-11-22")
    assert once.run(lambda: "sent") == once.run(lambda: sys.exit("sent twice"))
