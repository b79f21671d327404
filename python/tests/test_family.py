"""What is built on locks."""

import threading

import pytest

import leaselock
from conftest import PATIENCE, eventually


def test_readers_together_and_writers_alone(store):
    with store.read_lock("x") as one, store.read_lock("x") as two:
        assert one.token and two.token
        assert store.write_lock("x").try_acquire() is None
    with store.write_lock("x", timeout=PATIENCE):
        assert store.read_lock("x").try_acquire() is None
    writer = store.write_lock("x", timeout=PATIENCE).acquire()
    with writer.downgrade() as reader:
        assert reader.token == writer.token and reader.is_held
        with store.read_lock("x", timeout=PATIENCE) as other:
            assert other.is_held
            with pytest.raises(TypeError):
                other.downgrade()
            assert other.is_held
    with pytest.raises(leaselock.WrongKind):
        store.lock("x").acquire()


def test_so_many_permits(store):
    with store.semaphore("x", 3, permits=2), store.semaphore("x", 3):
        assert store.semaphore("x", 3).try_acquire() is None
    with pytest.raises(leaselock.LimitMismatch):
        store.semaphore("x", 4).acquire()
    store.semaphore("x", 3).resize(4)
    with store.semaphore("x", 4, permits=4, timeout=PATIENCE):
        pass
    with pytest.raises(TypeError):
        store.lock("y").resize(2)


def test_several_locks_at_once(store):
    with store.lock_all(["b", "a"]) as guard:
        assert sorted(guard.tokens) == ["a", "b"] and guard.token is None
        assert store.lock("a").try_acquire() is None
        guard.fence("a").put_new("data/one", b"1")
        with pytest.raises(ValueError, match="a, b"):
            guard.fence()
        with pytest.raises(TypeError):
            guard.renew()
    assert store.lock("b").inspect()["state"] == "free"


def test_one_leads(store):
    with store.election("x", owner="first") as term:
        assert store.election("x").try_acquire() is None
        assert store.election("x").inspect()["holders"][0]["token"] == term.token
        first = term.token
        assert store.election("x").leader()["term"] == first
    with store.election("x", timeout=PATIENCE) as term:
        assert term.token > first
        seen = store.election("x").observe()
        assert next(seen)["term"] == term.token
    assert next(seen) is None
    assert isinstance(store.election("x"), leaselock.Lock)


def test_first_come_first_served(store):
    order = []
    held = store.lock("x", fair=True).acquire()

    def wait(number):
        with store.lock("x", fair=True, timeout=PATIENCE):
            order.append(number)

    threads = []
    for number in range(3):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        queued = number + 1
        eventually("it waits", lambda: len(store.lock("x").inspect()["waiters"]) == queued)
    held.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [0, 1, 2]


def test_a_session_holds_many_and_ends_them_all(store):
    with store.session(ttl=30) as session:
        guards = [session.lock(f"shard/{number}").acquire() for number in range(5)]
        assert all(guard.is_held for guard in guards) and session.is_held
        with session.semaphore("permits", 2), session.read_lock("table"):
            pass
    assert not any(guard.is_held for guard in guards)
    assert not session.is_held and session.loss is None and len(session.id) == 36
    with pytest.raises(leaselock.Lost, match="closed"):
        session.lock("x").acquire()
    assert store.lock("shard/0", timeout=PATIENCE).acquire().is_held


def test_a_majority_of_stores(tmp_path):
    stores = [leaselock.open(f"file://{tmp_path}/{name}") for name in "abc"]
    quorum = leaselock.Quorum(stores)
    with quorum.lock("x", ttl=10) as guard:
        assert guard.token and quorum.lock("x").try_acquire() is None
        assert sum(store.lock("x").inspect()["state"] == "held" for store in stores) >= 2
        info = quorum.lock("x").inspect()
        assert info["state"] == "held" and info["token"] == guard.token
        assert [member["url"] for member in info["members"]] == [store.url for store in stores]
        assert any(member["lock"]["state"] == "held" for member in info["members"])
        with pytest.raises(TypeError, match="each of its stores"):
            quorum.lock("x").break_lease(force=True)
        with pytest.raises(TypeError, match="one by one"):
            stores[0].lock_all(["a", "b"]).break_lease(force=True)
    with pytest.raises(leaselock.InvalidOptions):
        leaselock.Quorum(stores[:2]).lock("x")


def test_work_is_run_once(store):
    runs = []

    @store.once("pay/{order}", retention=3600)
    def pay(order, amount=1):
        runs.append((order, amount))
        return {"paid": amount}

    assert pay(1) == pay(order=1) == {"paid": 1}
    assert pay(2, amount=5) == {"paid": 5}
    assert runs == [(1, 1), (2, 5)]
    assert store.once("pay/1").inspect()["state"] == "done"


def test_work_that_fails_is_run_again(store):
    once = store.once("x")

    def fail():
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        once.run(fail)
    assert once.run(lambda number: number + 1, 41) == 42
    assert once.run(fail) == 42


