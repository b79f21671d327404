"""Locks, on every store."""

import contextlib
import threading
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit
from urllib.request import urlopen

import pytest

import leaselock
from conftest import PATIENCE, eventually, url_on


def test_a_lock_excludes_others_and_tokens_rise(url):
    first, second = leaselock.open(url), leaselock.open(url)
    with first.lock("etl/nightly", ttl=30, owner="one") as guard:
        assert guard.is_held and guard.name == "etl/nightly"
        assert 0 < guard.remaining <= 27
        assert second.lock("etl/nightly").try_acquire() is None
        with pytest.raises(leaselock.Timeout, match="held by one"):
            second.lock("etl/nightly", timeout=0.1).acquire()
        assert second.lock("etl/nightly").inspect()["state"] == "held"
    assert not guard.is_held
    with second.lock("etl/nightly", timeout=PATIENCE) as later:
        assert later.token > guard.token


def test_threads_and_stores_exclude_each_other(url):
    stores = [leaselock.open(url) for _ in range(2)]
    inside, most, tokens = [0], [0], []

    def work(store):
        for _ in range(3):
            with store.lock("x", timeout=PATIENCE) as guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                tokens.append(guard.token)
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=(store,)) for store in stores for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert most == [1]
    assert tokens == sorted(set(tokens)) and len(tokens) == 12


def test_one_lock_object_serves_many_threads(store):
    lock, inside, most = store.lock("x", timeout=PATIENCE), [0], [0]

    def work():
        for _ in range(20):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert most == [1]
    assert lock.inspect()["state"] == "free"


def test_what_is_lost_raises(url):
    store = leaselock.open(url)
    reasons = []
    with pytest.raises(leaselock.Lost, match="broken by ops: stuck"):
        with store.lock("x", ttl=2) as guard:
            guard.on_lost(reasons.append)
            guard.check()
            leaselock.open(url).lock("x").break_lease(expect=guard.token, reason="stuck", by="ops")
            eventually("the loss is noticed", lambda: not guard.is_held)
            eventually("the callback is called", lambda: reasons)
            with pytest.raises(leaselock.Lost):
                guard.check()
            with pytest.raises(leaselock.Lost):
                guard.renew()
    assert "stuck" in reasons[0]
    assert guard.remaining == 0


def test_what_was_raised_in_the_block_matters_more(store):
    with pytest.raises(KeyError):
        with store.lock("x", ttl=2) as guard:
            store.lock("x").break_lease(force=True)
            eventually("the loss is noticed", lambda: not guard.is_held)
            raise KeyError("the work's own")


def test_a_guard_alone_works_as_one_of_a_block(store):
    lock = store.lock("x")
    with lock.acquire() as guard:
        assert lock.try_acquire() is None
    assert guard.release() is True, "twice is no error"
    guard = lock.acquire(timeout=1)
    assert guard.release() is True
    dropped = lock.acquire()
    del dropped
    eventually("a dropped guard gives the lock back", lambda: lock.inspect()["state"] == "free")


def test_payloads_and_progress(store):
    with store.lock("x", payload={"step": 1}, progress_within=60) as guard:
        assert store.lock("x").inspect()["payload"] == {"step": 1}
        guard.set_payload({"step": 2, "done": [1, None]})
        guard.touch()
        guard.renew()
        info = store.lock("x").inspect()
        assert info["payload"] == {"step": 2, "done": [1, None]}
        assert info["holders"][0]["renewals"] >= 2


def test_times_are_seconds_or_timedeltas(store):
    with store.lock("x", ttl=timedelta(seconds=7), timeout=timedelta(seconds=1)):
        assert store.lock("x").inspect()["holders"][0]["ttl_ms"] == 7000
    with store.lock("x", ttl=1.5, polling=leaselock.Polling.fast()):
        assert store.lock("x").inspect()["holders"][0]["ttl_ms"] == 1500
    for wrong, error in [(-1, ValueError), (float("nan"), ValueError), ("30", TypeError)]:
        with pytest.raises(error):
            store.lock("x", ttl=wrong)


def test_a_lease_goes_from_process_to_process(store, tmp_path):
    left = store.lock("x", ttl=60, keeper=False).acquire().detach()
    other = leaselock.open(f"file://{tmp_path}/locks")
    assert other.lock("x").try_acquire() is None
    guard = other.lock("x").resume(left["holder"])
    assert guard.token == left["token"]
    guard.release()
    left = store.lock("x", ttl=60, keeper=False).acquire().detach()
    other.lock("x").release_detached(left["holder"])
    with pytest.raises(leaselock.Lost, match="given back"):
        other.lock("x").resume(left["holder"])
    with pytest.raises(ValueError, match="UUID"):
        other.lock("x").resume("me")


