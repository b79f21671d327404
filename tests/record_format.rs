//! The wire format: files that every version from now on must read, write and refuse alike.

use leaselock::record::{Fault, Kind, Mode, Record, RecordError};

const FREE: &str = include_str!("golden/free.json");
const HELD: &str = include_str!("golden/held.json");
const LINGERING: &str = include_str!("golden/lingering.json");
const UNKNOWN_FIELDS: &str = include_str!("golden/unknown_fields.json");
const QUEUED: &str = include_str!("golden/queued.json");
const HINTED: &str = include_str!("golden/hinted.json");
const RWLOCK: &str = include_str!("golden/rwlock.json");
const SEMAPHORE: &str = include_str!("golden/semaphore.json");
const LATCH: &str = include_str!("golden/latch.json");
const LATCH_OPEN: &str = include_str!("golden/latch_open.json");
const BARRIER: &str = include_str!("golden/barrier.json");
const SESSION: &str = include_str!("golden/session.json");
const ONCE_RUNNING: &str = include_str!("golden/once_running.json");
const ONCE_DONE: &str = include_str!("golden/once_done.json");

fn decode(text: &str) -> Result<Record, RecordError> {
    Record::decode(text.as_bytes())
}

fn decode_once(text: &str) -> Result<Record, RecordError> {
    Record::decode_of(Kind::Once, text.as_bytes())
}

fn value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("is JSON")
}

#[test]
fn golden_files_survive_a_rewrite() {
    let gatherings = [LATCH, LATCH_OPEN, BARRIER];
    let others = [FREE, HELD, LINGERING, UNKNOWN_FIELDS, QUEUED, HINTED, RWLOCK, SEMAPHORE];
    for text in others.into_iter().chain(gatherings) {
        let record = decode(text).expect("is a record");
        let written = String::from_utf8(record.encode().expect("is small")).expect("is text");
        assert_eq!(value(&written), value(text));
        assert_eq!(decode(&written).expect("is a record"), record);
    }
}

#[test]
fn golden_files_of_work_that_is_run_once_survive_a_rewrite() {
    for text in [ONCE_RUNNING, ONCE_DONE] {
        let record = decode_once(text).expect("is a record");
        let written = String::from_utf8(record.encode().expect("is small")).expect("is text");
        assert_eq!(value(&written), value(text));
        assert_eq!(decode_once(&written).expect("is a record"), record);
    }
    let done = decode_once(ONCE_DONE).expect("is a record").done.expect("is done");
    assert_eq!(done.result.to_json(), "{\"cents\":129900,\"receipt\":\"A-17\"}");
    assert_eq!(done.token.get(), 1_795_227_959_644_001);
    assert_eq!(done.retention.expect("is kept for 30 days").as_secs(), 30 * 24 * 60 * 60);
    assert_eq!(decode_once(ONCE_RUNNING).expect("is a record").done, None);
}

#[test]
fn golden_files_of_what_several_hold_are_understood() {
    let read = |text| decode(text).expect("is a record");
    let queued = read(QUEUED);
    assert_eq!((queued.kind, queued.holders.len(), queued.waiters.len()), (Kind::Lock, 1, 2));
    assert_eq!(queued.holders[0].session, None);
    let rwlock = read(RWLOCK);
    assert!(rwlock.holders.iter().all(|lease| lease.mode == Mode::Shared));
    assert_eq!(rwlock.waiters[0].mode, Mode::Exclusive);
    assert_eq!(rwlock.holders[0].session, rwlock.holders[1].session);
    let semaphore = read(SEMAPHORE);
    assert_eq!((semaphore.limit, semaphore.permits_held()), (5, 4));
    assert_eq!((semaphore.waiters[0].permits, semaphore.holders[0].permits), (2, 3));
    let session = Record::decode_of(Kind::Session, SESSION.as_bytes()).expect("is a record");
    assert_eq!((session.kind, session.holders[0].renewals), (Kind::Session, 12));
    assert!(decode(SESSION).is_err() && decode_once(SEMAPHORE).is_err());
}

