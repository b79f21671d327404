//! The strip of a lock's last tenures: one mark each, whose shape tells how it ended, and whose colour
//! who it was.

use leaselock::{LockInfo, LockState, Owner};

/// How many colours there are for holders.
pub(crate) const COLOURS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) shape: char,
    /// Below [`COLOURS`]; the same for the same holder everywhere.
    pub(crate) colour: usize,
}

/// The tenures that the record remembers and those who hold it now, oldest first.
pub(crate) fn marks(info: &LockInfo) -> Vec<Mark> {
    let past = info.history.iter().map(|past| (shape(&past.ended), &past.owner));
    let present = if info.state == LockState::Expired { 'x' } else { '▶' };
    let present = info.holders.iter().map(|holder| (present, &holder.owner));
    past.chain(present).map(|(shape, who)| Mark { shape, colour: colour(who) }).collect()
}

/// The newest of them, so many as fit.
pub(crate) fn newest(marks: &[Mark], width: usize) -> &[Mark] {
    &marks[marks.len().saturating_sub(width)..]
}

/// How a tenure ended, at a glance; without colours too.
fn shape(ended: &str) -> char {
    match ended {
        "released" | "finished" => '■',
        "expired" => 'x',
        "broken" => '!',
        // A newer version's word.
        _ => '?',
    }
}

/// Processes of one owner are one: the number of a process says nothing to people.
fn colour(owner: &Owner) -> usize {
    let bytes = owner.label.bytes().chain([0]).chain(owner.host.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        // FNV-1a
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Its low bits alone are poor.
    usize::try_from((hash >> 32) % COLOURS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tenures_are_kept() {
        let marks: Vec<_> = "■x!▶".chars().map(|shape| Mark { shape, colour: 0 }).collect();
        let shapes =
            |width| newest(&marks, width).iter().map(|mark| mark.shape).collect::<String>();
        assert_eq!(shapes(2), "!▶");
        assert_eq!(shapes(9), "■x!▶");
        assert_eq!(shapes(0), "");
    }

    #[test]
    fn every_end_has_a_shape() {
        let shapes: String =
            ["released", "finished", "expired", "broken", "new"].map(shape).iter().collect();
        assert_eq!(shapes, "■■x!?");
    }

    #[tokio::test]
    async fn tenures_come_from_the_record() {
        let store = leaselock::open("memory:///").await.unwrap();
        for label in ["a", "a", "b"] {
            let guard = store.lock("x").owner(label).acquire().await.unwrap();
            guard.release().await.unwrap();
        }
        let _held = store.lock("x").owner("b").acquire().await.unwrap();
        let marks = marks(&store.lock("x").inspect().await.unwrap());
        assert_eq!(marks.iter().map(|mark| mark.shape).collect::<String>(), "■■■▶");
        assert_eq!(marks[0].colour, marks[1].colour);
        assert_eq!(marks[2].colour, marks[3].colour);
    }
}
