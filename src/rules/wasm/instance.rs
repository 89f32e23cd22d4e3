//! A running module: one call for many records, what comes out of it, and beginning anew after it failed.

use std::ops::Range;

use super::abi::{self, Base, LookBack};
use super::live::{Live, LookBackError, UNKNOWN_INPUT, index_of};
use super::{Kind, Module};
use crate::limits::{FRAME_RAW_TARGET, MAX_WASM_PARAM, MAX_WASM_PARAMS};
use crate::record::RecordRef;

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// In the module's own words.
    #[error("{0}")]
    Reported(String),
    /// A negative status.
    #[error("the module gave {code}: {what}")]
    Status { code: i32, what: &'static str },
    #[error("the module was stopped after {0} units of fuel: it loops, or the record is too much for it")]
    Fuel(u64),
    #[error("the module asked for more than {0} bytes of memory")]
    Memory(usize),
    #[error("there is no memory for the module: all of them together have {0} bytes")]
    Budget(usize),
    /// With the last that it wrote to its standard error, if it did.
    #[error("the module broke off: {0}")]
    Trap(String),
    #[error("the module's output is not what it should be: {0}")]
    Output(&'static str),
    #[error("the module's accumulator has more than {0} bytes; the one before stays")]
    Accumulator(usize),
    /// After a failure the module begins anew, and this time it could not.
    #[error("the module does not start again: {0}")]
    Restart(String),
}

/// Why a module cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// `init` says so, mostly of its parameters.
    #[error("its init says: {0}")]
    Init(String),
    #[error("{0}")]
    Failed(Failure),
    #[error("at most {MAX_WASM_PARAMS} parameters of at most {MAX_WASM_PARAM} bytes")]
    Params,
}

/// A record that failed. What the records before it became has been emitted; those behind it have not been run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {failure}")]
pub struct RunError {
    /// Which of the records that were given.
    pub index: usize,
    pub offset: i64,
    pub failure: Failure,
}

impl RunError {
    pub(super) fn new(index: usize, base: Base, failure: Failure) -> Self {
        Self { index, offset: base.offset.saturating_add(index as i64), failure }
    }
}

/// One record that came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output<'a> {
    /// Which of the records that were given it stems from.
    pub index: usize,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

/// A module with its parameters and, while it runs, its memory.
pub struct Instance {
    module: Module,
    /// What `init` gets.
    params: Vec<u8>,
    look_back: Option<LookBack>,
    live: Option<Live>,
    accumulator: Vec<u8>,
    /// The encoded input.
    input: Vec<u8>,
    pace: Pace,
    /// Times that it began.
    starts: u64,
    /// Whether it takes back what it gave: known to be false only after it failed to.
    frees: bool,
    /// Of the life before.
    log: Vec<u8>,
}

/// How many records one call gets.
struct Pace {
    most: usize,
    /// Records that still run one by one, after a batch that failed.
    singly: usize,
}

impl Instance {
    pub(super) fn start(
        module: Module,
        params: &[(String, String)],
        look_back: Option<LookBack>,
    ) -> Result<Self, StartError> {
        let long = |text: &String| text.len() > MAX_WASM_PARAM;
        if params.len() > MAX_WASM_PARAMS || params.iter().any(|(k, v)| long(k) || long(v)) {
            return Err(StartError::Params);
        }
        let mut encoded = Vec::new();
        abi::put_init(params, look_back, module.0.version, &mut encoded);
        let pace = Pace { most: if runs_singly(&module) { 1 } else { module.0.limits.batch.max(1) }, singly: 0 };
        let mut instance = Self {
            module,
            params: encoded,
            look_back,
            live: None,
            accumulator: Vec::new(),
            input: Vec::new(),
            pace,
            starts: 0,
            frees: true,
            log: Vec::new(),
        };
        instance.rebuild()?;
        Ok(instance)
    }

    /// Begins anew: fresh memory, `init` called again. What the guest kept in its memory is gone.
    pub fn rebuild(&mut self) -> Result<(), StartError> {
        self.release();
        self.starts = self.starts.saturating_add(1);
        self.live = Some(Live::start(&self.module, &self.params, self.frees)?);
        Ok(())
    }

    /// Gives the memory back; the next record begins anew.
    pub fn release(&mut self) {
        if let Some(live) = self.live.take() {
            self.log = live.into_log();
        }
    }

