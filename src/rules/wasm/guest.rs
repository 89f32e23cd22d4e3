//! A SmartModule as a rule: its file, what its `init` gets, and how what an aggregate keeps is told apart.
//!
//! It runs record by record. A record's offset is not known before it is in the ring, so a guest sees 0 as the offset of each;
//! its time is the record's own, or where that is not known the moment it is taken.
//!
//! One that looks back is shown the newest records of the topic that it writes to before it runs the first, and again whenever it
//! began anew: what it keeps in its memory it has from them ([`Past`]).
//!
//! An aggregate's accumulator is an entry of the rule's state, so it survives restarts and is durable with what it made; by
//! default it is one for each topic and partition, as in Fluvio, and with `by` one for each thing.

use serde_bytes::{ByteBuf, Bytes};

use super::{Base, Budget, Failure, Instance, Kind, Limits, LoadError, LookBack, Module, Output, RunError, StartError};
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
    #[error("what looks back makes of a record what the ones before it say, so it is not pure")]
    PureLookBack,
    #[error("it exports no `look_back`: it has no use for records of the past")]
    NoLookBack,
}

/// Whether a module that looks back has been shown the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Past {
    /// It does not look back.
    #[default]
    Unasked,
    /// Before it runs a record.
    Due,
    /// It has seen it, as long as it does not begin anew.
    Shown,
    /// It failed over it: it runs without.
    GivenUp,
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
    look_back: Option<LookBack>,
}

/// How a module is used as a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Use {
    /// What its `init` gets.
    pub params: Vec<(String, String)>,
    /// Of an aggregate: what tells apart what it keeps.
    pub by: Option<Template>,
    /// It was told that it makes the same of the same record, whatever it has seen before.
    pub pure: bool,
    pub look_back: Option<LookBack>,
}

/// What a module that looks back failed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshown {
    pub reason: Reason,
    /// The record that it reports an error for. It has seen those before; those behind it are to be shown again.
    pub at: Option<usize>,
}

/// A compiled file: rules of the same file share it.
#[derive(Clone)]
pub struct File {
    module: Module,
    digest: String,
}

impl File {
    pub fn new(file: &[u8], budget: &Budget) -> Result<Self, GuestError> {
        let limits = Limits { accumulator: MAX_ACCUMULATOR, batch: 1, ..Limits::default() };
        Ok(Self { module: Module::compile(file, limits)?.within(budget.clone()), digest: Self::digest_of(file) })
    }

    /// SHA-256 of a file, in hexadecimal.
    pub fn digest_of(file: &[u8]) -> String {
        let digest = ring_crypto::digest::digest(&ring_crypto::digest::SHA256, file);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl Guest {
    pub fn new(compiled: &File, used: Use) -> Result<Self, GuestError> {
        let File { module, digest } = compiled.clone();
        let Use { params, by, pure, look_back } = used;
        let aggregates = module.kind() == Kind::Aggregate;
        if by.is_some() && !aggregates {
            return Err(GuestError::By);
        }
        if pure && aggregates {
            return Err(GuestError::Pure);
        }
        if look_back.is_some() && !module.has_look_back() {
            return Err(GuestError::NoLookBack);
        }
        if pure && look_back.is_some() {
            return Err(GuestError::PureLookBack);
        }
        // What `init` has to say against its parameters is told now, and not with the first record. Not within the budget: those
        // of the configuration before it run on meanwhile.
        module.clone().within(Budget::default()).start(&params, look_back)?;
        Ok(Self { module, digest, params, by, pure, look_back })
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
                let begun = self.module.start(&self.params, self.look_back).map_err(|error| error.to_string())?;
                Ok(instance.insert(Box::new(begun)))
            }
        }
    }

    /// How far it looks back, if it does.
    pub fn look_back(&self) -> Option<LookBack> {
        self.look_back
    }

    /// Shows it records of the past, in order.
    pub fn show(
        &self,
        instance: &mut Option<Box<Instance>>,
        records: &[RecordRef<'_>],
        base: Base,
    ) -> Result<(), Unshown> {
        let instance = self.instance(instance).map_err(|reason| Unshown { reason, at: None })?;
        instance.look_back(records, base).map_err(|error: RunError| Unshown {
            // One that began anew has seen nothing of what it was shown before.
            at: matches!(error.failure, Failure::Reported(_)).then_some(error.index),
            reason: Reason::from(format!("its look_back: {}", error.failure)),
        })
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

/// Of an aggregate.
impl Keeper for Guest {
    fn holds(&self) -> bool {
        true
    }

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
        let of = |g: &Self| (g.digest.clone(), g.params.clone(), g.by.clone(), g.pure, g.look_back);
        of(self) == of(other)
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { digest, params, by, pure, look_back, .. } = self;
        f.debug_struct("Guest")
            .field("digest", digest)
            .field("params", params)
            .field("by", by)
            .field("pure", pure)
            .field("look_back", look_back)
            .finish()
    }
}
