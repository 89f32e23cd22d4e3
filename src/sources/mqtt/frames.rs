//! Packets out of a byte stream, however large.
//!
//! An MQTT packet may have 256 MiB. The library's reader disconnects above its limit, and the broker, which has no
//! acknowledgement, sends the same packet again, for ever. Here a packet above the limit loses its tail instead: the
//! head comes out as [`Chunk::Cut`], the rest is read and dropped as it arrives, and memory stays at the limit. Only
//! a PUBLISH may be that long; anything else of that size is not from a broker.

use bytes::{Buf, BytesMut};

/// What the head of a cut PUBLISH must at least hold: its topic and packet id.
const MIN_LIMIT: usize = 65_535 + 32;
/// Read at once.
const READ: usize = 16 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// A whole packet, fixed header included.
    Whole(BytesMut),
    /// The first bytes of a PUBLISH of `size` bytes.
    Cut { head: BytesMut, size: usize },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a packet length that is not one")]
    Length,
    #[error("a packet of type {kind} with {size} bytes")]
    TooLong { kind: u8, size: usize },
}

pub struct Framer {
    buffer: BytesMut,
    limit: usize,
    /// Bytes of a cut packet that are still to be dropped.
    skip: usize,
}

impl Framer {
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit: limit.max(MIN_LIMIT), skip: 0 }
    }

    /// Where to read into; bounded room.
    pub fn space(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// The bytes that wait, for telling a peer that speaks something else.
    pub fn peek(&self) -> &[u8] {
        &self.buffer
    }

    /// The next packet; None: more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Chunk>, FrameError> {
        let dropped = self.skip.min(self.buffer.len());
        self.buffer.advance(dropped);
        self.skip -= dropped;
        if self.skip > 0 {
            return Ok(None);
        }
        let Some((header, remaining)) = length(&self.buffer)? else { return Ok(None) };
        let size = header + remaining;
        if size <= self.limit {
            return Ok((self.buffer.len() >= size).then(|| Chunk::Whole(self.buffer.split_to(size))));
        }
        let kind = self.buffer[0] >> 4;
        if kind != 3 {
            return Err(FrameError::TooLong { kind, size });
        }
        if self.buffer.len() < self.limit {
            return Ok(None);
        }
        let head = self.buffer.split_to(self.limit);
        self.skip = size - self.limit;
        Ok(Some(Chunk::Cut { head, size }))
    }
}

/// Bytes of the fixed header, and how many follow it.
pub fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    variable(bytes.get(1..).unwrap_or(&[])).map(|found| found.map(|(used, value)| (used + 1, value)))
}

/// A variable byte integer: bytes used, value.
pub fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((i + 1, value)));
        }
    }
    if bytes.len() >= 4 { Err(FrameError::Length) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(kind: u8, body: usize) -> Vec<u8> {
        let mut bytes = vec![kind << 4];
        let mut left = body;
        loop {
            let byte = (left % 128) as u8;
            left /= 128;
            bytes.push(if left > 0 { byte | 0x80 } else { byte });
            if left == 0 {
                break;
            }
        }
        bytes.extend((0..body).map(|i| i as u8));
        bytes
    }

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in_whatever_the_reads(
            bodies in prop::collection::vec(0usize..300_000, 1..6), read in 1usize..100_000
        ) {
            let packets: Vec<_> = bodies.iter().map(|b| packet(3, *b)).collect();
            let stream = packets.concat();
            let mut framer = Framer::new(100_000);
            let mut out = Vec::new();
            for piece in stream.chunks(read) {
                framer.space().extend_from_slice(piece);
                while let Some(chunk) = framer.next().unwrap() {
                    out.push(chunk);
                }
                prop_assert!(framer.buffer.len() <= 100_000 + read);
            }
            prop_assert_eq!(out.len(), packets.len());
            for (chunk, packet) in out.iter().zip(&packets) {
                match chunk {
                    Chunk::Whole(bytes) => prop_assert_eq!(&bytes[..], &packet[..]),
                    Chunk::Cut { head, size } => {
                        prop_assert!(packet.len() > 100_000 && *size == packet.len());
                        prop_assert_eq!(&head[..], &packet[..100_000]);
                    }
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framer = Framer::new(0);
            framer.space().extend_from_slice(&bytes);
            while let Ok(Some(_)) = framer.next() {}
        }
    }

    #[test]
    fn only_a_publish_may_be_long() {
        let mut framer = Framer::new(0);
        framer.space().extend_from_slice(&packet(9, 200_000));
        assert_eq!(framer.next(), Err(FrameError::TooLong { kind: 9, size: 200_004 }));
        let mut framer = Framer::new(0);
        framer.space().extend_from_slice(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(framer.next(), Err(FrameError::Length));
    }
}
