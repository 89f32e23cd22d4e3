//! The `stdout` sink: a line per record on standard output, for a look at what passes.
//!
//! Written on a blocking thread, so that a reader that stops reading a pipe holds up this sink and nothing else.

use std::io::Write;

use super::SinkError;
use super::lines::Lines;

pub struct Stdout;

impl Lines for Stdout {
    fn describe(&self) -> String {
        "standard output".into()
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let bytes = bytes.to_vec();
        let write = move || {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|e| Err(std::io::Error::other(e))).map_err(SinkError::Stdout)
    }

    async fn settle(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
