"""Errors say what was wrong."""

import pytest

import leaselock


def test_one_hierarchy():
    for name in leaselock.__all__:
        thing = getattr(leaselock, name)
        if isinstance(thing, type) and issubclass(thing, BaseException):
            assert issubclass(thing, leaselock.LeaselockError), name
    assert issubclass(leaselock.Timeout, TimeoutError)
    assert issubclass(leaselock.InvalidOptions, ValueError)
    assert issubclass(leaselock.PermissionDenied, PermissionError)
    assert issubclass(leaselock.Unavailable, ConnectionError)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda store: leaselock.open("nonsense"), leaselock.InvalidUrl, "nonsense"),
        (lambda store: store.lock("../x").acquire(), leaselock.InvalidName, "../x"),
        (lambda store: store.lock("x", ttl=0.01).acquire(), leaselock.InvalidOptions, "at least 1s"),
        (lambda store: store.lock("x").break_lease(force=True), leaselock.NotHeld, "nobody holds it"),
        (lambda store: store.lock("x").break_lease(), ValueError, "force"),
        (lambda store: store.lock("x", payload=object()), TypeError, "JSON"),
    ],
)
def test_what_was_wrong_is_told(store, call, error, said):
    store.lock("x").acquire().release()
    with pytest.raises(error, match=said):
        call(store)


def test_a_damaged_record_is_left_alone(store, tmp_path):
    record = tmp_path / "locks" / "x.lock"
    record.parent.mkdir(exist_ok=True)
    record.write_text("{")
    with pytest.raises(leaselock.UnreadableRecord):
        store.lock("x").acquire()
    assert record.read_text() == "{"


def test_an_absent_store_is_told():
    store = leaselock.open("s3://b", endpoint="http://127.0.0.1:1", allow_http=True, region="x",
                           access_key_id="a", secret_access_key="a very secret key")
    with pytest.raises(leaselock.Unavailable) as raised:
        store.lock("x", timeout=1).acquire()
    assert "a very secret key" not in str(raised.value) + repr(store) + store.url


def test_after_a_shutdown_nothing_is_held(store):
    guard = store.lock("x").acquire()
    store.shutdown()
    assert not guard.is_held
    with pytest.raises(leaselock.ShutDown):
        store.lock("x").acquire()
