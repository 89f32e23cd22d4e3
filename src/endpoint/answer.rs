//! Answers put together: `i32` length, `i32` correlation, and the official type's own encoding.

use std::io;

use bytes::BufMut;
use fluvio_protocol::link::ErrorCode;
use fluvio_protocol::link::versions::ApiVersionKey;
use fluvio_protocol::{Encoder, Version};

use super::wire::Header;

/// The bytes of one answer, frame and all.
pub fn encode(to: Header, body: &impl Encoder) -> io::Result<Vec<u8>> {
    let mut out = vec![0; 4];
    out.extend_from_slice(&to.correlation.to_be_bytes());
    body.encode(&mut out, to.version)?;
    let len = i32::try_from(out.len() - 4).map_err(|_| io::ErrorKind::FileTooLarge)?;
    out[..4].copy_from_slice(&len.to_be_bytes());
    Ok(out)
}

/// The answer to ApiVersions. The official type takes its platform only through another crate's version type.
pub struct Versions {
    pub keys: &'static [(u16, i16, i16)],
    pub platform: &'static str,
}

impl Encoder for Versions {
    fn write_size(&self, version: Version) -> usize {
        2 + 4 + 6 * self.keys.len() + self.platform.write_size(version)
    }

    fn encode<T: BufMut>(&self, dest: &mut T, version: Version) -> io::Result<()> {
        ErrorCode::None.encode(dest, version)?;
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|&(key, min_version, max_version)| ApiVersionKey { api_key: key as i16, min_version, max_version })
            .collect();
        keys.encode(dest, version)?;
        self.platform.to_owned().encode(dest, version)
    }
}

/// A record set whose batches are encoded already.
#[derive(Debug, Default)]
pub struct Packed(pub Vec<u8>);

impl Encoder for Packed {
    fn write_size(&self, _version: Version) -> usize {
        4 + self.0.len()
    }

    fn encode<T: BufMut>(&self, dest: &mut T, _version: Version) -> io::Result<()> {
        dest.put_i32(i32::try_from(self.0.len()).map_err(|_| io::ErrorKind::FileTooLarge)?);
        dest.put_slice(&self.0);
        Ok(())
    }
}

/// Bytes that are the whole of an answer.
pub struct Plain(pub Vec<u8>);

impl Encoder for Plain {
    fn write_size(&self, _version: Version) -> usize {
        self.0.len()
    }

    fn encode<T: BufMut>(&self, dest: &mut T, _version: Version) -> io::Result<()> {
        dest.put_slice(&self.0);
        Ok(())
    }
}

/// Objects of a kind that a node has none of, as a list or watch answers them.
pub struct NoObjects<'a>(pub &'a str);

impl Encoder for NoObjects<'_> {
    fn write_size(&self, _version: Version) -> usize {
        2 + self.0.len() + 4 + 4
    }

    fn encode<T: BufMut>(&self, dest: &mut T, version: Version) -> io::Result<()> {
        self.0.to_owned().encode(dest, version)?;
        dest.put_u32(4);
        dest.put_i32(0);
        Ok(())
    }
}
