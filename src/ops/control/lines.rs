//! Lines of a bounded length from a socket; safe to give up waiting for and ask again.

use std::io;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct Lines {
    from: BufReader<OwnedReadHalf>,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    limit: usize,
}

impl Lines {
    pub fn new(from: OwnedReadHalf, limit: usize) -> Self {
        Self { from: BufReader::with_capacity(16 * 1024, from), partial: Vec::new(), limit }
    }

    /// The next line without its break; None at the end. A last line without a break counts.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            // Dropped while it waits, this has taken nothing.
            let buffer = self.from.fill_buf().await?;
            if buffer.is_empty() {
                return Ok((!self.partial.is_empty()).then(|| std::mem::take(&mut self.partial)));
            }
            let end = memchr::memchr(b'\n', buffer);
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            if self.partial.len() + piece.len() > self.limit {
                return Err(LineError::TooLong(self.limit));
            }
            self.partial.extend_from_slice(piece);
            let used = piece.len() + usize::from(end.is_some());
            self.from.consume(used);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
        }
    }

    /// Whether a whole line is here already.
    pub fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.from.buffer()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn lines_come_whole_however_they_arrive() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours.into_split().0, 10);
        theirs.write_all(b"one\ntw").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), b"one");
        assert!(!lines.has_line());
        let waited = tokio::time::timeout(std::time::Duration::from_millis(5), lines.next()).await;
        assert!(waited.is_err(), "giving up loses nothing");
        theirs.write_all(b"o\n\nlast").await.unwrap();
        drop(theirs);
        assert_eq!(lines.next().await.unwrap().unwrap(), b"two");
        assert!(lines.has_line());
        assert_eq!(lines.next().await.unwrap().unwrap(), b"");
        assert_eq!(lines.next().await.unwrap().unwrap(), b"last");
        assert!(lines.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_an_error_before_it_is_kept() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours.into_split().0, 10);
        theirs.write_all(b"0123456789\n0123456789a").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), b"0123456789");
        assert!(matches!(lines.next().await, Err(LineError::TooLong(10))));
    }
}
