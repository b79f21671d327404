//! What is set for stores.

use super::keys::{Entry, Origin, Value};
use crate::exit::Failure;

/// What was set for stores, as far as `Global` has no option for it.
#[derive(Debug, Default)]
pub(crate) struct ForStores {
    pub(super) options: Vec<Entry>,
    /// Where the store was set, unless on the command line.
    pub(super) origin: Option<Origin>,
}

impl ForStores {
    /// The options of the store at `url`. Of those that were set for a project, only what its provider
    /// can understand: secrets are not passed to another, and --store file:///… works everywhere.
    pub(crate) fn options(&self, url: &str) -> impl Iterator<Item = (&str, &str)> {
        let provider = match url.split("://").next().unwrap_or_default() {
            "s3" | "s3a" => Some("aws"),
            "gs" => Some("google"),
            "az" | "adl" | "azure" | "abfs" | "abfss" => Some("azure"),
            "file" | "memory" => Some(""),
            _ => None,
        };
        let fits = move |entry: &&Entry| {
            let option = entry.option.as_deref().unwrap_or_default();
            let begin = option.split('_').next().unwrap_or_default();
            let is_of_another = ["aws", "google", "azure"].contains(&begin)
                && provider.is_some_and(|provider| provider != begin);
            !is_of_another || matches!(entry.origin, Origin::Flag(_))
        };
        self.options.iter().filter(fits).filter_map(|entry| match &entry.value {
            Value::Text(text) => Some((entry.option.as_deref()?, text.as_str())),
            Value::Switch(_) | Value::List(_) => None,
        })
    }

    /// `failure`, which is about the store, with where that was set.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        match &self.origin {
            Some(origin) => failure.detail(&format!("the store is set by {origin}")),
            None => failure,
        }
    }
}
