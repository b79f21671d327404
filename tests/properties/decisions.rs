//! What the protocol decides, whatever is on record and whatever is known.

use std::collections::BTreeMap;
use std::time::Duration;

use leaselock::clock::{Boot, Wall};
use leaselock::protocol::expiry::{Rule, Verdict, judge};
use leaselock::protocol::lock::{
    Acquire, AcquireDecision, Gone, HolderDecision, Own, Renewal, acquire, break_lease, release,
    renew, shut_the_door,
};
use leaselock::protocol::queue::Want;
use leaselock::record::{Ended, Kind, Past, Record};
use leaselock::{FencingToken, HolderId, Owner, Payload};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::cases;
use crate::made::{
    Known, content, decoded, held, holder_id, json, known, micros, nonce, read, record, token, ttl,
};

prop_compose! {
    fn intent()(
        id in holder_id(), ttl in ttl(), label in "\\PC{0,12}", note in option::of("\\PC{0,12}"),
        payload in option::of(payload()), nonce in nonce(), above in token(),
        reserve in 0..100_000_u64, renews_in in option::of(ttl()),
    ) -> Acquire {
        let owner = Owner { label, host: "here".into(), pid: Some(7), note };
        let (kind, want) = (Kind::Lock, Want::ALONE);
        Acquire { kind, want, id, ttl, owner, payload, nonce, above, reserve, renews_in }
    }
}

fn payload() -> impl Strategy<Value = Payload> {
    json()
        .prop_filter("null is none", |value| !value.is_null())
        .prop_map(|value| Payload::from_json_str(&value.to_string()).expect("is small"))
}

/// A record, what is known of it, and what a contender wants.
fn contended() -> impl Strategy<Value = (Record, Known, Acquire)> {
    let found = prop_oneof![3 => held(), 1 => record()];
    found.prop_flat_map(|found| (Just(found.clone()), known(&found), intent()))
}

/// What somebody knows of an entry: the truth, or what was true once.
fn own(found: &Record) -> impl Strategy<Value = Own> + use<> {
    let truth = found.holders.first().map(|lease| (lease.id, lease.renewals));
    (any::<bool>(), holder_id(), 0..3_u64, any::<bool>()).prop_map(
        move |(mine, other, behind, unresolved)| match truth {
            Some((id, renewals)) if mine => {
                Own { id, renewals: renewals.saturating_sub(behind), unresolved }
            }
            _ => Own { id: other, renewals: behind, unresolved },
        },
    )
}

fn owned() -> impl Strategy<Value = (Record, Own)> {
    prop_oneof![3 => held(), 1 => record()]
        .prop_flat_map(|found| (Just(found.clone()), own(&found)))
}

