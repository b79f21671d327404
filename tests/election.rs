//! Leader election: on every store, and by a clock moved by hand on a store that fails on command.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use leaselock::{
    Break, Campaign, Election, ErrorKind, FencingToken, Health, Leader, Leadership, LockState,
    LossReason, Payload, Release, Result,
};
use leaselock_test_support::clock::{ManualClock, breathe};
use leaselock_test_support::counting::{CountingStore, FailKind};
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::hold::Overlap;
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);
/// Generous: machines are slow and busy.
const LONG: Duration = Duration::from_secs(60);

on_every_store!(
    of_many_candidates_one_leads_at_a_time_and_terms_rise,
    who_resigns_or_lets_go_hands_over,
    a_leader_that_crashed_is_succeeded,
    observers_see_every_change_in_order,
    observers_see_a_crash_when_the_stores_clock_shows_it,
    work_is_cut_off_when_the_leadership_is_lost_and_begun_anew,
    work_that_is_done_resigns_and_its_output_is_returned,
    a_shutdown_resigns_and_ends_campaigns_and_observers,
    an_election_is_the_lock_of_its_name,
);

async fn election(place: &Place) -> Election {
    place.open().await.election("x").ttl(TTL)
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, work).await {
        Ok(output) => output,
        Err(_) => panic!("not within {LONG:?}: {what}"),
    }
}

async fn elected(election: &Election) -> Leadership {
    soon("is elected", election.campaign()).await.expect("campaigns")
}

/// What an observer is told next.
async fn told(news: &mut (impl Stream<Item = Result<Option<Leader>>> + Unpin)) -> Option<Leader> {
    soon("a change", news.next()).await.expect("goes on").expect("can be read")
}

async fn state(election: &Election) -> LockState {
    election.inspect().await.expect("reads").state
}

