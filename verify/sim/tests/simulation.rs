//! The simulation itself: it repeats, it can fail, and what it is to show does happen. The long run
//! is `cargo run -p leaselock-sim --profile verify -- --seeds 100000`.

use std::process::Command;

use leaselock_sim::{Counts, Options, Outcome, Sabotage, draw, missing, run, shrink};

/// Seeds that have once shown a fault of the library: a lease's end that was told late (10,108), a
/// session that was opened too late (8,560), and stores' times that were carried on for too long (the
/// other).
const REGRESSIONS: &[u64] = &[259, 8_560, 10_108];

fn first_violation(seeds: u64, options: &Options) -> Option<Outcome> {
    (0..seeds).map(|seed| run(seed, options)).find(|outcome| outcome.violation.is_some())
}

fn assert_kept(outcome: &Outcome) {
    let violation = outcome.violation.as_ref().map(ToString::to_string);
    assert_eq!(violation, None, "seed {}", outcome.seed);
}

#[test]
fn everything_that_matters_happens_and_every_promise_is_kept() {
    let mut counts = Counts::default();
    for seed in 0..300 {
        let outcome = run(seed, &Options::default());
        assert_kept(&outcome);
        counts.merge(outcome.counts);
    }
    // Rarer things need the 2,000 seeds of the command.
    let missing = missing(&counts);
    assert!(missing.len() <= 3, "never happened: {missing:?}");
}

#[test]
fn faults_found_once_stay_mended() {
    for seed in REGRESSIONS {
        assert_kept(&run(*seed, &Options::default()));
    }
}

#[test]
fn a_seed_repeats_in_any_order_and_with_a_timeline() {
    let trace = |seed, timeline| run(seed, &Options { timeline, ..Options::default() }).trace;
    let forwards: Vec<_> = (0..40).map(|seed| trace(seed, false)).collect();
    let mut backwards: Vec<_> = (0..40).rev().map(|seed| trace(seed, true)).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
}

#[test]
fn a_seed_repeats_in_another_process() {
    for seed in [3, 11] {
        let picture =
            std::env::temp_dir().join(format!("leaselock-sim-{}.svg", std::process::id()));
        let output = Command::new(env!("CARGO_BIN_EXE_leaselock-sim"))
            .args(["--seed", &seed.to_string(), "--svg"])
            .arg(&picture)
            .output()
            .expect("starts");
        std::fs::remove_file(&picture).expect("was drawn");
        let text = String::from_utf8_lossy(&output.stdout);
        let trace = format!("trace {:016x}", run(seed, &Options::default()).trace);
        assert!(text.contains(&trace), "{trace}");
    }
}

#[test]
fn clocks_beyond_the_promised_margin_are_found_out() {
    let options = Options { rates_beyond: true, ..Options::default() };
    let outcome = first_violation(2000, &options).expect("17 % are too much");
    let promise = outcome.violation.expect("was asked for").promise;
    assert!(promise.contains("guard"), "{promise}");
}

#[test]
fn stores_that_are_none_are_found_out() {
    for sabotage in [Sabotage::ReusedEtag, Sabotage::IgnoredIfMatch] {
        let options = Options { sabotage: Some(sabotage), ..Options::default() };
        assert!(first_violation(2000, &options).is_some(), "{sabotage:?}");
    }
}

#[test]
fn a_schedule_is_shrunk_and_what_is_left_still_fails() {
    let options = Options { sabotage: Some(Sabotage::ReusedEtag), ..Options::default() };
    let failed = first_violation(2000, &options).expect("fails");
    let shrunk = shrink(&failed, &options);
    assert!(shrunk.keep.len() <= failed.faults.len());
    let again = run(failed.seed, &Options { keep: Some(shrunk.keep), ..options });
    let promise = |outcome: &Outcome| outcome.violation.as_ref().map(|violation| violation.promise);
    assert_eq!(promise(&again), promise(&failed));
    let picture = draw(&shrunk.outcome.timeline.expect("is kept"));
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
}
