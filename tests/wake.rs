//! Wake-up hints: what they hasten, and what they cannot do. Clocks stand still, so that nobody looks by
//! itself.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use leaselock::clock::{Boot, Clock};
use leaselock::record::{Record, Wake};
use leaselock::{Break, ErrorKind, Lock, LockGuard, Polling, Release, Store, WakeHints};
use leaselock_test_support::clock::{ManualClock, breathe, eventually_so};
use leaselock_test_support::counting::{CountingStore, Counts};
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;
use tokio::task::JoinHandle;

on_every_store!(a_hand_over_is_heard_at_once);

const HOUR: Duration = Duration::from_secs(3600);
const TTL: Duration = HOUR;
/// Generous, and far below what it takes without hints.
const LONG: Duration = Duration::from_secs(60);

fn listen() -> WakeHints {
    WakeHints::listen(address("127.0.0.1:0"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("is an address")
}

/// Who waits and looks so rarely.
fn every(pause: Duration) -> Polling {
    Polling::new().shortest(pause).longest(pause)
}

/// A lock whose waiters look after some seconds: never, where the clock stands still.
fn patient(store: &Store, name: &str) -> Lock {
    store.lock(name).ttl(TTL).fair().polling(every(Duration::from_secs(10)))
}

async fn released(guard: LockGuard) {
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

async fn acquired<T>(waiting: JoinHandle<T>) -> T {
    let waited = tokio::time::timeout(LONG, waiting).await;
    waited.expect("is told").expect("no panic")
}

async fn a_hand_over_is_heard_at_once(place: Place) {
    let holder = place.builder().wake_hints(WakeHints::send_only()).open().await.expect("opens");
    let waiter = place.builder().wake_hints(listen()).open().await.expect("opens");
    let guard = holder.lock("x").ttl(TTL).acquire().await.expect("acquires");
    let lock = patient(&waiter, "x").polling(every(HOUR));
    let inspected = lock.clone();
    let waiting = tokio::spawn(async move { lock.acquire().await.expect("acquires") });
    eventually_so("it queues", async || {
        inspected.inspect().await.expect("reads").waiters.len() == 1
    })
    .await;
    released(guard).await;
    released(acquired(waiting).await).await;
}

struct World {
    clock: ManualClock,
    began: Boot,
    objects: CountingStore,
    witnesses: AtomicU32,
}

/// Somebody with a store handle of its own, and what it asks of the store.
struct Process {
    store: Store,
    requests: CountingStore,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new();
        let began = clock.now().boot;
        let objects = CountingStore::in_memory();
        Self { clock, began, objects, witnesses: AtomicU32::new(0) }
    }

    async fn process(&self, hints: Option<WakeHints>) -> Process {
        let requests = CountingStore::new(self.objects.as_store()).ignoring(".leaselock");
        let builder = self.clock.process(requests.as_store());
        let builder = match hints {
            Some(hints) => builder.wake_hints(hints),
            None => builder,
        };
        Process { store: builder.open().await.expect("opens"), requests }
    }

    async fn sender(&self) -> Process {
        self.process(Some(WakeHints::send_only())).await
    }

    async fn listener(&self) -> Process {
        self.process(Some(listen())).await
    }

    async fn body(&self, key: &str) -> Bytes {
        let object = self.objects.as_store().get(&Path::from(key)).await.expect("is there");
        object.bytes().await.expect("is read")
    }

    async fn read(&self, key: &str) -> Record {
        Record::decode(&self.body(key).await).expect("is a record")
    }

    async fn document(&self, key: &str) -> Value {
        serde_json::from_slice(&self.body(key).await).expect("is JSON")
    }

    /// Writes a record past the library.
    async fn overwrite(&self, key: &str, document: &Value) {
        let body = document.to_string().into();
        self.objects.as_store().put(&Path::from(key), body).await.expect("is written");
    }

    /// What the tickets say of where their waiters can be told.
    async fn hints(&self, key: &str) -> Vec<Option<Wake>> {
        self.read(key).await.waiters.into_iter().map(|ticket| ticket.wake).collect()
    }

    async fn hint(&self, key: &str) -> Wake {
        let hints = self.hints(key).await;
        hints.into_iter().next().flatten().expect("the first waiter has left its address")
    }

    /// Waits until `work` has put one more ticket into the queue, and sleeps.
    async fn queues<T: Send + 'static>(
        &self,
        key: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let before = self.read(key).await.waiters.len();
        let waiting = tokio::spawn(work);
        let queued = async || self.read(key).await.waiters.len() > before;
        eventually_so("it queues", queued).await;
        breathe().await;
        waiting
    }

    async fn waits_for(&self, lock: Lock) -> JoinHandle<LockGuard> {
        let key = format!("{}.lock", lock.name());
        self.queues(&key, async move { lock.acquire().await.expect("acquires") }).await
    }

    /// Waits until `listener` has heard all that was sent to it before: it hears one thing after the other.
    async fn has_heard(&self, listener: &Process) {
        let witness = format!("witness/{}", self.witnesses.fetch_add(1, Ordering::Relaxed));
        let guard = self.sender().await.holds(&witness).await;
        let waiting = self.waits_for(patient(&listener.store, &witness)).await;
        released(guard).await;
        released(acquired(waiting).await).await;
        breathe().await;
    }

    fn no_time_has_passed(&self) -> bool {
        self.clock.now().boot == self.began
    }
}

/// Somebody holds `x`, and somebody else who listens waits for it in the queue.
struct Waits {
    world: World,
    waiter: Process,
    guard: LockGuard,
    waiting: JoinHandle<LockGuard>,
}

impl Waits {
    async fn new() -> Self {
        let world = World::new();
        let (holder, waiter) = (world.sender().await, world.listener().await);
        let guard = holder.holds("x").await;
        let waiting = world.waits_for(patient(&waiter.store, "x")).await;
        Self { world, waiter, guard, waiting }
    }
}

impl Process {
    async fn holds(&self, name: &str) -> LockGuard {
        self.store.lock(name).ttl(TTL).acquire().await.expect("acquires")
    }

    /// What is asked of the store about `x` while `what` is done; the witness costs something, too.
    async fn asks(&self, what: impl Future<Output = ()>) -> Counts {
        let before = self.requests.counts();
        what.await;
        self.requests.counts() - before
    }
}

/// What somebody sends who knows what hints look like.
fn datagram(nonce: &str) -> Vec<u8> {
    let bytes = u128::from_str_radix(nonce, 16).expect("is a nonce").to_be_bytes();
    [b"leaselock\x01".as_slice(), &bytes].concat()
}

fn send(datagram: &[u8], to: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    assert_eq!(socket.send_to(datagram, to).expect("is sent"), datagram.len());
}

#[tokio::test]
async fn who_is_served_looks_at_once() {
    let Waits { world, waiter, guard, waiting } = Waits::new().await;
    let looks = waiter.asks(async {
        released(guard).await;
        assert!(acquired(waiting).await.is_held());
    });
    let looks = looks.await;
    assert_eq!((looks.conditional_gets, looks.total()), (1, 1), "{looks:?}");
    assert!(world.no_time_has_passed());
}

#[tokio::test]
async fn who_listens_tells_others_too() {
    let world = World::new();
    let (one, other) = (world.listener().await, world.listener().await);
    let guard = one.holds("x").await;
    let first = world.waits_for(patient(&other.store, "x")).await;
    let second = world.waits_for(patient(&one.store, "x")).await;
    let third = world.waits_for(patient(&one.store, "x").local_handover(false)).await;
    released(guard).await;
    released(acquired(first).await).await;
    released(acquired(second).await).await;
    // From one to the next of one store, which needs no network.
    released(acquired(third).await).await;
    assert!(world.no_time_has_passed());
}

#[tokio::test]
async fn nobody_is_told_unless_both_sides_want_it() {
    let world = World::new();
    let (silent, listener) = (world.process(None).await, world.listener().await);
    let guard = silent.holds("x").await;
    let waiting = world.waits_for(patient(&listener.store, "x")).await;
    assert!(world.hints("x.lock").await[0].is_some());
    released(guard).await;
    let idle = listener.asks(world.has_heard(&listener)).await;
    let without = listener.asks(world.has_heard(&listener)).await;
    assert_eq!(idle.total(), without.total(), "the witness looks, and nobody else");
    assert!(!waiting.is_finished());
    waiting.abort();

    let (sender, deaf) = (world.sender().await, world.process(None).await);
    let guard = sender.holds("y").await;
    let waiting = world.waits_for(patient(&deaf.store, "y")).await;
    assert_eq!(world.hints("y.lock").await, [None]);
    let idle = deaf.asks(async {
        released(guard).await;
        breathe().await;
    });
    assert_eq!(idle.await, Counts::default());
    assert!(!waiting.is_finished());
    // It finds out by itself.
    let guard = world.clock.passing(waiting).await.expect("no panic");
    assert!(guard.is_held());
}

#[tokio::test]
async fn a_stranger_makes_nobody_look() {
    let Waits { world, waiter, guard, waiting } = Waits::new().await;
    let Wake { to, nonce, .. } = world.hint("x.lock").await;
    let right = datagram(&nonce.to_string());
    let mut wrong = vec![datagram("00112233445566778899aabbccddeeff"), Vec::new(), vec![0; 1400]];
    wrong.push(right[..25].to_vec());
    wrong.push([&right[..], &[0]].concat());
    wrong.extend([0, 9, 10, 25].map(|changed| {
        let mut datagram = right.clone();
        datagram[changed] ^= 0x40;
        datagram
    }));
    let witness = waiter.asks(world.has_heard(&waiter)).await;
    let looks = waiter.asks(async {
        wrong.iter().for_each(|datagram| send(datagram, to));
        world.has_heard(&waiter).await;
    });
    assert_eq!(looks.await.total(), witness.total(), "the witness looks, and nobody else");
    assert!(!waiting.is_finished());
    released(guard).await;
    released(acquired(waiting).await).await;
}

#[tokio::test]
async fn a_hint_about_nothing_costs_one_look_and_its_copies_none() {
    let Waits { world, waiter, guard, waiting } = Waits::new().await;
    let Wake { to, nonce, .. } = world.hint("x.lock").await;
    let right = datagram(&nonce.to_string());
    let witness = waiter.asks(world.has_heard(&waiter)).await;
    let looks = waiter.asks(async {
        for _ in 0..5 {
            send(&right, to);
        }
        world.has_heard(&waiter).await;
    });
    let looks = looks.await;
    assert_eq!(looks.total(), witness.total() + 1);
    assert_eq!(looks.not_modified, witness.not_modified + 1, "{looks:?}");
    assert!(!waiting.is_finished());
    assert_eq!(world.read("x.lock").await.waiters.len(), 1, "it goes on waiting");
    let again = waiter.asks(async {
        send(&right, to);
        world.has_heard(&waiter).await;
    });
    assert_eq!(again.await.total(), witness.total());
    assert!(guard.is_held() && world.no_time_has_passed());
    // The nonce is used up: it finds out by itself.
    released(guard).await;
    assert!(world.clock.passing(waiting).await.expect("no panic").is_held());
}

#[tokio::test]
async fn each_ticket_has_a_nonce_of_its_own() {
    let world = World::new();
    let (holder, waiter) = (world.sender().await, world.listener().await);
    let _guard = holder.holds("x").await;
    let mut nonces = HashSet::new();
    for _ in 0..3 {
        let waiting = world.waits_for(patient(&waiter.store, "x")).await;
        nonces.insert(world.hint("x.lock").await.nonce);
        waiting.abort();
        let gone = async || world.read("x.lock").await.waiters.is_empty();
        eventually_so("its ticket is withdrawn", gone).await;
    }
    assert_eq!(nonces.len(), 3);
}

#[tokio::test]
async fn who_has_lost_its_ticket_is_told_by_the_next_one() {
    let Waits { world, guard, waiting, .. } = Waits::new().await;
    let first = world.hint("x.lock").await;
    // Somebody takes it out of the queue, and makes its waiter look.
    let mut document = world.document("x.lock").await;
    document["waiters"] = serde_json::json!([]);
    world.overwrite("x.lock", &document).await;
    send(&datagram(&first.nonce.to_string()), first.to);
    let again = async || !world.read("x.lock").await.waiters.is_empty();
    eventually_so("it queues again", again).await;
    assert_ne!(world.hint("x.lock").await.nonce, first.nonce);
    breathe().await;
    guard.renew().await.expect("renews");
    released(guard).await;
    released(acquired(waiting).await).await;
    assert!(world.no_time_has_passed());
}

#[tokio::test]
async fn a_release_is_none_the_worse_where_nobody_hears_it() {
    let closed = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let port = closed.local_addr().expect("is bound");
    drop(closed);
    // A port that is closed, an address of documentation's, and one where nothing may be sent.
    for nobody in
        [port, address("192.0.2.1:9"), address("[2001:db8::1]:9"), address("127.255.255.255:9")]
    {
        let world = World::new();
        let holder = world.sender().await;
        let waiter = world.process(Some(listen().advertise(nobody))).await;
        let guard = holder.holds("x").await;
        let waiting = world.waits_for(patient(&waiter.store, "x")).await;
        assert_eq!(world.hint("x.lock").await.to, nobody);
        // So that it knows of the ticket.
        guard.renew().await.expect("renews");
        let release = holder.asks(released(guard)).await;
        assert_eq!((release.updates, release.total()), (1, 1), "{nobody}: {release:?}");
        assert!(world.no_time_has_passed());
        assert_eq!(world.read("x.lock").await.holders.len(), 1, "it was handed over");
        assert!(world.clock.passing(waiting).await.expect("no panic").is_held());
    }
}

#[tokio::test]
async fn whatever_makes_room_tells_those_whom_it_lets_in() {
    let world = World::new();
    let (holder, waiter) = (world.sender().await, world.listener().await);
    let rarely = every(HOUR);

    // A downgrade.
    let writer = holder.store.rwlock("table").ttl(TTL).write().await.expect("writes");
    let table = waiter.store.rwlock("table").ttl(TTL).polling(rarely);
    let mut readers = Vec::new();
    for _ in 0..3 {
        let table = table.clone();
        let reads = async move { table.read().await.expect("reads") };
        readers.push(world.queues("table.lock", reads).await);
    }
    let reader = writer.downgrade().await.expect("is a reader");
    for waiting in readers {
        released(acquired(waiting).await).await;
    }
    released(reader).await;

    // A withdrawal of the one before.
    let semaphore = holder.store.semaphore("slots", 3).ttl(TTL).polling(rarely);
    let held = semaphore.acquire().await.expect("acquires");
    let all = semaphore.clone();
    let greedy = async move { all.acquire_many(3).await.expect("acquires") };
    let greedy = world.queues("slots.lock", greedy).await;
    let one = waiter.store.semaphore("slots", 3).ttl(TTL).polling(rarely);
    let modest = async move { one.acquire().await.expect("acquires") };
    let modest = world.queues("slots.lock", modest).await;
    greedy.abort();
    released(acquired(modest).await).await;
    released(held).await;

    // A break.
    let guard = holder.holds("x").await;
    let waiting = world.waits_for(patient(&waiter.store, "x")).await;
    let order = Break::expecting(guard.token());
    holder.store.lock("x").break_lease(order).await.expect("breaks");
    released(acquired(waiting).await).await;
    assert!(world.no_time_has_passed());
}

#[tokio::test]
async fn a_strange_hint_is_ignored_and_kept() {
    let strange = [
        "\"call me\"",
        "null",
        "[]",
        "{}",
        "{\"to\": \"localhost:1\", \"nonce\": \"00112233445566778899aabbccddeeff\"}",
        "{\"to\": \"127.0.0.1:1\", \"nonce\": 7}",
        "{\"to\": \"224.0.0.1:1\", \"nonce\": \"00112233445566778899aabbccddeeff\", \"via\": [1]}",
    ];
    for strange in strange {
        let strange: Value = serde_json::from_str(strange).expect("is JSON");
        let Waits { world, guard, waiting, .. } = Waits::new().await;
        let mut document = world.document("x.lock").await;
        document["waiters"][0]["wake"] = strange.clone();
        world.overwrite("x.lock", &document).await;
        // Others write it again.
        guard.renew().await.expect("renews");
        let document = world.document("x.lock").await;
        assert_eq!(document["waiters"][0]["wake"], strange);
        released(guard).await;
        released(world.clock.passing(waiting).await.expect("no panic")).await;
    }
}

#[tokio::test]
async fn a_port_is_taken_for_as_long_as_the_store_is_open() {
    let world = World::new();
    let free = UdpSocket::bind("127.0.0.1:0").expect("binds").local_addr().expect("is bound");
    for shut_down in [true, false] {
        let store = world.process(Some(WakeHints::listen(free))).await.store;
        let refused = world.clock.process(world.objects.as_store());
        let refused = refused.wake_hints(WakeHints::listen(free)).open().await;
        let error = refused.expect_err("the port is taken");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error:?}");
        assert!(error.to_string().contains(&free.to_string()), "{error}");
        if shut_down {
            store.shutdown().await;
        } else {
            drop(store);
        }
        eventually_so("the port is free", async || UdpSocket::bind(free).is_ok()).await;
    }
}
