//! Finding out which faults of a schedule a violation needs.

use crate::{Options, Outcome, run};

/// A violation with as few faults as were found to be enough.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The numbers of the faults that are left.
    pub keep: Vec<usize>,
    /// The run with only those, with its timeline.
    pub outcome: Outcome,
}

/// Takes faults out of the schedule of a seed for as long as the same promise is broken: first in
/// large parts, then one by one (Zeller and Hildebrandt, *Simplifying and isolating
/// failure-inducing input*, 2002).
pub fn shrink(failed: &Outcome, options: &Options) -> Shrunk {
    let promise = failed.violation.as_ref().map(|violation| violation.promise);
    let with = |keep: &[usize], timeline: bool| {
        let options = Options { keep: Some(keep.to_vec()), timeline, ..options.clone() };
        run(failed.seed, &options)
    };
    let breaks = |keep: &[usize]| {
        with(keep, false).violation.as_ref().map(|violation| violation.promise) == promise
    };
    let all: Vec<usize> = (0..failed.faults.len()).collect();
    let mut keep: Vec<usize> = options
        .keep
        .clone()
        .unwrap_or(all)
        .into_iter()
        .filter(|n| *n < failed.faults.len())
        .collect();
    let mut part = keep.len().div_ceil(2).max(1);
    loop {
        let before = keep.len();
        let mut start = 0;
        while start < keep.len() {
            let end = (start + part).min(keep.len());
            let fewer: Vec<_> = [&keep[..start], &keep[end..]].concat();
            if breaks(&fewer) { keep = fewer } else { start = end }
        }
        if part == 1 && keep.len() == before {
            break;
        }
        if keep.len() == before {
            part = part.div_ceil(2);
        }
        part = part.clamp(1, keep.len().max(1));
    }
    let outcome = with(&keep, true);
    Shrunk { keep, outcome }
}
