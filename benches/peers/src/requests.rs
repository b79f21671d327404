//! What was asked of a store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::results::Figures;

/// Requests by kind and outcome, as far as they are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests(BTreeMap<String, u64>);

impl Requests {
    /// So many of which nothing else is known.
    pub fn plain(count: u64) -> Self {
        Self(BTreeMap::from([(String::new(), count)]))
    }

    pub fn add(&mut self, kind: &str, count: u64) {
        *self.0.entry(kind.to_owned()).or_default() += count;
    }

    pub fn and(mut self, others: &Self) -> Self {
        for (kind, count) in &others.0 {
            self.add(kind, *count);
        }
        self
    }

    /// Those that came after.
    pub fn since(&self, before: &Self) -> Self {
        let since = |(kind, count): (&String, &u64)| {
            (kind.clone(), count - before.0.get(kind).copied().unwrap_or_default())
        };
        Self(self.0.iter().map(since).collect())
    }

    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    /// Adds how many there were for each of `count` acquisitions, all and by kind.
    pub fn put(&self, figures: &mut Figures, count: usize) {
        if count == 0 {
            return;
        }
        figures.insert("requests".to_owned(), self.sum() as f64 / count as f64);
        for (kind, number) in
            self.0.iter().filter(|(kind, number)| !kind.is_empty() && **number > 0)
        {
            figures.insert(format!("requests {kind}"), *number as f64 / count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_for_each_acquisition() {
        let mut before = Requests::default();
        before.add("get ok", 2);
        let mut now = before.clone();
        now.add("get ok", 4);
        now.add("put ok", 8);
        let mut figures = Figures::new();
        now.since(&before).put(&mut figures, 4);
        let named: Vec<_> = figures.iter().map(|(name, each)| (name.as_str(), *each)).collect();
        assert_eq!(named, [("requests", 3.0), ("requests get ok", 1.0), ("requests put ok", 2.0)]);
    }
}