fn wall() -> impl Strategy<Value = Wall> {
    micros().prop_map(Wall::from_micros)
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn an_acquisition_takes_what_nobody_holds_and_nothing_else(
        (found, known, intent) in contended(),
    ) {
        match known.of(&found, |evidence| acquire(Some(&found), evidence, &intent)) {
            AcquireDecision::Ours => prop_assert!(found.lease(intent.id).is_some()),
            other @ (AcquireDecision::Done
            | AcquireDecision::Queue(_)
            | AcquireDecision::Ask(_)
            | AcquireDecision::End(_)
            | AcquireDecision::OtherKind(_)
            | AcquireDecision::OtherLimit(_)) => prop_assert!(false, "{:?}", other),
            AcquireDecision::HeldUntil(end) => {
                let lease = found.holders.first().expect("somebody holds it");
                prop_assert_ne!(lease.id, intent.id);
                let verdict = known.of(&found, |evidence| judge(lease, evidence));
                prop_assert_eq!(verdict, Verdict::AliveUntil(end));
            }
            AcquireDecision::Write { record: written, takeover } => {
                prop_assert!(found.lease(intent.id).is_none());
                for lease in &found.holders {
                    let verdict = known.of(&found, |evidence| judge(lease, evidence));
                    let rule = takeover.expect("somebody is put out");
                    prop_assert_eq!(verdict, Verdict::Expired(rule));
                    let is_on = match rule {
                        Rule::Observation => known.seen.is_some(),
                        Rule::StoreClock => known.store.is_some(),
                        Rule::WallClock => known.max_skew.is_some(),
                    };
                    prop_assert!(is_on);
                }
                prop_assert_eq!(takeover.is_some(), !found.holders.is_empty());
                admitted(&found, &known, &intent, &written)?;
            }
        }
    }

    #[test]
    fn an_absent_record_is_made_above_what_was_seen(known in known(&free()), intent in intent()) {
        let decision = known.of(&free(), |evidence| acquire(None, evidence, &intent));
        let AcquireDecision::Write { record, takeover } = decision else { panic!("is absent") };
        prop_assert_eq!(takeover, None);
        prop_assert!(record.history.is_empty());
        entered(&known, &intent, &record)?;
        prop_assert_eq!(record.payload, intent.payload);
    }

    #[test]
    fn a_contender_that_waits_as_told_is_let_in_then_and_not_before(
        (found, known, intent) in contended(),
    ) {
        let decide = |known: &Known| {
            known.of(&found, |evidence| acquire(Some(&found), evidence, &intent))
        };
        let AcquireDecision::HeldUntil(end) = decide(&known) else { return Ok(()) };
        let left = end.since(known.now.boot);
        prop_assert!(!left.is_zero(), "a wait for nothing is a storm");
        // An entry that was never seen before is seen from now on.
        let known = Known { seen: Some(known.seen.unwrap_or_default()), ..known };
        let nanosecond = Duration::from_nanos(1);
        let before = decide(&known.after(left - nanosecond));
        let AcquireDecision::HeldUntil(until) = before else { panic!("too early") };
        // The wall clock has microseconds only.
        prop_assert!(until >= end && until.since(end) < Duration::from_micros(1));
        let then = decide(&known.after(left));
        prop_assert!(matches!(then, AcquireDecision::Write { takeover: Some(_), .. }), "{:?}", then);
    }

    #[test]
    fn a_renewal_changes_its_own_entry_and_nothing_else(
        (found, own) in owned(), payload in option::of(payload()), reserve in 0..100_000_u64,
        next_in in option::of(ttl()), nonce in nonce(), now in wall(),
    ) {
        let with = Renewal { payload: payload.as_ref(), reserve, next_in };
        match renew(&found, own, with, nonce, now) {
            HolderDecision::Gone(gone) => explained(&found, own, &gone)?,
            HolderDecision::Write(written) => {
                let lease = found.lease(own.id).expect("is the holder's");
                let renewed = written.lease(own.id).expect("stays the holder's");
                prop_assert_eq!(renewed.renewals, lease.renewals + 1);
                prop_assert_eq!(renewed.renewed_at, now);
                prop_assert_eq!(renewed.expires_at, now.plus(lease.ttl));
                let mut expected = found.clone();
                expected.nonce = nonce;
                prop_assert_eq!(written.token.get(), found.token.get() + reserve);
                expected.token = written.token;
                expected.holders[0].renewals += 1;
                expected.holders[0].renewed_at = now;
                expected.holders[0].renews_at = next_in.map(|by| now.plus(by));
                expected.holders[0].expires_at = now.plus(lease.ttl);
                expected.payload = payload.or(found.payload.clone());
                prop_assert_eq!(&*written, &expected);
                legible(&written)?;
            }
        }
    }

    #[test]
    fn a_release_keeps_everything_but_its_own_entry(
        (found, own) in owned(), nonce in nonce(), now in wall(),
        linger in option::of((0..100_000_u64).prop_map(Duration::from_secs)),
    ) {
        match release(&found, own, linger, nonce, now) {
            HolderDecision::Gone(gone) => explained(&found, own, &gone)?,
            HolderDecision::Write(written) => {
                kept(&found, &written)?;
                prop_assert_eq!(written.nonce, nonce);
                let before = found.lease(own.id).expect("is the holder's");
                if linger.is_none() {
                    retired(&found, &written, &Ended::Released, now)?;
                } else {
                    let mut after = written.lease(own.id).expect("lingers").clone();
                    prop_assert_eq!((after.released_at, after.renews_at), (Some(now), None));
                    prop_assert_eq!(after.renewals, before.renewals + 1);
                    prop_assert_eq!(after.expires_at, now.plus(after.ttl));
                    after.clone_from(before);
                    prop_assert_eq!(&written.history, &found.history);
                    // It can neither be renewed nor released again.
                    let own = Own { renewals: before.renewals + 1, ..own };
                    let gone = HolderDecision::Gone(Gone::Released);
                    prop_assert_eq!(&renew(&written, own, Renewal::default(), nonce, now), &gone);
                    prop_assert_eq!(&release(&written, own, None, nonce, now), &gone);
                }
                legible(&written)?;
            }
        }
    }

    #[test]
    fn a_break_frees_the_lock_and_keeps_its_counter(
        found in record(), by in option::of("\\PC{0,20}"), reason in option::of("\\PC{0,20}"),
        nonce in nonce(), now in wall(),
    ) {
        let written = break_lease(&found, None, by.clone(), reason.clone(), nonce, now);
        kept(&found, &written)?;
        prop_assert_eq!(written.nonce, nonce);
        retired(&found, &written, &Ended::Broken, now)?;
        if let Some(lease) = found.holders.first() {
            let tenure = written.history.last().expect("was put out");
            prop_assert_eq!((&tenure.by, &tenure.reason), (&by, &reason));
            if lease.released_at.is_none() {
                let own = Own { id: lease.id, renewals: lease.renewals, unresolved: false };
                let told = HolderDecision::Gone(Gone::Broken { by, reason });
                prop_assert_eq!(renew(&written, own, Renewal::default(), nonce, now), told);
            }
        }
        legible(&written)?;
    }

    #[test]
    fn a_door_is_shut_on_one_acquisition_only(
        found in record(), id in holder_id(), nonce in nonce(), now in wall(),
    ) {
        let written = shut_the_door(&found, id, nonce, now);
        kept(&found, &written)?;
        prop_assert_eq!(written.nonce, nonce);
        if found.lease(id).is_some() {
            retired(&found, &written, &Ended::Released, now)?;
        } else {
            prop_assert_eq!(content(&written), content(&found));
        }
        legible(&written)?;
    }
}

