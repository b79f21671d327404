//! Records as they may be found on a store, and what contenders may know of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use leaselock::clock::{Boot, Moment, Wall};
use leaselock::protocol::expiry::{Evidence, Observations, Sessions, StoreTime};
use leaselock::record::Record;
use leaselock::{FencingToken, HolderId, Nonce};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The largest token that is made here: a record may still carry its successors, and what is reserved after.
pub(crate) const LARGEST_TOKEN: u64 = (1 << 53) - 200_003;
pub(crate) const YEAR_10000: i64 = 253_402_300_800_000_000;

/// Any JSON value as a version from the future may add it. Names begin with `x`, which no field
/// of ours does.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\"\\\\\u{1}\u{7f}é\u{10ffff}]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map("\\PC{0,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("x\\PC{0,3}", json(), 0..2).prop_map(|map| map.into_iter().collect())
}

/// Microseconds since 1970, in the years that a record can tell.
pub(crate) fn micros() -> impl Strategy<Value = i64> {
    const YEAR_0: i64 = -62_167_219_200_000_000;
    prop_oneof![
        4 => 1_700_000_000_000_000..1_900_000_000_000_000_i64,
        1 => YEAR_0..YEAR_10000,
        1 => Just(YEAR_10000 - 1),
        1 => Just(YEAR_0),
    ]
}

fn time() -> impl Strategy<Value = Value> {
    micros().prop_map(|micros| {
        let time = chrono::DateTime::from_timestamp_micros(micros).expect("is in range");
        time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true).into()
    })
}

pub(crate) fn holder_id() -> impl Strategy<Value = HolderId> {
    // Few, so that a contender is sometimes found to be the holder.
    prop_oneof![3 => 0..4_u128, 1 => any::<u128>()].prop_map(HolderId::from_random)
}

pub(crate) fn nonce() -> impl Strategy<Value = Nonce> {
    any::<u128>().prop_map(Nonce::from_random)
}

pub(crate) fn token() -> impl Strategy<Value = FencingToken> {
    prop_oneof![
        2 => 0..=LARGEST_TOKEN,
        2 => 1_795_000_000_000_000..1_796_000_000_000_000_u64,
        1 => 0..5_u64,
        1 => Just(LARGEST_TOKEN),
    ]
    .prop_map(|value| FencingToken::new(value).expect("is in range"))
}

pub(crate) fn ttl() -> impl Strategy<Value = Duration> {
    prop_oneof![
        2 => 1000..=86_400_000_u64,
        2 => Just(30_000),
        1 => Just(1000),
        1 => Just(86_400_000),
    ]
    .prop_map(Duration::from_millis)
}

fn text(most: usize) -> impl Strategy<Value = String> {
    let long = Just("x".repeat(most));
    prop_oneof![4 => "\\PC{0,12}", 1 => "[\"\\\\\u{1}é]{0,20}", 1 => long]
}

fn owner() -> BoxedStrategy<Value> {
    (text(128), text(255), option::of(any::<u32>()), option::of(text(1024)), unknown())
        .prop_map(|(label, host, pid, note, mut map)| {
            map.insert("label".into(), label.into());
            map.insert("host".into(), host.into());
            insert_some(&mut map, "pid", pid);
            insert_some(&mut map, "note", note);
            map.into()
        })
        .boxed()
}

fn insert_some(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.into(), value.into());
    }
}

/// A count that leaves room for one more: a lease is not renewed 2^64 times.
fn renewals() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..5_u64, 1 => 0..u64::MAX - 1]
}

prop_compose! {
    fn any_lease()(
        id in holder_id(), ttl in ttl(), renewals in renewals(),
        times in (time(), time(), time(), option::weighted(0.2, time())),
        owner in owner(), mut map in unknown(),
    ) -> Map<String, Value> {
        map.insert("id".into(), id.to_string().into());
        map.insert("mode".into(), "exclusive".into());
        map.insert("permits".into(), 1.into());
        map.insert("ttl_ms".into(), (ttl.as_millis() as u64).into());
        map.insert("renewals".into(), renewals.into());
        map.insert("acquired_at".into(), times.0);
        map.insert("renewed_at".into(), times.1);
        map.insert("expires_at".into(), times.2);
        insert_some(&mut map, "released_at", times.3);
        map.insert("owner".into(), owner);
        map
    }
}

