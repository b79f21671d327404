"""A resource and an op as Dagster has them: the store is opened once, the lock taken for each run. Run this file to see
it without Dagster."""

import os
import tempfile
from dataclasses import dataclass, field

import leaselock


# from dagster import ConfigurableResource, asset
# class Locks(ConfigurableResource):
@dataclass
class Locks:
    url: str
    store: leaselock.Store = field(init=False)

    def __post_init__(self):
        self.store = leaselock.open(self.url)

    def hold(self, name):
        return self.store.lock(name, ttl=60, timeout=600, owner="dagster")


# @asset
def events(locks: Locks) -> bytes:
    with locks.hold("tables/events") as guard:
        # The store refuses this write if another run has claimed the table since.
        table = guard.fence().claim("tables/events/manifest.json")
        table.put((table.data or b"") + b"one more batch\n")
    return locks.store.objects().read("tables/events/manifest.json")


if __name__ == "__main__":
    locks = Locks(os.environ.get("LEASELOCK_STORE") or f"file://{tempfile.mkdtemp()}/locks")
    before = events(locks).count(b"\n")
    assert events(locks).count(b"\n") == before + 1
