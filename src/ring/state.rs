//! State entries: (owner, key) -> bytes, kept beside the records and durable with them.
//!
//! Each entry knows its newest value and its durable one. A snapshot is made of the durable values only: a checkpoint
//! that is newer than the records it covers would turn a crash into a loss. Snapshots are therefore written when
//! nothing is in flight, see `writer`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Owner, OwnerKind, StateError, wire};
use crate::limits::{MAX_STATE_OWNER_BYTES, MAX_STATE_OWNER_ENTRIES};
use crate::name::Name;

/// A value shared by the newest view, the durable view and the frames in between.
pub type Value = Option<Arc<[u8]>>;

/// What an entry takes beside its key and value: the owner's kind and name, lengths, the mark of a tombstone.
const ENTRY_OVERHEAD: usize = 72;

/// One change, as a batch carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub owner: Owner,
    pub key: Box<[u8]>,
    pub value: Value,
}

impl Put {
    /// At least the bytes that it takes in a state section.
    pub fn weight(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |v| v.len()) + ENTRY_OVERHEAD
    }
}

#[derive(Debug, Default)]
struct Cell {
    newest: Value,
    durable: Value,
    /// Changes that are not durable yet.
    pending: u32,
}

#[derive(Debug, Default)]
struct Owned {
    cells: BTreeMap<Box<[u8]>, Cell>,
    /// Of the newest values.
    entries: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
pub struct Store {
    owners: BTreeMap<Owner, Owned>,
    bytes: usize,
    limit: usize,
}

/// The ring's own entries: topics, clocks, boots.
pub fn ring_owner() -> Owner {
    // A constant of six letters is always a name.
    let name = Name::new("ring").unwrap_or_else(|_| unreachable!());
    Owner { kind: OwnerKind::Ring, name }
}

impl Store {
    /// `limit` bounds the bytes of all owners together.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub fn newest(&self, owner: &Owner, key: &[u8]) -> Option<&[u8]> {
        self.owners.get(owner)?.cells.get(key)?.newest.as_deref()
    }

    pub fn all(&self, owner: &Owner) -> impl Iterator<Item = (&[u8], &[u8])> {
        let cells = self.owners.get(owner).into_iter().flat_map(|o| o.cells.iter());
        cells.filter_map(|(k, c)| Some((&**k, c.newest.as_deref()?)))
    }

    /// Bytes of all owners together, at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Newest entries of an owner, and their bytes.
    pub fn weigh(&self, owner: &Owner) -> (usize, usize) {
        self.owners.get(owner).map_or((0, 0), |owned| (owned.entries, owned.bytes))
    }

    pub fn weigh_kind(&self, kind: OwnerKind) -> usize {
        self.owners.iter().filter(|(owner, _)| owner.kind == kind).map(|(_, owned)| owned.bytes).sum()
    }

    pub fn owners(&self, kind: OwnerKind) -> impl Iterator<Item = &Owner> {
        self.owners.iter().filter(move |(o, owned)| o.kind == kind && owned.entries > 0).map(|(o, _)| o)
    }

    pub fn entries(&self) -> usize {
        self.owners.values().map(|o| o.entries).sum()
    }

    /// Makes `value` the newest; the change goes into a batch and comes back through [`Store::settle`].
    pub fn put(&mut self, owner: &Owner, key: &[u8], value: Option<&[u8]>) -> Result<Put, StateError> {
        let old = self.newest(owner, key).map(|v| key.len() + v.len());
        let (entries, bytes) = self.owners.get(owner).map_or((0, 0), |o| (o.entries, o.bytes));
        let added = value.map_or(0, |v| key.len() + v.len());
        let entries = entries + usize::from(value.is_some()) - usize::from(old.is_some());
        let bytes = bytes + added - old.unwrap_or(0);
        let total = self.bytes + added - old.unwrap_or(0);
        let over = bytes > MAX_STATE_OWNER_BYTES || entries > MAX_STATE_OWNER_ENTRIES || total > self.limit;
        // A removal, or a value that does not grow, is never refused: else a full owner could not heal.
        if over && added > old.unwrap_or(0) && owner.kind != OwnerKind::Ring {
            return Err(StateError::Full { owner: owner.clone(), entries, bytes });
        }
        let owned = self.owners.entry(owner.clone()).or_default();
        (owned.entries, owned.bytes, self.bytes) = (entries, bytes, total);
        let put = Put { owner: owner.clone(), key: key.into(), value: value.map(Arc::from) };
        let cell = owned.cells.entry(put.key.clone()).or_default();
        cell.newest = put.value.clone();
        cell.pending += 1;
        Ok(put)
    }