prop_compose! {
    fn any_ticket()(
        id in holder_id(), session in holder_id(), ttl in ttl(), since in time(),
        owner in owner(), wake in option::of(any_hint()), mut map in unknown(),
    ) -> Value {
        map.insert("id".into(), id.to_string().into());
        map.insert("session".into(), session.to_string().into());
        map.insert("mode".into(), "exclusive".into());
        map.insert("permits".into(), 1.into());
        map.insert("ttl_ms".into(), (ttl.as_millis() as u64).into());
        map.insert("since".into(), since);
        map.insert("owner".into(), owner);
        insert_some(&mut map, "wake", wake);
        map.into()
    }
}

/// Where a waiter can be told, or something that nobody understands.
fn any_hint() -> impl Strategy<Value = Value> {
    let understood =
        (any::<(IpAddr, u16)>(), nonce(), unknown()).prop_map(|(to, nonce, mut map)| {
            map.insert("to".into(), SocketAddr::from(to).to_string().into());
            map.insert("nonce".into(), nonce.to_string().into());
            Value::from(map)
        });
    prop_oneof![2 => understood, 1 => json()]
}

prop_compose! {
    fn any_tenure()(
        id in holder_id(), token in token(), owner in owner(), from in time(), to in time(),
        ended in prop_oneof![Just("released"), Just("expired"), Just("broken"), Just("lent")],
        by in option::of(text(1024)), reason in option::of(text(1024)), mut map in unknown(),
    ) -> Value {
        map.insert("id".into(), id.to_string().into());
        map.insert("token".into(), token.get().into());
        map.insert("owner".into(), owner);
        map.insert("from".into(), from);
        map.insert("to".into(), to);
        map.insert("ended".into(), ended.into());
        insert_some(&mut map, "by", by);
        insert_some(&mut map, "reason", reason);
        map.into()
    }
}

prop_compose! {
    fn any_document()(
        token in token(), behind in prop_oneof![2 => Just(0), 1 => 0..1000_u64], nonce in nonce(),
        holder in option::weighted(0.7, any_lease().boxed()), payload in json(),
        waiters in vec(any_ticket().boxed(), 0..3),
        tenures in vec(any_tenure().boxed(), 0..3), full in prop::bool::weighted(0.2),
        mut map in unknown(),
    ) -> Value {
        let holders: Vec<_> = holder.into_iter().map(|mut lease| {
            lease.insert("token".into(), token.get().saturating_sub(behind).into());
            Value::from(lease)
        }).collect();
        map.insert("format".into(), 1.into());
        map.insert("kind".into(), "lock".into());
        map.insert("token".into(), token.get().into());
        map.insert("nonce".into(), nonce.to_string().into());
        map.insert("holders".into(), holders.into());
        map.insert("limit".into(), 1.into());
        map.insert("payload".into(), payload);
        map.insert("waiters".into(), waiters.into());
        let count = if full { 16 } else { tenures.len() };
        let history: Vec<_> = tenures.iter().cycle().take(count).cloned().collect();
        map.insert("history".into(), history.into());
        map.into()
    }
}

/// The document of a record that nothing is wrong with, as it would be written. Boxed, like its
/// parts: the whole would fill a test's stack.
pub(crate) fn document() -> BoxedStrategy<Value> {
    any_document().boxed()
}

/// A record that nothing is wrong with, and nobody waits in.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    document().prop_map(|document| {
        let mut record = decoded(&document);
        record.waiters.clear();
        record
    })
}

/// A record with a holder.
pub(crate) fn held() -> impl Strategy<Value = Record> {
    record().prop_filter("is held", |record| !record.holders.is_empty())
}

pub(crate) fn decoded(document: &Value) -> Record {
    Record::decode(document.to_string().as_bytes()).expect("nothing is wrong with it")
}