#[test]
fn what_is_not_understood_of_a_hint_makes_no_record_unreadable() {
    let hints = |text: &str| {
        let waiters = decode(text).expect("is a record").waiters.into_iter();
        waiters.map(|ticket| ticket.wake.map(|wake| wake.to.to_string())).collect::<Vec<_>>()
    };
    let expected = [Some("10.0.3.7:4600".to_owned()), None, Some("[2001:db8::7]:4600".to_owned())];
    assert_eq!(hints(HINTED), expected);
    assert_eq!(hints(QUEUED), [None, None]);
    let nonce =
        decode(HINTED).expect("is a record").waiters.remove(0).wake.expect("is understood").nonce;
    assert_eq!(nonce.to_string(), "5f0c3a9e7d1b48620b9ae4c1d7f35286");
    let strange = [
        "null",
        "7",
        "[]",
        "{}",
        "{\"to\": null, \"nonce\": null}",
        "{\"to\": \"10.0.3.7\", \"nonce\": \"5f0c3a9e7d1b48620b9ae4c1d7f35286\"}",
        "{\"to\": \"10.0.3.7:65536\", \"nonce\": \"5f0c3a9e7d1b48620b9ae4c1d7f35286\"}",
        "{\"to\": \"10.0.3.7:1\", \"nonce\": \"5f0c\"}",
        "{\"to\": \"10.0.3.7:1\"}",
    ];
    for strange in strange {
        let mut document = value(HINTED);
        document["waiters"][0]["wake"] = value(strange);
        let record = decode(&document.to_string()).expect(strange);
        assert_eq!(record.waiters[0].wake, None, "{strange}");
        let written = record.encode().expect("is small");
        assert_eq!(value(std::str::from_utf8(&written).expect("is text")), document);
    }
}

#[test]
fn golden_files_of_latches_and_barriers_are_understood() {
    let read = |text| decode(text).expect("is a record");
    let gathering = |record: &Record| record.gathering.clone().expect("has one");
    let latch = read(LATCH);
    assert_eq!((latch.kind, latch.limit, gathering(&latch).epoch), (Kind::Latch, 3, 2));
    let names = |record| gathering(record).arrived.into_iter().map(|arrived| arrived.member);
    assert_eq!(names(&latch).collect::<Vec<_>>(), ["shard-07", "shard \"é\""]);
    assert!(gathering(&latch).has("shard-07") && !gathering(&latch).has("shard-7"));
    assert_eq!(names(&read(LATCH_OPEN)).len(), 1);
    let barrier = read(BARRIER);
    assert_eq!((barrier.kind, gathering(&barrier).epoch), (Kind::Barrier, 917));
    assert_eq!(gathering(&barrier).series.to_string(), "ffeeddccbbaa99887766554433221100");
    // A lock's record has none of this: what is called so is a field that nobody here knows.
    let mut strange = value(HELD);
    for field in ["series", "epoch", "arrived"] {
        strange[field] = "strange".into();
    }
    let record = decode(&strange.to_string()).expect("is a record");
    assert_eq!(record.gathering, None);
    let written = record.encode().expect("is small");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).expect("is JSON"), strange);
}

#[test]
fn gatherings_that_cannot_be_are_refused_with_their_path() {
    let long = format!("{:?}", "m".repeat(129));
    let faults = [
        (LATCH, "/series", "\"12\"", "series: expected 32 hexadecimal digits, found \"12\""),
        (LATCH, "/epoch", "-1", "epoch: -1 is out of range (0 to 2^53 - 2)"),
        (LATCH, "/epoch", "9007199254740991", "epoch: 9007199254740991 is out of range"),
        (LATCH, "/epoch", "null", "epoch: expected a whole number, found null"),
        (LATCH, "/limit", "0", "limit: 0 is out of range (1 to 1024)"),
        (LATCH, "/limit", "1025", "limit: 1025 is out of range (1 to 1024)"),
        (LATCH, "/limit", "1", "arrived: 2 is out of range (at most `limit` members)"),
        (BARRIER, "/limit", "1", "arrived: 1 is out of range (fewer than `limit` members)"),
        (BARRIER, "/arrived", "{}", "arrived: expected a list, found an object"),
        (LATCH, "/arrived/1", "7", "arrived[1]: expected an object, found 7"),
        (LATCH, "/arrived/0/at", "\"then\"", "arrived[0].at: expected an RFC 3339 time"),
        (LATCH, "/arrived/0/member", "null", "arrived[0].member: expected a text, found null"),
        (LATCH, "/arrived/0/member", &long, "arrived[0].member: 129 bytes are more than the 128"),
        (LATCH, "/arrived/0/member", "\"\"", "arrived[0].member: expected a member's name, found"),
        (LATCH, "/arrived/0/member", "\"\\u0001\"", "arrived[0].member: expected a member's name"),
        (
            LATCH,
            "/arrived/1/member",
            "\"shard-07\"",
            "arrived[1].member: expected another member, found \"shard-07\" again",
        ),
        (LATCH, "/holders", "[1]", "holders: 1 is out of range (no holders)"),
        (BARRIER, "/kind", "\"once\"", "kind: this is a \"once\", not a lock"),
    ];
    for (text, place, wrong, message) in faults {
        let mut document = value(text);
        *document.pointer_mut(place).expect("is there") = value(wrong);
        let error = decode(&document.to_string()).expect_err(place).to_string();
        assert!(error.starts_with(message), "{error}");
    }
    for key in ["series", "epoch", "arrived"] {
        let mut document = value(BARRIER);
        document.as_object_mut().expect("is an object").remove(key).expect("was there");
        let error = decode(&document.to_string()).expect_err(key);
        assert_eq!(error.to_string(), format!("{key}: missing"));
    }
    let mut full = value(LATCH);
    full["limit"] = 1024.into();
    full["arrived"] = (0..1024)
        .map(|number| serde_json::json!({"member": format!("{number:0>128}"), "at": "2026-11-21T02:25:59Z"}))
        .collect();
    let record = decode(&full.to_string()).expect("is a record");
    assert_eq!(decode_again(&record), record, "the largest latch fits");
}

