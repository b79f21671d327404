//! How a contender with a ticket hears that it has been served. It decides when to look, and nothing else.

use super::{Boot, Contender, Record, Result};

impl Contender {
    /// Leaves in its ticket where it can be told, if this process listens for that.
    pub(super) fn leave_address(&mut self, record: &mut Record) {
        let Some(inbox) = self.target.client.wakes.inbox() else { return };
        let ticket = record.waiters.iter_mut().find(|ticket| ticket.id == self.id);
        let Some(ticket) = ticket else { return };
        let nonce = self.target.client.store.nonce();
        // An earlier write of the same ticket may be the one that lands.
        let hint = self.hint.get_or_insert_with(|| inbox.expect(nonce));
        ticket.wake = Some(hint.wake());
    }

    /// Sleeps until then, or until a hint has come; whether one has.
    pub(super) async fn sleep_until_told(&mut self, until: Boot) -> Result<bool> {
        let mut hint = self.hint.take();
        let sleep = self.clock().sleep_until(until);
        let told = async {
            match &mut hint {
                Some(hint) => hint.woken().await,
                None => std::future::pending().await,
            }
        };
        let slept = self
            .unless_given_up(async {
                tokio::select! {
                    biased;
                    () = told => true,
                    () = sleep => false,
                }
            })
            .await;
        self.hint = hint;
        slept
    }
}
