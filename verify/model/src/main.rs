//! An exhaustive check of the protocol: the code of `leaselock::protocol` that ships, in a world
//! where everything goes wrong that may go wrong.
//!
//! # What is explored
//! Two or three processes contend for one lock on one object. Every decision (whether to take the
//! lock, renew, release, break, shut the door, whether a lease has ended) is made by the shipped
//! functions, called from [`decisions`]. What surrounds them in the library (when to read, how an
//! unclear write is read back, when a keeper may believe) is asynchronous code that a model checker
//! cannot run; [`process`] says it again in small steps, and the simulation of the whole library
//! checks that the saying is true.
//!
//! Between any two steps anything may happen: a write lands, lands with its answer lost, lands
//! twice, lands after its sender has given up, or is refused for no reason; a process waits for any
//! time (that is a pause), crashes and comes back with no memory; somebody breaks the lease or
//! deletes the record; time passes.
//!
//! A holder may hand its lease on inside its process, as [`leaselock::protocol::handover`] allows it.
//!
//! That is [`world`]. What stands beside it is explored by itself, with the lock taken for what it is
//! shown to be there:
//! - [`family`]: what is held beside others, in turn and under sessions;
//! - [`quorum`]: a lock over several stores, of which a majority decides;
//! - [`fence`]: objects that only the holder may change;
//! - [`gathering`]: latches and barriers.
//!
//! # Time
//! Time is counted in ticks, and the state holds *ages* (ticks since a write was decided on, since
//! an entry was first seen) instead of readings of clocks, each no longer counted once it can change
//! no decision any more. Only so is the space of states finite. Each process's clock has a rate of
//! its own, and the tick is chosen to fall into the gaps that a missing margin would leave open.
//!
//! # What bounds it
//! The number of acquisitions, of writes sent, of crashes, breaks and deletions. Every step but a
//! tick uses up some of it, and ticks end when all ages are saturated: there are no cycles, so a
//! state without a successor is the end of a path, and what holds there must hold eventually. Sessions
//! may be renewed for ever, and members of a quorum be lost and entered: there each state is asked what
//! comes of it if those who live do what they do, and nothing else happens.
//!
//! # Use
//! `cargo run --profile verify -p leaselock-model` checks what every run checks and shows that each
//! sabotage is found out; `… -- --deep` checks the large configurations as well, `… -- WORD…` those
//! whose names contain one of the words.

mod catalogue;
mod check;
mod config;
mod decisions;
mod family;
mod fence;
mod gathering;
mod process;
mod quorum;
mod state;
mod store;
mod witness;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;

use catalogue::{
    configurations, families, family_sabotages, fence_sabotages, fenced, gathered,
    gathering_sabotages, quorum_sabotages, quorums, sabotages,
};
use check::{Checked, check, check_family, check_fenced, check_gathered, check_quorum};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--deep").collect();
    let deep = std::env::args().any(|word| word == "--deep");
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let mut failed = false;

    println!("configurations, exhausted:");
    let mut witnessed = BTreeMap::new();
    let mut report = |name: &str, checked: Checked, expected: usize| {
        let verdict = match &checked.violation {
            Some(_) => "VIOLATED".to_owned(),
            None if checked.states == expected => "holds".to_owned(),
            None => format!("HOLDS, BUT {expected} STATES WERE EXPECTED"),
        };
        failed |= verdict != "holds";
        println!("  {name:<36} {:>10} states  {verdict}", checked.states);
        print_violation(&checked);
        for (what, count) in checked.witnessed {
            *witnessed.entry(what).or_insert(0) += count;
        }
    };
    let chosen = |name: &str, of_deep: bool| wanted(name) && (deep || !of_deep);
    for entry in configurations().iter().filter(|entry| chosen(entry.name, entry.deep)) {
        report(entry.name, check(&entry.world), entry.states);
    }
    for entry in fenced().iter().filter(|entry| chosen(entry.name, entry.deep)) {
        report(entry.name, check_fenced(&entry.world), entry.states);
    }
    for entry in gathered().iter().filter(|entry| chosen(entry.name, entry.deep)) {
        report(entry.name, check_gathered(&entry.world), entry.states);
    }
    for entry in families().iter().filter(|entry| chosen(entry.name, entry.deep)) {
        report(entry.name, check_family(&entry.world), entry.states);
    }
    for entry in quorums().iter().filter(|entry| chosen(entry.name, entry.deep)) {
        report(entry.name, check_quorum(&entry.world), entry.states);
    }
    println!("seen to happen on the way, in all of them together:");
    for (what, count) in witnessed {
        println!("  {what:<36} {count:>10}");
        if count == 0 && words.is_empty() {
            println!("  NEVER HAPPENED: what was checked proves little");
            failed = true;
        }
    }

    println!("sabotages, each with the counterexample it must have:");
    let locks = sabotages().into_iter().filter(|(name, _)| wanted(name));
    let fences = fence_sabotages().into_iter().filter(|(name, _)| wanted(name));
    let gatherings = gathering_sabotages().into_iter().filter(|(name, _)| wanted(name));
    let families = family_sabotages().into_iter().filter(|(name, _)| wanted(name));
    let quorums = quorum_sabotages().into_iter().filter(|(name, _)| wanted(name));
    let broken = locks
        .map(|(name, config)| (name, check(&config)))
        .chain(fences.map(|(name, world)| (name, check_fenced(&world))))
        .chain(gatherings.map(|(name, world)| (name, check_gathered(&world))))
        .chain(families.map(|(name, world)| (name, check_family(&world))))
        .chain(quorums.map(|(name, world)| (name, check_quorum(&world))));
    for (name, checked) in broken {
        match &checked.violation {
            Some(violation) => println!(
                "  {name:<36} after {:>2} steps: {}",
                violation.steps.len(),
                violation.property
            ),
            None => {
                failed = true;
                println!("  {name:<36} NOT FOUND in {} states", checked.states);
            }
        }
        if !words.is_empty() {
            print_violation(&checked);
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print_violation(checked: &Checked) {
    if let Some(violation) = &checked.violation {
        println!("      {}", violation.property);
        for (number, step) in violation.steps.iter().enumerate() {
            println!("      {:>3} {step}", number + 1);
        }
    }
}