fn text(text: &str) -> Payload {
    Payload::from_serialize(&text).expect("is small")
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn of_many_candidates_one_leads_at_a_time_and_terms_rise(place: Place) {
    let referee = Arc::new(Overlap::new());
    let candidates = place.backend().max_racers();
    let terms = if place.backend() == Backend::Seaweedfs { 1 } else { 3 };
    let mut tasks = Vec::new();
    for _ in 0..candidates {
        let store = place.open().await;
        let referee = Arc::clone(&referee);
        tasks.push(tokio::spawn(async move {
            let election = store.election("x");
            for _ in 0..terms {
                let referee = Arc::clone(&referee);
                let work = async move |leadership: &Leadership| {
                    // Complains of a second one inside, and of a term that is not larger.
                    let inside = referee.enter(leadership.term().get());
                    tokio::task::yield_now().await;
                    assert!(leadership.is_leader() && !leadership.remaining().is_zero());
                    drop(inside);
                };
                election.lead(work).await.expect("leads");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no task fails");
    }
    assert_eq!(referee.assert_clean().entries, (candidates * terms) as u64);
}

async fn who_resigns_or_lets_go_hands_over(place: Place) {
    let (first, second) = (election(&place).await, election(&place).await);
    let leading = elected(&first.clone().owner("first")).await;
    let Campaign::Following(info) = second.try_campaign().await.expect("looks") else {
        panic!("two lead")
    };
    assert_eq!(
        (info.holders[0].token, info.holders[0].owner.label.as_str()),
        (leading.term(), "first")
    );
    let waited = second.campaign_timeout(Duration::from_millis(50)).await.expect("waits");
    assert!(waited.elected().is_none());
    let candidate = second.clone();
    let campaign = tokio::spawn(async move { elected(&candidate).await });
    let before = leading.term();
    assert_eq!(leading.resign().await.expect("resigns"), Release::Released);
    let next = campaign.await.expect("no panic");
    assert!(next.term() > before);
    let after = next.term();
    drop(next);
    assert!(elected(&first).await.term() > after);
}

async fn a_leader_that_crashed_is_succeeded(place: Place) {
    let candidate = election(&place).await;
    let mut news = candidate.observe();
    assert_eq!(told(&mut news).await, None);
    let term = crashed(&place).await;
    assert_eq!(told(&mut news).await.expect("is on record").term, term);
    let leading = elected(&candidate).await;
    assert!(leading.term() > term);
    // In between it may have been seen that the lease had ended.
    let leader = match told(&mut news).await {
        None => told(&mut news).await,
        leader => leader,
    };
    assert_eq!(leader.expect("leads").term, leading.term());
    let last = candidate.inspect().await.expect("reads").history.pop().expect("remembers");
    assert_eq!((last.token, last.ended.as_str()), (term, "expired"));
}

/// A leader that is gone without a word.
async fn crashed(place: &Place) -> FencingToken {
    let lock = place.open().await.lock("x").ttl(TTL).keeper(false);
    let guard = lock.acquire().await.expect("is free");
    let term = guard.token();
    std::mem::forget(guard);
    term
}

async fn observers_see_every_change_in_order(place: Place) {
    let (here, there) = (election(&place).await, election(&place).await);
    let mut news = election(&place).await.observe();
    assert_eq!(told(&mut news).await, None, "nobody ever led");
    let first = elected(&here.owner("here").note("n").payload(text("10.0.0.1"))).await;
    let seen = told(&mut news).await.expect("leads");
    assert_eq!((seen.term, seen.id), (first.term(), first.guard().id()));
    assert_eq!((seen.owner.label.as_str(), seen.owner.pid), ("here", Some(std::process::id())));
    assert_eq!(seen.payload, Some(text("10.0.0.1")));
    assert_eq!(there.leader().await.expect("reads"), Some(seen.clone()));
    // Who comes later is told at once.
    assert_eq!(told(&mut there.observe()).await, Some(seen));
    let before = first.term();
    first.resign().await.expect("resigns");
    assert_eq!(told(&mut news).await, None);
    assert_eq!(there.leader().await.expect("reads"), None);
    let second = elected(&there.clone().owner("there")).await;
    let seen = told(&mut news).await.expect("leads");
    assert!(seen.term == second.term() && seen.term > before);
    assert_eq!(seen.payload, None, "the address of a former leader is gone");
    second.guard().set_payload(text("10.0.0.2")).await.expect("leads");
    let changed = told(&mut news).await.expect("still leads");
    assert_eq!((changed.id, changed.payload), (seen.id, Some(text("10.0.0.2"))));
    let order = Break::expecting(second.term());
    place.open().await.lock("x").break_lease(order).await.expect("breaks");
    assert_eq!(told(&mut news).await, None);
}

async fn observers_see_a_crash_when_the_stores_clock_shows_it(place: Place) {
    let term = crashed(&place).await;
    let mut news = election(&place).await.observe();
    assert_eq!(told(&mut news).await.expect("is on record").term, term);
    if place.backend() == Backend::Memory {
        // Nobody knows the time of such a store: only a successor ends that leadership.
        assert!(tokio::time::timeout(TTL * 2, news.next()).await.is_err());
        return;
    }
    assert_eq!(told(&mut news).await, None);
    assert_eq!(state(&election(&place).await).await, LockState::Expired);
}

async fn work_is_cut_off_when_the_leadership_is_lost_and_begun_anew(place: Place) {
    let election = election(&place).await;
    let (begun, mut terms) = mpsc::unbounded_channel();
    let cut_off = Arc::new(AtomicBool::new(false));
    let leading = tokio::spawn({
        let (election, cut_off) = (election.clone(), Arc::clone(&cut_off));
        async move {
            let work = async move |leadership: &Leadership| {
                let again = cut_off.load(Ordering::SeqCst);
                begun.send((leadership.term(), again)).expect("the test listens");
                if !again {
                    let _dropped = Dropped(Arc::clone(&cut_off));
                    std::future::pending::<()>().await;
                }
                leadership.term()
            };
            election.lead(work).await
        }
    });
    let (first, _) = soon("leads", terms.recv()).await.expect("is told");
    let order = Break::force().reason("stuck");
    place.open().await.lock("x").break_lease(order).await.expect("breaks");
    let (second, again) = soon("leads again", terms.recv()).await.expect("is told");
    assert!(again, "the first work is gone before the second begins");
    assert!(second > first);
    assert_eq!(leading.await.expect("no panic").expect("leads"), second);
    let ended: Vec<_> = election.inspect().await.expect("reads").history;
    let ended: Vec<_> = ended.iter().map(|term| (term.token, term.ended.as_str())).collect();
    assert_eq!(ended, [(first, "broken"), (second, "released")]);
}

async fn work_that_is_done_resigns_and_its_output_is_returned(place: Place) {
    let election = election(&place).await;
    let mut runs = 0;
    let output = election
        .lead(async |leadership| {
            runs += 1;
            assert_eq!(election.health(), Health::Leading { term: leadership.term() });
            assert_eq!(state(&election).await, LockState::Held);
            "done"
        })
        .await;
    assert_eq!((output.expect("leads"), runs), ("done", 1));
    assert_eq!(state(&election).await, LockState::Free);
    assert_eq!(election.health(), Health::Following);
}

async fn a_shutdown_resigns_and_ends_campaigns_and_observers(place: Place) {
    let (leader, follower) = (place.open().await, place.open().await);
    let mut news = election(&place).await.observe();
    assert_eq!(told(&mut news).await, None);
    let mut own_news = leader.election("x").observe();
    let cut_off = Arc::new(AtomicBool::new(false));
    let began = Arc::new(AtomicU32::new(0));
    let leading = tokio::spawn({
        let (election, cut_off) = (leader.election("x"), Arc::clone(&cut_off));
        async move {
            let work = async move |_: &Leadership| {
                let _dropped = Dropped(Arc::clone(&cut_off));
                std::future::pending::<()>().await;
            };
            election.lead(work).await
        }
    });
    assert!(told(&mut news).await.is_some());
    let following = tokio::spawn({
        let (election, began) = (follower.election("x").ttl(TTL), Arc::clone(&began));
        async move {
            let work = async move |_: &Leadership| began.fetch_add(1, Ordering::SeqCst);
            election.lead(work).await
        }
    });
    // Who never led has nothing that could end.
    follower.shutdown().await;
    let error = following.await.expect("no panic").expect_err("is shut down");
    assert_eq!((error.kind(), began.load(Ordering::SeqCst)), (ErrorKind::ShutDown, 0));
    assert!(!cut_off.load(Ordering::SeqCst));

    let report = leader.shutdown().await;
    assert_eq!((report.released, report.unconfirmed), (1, 0));
    let error = leading.await.expect("no panic").expect_err("is shut down");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    assert!(cut_off.load(Ordering::SeqCst));
    assert_eq!(told(&mut news).await, None);
    while let Some(before) = soon("the end", own_news.next()).await {
        drop(before.expect("can be read"));
    }
    let error = leader.election("x").campaign().await.expect_err("is shut down");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

async fn an_election_is_the_lock_of_its_name(place: Place) {
    let store = place.open().await;
    let election = store.election("x").ttl(TTL);
    assert_eq!(election.name(), "x");
    let leading = elected(&election).await;
    let info = place.open().await.lock("x").inspect().await.expect("reads");
    assert_eq!((info.state, info.holders[0].token), (LockState::Held, leading.term()));
    leading.resign().await.expect("resigns");
    // Who holds the lock leads.
    let guard = store.lock("x").owner("by hand").acquire().await.expect("acquires");
    let leader = election.leader().await.expect("reads").expect("leads");
    assert_eq!((leader.term, leader.owner.label.as_str()), (guard.token(), "by hand"));
    guard.release().await.expect("releases");
    // An entry that lingers belongs to nobody any more.
    let brief = store.lock("x").min_hold(SECOND * 60).acquire().await.expect("acquires");
    brief.release().await.expect("releases");
    assert_eq!(state(&election).await, LockState::Held);
    assert_eq!(election.leader().await.expect("reads"), None);
    // What nobody understands leads nobody knows whom.
    place.put("x.lock", b"nonsense").await;
    let error = election.leader().await.expect_err("is damaged");
    assert_eq!(error.kind(), ErrorKind::UnreadableRecord);
    let error = election.lead(async |_| ()).await.expect_err("is damaged");
    assert_eq!(error.kind(), ErrorKind::UnreadableRecord);
}

/// Its leader lets go of the guard the moment that the shutdown begins, on another thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_gives_back_what_is_let_go_meanwhile() {
    for _ in 0..500 {
        let store = leaselock::open("memory:///").await.expect("opens");
        let election = store.election("x");
        let (begun, began) = tokio::sync::oneshot::channel();
        let leading = tokio::spawn(async move {
            let leadership = election.campaign().await.expect("is elected");
            begun.send(()).expect("the test waits");
            leadership.run(std::future::pending::<()>()).await
        });
        began.await.expect("is elected");
        let report = store.shutdown().await;
        assert_eq!((report.released, report.unconfirmed), (1, 0));
        let error = leading.await.expect("no panic").expect_err("is shut down");
        assert_eq!(error.kind(), ErrorKind::ShutDown);
    }
}

// ------------------------------------------------------------------------ by a clock moved by hand

struct World {
    objects: CountingStore,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        let objects = CountingStore::in_memory().ignoring(".leaselock");
        Self { objects, clock: ManualClock::new() }
    }

    /// Another process.
    async fn election(&self) -> Election {
        let store = self.clock.process(self.objects.as_store());
        store.open().await.expect("opens").election("x").ttl(SECOND * 30)
    }

    async fn pass(&self, time: Duration) {
        self.clock.pass(time).await;
    }

    /// Time passes until the work is done.
    async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        self.clock.passing(work).await
    }

    fn store_answers(&self, on: bool) {
        let failing = if on { 0 } else { u64::MAX };
        self.objects.fail_next_puts(failing, FailKind::BeforeGeneric);
        self.objects.fail_gets(!on);
    }
}

#[tokio::test]
async fn a_leader_that_cannot_renew_is_unhealthy_until_it_has_let_go() {
    let world = World::new();
    let election = world.election().await;
    let probe = election.clone();
    assert_eq!(probe.health(), Health::Following);
    let leading = election.campaign().await.expect("is elected");
    let term = leading.term();
    world.pass(SECOND * 60).await;
    assert_eq!(probe.health(), Health::Leading { term });
    assert!(probe.health().is_healthy());
    assert_eq!(world.election().await.health(), Health::Following, "another candidate");

    world.store_answers(false);
    // At the latest half a TTL and a renewal's interval later.
    for _ in 0..60 {
        if probe.health().is_healthy() {
            world.pass(SECOND / 2).await;
        }
    }
    assert_eq!(probe.health(), Health::AtRisk { term });
    assert!(!probe.health().is_healthy() && leading.is_leader());
    world.store_answers(true);
    world.pass(SECOND * 3).await;
    assert_eq!(probe.health(), Health::Leading { term }, "it was renewed after all");

    world.store_answers(false);
    world.pass(SECOND * 30).await;
    let lost = Health::Lost { term, reason: LossReason::Unreachable };
    assert_eq!(probe.health(), lost);
    assert!(!probe.health().is_healthy() && !leading.is_leader());
    assert!(probe.health().to_string().contains("could not be reached"));

    // Elected again while the old leadership is still there.
    world.store_answers(true);
    let next = world.passing(election.campaign()).await.expect("is elected");
    assert_eq!(probe.health(), lost);
    drop(leading);
    assert_eq!(probe.health(), Health::Leading { term: next.term() });
    drop(next);
    assert_eq!(probe.health(), Health::Following);
}

#[tokio::test]
async fn work_that_outlives_its_leadership_without_pausing_is_not_believed() {
    let world = World::new();
    let election = world.election().await;
    let mut terms = Vec::new();
    let work = async |leadership: &Leadership| {
        terms.push(leadership.term());
        if terms.len() == 1 {
            // Blocks its thread.
            world.clock.advance(SECOND * 30);
        }
        terms.len()
    };
    assert_eq!(world.passing(election.lead(work)).await.expect("leads"), 2);
    assert!(terms[0] < terms[1]);
}

#[tokio::test]
async fn the_output_of_work_is_returned_whatever_the_store_says_to_the_resignation() {
    for kind in [FailKind::BeforeGeneric, FailKind::BeforeDenied] {
        let world = World::new();
        let election = world.election().await;
        let work = async |_: &Leadership| {
            world.objects.fail_next_puts(u64::MAX, kind);
            7
        };
        let output = world.passing(election.lead(work)).await;
        assert_eq!(output.expect("leads"), 7);
        assert_eq!(election.health(), Health::Following);
        assert_eq!(state(&election).await, LockState::Held, "{kind:?}");
    }
}

#[tokio::test]
async fn a_campaign_outlasts_a_short_outage_and_no_long_one() {
    for (outage, outlasted) in [(25, true), (40, false)] {
        let world = World::new();
        let leading = world.election().await.campaign().await.expect("is elected");
        let candidate = world.election().await;
        let lead = candidate.lead(async |leadership| leadership.term());
        let mut lead = std::pin::pin!(lead);
        assert!((&mut lead).now_or_never().is_none());
        world.pass(SECOND * 5).await;
        let before = leading.term();
        world.store_answers(false);
        world.pass(SECOND * outage).await;
        world.store_answers(true);
        drop(leading);
        match (world.passing(lead).await, outlasted) {
            (Ok(term), true) => assert!(term > before),
            (Err(error), false) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            (led, _) => panic!("after {outage} s: {led:?}"),
        }
    }
}

#[tokio::test]
async fn renewals_are_no_news_and_who_does_not_listen_costs_nothing() {
    let world = World::new();
    let leading = world.election().await.campaign().await.expect("is elected");
    let mut news = world.election().await.observe();
    assert!(world.passing(told(&mut news)).await.is_some());
    world.objects.reset();
    world.pass(SECOND * 60).await;
    assert!(leading.guard().watch().status().renewals >= 4);
    assert!(news.next().now_or_never().is_none());
    let counts = world.objects.counts();
    // One and a half seconds apart, on average; after the first ones.
    assert!((20..120).contains(&counts.conditional_gets), "{counts:?}");
    assert_eq!(counts.gets, 0, "{counts:?}");
    assert!(counts.not_modified > counts.conditional_gets / 2, "{counts:?}");
    drop(news);
    breathe().await;
    world.objects.reset();
    world.pass(SECOND * 60).await;
    assert_eq!(world.objects.counts().reads(), 0);
}

#[tokio::test]
async fn an_observer_is_told_of_a_long_outage_once_and_of_its_end() {
    let world = World::new();
    let mut news = world.election().await.observe();
    assert_eq!(world.passing(told(&mut news)).await, None);
    // Too short to be mentioned.
    world.objects.fail_gets(true);
    world.pass(SECOND * 25).await;
    world.objects.fail_gets(false);
    world.pass(SECOND * 10).await;
    assert!(news.next().now_or_never().is_none());
    world.objects.fail_gets(true);
    world.pass(SECOND * 120).await;
    let error = news.next().now_or_never().expect("is told").expect("goes on");
    assert_eq!(error.expect_err("an outage").kind(), ErrorKind::Unavailable);
    assert!(news.next().now_or_never().is_none(), "once");
    world.objects.fail_gets(false);
    assert_eq!(world.passing(told(&mut news)).await, None, "told again");
}

#[tokio::test]
async fn bad_names_and_options_are_refused_by_every_call() {
    let store = leaselock::open("memory:///").await.expect("opens");
    let bad = store.election("/x");
    assert_eq!(bad.campaign().await.expect_err("bad").kind(), ErrorKind::InvalidName);
    assert_eq!(bad.try_campaign().await.expect_err("bad").kind(), ErrorKind::InvalidName);
    assert_eq!(bad.leader().await.expect_err("bad").kind(), ErrorKind::InvalidName);
    let error = bad.lead(async |_| ()).await.expect_err("bad");
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    let told: Vec<_> = bad.observe().collect().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].as_ref().expect_err("bad").kind(), ErrorKind::InvalidName);
    for bad in [
        store.election("x").ttl(Duration::from_millis(999)),
        store.election("x").ttl(SECOND * 10).renew_every(SECOND * 9),
        store.election("x").owner("o".repeat(129)),
        store.election("x").note("n".repeat(1025)),
    ] {
        let error = bad.lead(async |_| ()).await.expect_err("bad");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert_eq!(state(&bad).await, LockState::Absent);
    }
}
