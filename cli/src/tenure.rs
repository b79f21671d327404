//! What is had while CMD runs.

use leaselock::{AllGuard, FencingToken, LeaseWatch, LockGuard, Release, Run};

/// What was acquired.
#[derive(Debug)]
pub(crate) enum Tenure {
    Lock(LockGuard),
    All(AllGuard),
    Run(Run),
}

/// What others can tell it by.
#[derive(Clone, Debug)]
pub(crate) enum Marks {
    One {
        token: FencingToken,
        holder: String,
    },
    /// Each of several locks has a token of its own.
    Several(Vec<(String, FencingToken)>),
}

impl Tenure {
    pub(crate) fn is_held(&self) -> bool {
        match self {
            Self::Lock(guard) => guard.is_held(),
            Self::All(guard) => guard.is_held(),
            Self::Run(run) => run.guard().is_held(),
        }
    }

    pub(crate) fn watch(&self) -> LeaseWatch {
        match self {
            Self::Lock(guard) => guard.watch(),
            Self::All(guard) => guard.watch(),
            Self::Run(run) => run.guard().watch(),
        }
    }

    pub(crate) fn marks(&self) -> Marks {
        let one =
            |guard: &LockGuard| Marks::One { token: guard.token(), holder: guard.id().to_string() };
        match self {
            Self::Lock(guard) => one(guard),
            Self::Run(run) => one(run.guard()),
            Self::All(guard) => {
                let tokens = guard.tokens().into_iter();
                Marks::Several(tokens.map(|(name, token)| (name.to_owned(), token)).collect())
            }
        }
    }

    /// Gives it back; what is to be run once has failed then.
    pub(crate) async fn give_back(self) -> leaselock::Result<Release> {
        match self {
            Self::Lock(guard) => guard.release().await,
            Self::All(guard) => guard.release().await,
            Self::Run(run) => run.give_back().await,
        }
    }
}

impl Marks {
    pub(crate) fn token(&self) -> Option<FencingToken> {
        match self {
            Self::One { token, .. } => Some(*token),
            Self::Several(_) => None,
        }
    }

    pub(crate) fn holder(&self) -> Option<&str> {
        match self {
            Self::One { holder, .. } => Some(holder),
            Self::Several(_) => None,
        }
    }

    /// Of several locks, by their names.
    pub(crate) fn tokens(&self) -> Option<&[(String, FencingToken)]> {
        match self {
            Self::One { .. } => None,
            Self::Several(tokens) => Some(tokens),
        }
    }

    /// The same as JSON, for `tokens`.
    pub(crate) fn tokens_as_json(&self) -> Option<serde_json::Value> {
        let of = |(name, token): &(String, FencingToken)| (name.clone(), token.get().into());
        let all: serde_json::Map<_, _> = self.tokens()?.iter().map(of).collect();
        Some(all.into())
    }
}
