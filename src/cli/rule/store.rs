//! Where `headwater rule try` has its records from: a running node, or the ring of one that is stopped. Both are only read.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cli::client::{self, Client};
use crate::cli::keys::KeyFiles;
use crate::config::{CONTROL_NAME, Config};
use crate::node::stopped::StoppedRing;
use crate::ops::control::protocol::{Answer, Ask, From, Tail, TailRecord};
use crate::ops::control::tail::tail_record;
use crate::ops::status::TopicStatus;
use crate::ring::Keys;
use crate::topic::{TopicName, TopicPart};

/// Each topic with how many records its partitions hold.
pub type Topics = Vec<(TopicName, Vec<u64>)>;

pub enum Store {
    Running(PathBuf),
    Stopped(PathBuf, Box<StoppedRing>),
}

impl Store {
    pub fn open(data_dir: Option<&Path>, keys: &KeyFiles, config: &Config) -> anyhow::Result<Self> {
        let (control, dir) = match data_dir {
            Some(dir) => (dir.join(CONTROL_NAME), dir),
            None => (config.node.control.clone(), config.node.data_dir.as_path()),
        };
        if client::answers(&control)? {
            return Ok(Self::Running(control));
        }
        if let Err(error) = crate::cli::ring::disk(dir) {
            bail!("no node answers at {}, and {error:#}", control.display());
        }
        let mut keys = keys.all()?;
        keys.extend(config.ring.encryption.iter().chain(&config.ring.old_keys).cloned());
        let ring = StoppedRing::open(dir, &Keys::reading(keys))
            .with_context(|| format!("no ring can be read in {}", dir.display()))?;
        Ok(Self::Stopped(dir.to_owned(), Box::new(ring)))
    }

    pub fn place(&self) -> String {
        match self {
            Self::Running(control) => format!("the running node at {}", control.display()),
            Self::Stopped(dir, _) => format!("the ring in {}, which no node answers for", dir.display()),
        }
    }

    pub fn topics(&mut self) -> anyhow::Result<Topics> {
        Ok(match self {
            Self::Running(control) => {
                let status = client::block_on(client::status(control))?;
                let held = |topic: &TopicStatus| {
                    topic.partitions.iter().map(|part| part.end.saturating_sub(part.earliest)).collect()
                };
                let named = |topic: &TopicStatus| Some((TopicName::new(&topic.name).ok()?, held(topic)));
                status.topics.iter().filter_map(named).collect()
            }
            Self::Stopped(_, ring) => {
                let topics = ring.topics().into_iter();
                let held = topics.map(|topic| {
                    let parts = topic.partitions.iter();
                    (topic.name.clone(), parts.map(|part| part.durable_end.saturating_sub(part.earliest)).collect())
                });
                held.collect()
            }
        })
    }

    /// The newest records of a partition, oldest first.
    pub fn each(
        &mut self,
        name: &TopicName,
        partition: u8,
        last: u64,
        visit: &mut dyn FnMut(TailRecord) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Running(control) => client::block_on(tail(control, name, partition, last, visit)),
            Self::Stopped(_, ring) => {
                let Some(topic) = ring.topic(name.as_str()) else { return Ok(()) };
                let Some(place) = topic.partitions.get(usize::from(partition)) else { return Ok(()) };
                let (from, part) = (place.durable_end.saturating_sub(last), TopicPart { topic: topic.id, partition });
                ring.read(part, from.max(place.earliest), |clock, entry| {
                    let wall = clock.map(|clock| clock.wall(entry.record.admitted).0);
                    visit(tail_record(entry, wall, clock.is_some_and(|clock| clock.trusted)))
                });
                Ok(())
            }
        }
    }
}

async fn tail(
    control: &Path,
    name: &TopicName,
    partition: u8,
    last: u64,
    visit: &mut dyn FnMut(TailRecord) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let (topic, count) = (name.to_string(), Some(last));
    let mut client = Client::connect(control).await?;
    client.ask(&Ask::Tail(Tail { topic, partition, from: From::Last(last), count, follow: false })).await?;
    loop {
        match client.answer().await? {
            Answer::Record(record) => {
                if visit(record).is_break() {
                    return Ok(());
                }
            }
            Answer::Note(_) | Answer::Gone { .. } => {}
            Answer::Done(_) => return Ok(()),
            other => return Err(client::unexpected(&other)),
        }
    }
}
