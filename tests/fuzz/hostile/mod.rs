//! What a peer may send, and what an operator may write: made from an input of the fuzzer, sound at first and then bent,
//! and what must hold of whatever comes out.

pub mod answer;
pub mod batch;
pub mod bundled;
pub mod geo;
pub mod held;
pub mod json;
pub mod parse;
pub mod request;
pub mod sql;
pub mod text;
pub mod wasm;

/// Bytes taken off the front of the input; zeros when it is used up.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn below(&mut self, n: u8) -> u8 {
        self.byte() % n.max(1)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.u16() % of.len()]
    }

    pub fn u16(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn some(&mut self, most: u8) -> &'a [u8] {
        let len = usize::from(self.below(most));
        self.take(len)
    }

    /// Letters, as many as the input has for it.
    pub fn word(&mut self) -> String {
        self.some(12).iter().map(|b| char::from(b'a' + b % 26)).collect()
    }

    /// A number that a field may have trouble with.
    pub fn number(&mut self) -> i64 {
        match self.byte() % 6 {
            0 => 0,
            1 => i64::from(self.byte()),
            2 => i64::MAX - i64::from(self.byte()),
            3 => i64::MIN + i64::from(self.byte()),
            4 => self.u16() as i64,
            _ => (0..8).fold(0, |n, _| n << 8 | i64::from(self.byte())),
        }
    }
}

/// Bends bytes as the rest of the input asks: other bytes, fields of four, a cut, an end that was not there.
pub fn bend(bytes: &mut Vec<u8>, input: &mut Input<'_>) -> bool {
    let mut bent = false;
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let op = input.byte();
        let at = input.u16() % (bytes.len() + 1);
        match op % 5 {
            0 => break,
            1 => bytes.truncate(at),
            2 => bytes.extend_from_slice(input.some(32)),
            3 => {
                let new = input.number() as i32;
                if let Some(field) = bytes.get_mut(at..at + 4) {
                    field.copy_from_slice(&new.to_be_bytes());
                }
            }
            _ => {
                let new = input.byte();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = new;
                }
            }
        }
        bent = true;
    }
    bent
}