fn decode_again(record: &Record) -> Record {
    Record::decode(&record.encode().expect("fits")).expect("is a record")
}

#[test]
fn shares_that_cannot_be_are_refused_with_their_path() {
    let faults = [
        (RWLOCK, "/holders/0/mode", "\"exclusive\"", "holders[0].mode: expected \"shared\""),
        (RWLOCK, "/holders/0/permits", "2", "holders[0].permits: 2 is out of range (1)"),
        (RWLOCK, "/holders/0/session", "\"me\"", "holders[0].session: expected a UUID"),
        (SEMAPHORE, "/holders/0/mode", "\"exclusive\"", "holders[0].mode: expected \"shared\""),
        (SEMAPHORE, "/holders/0/permits", "0", "holders[0].permits: 0 is out of range"),
        (SEMAPHORE, "/limit", "65537", "limit: 65537 is out of range (1 to 65536)"),
        (SEMAPHORE, "/limit", "0", "limit: 0 is out of range (1 to 65536)"),
        (QUEUED, "/waiters/1/session", "null", "waiters[1].session: expected a text"),
        (QUEUED, "/waiters/0/mode", "\"shared\"", "waiters[0].mode: expected \"exclusive\""),
        (QUEUED, "/waiters/0/ttl_ms", "999", "waiters[0].ttl_ms: 999 is out of range"),
        (QUEUED, "/waiters/0/since", "\"now\"", "waiters[0].since: expected an RFC 3339 time"),
        (QUEUED, "/holders", "[1, 2]", "holders: 2 is out of range (at most one holder)"),
    ];
    for (text, place, wrong, message) in faults {
        let mut document = value(text);
        *document.pointer_mut(place).expect("is there") = value(wrong);
        let error = decode(&document.to_string()).expect_err(place).to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let mut many = value(SEMAPHORE);
    let holder = many["holders"][0].clone();
    many["holders"] = std::iter::repeat_n(holder, 129).collect();
    let error = decode(&many.to_string()).expect_err("too many").to_string();
    assert_eq!(error, "holders: 129 is out of range (at most 128 holders)");
}

#[test]
fn the_kinds_of_records_are_told_apart() {
    let other = |error: RecordError| (error.path.clone(), error.to_string());
    let lock = other(decode_once(HELD).expect_err("a lock's"));
    assert_eq!(lock.1, "kind: this is a \"lock\", not work that is run once");
    for text in [ONCE_RUNNING, ONCE_DONE] {
        let once = other(decode(text).expect_err("no lock's"));
        assert_eq!(once, ("kind".to_owned(), "kind: this is a \"once\", not a lock".to_owned()));
    }
    // A lock's record has no result: what is called so is a field that nobody here knows.
    let mut strange = value(HELD);
    strange["done"] = "strange".into();
    let record = decode(&strange.to_string()).expect("is a record");
    assert_eq!(record.done, None);
    let written = record.encode().expect("is small");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).expect("is JSON"), strange);
}

