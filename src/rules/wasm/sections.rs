//! What a module's file claims to hold, against what it has: before anything is made of it.
//!
//! A section begins with the count of its items, and whoever reads it believes that. wasmi makes room for so many exports, 64
//! bytes each: a file of a hundred bytes that claims a million would take as many times 64. And it divides the bytes of the
//! code by the number of functions, without a look at whether there are any. Nothing else is judged here.

/// The fewest bytes of an item, by the number of the section; 0: a section without a count.
const LEAST: [usize; 13] = [0, 2, 4, 1, 2, 2, 3, 3, 0, 2, 2, 2, 0];
/// Magic and version.
const HEAD: usize = 8;

/// The number of the first section that claims more items than its bytes can hold, none and has bytes for some, or more bytes
/// than there are. A number that is none is refused by whoever reads it.
pub fn lying(file: &[u8]) -> Option<u8> {
    let mut rest = file.get(HEAD..)?;
    while let Some((&number, after)) = rest.split_first() {
        let (len, after) = unsigned(after)?;
        let Some(section) = after.get(..len) else { return Some(number) };
        let least = LEAST.get(usize::from(number)).copied().unwrap_or(0);
        if least > 0 {
            let (count, items) = unsigned(section)?;
            if count.saturating_mul(least) > items.len() || (count == 0 && !items.is_empty()) {
                return Some(number);
            }
        }
        rest = after.get(len..)?;
    }
    None
}

/// A LEB128 of at most 32 bits, and what follows it.
fn unsigned(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(section: &[u8]) -> Vec<u8> {
        [b"\0asm\x01\0\0\0".as_slice(), section].concat()
    }

    #[test]
    fn a_section_that_claims_what_its_bytes_cannot_hold_is_found() {
        // One export, `m`, of memory 0; then the same claiming two, and a million.
        assert_eq!(lying(&module(&[7, 5, 1, 1, b'm', 2, 0])), None);
        assert_eq!(lying(&module(&[7, 5, 2, 1, b'm', 2, 0])), Some(7));
        assert_eq!(lying(&module(&[7, 7, 0xc0, 0x84, 0x3d, 1, b'm', 2, 0])), Some(7));
        // Code of no function.
        assert_eq!(lying(&module(&[10, 4, 0, 2, 0, 0x0b])), Some(10));
        assert_eq!(lying(&module(&[10, 1, 0])), None);
        // Behind a custom section, which has no count.
        assert_eq!(lying(&module(&[0, 2, 1, b'x', 3, 2, 0x7f, 0])), Some(3));
        // Cut off, with and without a count.
        assert_eq!(lying(&module(&[7, 0x7f, 0x7f, 1, b'm'])), Some(7));
        assert_eq!(lying(&module(&[10, 0xd9, 0x09, 0])), Some(10));
        assert_eq!(lying(&module(&[10, 0xd9, 0x09])), Some(10));
        assert_eq!(lying(b"\0asm"), None);
    }
}