def test_locks_are_listed(store):
    for name in ["a/1", "a/2", "b"]:
        store.lock(name).acquire().release()
    assert sorted(info["name"] for info in store.list("a/")) == ["a/1", "a/2"]
    assert len(list(store.list())) == 3


def test_a_store_is_diagnosed(store):
    assert store.diagnose()["fit"] is True


def test_a_block_is_left_by_another_thread(store):
    """As generators are that a pool of threads enters and leaves."""
    lock = store.lock("x")

    @contextlib.contextmanager
    def holding():
        with lock:
            yield

    block, entered, left = holding(), threading.Event(), threading.Event()

    def enter():
        block.__enter__()
        entered.set()
        left.wait(PATIENCE)

    thread = threading.Thread(target=enter)
    thread.start()
    entered.wait(PATIENCE)
    block.__exit__(None, None, None)
    left.set()
    thread.join(PATIENCE)
    assert store.lock("x").try_acquire() is not None


def test_what_cannot_be_left_stays_held(store):
    """A call that is refused costs nothing."""
    guards = [
        store.lock("l").acquire(),
        store.write_lock("w").acquire(),
        store.semaphore("s", 2).acquire(),
        store.election("e").acquire(),
    ]
    for guard in guards:
        with pytest.raises(TypeError, match="keeper=False"):
            guard.detach()
        assert guard.is_held
    with pytest.raises(TypeError, match="writer"):
        guards[0].downgrade()
    assert guards[0].is_held


def test_every_release_tells_the_same(store):
    guard = store.lock("x", ttl=2).acquire()
    assert [guard.release(), guard.release()] == [True, True]
    guard = store.lock("x", ttl=2).acquire()
    store.lock("x").break_lease(force=True)
    eventually("it is lost", lambda: not guard.is_held)
    for _ in range(2):
        with pytest.raises(leaselock.Lost):
            guard.release()


def test_a_release_waits_for_a_renewal(store):
    for _ in range(50):
        guard = store.lock("x", keeper=False).acquire()
        renewing = threading.Thread(target=renew, args=(guard,))
        renewing.start()
        assert guard.release() is True and not guard.is_held
        renewing.join(PATIENCE)


def renew(guard):
    with contextlib.suppress(leaselock.Lost):
        guard.renew()


def test_times_and_options_that_are_none(store, tmp_path):
    for nonsense in [True, False]:
        with pytest.raises(TypeError, match="try_acquire"):
            store.lock("x").acquire(nonsense)
    # Options that are not set, as programs pass them on.
    leaselock.open(f"file://{tmp_path}/locks", prefix=None, endpoint=None)


def test_what_is_called_back_is_a_function(store):
    guard = store.lock("x").acquire()

    async def coroutine(reason):
        raise AssertionError

    for nonsense in [5, coroutine]:
        with pytest.raises(TypeError, match="function"):
            guard.on_lost(nonsense)


def test_objects_get_headers_and_metadata(tmp_path):
    url = url_on("ministack", tmp_path)
    parts = urlsplit(url)
    new, fenced = (f"{parts.path.strip('/')}/data/{name}.json" for name in ["new", "fenced"])
    with leaselock.open(url).lock("x") as guard:
        fence = guard.fence(headers={"content-type": "application/json"}, metadata={"job": "nightly"})
        fence.put_new(new, b"{}")
        fence.put_fenced(fenced, b"{}")
        with pytest.raises(ValueError, match='no header "ETag", but Cache-Control, .*metadata'):
            guard.fence(headers={"ETag": "1"})
    endpoint = dict(parse_qsl(parts.query))["aws_endpoint"]
    for path in [new, fenced]:
        with urlopen(f"{endpoint}/{parts.netloc}/{path}") as answer:
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["x-amz-meta-job"] == "nightly"


def test_whatever_has_bytes_is_written(store):
    objects = store.objects()
    for number, data in enumerate([b"1", bytearray(b"1"), memoryview(b"1"), memoryview(b"1-1")[::3][:1]]):
        objects.put_new(f"data/{number}", data)
        assert objects.read(f"data/{number}") == b"1"
    for nonsense in ["text", 7, [49]]:
        with pytest.raises(TypeError, match="bytes are expected"):
            objects.put_new("data/x", nonsense)