#[test]
fn every_fault_of_a_result_is_named_with_its_path() {
    let cases = [
        ("/done", "7", "done: expected an object, found 7"),
        ("/done/at", "\"then\"", "done.at: expected an RFC 3339 time"),
        ("/done/token", "1795227959644002", "done.token: 1795227959644002 is out of range"),
        ("/done/token", "\"x\"", "done.token: expected a whole number"),
        ("/done/owner/label", "null", "done.owner.label: expected a text, found null"),
        ("/done/retention_ms", "999", "done.retention_ms: 999 is out of range (1000 to"),
        ("/done/retention_ms", "3155760000001", "done.retention_ms: 3155760000001 is out of"),
        ("/kind", "\"lock\"", "kind: this is a \"lock\", not work"),
    ];
    for (pointer, new, message) in cases {
        let mut document = value(ONCE_DONE);
        *document.pointer_mut(pointer).expect("is there") = value(new);
        let error = decode_once(&document.to_string()).expect_err(pointer).to_string();
        assert!(error.contains(message), "{pointer} = {new}: {error}");
    }
    for key in ["result", "at", "token", "owner"] {
        let mut document = value(ONCE_DONE);
        document["done"].as_object_mut().expect("is an object").remove(key).expect("was there");
        let error = decode_once(&document.to_string()).expect_err(key);
        assert_eq!(error.to_string(), format!("done.{key}: missing"));
    }
    let mut both = value(ONCE_RUNNING);
    both["done"] = value(ONCE_DONE)["done"].clone();
    let error = decode_once(&both.to_string()).expect_err("both").to_string();
    assert!(error.starts_with("done: expected nothing while somebody runs it"), "{error}");
    let mut nothing = value(ONCE_DONE);
    nothing["done"]["result"] = serde_json::Value::Null;
    let done = decode_once(&nothing.to_string()).expect("is a record").done.expect("is done");
    assert_eq!(done.result.to_json(), "null", "a result may be nothing");
}

#[test]
fn a_result_has_room_that_a_lock_has_not() {
    let mut document = value(ONCE_DONE);
    document["done"]["result"] = "r".repeat(65_534).into();
    let record = decode_once(&document.to_string()).expect("is a record");
    let written = record.encode().expect("fits");
    assert!(written.len() > 65_536);
    assert_eq!(Record::decode_of(Kind::Once, &written).expect("is a record"), record);
    let huge = format!("{ONCE_DONE}{}", " ".repeat(131_072));
    let error = decode_once(&huge).expect_err("huge");
    assert!(matches!(error.fault, Fault::TooLarge { limit: 131_072, .. }), "{error}");
}

#[test]
fn golden_files_say_what_they_say() {
    let held = decode(HELD).expect("is a record");
    let lease = &held.holders[0];
    assert_eq!(held.token.get(), 1_795_227_959_644_001);
    assert_eq!(lease.ttl.as_millis(), 30_000);
    assert_eq!(lease.renewals, 12);
    assert_eq!(lease.owner.label, "nightly-etl");
    assert_eq!(lease.owner.pid, Some(4711));
    assert_eq!(held.history[0].ended.as_str(), "broken");
    assert_eq!(held.history[0].by.as_deref(), Some("ops"));
    assert!(decode(FREE).expect("is a record").holders.is_empty());
    assert!(decode(LINGERING).expect("is a record").holders[0].released_at.is_some());
}

/// The held record with one value replaced.
fn with(pointer: &str, new: &str) -> String {
    let mut document = value(HELD);
    *document.pointer_mut(pointer).expect("is there") = value(new);
    document.to_string()
}

fn without(parent: &str, key: &str) -> String {
    let mut document = value(HELD);
    let parent = document.pointer_mut(parent).expect("is there");
    parent.as_object_mut().expect("is an object").remove(key).expect("was there");
    document.to_string()
}