    /// A change whose place in its batch was taken by a newer one of the same key.
    pub fn superseded(&mut self, put: &Put) {
        if let Some(cell) = self.owners.get_mut(&put.owner).and_then(|o| o.cells.get_mut(&put.key)) {
            cell.pending = cell.pending.saturating_sub(1);
        }
    }

    /// The change is durable.
    pub fn settle(&mut self, put: &Put) {
        let Some(owned) = self.owners.get_mut(&put.owner) else { return };
        let Some(cell) = owned.cells.get_mut(&put.key) else { return };
        cell.durable = put.value.clone();
        cell.pending = cell.pending.saturating_sub(1);
        if cell.pending == 0 && cell.newest.is_none() && cell.durable.is_none() {
            owned.cells.remove(&put.key);
            if owned.cells.is_empty() {
                self.owners.remove(&put.owner);
            }
        }
    }

    /// What recovery read: newest and durable at once, limits not applied.
    pub fn restore(&mut self, put: Put) {
        let old = self.newest(&put.owner, &put.key).map(|v| put.key.len() + v.len());
        let owned = self.owners.entry(put.owner).or_default();
        if let Some(old) = old {
            owned.bytes -= old;
            owned.entries -= 1;
            self.bytes -= old;
        }
        match put.value {
            Some(value) => {
                let bytes = put.key.len() + value.len();
                owned.bytes += bytes;
                owned.entries += 1;
                self.bytes += bytes;
                owned.cells.insert(put.key, Cell { newest: Some(value.clone()), durable: Some(value), pending: 0 });
            }
            None => {
                owned.cells.remove(&put.key);
            }
        }
    }

    /// The durable entries, in order.
    pub fn durable(&self) -> impl Iterator<Item = (&Owner, &[u8], &[u8])> {
        self.owners
            .iter()
            .flat_map(|(o, owned)| owned.cells.iter().filter_map(move |(k, c)| Some((o, &**k, c.durable.as_deref()?))))
    }
}

/// Appends one entry as the state section has it.
pub fn append_entry(out: &mut Vec<u8>, owner: &Owner, key: &[u8], value: Option<&[u8]>) {
    let value = value.map(serde_bytes::Bytes::new);
    wire::append(out, &(owner.kind as u8, owner.name.as_str(), serde_bytes::Bytes::new(key), value));
}

/// The entries of a state section; None when it is not one.
pub fn parse_section(mut bytes: &[u8], mut each: impl FnMut(Put)) -> Option<()> {
    type Wire<'a> = (u8, &'a str, &'a serde_bytes::Bytes, Option<&'a serde_bytes::Bytes>);
    while !bytes.is_empty() {
        let ((kind, name, key, value), rest) = postcard::take_from_bytes::<Wire<'_>>(bytes).ok()?;
        bytes = rest;
        let owner = Owner { kind: owner_kind(kind)?, name: Name::new(name).ok()? };
        each(Put { owner, key: Box::from(&**key), value: value.map(|v| Arc::from(&**v)) });
    }
    Some(())
}

fn owner_kind(kind: u8) -> Option<OwnerKind> {
    Some(match kind {
        0 => OwnerKind::Ring,
        1 => OwnerKind::Node,
        2 => OwnerKind::Source,
        3 => OwnerKind::Rule,
        4 => OwnerKind::Sink,
        5 => OwnerKind::Endpoint,
        _ => return None,
    })
}
