//! Checks that no two are inside at once and that fencing tokens only grow.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an [`Overlap`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How often somebody entered.
    pub entries: u64,
    /// How many were inside at once at most.
    pub most_inside: usize,
    /// The highest token seen; `None` before the first.
    pub last_token: Option<u64>,
    /// What was wrong, in the order in which it happened.
    pub violations: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries, at most {} inside", self.entries, self.most_inside)?;
        if let Some(token) = self.last_token {
            write!(f, ", last token {token}")?;
        }
        write!(f, ", {} violations", self.violations.len())?;
        for violation in &self.violations {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct State {
    inside: Vec<u64>,
    summary: Summary,
}

/// Watches a critical section; clones watch the same one.
#[derive(Clone, Debug)]
pub struct Overlap {
    state: Arc<Mutex<State>>,
    panics: bool,
}

impl Default for Overlap {
    fn default() -> Self {
        Self::new()
    }
}

impl Overlap {
    /// Panics at the first violation (and records it).
    pub fn new() -> Self {
        Self { state: Arc::default(), panics: true }
    }

    /// Only records violations: ask [`Overlap::summary`] or [`Overlap::assert_clean`].
    pub fn recording() -> Self {
        Self { state: Arc::default(), panics: false }
    }

    /// Enters with this fencing token and stays inside until the guard is dropped.
    ///
    /// # Panics
    /// Unless this only records: when somebody is inside, or when the token does not exceed every
    /// earlier one.
    #[track_caller]
    pub fn enter(&self, token: u64) -> Inside {
        let mut state = self.lock();
        let mut wrong = Vec::new();
        if !state.inside.is_empty() {
            wrong.push(format!("token {token} entered while {:?} inside", state.inside));
        }
        if let Some(last) = state.summary.last_token.filter(|last| token <= *last) {
            wrong.push(format!("token {token} came after {last}"));
        }
        state.inside.push(token);
        let now_inside = state.inside.len();
        let summary = &mut state.summary;
        summary.entries += 1;
        summary.most_inside = summary.most_inside.max(now_inside);
        summary.last_token = summary.last_token.max(Some(token));
        summary.violations.extend(wrong.iter().cloned());
        drop(state);
        let inside = Inside { overlap: self.clone(), token };
        assert!(!self.panics || wrong.is_empty(), "{}", wrong.join("; "));
        inside
    }

    /// How many are inside now.
    pub fn inside(&self) -> usize {
        self.lock().inside.len()
    }

    /// What was seen so far.
    pub fn summary(&self) -> Summary {
        self.lock().summary.clone()
    }

    /// The summary of a section without violations.
    ///
    /// # Panics
    /// When there was a violation.
    #[track_caller]
    pub fn assert_clean(&self) -> Summary {
        let summary = self.summary();
        assert!(summary.violations.is_empty(), "{summary}");
        summary
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody is inside while this lives.
#[derive(Debug)]
#[must_use = "leaves at once when dropped"]
pub struct Inside {
    overlap: Overlap,
    token: u64,
}

impl Inside {
    /// The token it was entered with.
    pub fn token(&self) -> u64 {
        self.token
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut state = self.overlap.lock();
        if let Some(at) = state.inside.iter().position(|token| *token == self.token) {
            state.inside.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_is_clean() {
        let overlap = Overlap::new();
        drop(overlap.enter(1));
        drop(overlap.enter(5));
        let summary = overlap.assert_clean();
        assert_eq!((summary.entries, summary.most_inside, summary.last_token), (2, 1, Some(5)));
        assert_eq!(overlap.inside(), 0);
    }

    #[test]
    fn two_inside_and_a_token_again_are_recorded() {
        let overlap = Overlap::recording();
        let first = overlap.enter(1);
        let second = overlap.enter(1);
        assert_eq!(overlap.inside(), 2);
        drop((first, second));
        let summary = overlap.summary();
        assert_eq!(summary.most_inside, 2);
        assert_eq!(summary.violations.len(), 2, "{summary}");
    }

    #[test]
    #[should_panic(expected = "token 3 came after 4")]
    fn an_older_token_panics() {
        let overlap = Overlap::new();
        drop(overlap.enter(4));
        drop(overlap.enter(3));
    }
}