    /// Runs records. `emit` gets what they become, in order. Begins anew where that is due; see
    /// [`Instance::needs_look_back`].
    pub fn run(
        &mut self,
        records: &[RecordRef<'_>],
        base: Base,
        emit: &mut dyn FnMut(Output<'_>),
    ) -> Result<(), RunError> {
        let mut at = 0;
        while at < records.len() {
            let batch = at..at + self.pace.next(&records[at..]);
            let len = batch.len();
            match self.attempt(records, batch, base, emit) {
                Ok(Ok(())) => at += len,
                Ok(Err(failed)) => return Err(failed),
                Err(failure) if len == 1 => return Err(RunError::new(at, base, failure)),
                Err(failure) => self.pace.slow_down(len, &failure),
            }
        }
        Ok(())
    }

    /// Whether records of the past are due: the module looks back, it was asked to, and it has just begun.
    pub fn needs_look_back(&self) -> bool {
        self.module.has_look_back() && self.look_back.is_some() && !self.live.as_ref().is_some_and(Live::is_fed)
    }

    /// Shows it records of the past, in order; may be called several times, before it runs others.
    pub fn look_back(&mut self, records: &[RecordRef<'_>], base: Base) -> Result<(), RunError> {
        let mut at = 0;
        loop {
            // Records of the past belong together: as many as fit, whatever one call has of others.
            let len = within_bytes(&records[at..], usize::MAX);
            self.look_back_on(records, at..at + len, base)?;
            at += len;
            if at == records.len() {
                return Ok(());
            }
        }
    }

    /// An aggregate's state; empty in the beginning.
    pub fn accumulator(&self) -> &[u8] {
        &self.accumulator
    }

    /// Sets it to what was stored; false, and nothing changed, if that is more than the limit.
    #[must_use]
    pub fn set_accumulator(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.module.0.limits.accumulator;
        if fits {
            self.accumulator.clear();
            self.accumulator.extend_from_slice(bytes);
        }
        fits
    }

    /// Bytes of linear memory; 0 while it does not run.
    pub fn linear_memory(&self) -> usize {
        self.live.as_ref().map_or(0, Live::linear_memory)
    }

    /// Times that it began, the first included: what a guest kept in its memory was lost one time less.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The last that it wrote to its standard output and error since this was last asked.
    pub fn take_log(&mut self) -> Vec<u8> {
        let log = self.live.as_mut().map(Live::take_log).unwrap_or_default();
        if log.is_empty() { std::mem::take(&mut self.log) } else { log }
    }

    fn live(&mut self) -> Result<&mut Live, Failure> {
        if self.live.is_none() {
            self.rebuild().map_err(|e| Failure::Restart(e.to_string()))?;
        }
        self.live.as_mut().ok_or_else(|| Failure::Restart(String::new()))
    }

    /// One call. The outer error is of the call as a whole: nothing was emitted.
    fn attempt(
        &mut self,
        records: &[RecordRef<'_>],
        batch: Range<usize>,
        base: Base,
        emit: &mut dyn FnMut(Output<'_>),
    ) -> Result<Result<(), RunError>, Failure> {
        self.live()?;
        self.encode(records, batch.clone(), base);
        let Self { module, live: Some(live), input, accumulator, frees, .. } = self else { return Ok(Ok(())) };
        live.set_time(base.time_of(&records[batch.start]));
        let result = live.transform(module, input, batch, base, accumulator, emit);
        // After these it runs on.
        let runs_on = |failure: &Failure| matches!(failure, Failure::Status { .. } | Failure::Accumulator(_));
        let sound = result.as_ref().err().is_none_or(runs_on);
        let gave_back = !sound || live.free(module);
        *frees &= gave_back;
        if !sound || !gave_back || live.is_too_large(module) {
            self.release();
        }
        result
    }

    fn encode(&mut self, records: &[RecordRef<'_>], batch: Range<usize>, base: Base) {
        // A rare huge record must not leave its size behind for good.
        if self.input.capacity() > 2 * FRAME_RAW_TARGET {
            self.input = Vec::new();
        }
        self.input.clear();
        abi::put_input(&records[batch.clone()], batch.start, base, self.module.0.version, &mut self.input);
        if self.module.kind() == Kind::Aggregate {
            abi::put_accumulator(&self.accumulator, &mut self.input);
        }
    }

    fn look_back_on(&mut self, records: &[RecordRef<'_>], batch: Range<usize>, base: Base) -> Result<(), RunError> {
        let at = batch.start;
        self.live().map_err(|failure| RunError::new(at, base, failure))?;
        self.input.clear();
        abi::put_input(&records[batch.clone()], at, base, self.module.0.version, &mut self.input);
        let Self { module, live: Some(live), input, .. } = self else { return Ok(()) };
        live.set_time(records.get(at).map_or(base.time_ms, |record| base.time_of(record)));
        let result = live.look_back(module, input).map_err(|error| match error {
            LookBackError::Reported { offset, text } => {
                RunError::new(index_of(offset, base, &batch).unwrap_or(at), base, Failure::Reported(text))
            }
            LookBackError::Failed(failure) => RunError::new(at, base, failure),
        });
        if !live.free(module) {
            self.frees = false;
        }
        if matches!(&result, Err(e) if !matches!(e.failure, Failure::Reported(_) | Failure::Status { .. })) {
            self.release();
        }
        result
    }
}

impl Pace {
    fn next(&self, records: &[RecordRef<'_>]) -> usize {
        if self.singly > 0 { 1 } else { within_bytes(records, self.most) }
    }

    /// After a batch failed as a whole.
    fn slow_down(&mut self, len: usize, failure: &Failure) {
        match failure {
            // Too little fuel for so many: fewer from now on.
            Failure::Fuel(_) => self.most = (self.most / 2).max(1),
            // It does not say where its records come from, and will not the next time.
            Failure::Output(UNKNOWN_INPUT) => self.most = 1,
            _ => {}
        }
        self.singly = len;
    }
}

/// How many of the records one call takes: at least one if there is one.
fn within_bytes(records: &[RecordRef<'_>], most: usize) -> usize {
    let mut bytes = 0usize;
    let fits = |record: &&RecordRef<'_>| {
        bytes = bytes.saturating_add(record.len());
        bytes <= FRAME_RAW_TARGET
    };
    records.iter().take(most).take_while(fits).count().max(records.len().min(1))
}

/// Whether it would show that records ran together, or could not be told which came from which.
fn runs_singly(module: &Module) -> bool {
    module.kind() == Kind::ArrayMap || module.has_look_back() || module.0.asks_time
}