def test_a_later_holder_fences_out_the_one_before(store):
    stale = store.lock("x").acquire()
    fence = stale.fence()
    claimed = fence.claim("data/manifest")
    assert claimed.data is None
    claimed.put(b"one")
    stale.release()
    with store.lock("x", timeout=PATIENCE) as guard:
        claimed_later = guard.fence().claim("data/manifest")
        assert claimed_later.data == b"one"
        with pytest.raises(leaselock.Fenced):
            claimed.put(b"late")
        claimed_later.put(b"two")
        guard.fence().put_fenced("data/other", b"three")
        with pytest.raises(leaselock.AlreadyExists):
            guard.fence().put_new("data/other", b"four")
    assert store.objects().read("data/manifest") == b"two"
    assert store.objects().read("data/nothing") is None


def test_latches_and_barriers(store):
    latch = store.latch("loaded", 2)
    assert latch.arrive("a") == {"epoch": 0, "arrived": 1, "needed": 2, "open": False}
    with pytest.raises(leaselock.Timeout, match="1 of 2"):
        latch.wait(0.1)
    latch.arrive("b")
    assert latch.wait() == 0
    assert latch.inspect()["open"] is True
    assert latch.reset() == 1
    barrier = store.barrier("round", 1)
    assert [barrier.wait("m"), barrier.wait("m", epoch=1)] == [0, 1]
    assert barrier.inspect()["epoch"] == 2
    assert barrier.arrive("m")["epoch"] == 2


def test_an_object_is_changed_without_a_lock(url):
    """Every increment counts, though two stores make them at the same time."""
    stores = [leaselock.open(url) for _ in range(2)]

    def count(store):
        for _ in range(5):
            store.objects().update("data/count", lambda old: str(int(old or 0) + 1).encode())

    threads = [threading.Thread(target=count, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    objects = stores[0].objects()
    assert objects.read("data/count") == b"10"
    assert objects.update("data/count", lambda old: None) is None

    def fail(old):
        raise KeyError(old)

    with pytest.raises(KeyError, match="10"):
        objects.update("data/count", fail)
    with pytest.raises(TypeError):
        objects.update("data/count", lambda old: "text")
    assert objects.read("data/count") == b"10"
    with pytest.raises(leaselock.AlreadyExists):
        objects.put_new("data/count", b"11")


def test_a_hint_wakes_who_waits_for_a_look(tmp_path):
    """Who looks once in an hour is told within that."""
    url = f"file://{tmp_path}/locks"
    listening = leaselock.open(url, wake_hints=leaselock.WakeHints("127.0.0.1:0"))
    sending = leaselock.open(url, wake_hints=leaselock.WakeHints())
    hourly = leaselock.Polling(shortest=1800, longest=3600)
    # A lease of an hour, or its end would be a reason to look.
    held = sending.lock("x", ttl=3600).acquire()
    got = []
    waiting = threading.Thread(
        target=lambda: got.append(
            listening.lock("x", ttl=3600, fair=True, polling=hourly).acquire(PATIENCE)
        )
    )
    waiting.start()
    eventually("it waits", lambda: sending.lock("x").inspect()["waiters"])
    held.release()
    waiting.join(PATIENCE)
    assert got and got[0].is_held
    with pytest.raises(leaselock.InvalidOptions, match="advertise"):
        leaselock.open(url, wake_hints=leaselock.WakeHints("0.0.0.0:0"))
    with pytest.raises(leaselock.InvalidOptions, match="no address"):
        leaselock.WakeHints("nowhere")


def test_a_polling_that_makes_no_sense_is_refused(store):
    with pytest.raises(leaselock.InvalidOptions, match="shortest"):
        store.lock("x", polling=leaselock.Polling(shortest=2, longest=1)).acquire()


def test_a_result_is_forgotten(store):
    once = store.once("x")
    assert once.run(lambda: 1) == 1
    with pytest.raises(ValueError, match="force"):
        once.forget()
    assert once.forget(force=True, reason="test")["holder"] is None
    assert once.run(lambda: 2) == 2


def test_a_session_that_is_lost_says_so(store):
    reasons = []
    with pytest.raises(leaselock.Lost):
        with store.session(ttl=2) as session:
            session.check()
            session.on_lost(reasons.append)
            guard = session.lock("x").acquire()
            store.lock("x").break_lease(force=True)
            eventually("it is lost", lambda: not session.is_held)
    assert session.loss and not guard.is_held
    eventually("it is told", lambda: reasons)
    with pytest.raises(leaselock.Lost):
        session.check()
    with pytest.raises(KeyError, match="own"):
        with store.session(ttl=2) as session:
            guard = session.lock("x", timeout=PATIENCE).acquire()
            store.lock("x").break_lease(force=True)
            eventually("it is lost", lambda: not session.is_held)
            raise KeyError("own")


def test_a_long_result_is_recorded_and_one_that_cannot_be_gives_the_key_back(store):
    assert store.once("long").run(lambda: "x" * 60_000) == store.once("long").run(lambda: "") == "x" * 60_000
    failed = []
    for result, error in [
        (object(), TypeError),
        (float("nan"), ValueError),
        ("x" * 70_000, leaselock.InvalidOptions),
    ]:
        with pytest.raises(error) as raised:
            store.once("x").run(lambda: result)
        failed.append(raised.value)
    # Whoever keeps the exceptions keeps nothing else.
    assert store.once("x", timeout=PATIENCE).run(lambda: 1) == 1 and len(failed) == 3


def test_what_cannot_be_is_told_when_it_is_made(store):
    with pytest.raises(TypeError, match="tll"):
        store.once("x", tll=3)
    with pytest.raises(ValueError, match="ordre"):

        @store.once("pay/{ordre}")
        def pay(order):
            raise AssertionError