fn free() -> Record {
    Record::free(FencingToken::new(1).expect("is in range"), leaselock::Nonce::from_random(0))
}

/// A contender has become the holder.
fn admitted(
    found: &Record,
    known: &Known,
    intent: &Acquire,
    written: &Record,
) -> Result<(), TestCaseError> {
    entered(known, intent, written)?;
    prop_assert!(written.token > found.token);
    prop_assert!(found.holders.iter().all(|lease| written.token > lease.token));
    let payload = intent.payload.as_ref().or(found.payload.as_ref());
    prop_assert_eq!(written.payload.as_ref(), payload);
    let released = found.holders.iter().any(|lease| lease.released_at.is_some());
    let ended = if released { Ended::Released } else { Ended::Expired };
    let mut without_holder = written.clone();
    without_holder.holders.clear();
    retired(found, &without_holder, &ended, known.now.wall)?;
    // What newer versions have written stays.
    let (before, after) = (read(found), read(written));
    for (key, value) in before.as_object().expect("is an object") {
        if key.starts_with('x') || key == "waiters" {
            prop_assert_eq!(&after[key], value);
        }
    }
    Ok(())
}

fn entered(known: &Known, intent: &Acquire, written: &Record) -> Result<(), TestCaseError> {
    prop_assert_eq!(written.holders.len(), 1);
    let lease = &written.holders[0];
    prop_assert_eq!((lease.id, lease.ttl, lease.renewals), (intent.id, intent.ttl, 0));
    prop_assert_eq!(&lease.owner, &intent.owner);
    prop_assert_eq!(lease.released_at, None);
    let now = known.now.wall;
    prop_assert_eq!((lease.acquired_at, lease.renewed_at), (now, now));
    prop_assert_eq!(lease.expires_at, now.plus(intent.ttl));
    prop_assert_eq!(lease.renews_at, intent.renews_in.map(|by| now.plus(by)));
    prop_assert_eq!(lease.token.get() + intent.reserve, written.token.get());
    prop_assert_eq!(written.nonce, intent.nonce);
    prop_assert!(lease.token > intent.above);
    legible(written)
}

/// Everything but the holder, the history and the nonce is as it was.
fn kept(found: &Record, written: &Record) -> Result<(), TestCaseError> {
    prop_assert_eq!(written.token, found.token);
    let (mut before, mut after) = (content(found), content(written));
    for key in ["holders", "history"] {
        before[key].take();
        after[key].take();
    }
    prop_assert_eq!(after, before);
    Ok(())
}

/// The holder's entry has become the last tenure.
fn retired(
    found: &Record,
    written: &Record,
    ended: &Ended,
    now: Wall,
) -> Result<(), TestCaseError> {
    prop_assert!(written.holders.is_empty());
    let mut before: Vec<&Past> = found.history.iter().collect();
    let mut after: Vec<&Past> = written.history.iter().collect();
    prop_assert!(after.len() <= 16);
    if let Some(lease) = found.holders.first() {
        let last = after.pop().expect("somebody was put out");
        prop_assert_eq!((last.id, last.token, &last.ended), (lease.id, lease.token, ended));
        prop_assert_eq!((last.from, last.to), (lease.acquired_at, now));
        prop_assert_eq!(&last.owner, &Owner { note: None, ..lease.owner.clone() });
        let room = 15.min(before.len());
        before = before.split_off(before.len() - room);
    }
    prop_assert_eq!(after, before);
    Ok(())
}

