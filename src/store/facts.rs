//! What the HTTP connector saw of one request: `object_store`'s errors hide it.
//!
//! A [`Facts`] travels to the connector in the options' extensions and is shared, so that it tells
//! about requests that failed as well. Stores without a connector leave it empty.

use std::sync::{Arc, Mutex, PoisonError};

use crate::time::{Boot, Wall};

/// The store's time, as one answer of it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreNow {
    /// It was at least this …
    pub(crate) at_least: Wall,
    /// … and at most this …
    pub(crate) at_most: Wall,
    /// … at this reading of our clock.
    pub(crate) at: Boot,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(feature = "aws", feature = "azure", feature = "gcp")), allow(dead_code))]
pub(crate) enum NoAnswer {
    /// The connection was never made: the store has not seen the request.
    NeverConnected,
    /// The connection broke or hung: the store may have acted on the request.
    Broken,
}

/// What was seen of the last exchange of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// How often the request was sent.
    pub(crate) sends: u32,
    /// The status of the last answer.
    pub(crate) status: Option<u16>,
    /// Why there was none.
    pub(crate) no_answer: Option<NoAnswer>,
    /// The store's time, if the answer told a trustworthy one.
    pub(crate) now: Option<StoreNow>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(Arc<Mutex<Seen>>);

impl Facts {
    pub(crate) fn seen(&self) -> Seen {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
    pub(super) fn update(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The extensions of a request's options that carry these facts.
    pub(super) fn extensions(&self) -> http::Extensions {
        let mut extensions = http::Extensions::new();
        extensions.insert(self.clone());
        extensions
    }
}
