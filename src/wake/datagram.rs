//! What a hint looks like: nine bytes that name the library, one for the version of what follows, and the
//! 16 bytes of the ticket's nonce. `docs/PROTOCOL.md` has it.

use crate::holder::Nonce;

const NAME: [u8; 9] = *b"leaselock";
const VERSION: u8 = 1;

/// How many bytes it has.
pub(super) const LENGTH: usize = 26;

pub(super) fn to(nonce: Nonce) -> [u8; LENGTH] {
    let mut datagram = [0; LENGTH];
    datagram[..9].copy_from_slice(&NAME);
    datagram[9] = VERSION;
    datagram[10..].copy_from_slice(&nonce.bits().to_be_bytes());
    datagram
}

/// Whose turn it is, if this is a hint of this version.
pub(super) fn read(datagram: &[u8]) -> Option<Nonce> {
    let (version, nonce) = datagram.strip_prefix(&NAME)?.split_first()?;
    let nonce = u128::from_be_bytes(nonce.try_into().ok()?);
    (*version == VERSION).then_some(Nonce::from_random(nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_hint_of_this_version_is_read() {
        let nonce = "00112233445566778899aabbccddeeff".parse().expect("is a nonce");
        let datagram = to(nonce);
        let expected =
            b"leaselock\x01\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        assert_eq!(&datagram, expected);
        assert_eq!(read(&datagram), Some(nonce));
        for cut in 0..LENGTH {
            assert_eq!(read(&datagram[..cut]), None);
        }
        assert_eq!(read(&[&datagram[..], &[0]].concat()), None);
        for changed in 0..10 {
            let mut strange = datagram;
            strange[changed] ^= 1;
            assert_eq!(read(&strange), None);
        }
    }
}