#[test]
fn every_fault_is_named_with_its_path() {
    let cases = [
        ("/format", "2", "format: format 2 is newer"),
        ("/format", "0", "format: 0 is out of range"),
        ("/format", "\"1\"", "format: expected a whole number, found \"1\""),
        ("/kind", "\"turnstile\"", "kind: this is a \"turnstile\", not a lock"),
        ("/token", "9007199254740991", "token: 9007199254740991 is out of range"),
        ("/token", "-1", "token: -1 is out of range"),
        ("/token", "1.5", "token: 1.5 is out of range"),
        ("/token", "null", "token: expected a whole number, found null"),
        ("/nonce", "\"12\"", "nonce: expected 32 hexadecimal digits"),
        ("/limit", "2", "limit: 2 is out of range (1)"),
        ("/holders", "{}", "holders: expected a list, found an object"),
        ("/holders/0", "7", "holders[0]: expected an object, found 7"),
        ("/holders/0/id", "\"me\"", "holders[0].id: expected a UUID, found \"me\""),
        (
            "/holders/0/token",
            "9007199254740000",
            "holders[0].token: 9007199254740000 is out of range",
        ),
        ("/holders/0/mode", "\"shared\"", "holders[0].mode: expected \"exclusive\""),
        ("/holders/0/permits", "0", "holders[0].permits: 0 is out of range"),
        ("/holders/0/ttl_ms", "999", "holders[0].ttl_ms: 999 is out of range (1000 to 86400000)"),
        ("/holders/0/ttl_ms", "86400001", "holders[0].ttl_ms: 86400001 is out of range"),
        ("/holders/0/ttl_ms", "null", "holders[0].ttl_ms: expected a whole number, found null"),
        ("/holders/0/renewals", "-1", "holders[0].renewals: -1 is out of range"),
        ("/holders/0/expires_at", "\"soon\"", "holders[0].expires_at: expected an RFC 3339 time"),
        ("/holders/0/owner/host", "3", "holders[0].owner.host: expected a text, found 3"),
        ("/holders/0/owner/pid", "4294967296", "holders[0].owner.pid: 4294967296 is out of range"),
        ("/history/0/to", "0", "history[0].to: expected a text, found 0"),
    ];
    for (pointer, new, message) in cases {
        let error = decode(&with(pointer, new)).expect_err(pointer).to_string();
        assert!(error.contains(message), "{pointer} = {new}: {error}");
    }
    for (parent, key, path) in [
        ("", "token", "token: missing"),
        ("", "holders", "holders: missing"),
        ("/holders/0", "renewals", "holders[0].renewals: missing"),
        ("/holders/0/owner", "label", "holders[0].owner.label: missing"),
    ] {
        assert_eq!(decode(&without(parent, key)).expect_err(key).to_string(), path);
    }
}

#[test]
fn what_is_no_record_at_all_is_told_apart() {
    let not_json =
        |text: &str| matches!(decode(text), Err(RecordError { fault: Fault::NotJson(_), .. }));
    assert!(not_json("") && not_json("{\"format\": 1,") && not_json("NaN"));
    let two = HELD.replacen("\"holders\": [", "\"holders\": [null, ", 1);
    assert!(decode(&two).expect_err("two").to_string().contains("at most one holder"));
    let huge = format!("{HELD}{}", " ".repeat(262_144));
    assert!(matches!(decode(&huge), Err(RecordError { fault: Fault::TooLarge { .. }, .. })));
    let long = with("/holders/0/owner/label", &format!("\"{}\"", "x".repeat(129)));
    assert!(decode(&long).expect_err("long").to_string().contains("holders[0].owner.label"));
}

#[test]
fn a_record_that_grows_too_large_loses_its_oldest_tenures_first() {
    let mut document = value(UNKNOWN_FIELDS);
    let tenure = document["history"][0].clone();
    let reason = serde_json::Value::from("x".repeat(1000));
    let history = (0..16).map(|_| {
        let mut tenure = tenure.clone();
        tenure["reason"] = reason.clone();
        tenure["by"] = reason.clone();
        tenure
    });
    document["history"] = history.collect();
    document["from_the_future"] = "y".repeat(224_608).into();
    let mut record = decode(&document.to_string()).expect("is a record");
    assert_eq!(record.history.len(), 16);
    let payload = format!("\"{}\"", "z".repeat(10_000));
    record.payload = Some(leaselock::Payload::from_json_str(&payload).expect("is small"));
    let written = record.encode().expect("fits without some history");
    assert!(written.len() <= 262_144);
    let read = Record::decode(&written).expect("is a record");
    assert!((1..16).contains(&read.history.len()), "{}", read.history.len());
    assert_eq!(read.history, record.history[16 - read.history.len()..]);
}

/// The record is rewritten every few seconds for as long as the lock is held: what changes a little
/// each time would wander off.
#[test]
fn numbers_that_nobody_here_understands_keep_their_last_digit() {
    let mut drawn = 1_u64;
    for _ in 0..1000 {
        // Knuth's linear congruential generator: any numbers will do.
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let number = f64::from_bits(drawn);
        if !number.is_finite() {
            continue;
        }
        let text = with("/payload", &format!("{number:e}"));
        let written = decode(&text).expect("is a record").encode().expect("is small");
        let written = String::from_utf8(written).expect("is text");
        let (_, rest) = written.split_once("\"payload\":").expect("has a payload");
        let kept: f64 = rest.split(',').next().expect("ends").parse().expect("is a number");
        assert_eq!(kept.to_bits(), number.to_bits(), "{number:e}");
    }
}
