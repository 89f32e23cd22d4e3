//! `--key-file`: keys for a command that looks into an encrypted ring.

use std::path::PathBuf;

use super::Exit;
use crate::config::key_in;
use crate::node::identity;
use crate::ring::{Key, Keys};

#[derive(Clone, Debug, Default, clap::Args)]
pub struct KeyFiles {
    /// The key of an encrypted ring; can be given again, for those before it
    #[arg(long = "key-file", value_name = "FILE")]
    key_files: Vec<PathBuf>,
}

impl KeyFiles {
    pub fn all(&self) -> anyhow::Result<Vec<Key>> {
        self.key_files.iter().map(|file| key_in(file).map_err(Exit::usage)).collect()
    }

    /// For a ring that is read.
    pub fn to_read(&self) -> anyhow::Result<Keys> {
        self.all().map(Keys::reading)
    }

    /// For a ring that is written as well, under the first of them.
    pub fn to_write(&self) -> anyhow::Result<Keys> {
        let mut keys = self.all()?.into_iter();
        let Some(current) = keys.next() else { return Ok(Keys::default()) };
        Ok(Keys::writing(current, keys.collect(), Box::new(identity::nonce)))
    }
}
