//! What a command tells about its course: its log at the level `debug`, and the JSON object at its
//! end.

use serde_json::Value;

/// What a command's standard error says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) acquired: u64,
    pub(crate) takeovers: u64,
    pub(crate) losses: u64,
    /// Losses because the store had lost the record.
    pub(crate) records_deleted: u64,
    /// Writes that ended without a clear answer.
    pub(crate) ambiguous: u64,
    /// How many of them the command was done with when it acquired.
    settled: u64,
    /// It ran its worker to its end and gave the lock back.
    pub(crate) completed: bool,
}

impl Account {
    pub(crate) fn of(text: &str) -> Self {
        let mut account = Self::default();
        for line in text.lines() {
            if line.contains(": acquired lock=") {
                account.acquired += 1;
                account.settled = account.ambiguous;
            } else if line.contains(": took over an expired lease ") {
                account.takeovers += 1;
            } else if line.contains(": the lease is lost ") {
                account.losses += 1;
                account.records_deleted += u64::from(line.contains("its record was deleted"));
            } else if line.contains(": a write was not acknowledged ") {
                account.ambiguous += u64::from(line.contains("failure=Unclear("));
            } else if line.starts_with('{') {
                let object: Value = serde_json::from_str(line).unwrap_or_default();
                account.completed = object["outcome"] == "completed";
            }
        }
        account
    }

    /// Ambiguous writes after which the command went on as if they had had an answer: it acquired
    /// afterwards, or gave the lock back in the end.
    pub(crate) fn resolved(&self) -> u64 {
        if self.completed { self.ambiguous } else { self.settled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_understood() {
        let text = "\
2026-11-21T06:47:30Z DEBUG acquire{lock=a}: leaselock::store: a write was not acknowledged key=a.lock attempt=1 failure=Unclear(\"x\")
2026-11-21T06:47:30Z DEBUG acquire{lock=a}: leaselock::store: a write was not acknowledged key=a.lock attempt=1 failure=Refused(\"x\")
2026-11-21T06:47:30Z  INFO acquire{lock=a}: leaselock::acquire: took over an expired lease lock=a rule=\"observation\"
2026-11-21T06:47:30Z  INFO acquire{lock=a}: leaselock::acquire: acquired lock=a token=17 holder=9f
2026-11-21T06:47:31Z DEBUG lease{lock=a}: leaselock::store: a write was not acknowledged key=a.lock attempt=1 failure=Unclear(\"x\")
2026-11-21T06:47:33Z  WARN lease{lock=a}: leaselock::hold: the lease is lost lock=a token=17 reason=its record was deleted
{\"exit_code\":120,\"held_ms\":2885,\"outcome\":\"lost\",\"token\":17,\"waited_ms\":2113}";
        let account = Account::of(text);
        assert_eq!((account.acquired, account.takeovers, account.losses), (1, 1, 1));
        assert_eq!((account.ambiguous, account.resolved()), (2, 1));
        assert!(!account.completed);
        assert_eq!(account.records_deleted, 1);
        assert!(Account::of(&text.replace("\"lost\"", "\"completed\"")).completed);
    }
}
