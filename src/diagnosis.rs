//! Whether a store can hold locks, step by step.

use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::record::to_pretty_json;

/// What was found out about a store by [`Store::diagnose`](crate::Store::diagnose).
#[derive(Debug)]
#[non_exhaustive]
pub struct Diagnosis {
    /// One for each step, in the order in which they were made.
    pub findings: Vec<Finding>,
}

/// What one step has shown.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What was tried, in a few words.
    pub check: &'static str,
    /// Whether it went as it should.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What would go wrong if locks were kept there, where it did not.
    pub consequence: Option<&'static str>,
    /// The error, where the step ended in one.
    pub error: Option<Error>,
    /// What all requests of the step took together; those of a race are sent at the same time.
    pub took: Duration,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// As it should.
    Passed,
    /// Locks work, but something else does not, or costs more.
    Warning,
    /// The store gave no clear answer. Try again.
    Unclear,
    /// The store cannot hold locks, or not with these credentials.
    Failed,
    /// It was not tried, because of what failed before.
    NotTried,
}

impl Verdict {
    /// The word for it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Unclear => "unclear",
            Self::Failed => "failed",
            Self::NotTried => "not_tried",
        }
    }
}

impl Diagnosis {
    /// Whether the store can hold locks, as far as could be seen: no step has failed, and none that
    /// matters was without a clear answer.
    pub fn is_fit(&self) -> bool {
        let bad = |finding: &Finding| matches!(finding.verdict, Verdict::Failed | Verdict::Unclear);
        !self.findings.iter().any(bad)
    }

    /// As pretty JSON: `fit` and `findings`, each with `check`, `verdict`, `seen`, `consequence`, `error` and
    /// `took_ms`.
    pub fn to_json(&self) -> String {
        let findings = self.findings.iter().map(|finding| FindingView {
            check: finding.check,
            verdict: finding.verdict.as_str(),
            seen: &finding.seen,
            consequence: finding.consequence,
            error: finding.error.as_ref().map(ToString::to_string),
            took_ms: finding.took.as_secs_f64() * 1000.0,
        });
        to_pretty_json(&View { fit: self.is_fit(), findings: findings.collect() })
    }
}

#[derive(Serialize)]
struct View<'a> {
    fit: bool,
    findings: Vec<FindingView<'a>>,
}

#[derive(Serialize)]
struct FindingView<'a> {
    check: &'static str,
    verdict: &'static str,
    seen: &'a str,
    consequence: Option<&'static str>,
    error: Option<String>,
    took_ms: f64,
}