/// The record as its readers see it.
pub(crate) fn read(record: &Record) -> Value {
    serde_json::from_slice(&record.encode().expect("is small")).expect("is JSON")
}

/// Without its nonce, which every write changes.
pub(crate) fn content(record: &Record) -> Value {
    let mut document = read(record);
    document["nonce"] = json!(null);
    document
}

/// What a contender knows besides the record.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub now: Moment,
    /// How long ago the record was first seen as it is.
    pub seen: Option<Duration>,
    pub store: Option<StoreTime>,
    pub max_skew: Option<Duration>,
}

impl Known {
    /// The same knowledge when this much more time has passed on both clocks.
    pub(crate) fn after(&self, passed: Duration) -> Self {
        let now = Moment { boot: self.now.boot.plus(passed), wall: self.now.wall.plus(passed) };
        Self { now, seen: self.seen.map(|seen| seen + passed), ..self.clone() }
    }

    /// Asks with this knowledge of `record`.
    pub(crate) fn of<T>(&self, record: &Record, ask: impl FnOnce(&Evidence<'_>) -> T) -> T {
        let mut observations = Observations::default();
        if let Some(seen) = self.seen {
            let since = self.now.boot.since_origin().saturating_sub(seen);
            observations.note(record, Boot::new(since));
        }
        let Self { now, store, max_skew, .. } = *self;
        let sessions = &Sessions::NONE;
        ask(&Evidence { now, observations: &observations, store, max_skew, sessions })
    }
}

/// Durations around everything that a lease's end depends on.
fn around(ttl: Duration) -> impl Strategy<Value = Duration> {
    let wait = (ttl * 102 / 100 + Duration::from_millis(50)).as_nanos() as i64;
    prop_oneof![
        2 => 0..wait * 2,
        1 => Just(wait),
        1 => (-3_000_000_000..4_000_000_000_i64).prop_map(move |off| wait + off),
        1 => (-2000..2000_i64).prop_map(move |off| wait + off),
    ]
    .prop_map(|nanos| Duration::from_nanos(nanos.max(0) as u64))
}

prop_compose! {
    fn store_time(now: Moment, ttl: Duration)(
        ago in prop_oneof![Just(Duration::ZERO), around(ttl)], age in around(ttl),
        future in prop::bool::weighted(0.3), whole in any::<bool>(),
    ) -> StoreTime {
        let second = 1_000_000;
        let at_least = Wall::from_micros(1_795_000_000 * second);
        let last_modified = if future { at_least.plus(age) } else { at_least.minus(age) };
        let margin = Duration::from_secs(if whole { 3 } else { 0 });
        let at = Boot::new(now.boot.since_origin().saturating_sub(ago));
        StoreTime { at_least, at, last_modified, margin }
    }
}

/// What a contender may know of this record.
pub(crate) fn known(record: &Record) -> impl Strategy<Value = Known> + use<> {
    let lease = record.holders.first();
    let ttl = lease.map_or(Duration::from_secs(30), |lease| lease.ttl);
    now(lease.map(|lease| lease.expires_at)).prop_flat_map(move |now| {
        let seen = option::weighted(0.8, around(ttl));
        let store = option::of(store_time(now, ttl));
        let max_skew = option::weighted(0.3, (0..60_000_u64).prop_map(Duration::from_millis));
        (seen, store, max_skew).prop_map(move |(seen, store, max_skew)| Known {
            now,
            seen,
            store,
            max_skew,
        })
    })
}

/// Now; often close to the end that the record tells.
fn now(end: Option<Wall>) -> impl Strategy<Value = Moment> {
    let end = end.map_or(0, Wall::micros);
    let wall = prop_oneof![
        micros(),
        (-90_000_000..90_000_000_i64).prop_map(move |off| end.saturating_add(off)),
    ];
    let boot = 1_000_000_000_000_000..2_000_000_000_000_000_u64;
    (boot, wall).prop_map(|(boot, wall)| Moment {
        boot: Boot::new(Duration::from_nanos(boot)),
        wall: Wall::from_micros(wall),
    })
}
