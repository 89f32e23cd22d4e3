//! A SmartModule as a rule: its file, what its `init` gets, and how what an aggregate keeps is told apart.
//!
//! It runs record by record. A record's offset is not known before it is in the ring, so a guest sees 0 as the offset of each;
//! its time is the record's own, or where that is not known the moment it is taken.
//!
//! An aggregate's accumulator is an entry of the rule's state, so it survives restarts and is durable with what it made; by
//! default it is one for each topic and partition, as in Fluvio, and with `by` one for each thing.

use serde_bytes::{ByteBuf, Bytes};

use super::{Base, Budget, Instance, Kind, Limits, LoadError, Module, Output, StartError};
use crate::record::RecordRef;
use crate::rules::state::{Keeper, Kept, MAX_ENTRY, Time};
use crate::rules::{Answer, Made, Reason};
use crate::template::{Context, Template};
use crate::time::WallTime;

/// Bytes of an accumulator: what an entry takes, and a little for what is around it.
const MAX_ACCUMULATOR: usize = MAX_ENTRY - 64;

/// Why a file is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("`by` tells apart what an aggregate keeps; this one is no aggregate and keeps nothing")]
    By,
    #[error("an aggregate keeps state, so it is never pure")]
    Pure,
}

/// A checked rule: it has been started once.
#[derive(Clone)]
pub struct Guest {
    module: Module,
    /// SHA-256 of the file, in hexadecimal.
    digest: String,
    params: Vec<(String, String)>,
    by: Option<Template>,
    pure: bool,
}

impl Guest {
    /// `pure`: it was told that it makes the same of the same record, whatever it has seen before.
    pub fn new(
        file: &[u8],
        params: Vec<(String, String)>,
        by: Option<Template>,
        pure: bool,
        budget: &Budget,
    ) -> Result<Self, GuestError> {
        let limits = Limits { accumulator: MAX_ACCUMULATOR, batch: 1, ..Limits::default() };
        let module = Module::compile(file, limits)?;
        let aggregates = module.kind() == Kind::Aggregate;
        if by.is_some() && !aggregates {
            return Err(GuestError::By);
        }
        if pure && aggregates {
            return Err(GuestError::Pure);
        }
        // What `init` has to say against its parameters is told now, and not with the first record.
        module.start(&params, None)?;
        Ok(Self { module: module.within(budget.clone()), digest: digest(file), params, by, pure })
    }

    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn is_pure(&self) -> bool {
        self.pure
    }

    pub fn aggregates(&self) -> bool {
        self.module.kind() == Kind::Aggregate
    }

    /// What it makes of a record; `instance` is where it runs, begun with the first one.
    pub fn run(
        &self,
        instance: &mut Option<Box<Instance>>,
        time: Option<Time>,
        record: &RecordRef<'_>,
        made: &mut Made,
    ) -> Result<Answer, Reason> {
        let instance = self.instance(instance)?;
        self.run_in(instance, time, record, made)
    }

    fn instance<'i>(&self, instance: &'i mut Option<Box<Instance>>) -> Result<&'i mut Instance, Reason> {
        match instance {
            Some(running) => Ok(running),
            None => {
                let begun = self.module.start(&self.params, None).map_err(|error| error.to_string())?;
                Ok(instance.insert(Box::new(begun)))
            }
        }
    }

    fn run_in(
        &self,
        instance: &mut Instance,
        time: Option<Time>,
        record: &RecordRef<'_>,
        made: &mut Made,
    ) -> Result<Answer, Reason> {
        let taken = time.filter(|time| time.now.trusted).map_or(WallTime::default(), |time| time.now.wall);
        let base = Base { offset: 0, time_ms: taken.0.div_euclid(1000) };
        let filters = self.module.kind() == Kind::Filter;
        let mut outputs = 0;
        let mut emit = |output: Output<'_>| {
            outputs += 1;
            if !filters {
                match output.key {
                    Some(key) => made.push(Some(key), None, |value| value.extend_from_slice(output.value)),
                    None => made.push_keyless(output.value),
                }
            }
        };
        let ran = instance.run(std::slice::from_ref(record), base, &mut emit);
        ran.map_err(|error| error.failure.to_string())?;
        Ok(match (outputs, filters) {
            (0, _) => Answer::Drop,
            (_, true) => Answer::Pass,
            (_, false) => Answer::Made,
        })
    }
}

fn digest(file: &[u8]) -> String {
    let digest = ring_crypto::digest::digest(&ring_crypto::digest::SHA256, file);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of an aggregate.
impl Keeper for Guest {
    fn by(&self) -> Option<&Template> {
        self.by.as_ref()
    }

    fn key(&self, context: &Context<'_>, record: &RecordRef<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        match &self.by {
            Some(by) => crate::rules::state::key_of(Some(by), context, record, out),
            None => {
                out.clear();
                Ok(())
            }
        }
    }

    fn see(&self, time: Time, record: &RecordRef<'_>, kept: &mut Kept<'_>, made: &mut Made) -> Result<Answer, Reason> {
        let before = kept.get::<ByteBuf>().map(|(_, accumulator)| accumulator.into_vec()).unwrap_or_default();
        let instance = self.instance(kept.instance)?;
        if !instance.set_accumulator(&before) {
            return Err("what it keeps is larger than it may be now".into());
        }
        let answer = self.run_in(instance, Some(time), record, made)?;
        let after = instance.accumulator().to_vec();
        if after != before {
            kept.put(time, &Bytes::new(&after))?;
        }
        Ok(answer)
    }
}

impl PartialEq for Guest {
    fn eq(&self, other: &Self) -> bool {
        let of = |g: &Self| (g.digest.clone(), g.params.clone(), g.by.clone(), g.pure);
        of(self) == of(other)
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { digest, params, by, pure, .. } = self;
        f.debug_struct("Guest")
            .field("digest", digest)
            .field("params", params)
            .field("by", by)
            .field("pure", pure)
            .finish()
    }
}