/// What was written can be read again, by everybody.
fn legible(written: &Record) -> Result<(), TestCaseError> {
    let bytes = written.encode().expect("is small");
    prop_assert!(bytes.len() <= 262_144);
    let again = Record::decode(&bytes).expect("reads what was written");
    prop_assert_eq!(again.encode().expect("was written"), bytes);
    Ok(())
}

/// A holder is only told that it is gone when its entry is, or is not its own work.
fn explained(found: &Record, own: Own, gone: &Gone) -> Result<(), TestCaseError> {
    let entry = found.lease(own.id);
    match gone {
        Gone::Cloned => {
            let lease = entry.expect("somebody renews it");
            prop_assert!(lease.released_at.is_none());
            prop_assert_ne!(lease.renewals, own.renewals);
            let doubt = own.unresolved && lease.renewals == own.renewals + 1;
            prop_assert!(!doubt, "that may have been its own renewal");
        }
        Gone::Released => match entry {
            Some(lease) => prop_assert!(lease.released_at.is_some()),
            None => {
                let tenure = found.tenure(own.id).expect("is remembered");
                prop_assert_eq!(&tenure.ended, &Ended::Released);
            }
        },
        Gone::Finished => prop_assert!(false, "a lock has no result"),
        Gone::Broken { by, reason } => {
            prop_assert!(entry.is_none());
            let tenure = found.tenure(own.id).expect("is remembered");
            prop_assert_eq!(&tenure.ended, &Ended::Broken);
            prop_assert_eq!((&tenure.by, &tenure.reason), (by, reason));
        }
        Gone::TakenOver(token) => {
            prop_assert!(entry.is_none());
            prop_assert_eq!(*token, found.holders.first().map(|lease| lease.token));
        }
    }
    Ok(())
}

/// The last token that a record may carry has a successor that none may: whoever finds it stays
/// out, rather than get a token that was issued before.
#[test]
fn the_counter_ends_with_a_lock_that_nobody_gets() {
    let token = FencingToken::new((1 << 53) - 2).expect("is in range");
    let mut document = read(&free());
    document["token"] = token.get().into();
    let found = decoded(&document);
    let known = Known {
        now: leaselock::clock::Moment { boot: Boot::default(), wall: Wall::from_micros(0) },
        seen: None,
        store: None,
        max_skew: None,
    };
    let intent = Acquire {
        kind: Kind::Lock,
        want: Want::ALONE,
        id: HolderId::from_random(1),
        ttl: Duration::from_secs(30),
        owner: Owner::default(),
        payload: None,
        nonce: leaselock::Nonce::from_random(1),
        above: token,
        reserve: 7,
        renews_in: None,
    };
    let decision = known.of(&found, |evidence| acquire(Some(&found), evidence, &intent));
    let AcquireDecision::Write { record, .. } = decision else { panic!("is free") };
    assert!(record.token > token);
    let error = Record::decode(&record.encode().expect("is small")).expect_err("is the end");
    assert_eq!(error.path, "token");
}

/// What is drawn above is worth drawing.
#[test]
fn every_kind_of_decision_is_taken() {
    let mut runner = TestRunner::deterministic();
    let mut taken = BTreeMap::<String, u32>::new();
    for _ in 0..1000 {
        let drawn = (contended(), owned()).new_tree(&mut runner).expect("is drawn").current();
        let ((found, known, intent), (held, own)) = drawn;
        let acquired = known.of(&found, |evidence| acquire(Some(&found), evidence, &intent));
        let acquired = match acquired {
            AcquireDecision::Write { takeover, .. } => format!("write {takeover:?}"),
            AcquireDecision::HeldUntil(_) => "held".to_owned(),
            AcquireDecision::Ours => "ours".to_owned(),
            other => format!("{other:?}"),
        };
        let renewed = match renew(&held, own, Renewal::default(), intent.nonce, known.now.wall) {
            HolderDecision::Write(_) => "renew".to_owned(),
            HolderDecision::Gone(Gone::Broken { .. }) => "gone: broken".to_owned(),
            HolderDecision::Gone(Gone::TakenOver(_)) => "gone: taken over".to_owned(),
            HolderDecision::Gone(gone) => format!("gone: {gone:?}"),
        };
        for kind in [acquired, renewed] {
            *taken.entry(kind).or_default() += 1;
        }
    }
    let kinds: Vec<_> = taken.keys().map(String::as_str).collect();
    let expected = [
        "gone: Cloned",
        "gone: Released",
        "gone: broken",
        "gone: taken over",
        "held",
        "ours",
        "renew",
        "write None",
        "write Some(Observation)",
        "write Some(StoreClock)",
        "write Some(WallClock)",
    ];
    assert_eq!(kinds, expected);
    assert!(taken.values().all(|count| *count >= 10), "{taken:?}");
}
