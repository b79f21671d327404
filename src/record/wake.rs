//! Where a waiter can be told that its turn has come.

use std::net::SocketAddr;

use serde_json::Value;

use super::Unknown;
use crate::holder::Nonce;

/// An address that a waiter leaves in its ticket, so that whoever serves the ticket can tell it.
///
/// A hint and nothing else: it decides neither who holds a lock nor until when, so what is not understood
/// of one is kept as it is and ignored, where any other fault would make the record unreadable.
#[derive(Clone, Debug, PartialEq)]
pub struct Wake {
    /// Where to send the datagram.
    pub to: SocketAddr,
    /// What the datagram says, so that the waiter knows that somebody has read its ticket.
    pub nonce: Nonce,
    unknown: Unknown,
}

impl Wake {
    pub(crate) fn new(to: SocketAddr, nonce: Nonce) -> Self {
        Self { to, nonce, unknown: Unknown::new() }
    }

    /// The hint in `value`, if it is one.
    pub(super) fn understood(value: &Value) -> Option<Self> {
        let mut fields = value.as_object()?.clone();
        let to = fields.remove("to")?.as_str()?.parse().ok()?;
        let nonce = fields.remove("nonce")?.as_str()?.parse().ok()?;
        Some(Self { to, nonce, unknown: fields })
    }

    pub(super) fn unknown(&self) -> &Unknown {
        &self.unknown
    }
}
