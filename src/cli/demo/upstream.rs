//! The demo's upstream: a second Headwater node, or a real Fluvio cluster behind the demo's link.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::cluster::Cluster;
use super::compare::Stored;
use super::process::{Node, free_ports};
use super::proxy::Link;
use super::{StoppedRing, stored};

pub enum Upstream {
    Node { node: Box<Node>, data: PathBuf, sc: String },
    Cluster { sc: String, address: String, spus: Vec<(i32, String)> },
}

impl Upstream {
    /// Starts the node, or asks the cluster for its SPUs; lays the link to all of it.
    pub async fn start(dir: &Path, cluster: Option<&str>, link: &Link) -> anyhow::Result<Self> {
        match cluster {
            None => Self::start_node(dir, link).await,
            Some(address) => {
                let cluster = Cluster::connect(address).await.with_context(|| format!("the cluster at {address}"))?;
                let mut carried = Vec::new();
                for (id, target) in cluster.spus() {
                    carried.push((id, link.carry(target.to_owned()).await?));
                }
                let sc = link.carry(address.to_owned()).await?;
                Ok(Self::Cluster { sc, address: address.to_owned(), spus: carried })
            }
        }
    }

    async fn start_node(dir: &Path, link: &Link) -> anyhow::Result<Self> {
        let ports = free_ports(3)?;
        let data = dir.join("upstream/data");
        let spu = link.carry(format!("127.0.0.1:{}", ports[1])).await?;
        let config = format!(
            "[node]\nid = \"demo-upstream\"\ndata_dir = \"{data}\"\n\n[ring]\nmax_bytes = \"512MiB\"\nkeep_free = \"0B\"\n\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n\n\
             [endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu_port}\"\nadvertise = \"{spu}\"\n",
            data = data.display(),
            http = ports[2],
            sc = ports[0],
            spu_port = ports[1],
        );
        let node = Node::start("upstream", dir, &config).await?;
        let sc = link.carry(format!("127.0.0.1:{}", ports[0])).await?;
        Ok(Self::Node { node: Box::new(node), data, sc })
    }

    pub fn describe(&self) -> String {
        match self {
            Self::Node { .. } => "a second Headwater node, speaking the Fluvio protocol".into(),
            Self::Cluster { address, spus, .. } => format!("the Fluvio cluster at {address} ({} SPU)", spus.len()),
        }
    }

    /// What its topics begin with.
    pub fn prefix(&self) -> &'static str {
        match self {
            // `headwater-` is reserved for a node's own topics.
            Self::Node { .. } => "demo-",
            Self::Cluster { .. } => "headwater-demo-",
        }
    }

    /// The keys of the edge's sink that lead here through the link.
    pub fn sink_keys(&self) -> String {
        match self {
            Self::Node { sc, .. } => format!("endpoint = [\"{sc}\"]"),
            Self::Cluster { sc, spus, .. } => {
                let map: Vec<_> = spus.iter().map(|(id, address)| format!("\"{id}\" = \"{address}\"")).collect();
                format!("endpoint = [\"{sc}\"]\nspu_address = {{ {} }}", map.join(", "))
            }
        }
    }

    pub async fn stop(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Node { node, .. } => node.stop().await,
            Self::Cluster { .. } => Ok(()),
        }
    }

    /// What reads back what it stored; a node must be stopped by then.
    pub async fn proof(&self) -> anyhow::Result<Proof> {
        match self {
            Self::Node { data, .. } => {
                Ok(Proof::Ring(Box::new(StoppedRing::open(data, &crate::ring::Keys::default())?)))
            }
            Self::Cluster { address, .. } => Ok(Proof::Cluster(Cluster::connect(address).await?)),
        }
    }

    /// Deletes the demo's topics of a real cluster.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        if let Self::Cluster { address, .. } = self {
            let cluster = Cluster::connect(address).await?;
            for topic in super::TOPICS {
                cluster.delete_topic(&format!("{}{topic}", self.prefix())).await?;
            }
        }
        Ok(())
    }
}

/// The stopped node's ring, or the cluster's SPUs, which are asked batch by batch.
pub enum Proof {
    Ring(Box<StoppedRing>),
    Cluster(Cluster),
}

impl Proof {
    pub async fn stored(&mut self, topic: &str) -> anyhow::Result<Stored> {
        match self {
            Self::Ring(ring) => Ok(stored(ring, topic)),
            Self::Cluster(cluster) => {
                let mut all = Stored::default();
                cluster.read_all(topic, |key, value| all.push(key, value)).await?;
                Ok(all)
            }
        }
    }
}
