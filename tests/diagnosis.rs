//! `Store::diagnose`: on stores that can hold locks, and on those that cannot (hazard H14).

use leaselock::{Diagnosis, ErrorKind, Finding, Store, Verdict};
use leaselock_test_support::counting::CountingStore;
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;
use leaselock_test_support::proxy::{Fault, FaultProxy};

on_every_store!(a_fit_store_passes_every_step_and_nothing_stays_behind);

fn step<'a>(diagnosis: &'a Diagnosis, check: &str) -> &'a Finding {
    let found = diagnosis.findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("{check}: {diagnosis:?}"))
}

async fn a_fit_store_passes_every_step_and_nothing_stays_behind(place: Place) {
    let diagnosis = place.open().await.diagnose().await.expect("is open");
    assert!(diagnosis.is_fit(), "{diagnosis:?}");
    assert_eq!(diagnosis.findings.len(), 13);
    for finding in &diagnosis.findings {
        // The bridge to the emulator of Google's store answers every read in full.
        let in_full = finding.check == "read it if it has changed";
        assert!(in_full || finding.verdict == Verdict::Passed, "{finding:?}");
        assert!(finding.error.is_none());
    }
    assert!(step(&diagnosis, "races of 16 creates").seen.starts_with("1 of 16 won"));
    let second = place.open().await.diagnose().await.expect("is open");
    assert!(second.is_fit(), "nothing is in the way of another one: {second:?}");
}

#[tokio::test]
async fn scratch_objects_are_removed() {
    let objects = CountingStore::in_memory();
    let store = Store::from_object_store(objects.as_store()).open().await.expect("opens");
    assert!(store.diagnose().await.expect("is open").is_fit());
    use futures::TryStreamExt;
    let left: Vec<_> = objects.as_store().list(None).try_collect().await.expect("lists");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn races_show_a_store_that_checks_conditions_before_it_writes() {
    let objects = CountingStore::in_memory();
    objects.break_atomicity();
    let store = Store::from_object_store(objects.as_store()).open().await.expect("opens");
    let diagnosis = store.diagnose().await.expect("is open");
    assert!(!diagnosis.is_fit());
    for check in ["races of 16 creates", "races of 16 updates"] {
        let finding = step(&diagnosis, check);
        assert_eq!(finding.verdict, Verdict::Failed, "{finding:?}");
        assert!(finding.consequence.is_some_and(|text| text.contains("two holders")));
    }
    for check in ["refuse to create it again", "refuse an update of the version before"] {
        assert_eq!(
            step(&diagnosis, check).verdict,
            Verdict::Passed,
            "one at a time it is honoured"
        );
    }
    let json = diagnosis.to_json();
    assert!(json.contains("\"fit\": false") && json.contains("of 16 won"), "{json}");
}

/// On the S3 emulator behind a proxy that does this to every request.
async fn behind(
    fault: impl Fn() -> Fault + Send + Sync + 'static,
) -> Option<(Diagnosis, FaultProxy)> {
    let place = Place::on(Backend::Ministack)?;
    let (proxy, url) = place.url().expect("has a URL").proxied();
    proxy.plan(move |_| fault());
    let store = Store::builder(url).open().await.expect("opens");
    Some((store.diagnose().await.expect("is open"), proxy))
}

#[tokio::test]
async fn a_proxy_that_strips_conditions_is_found_out() {
    let Some((diagnosis, _proxy)) = behind(|| Fault::StripPreconditions).await else { return };
    for check in [
        "refuse to create it again",
        "refuse an update of the version before",
        "refuse an update of what is not there",
        "races of 16 creates",
        "races of 16 updates",
    ] {
        assert_eq!(step(&diagnosis, check).verdict, Verdict::Failed, "{diagnosis:?}");
    }
    let again = step(&diagnosis, "refuse to create it again");
    assert_eq!(again.seen, "If-None-Match is ignored");
}

#[tokio::test]
async fn what_is_denied_fails_and_nothing_else_is_tried() {
    let Some((diagnosis, _proxy)) = behind(|| Fault::Status(403)).await else { return };
    let first = &diagnosis.findings[0];
    assert_eq!(first.verdict, Verdict::Failed, "{first:?}");
    let error = first.error.as_ref().expect("tells why");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(diagnosis.findings[1..].iter().all(|finding| finding.verdict == Verdict::NotTried));
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_called_unfit() {
    let Some((diagnosis, _proxy)) = behind(|| Fault::Status(503)).await else { return };
    assert!(!diagnosis.is_fit());
    assert_eq!(diagnosis.findings[0].verdict, Verdict::Unclear, "{diagnosis:?}");
}

#[tokio::test]
async fn after_a_shutdown_there_is_none() {
    let store = leaselock::open("memory:///").await.expect("opens");
    store.shutdown().await;
    assert_eq!(store.diagnose().await.expect_err("is shut down").kind(), ErrorKind::ShutDown);
}
