//! The memory and the functions of a module that runs; what it says is checked here.

use std::ops::Range;

use wasmi::errors::ErrorKind;
use wasmi::{Error, Extern, Func, Memory, Store, StoreLimits, StoreLimitsBuilder, TrapCode, TypedFunc};

use super::abi::{self, Base, Outcome, Reported};
use super::budget::Share;
use super::host::Host;
use super::instance::{Failure, Output, RunError, StartError};
use super::{Compiled, Kind, Module};
use crate::codec::Malformed;

pub const UNKNOWN_INPUT: &str = "a record that stems from none of the input";

/// Elements of all its tables of functions.
const MAX_TABLE: usize = 64 * 1024;

type Transform = TypedFunc<(u32, u32, i32), i32>;

pub struct Live {
    store: Store<Host>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    dealloc: Option<TypedFunc<(u32, u32), ()>>,
    /// The size of a block stands in front of it.
    sized: bool,
    transform: Transform,
    look_back: Option<Transform>,
    /// Has seen records of the past.
    fed: bool,
    /// Linear memory after the start and the look-back.
    began_with: usize,
    share: Share,
}

pub enum LookBackError {
    Reported { offset: i64, text: String },
    Failed(Failure),
}

impl Live {
    pub fn start(module: &Module, params: &[u8], frees: bool) -> Result<Self, StartError> {
        let compiled = &*module.0;
        let mut share = Share::of(&module.1);
        let most = share.most().min(compiled.limits.memory);
        let host =
            Host { out: None, now_ms: 0, log: Vec::new(), limits: limits(most), most, budget: share.budget().clone() };
        let mut store = Store::new(&compiled.engine, host);
        store.limiter(|host| &mut host.limits);
        let begun = begin(compiled, &mut store);
        let (instance, memory) = begun.map_err(|e| StartError::Failed(why(&e, compiled, &store)))?;
        let parts = || -> Result<_, Error> {
            let transform = instance.get_typed_func(&store, compiled.kind.export())?;
            let alloc = instance.get_typed_func(&store, "alloc")?;
            let optional = |name, there: bool| there.then(|| instance.get_typed_func(&store, name)).transpose();
            let (init, look_back) =
                (optional("init", compiled.has_init)?, optional("look_back", compiled.has_look_back)?);
            let free = compiled.dealloc && frees;
            let dealloc = free.then(|| instance.get_typed_func(&store, "dealloc")).transpose()?;
            Ok((transform, alloc, init, look_back, dealloc))
        };
        let (transform, alloc, init, look_back, dealloc) =
            parts().map_err(|e| StartError::Failed(why(&e, compiled, &store)))?;
        share.set(memory.data_size(&store));
        let (sized, fed, began_with) = (false, false, 0);
        let mut live = Self { store, memory, alloc, dealloc, sized, transform, look_back, fed, began_with, share };
        live.probe().map_err(|e| StartError::Failed(why(&e, compiled, &live.store)))?;
        if let Some(init) = init {
            live.init(init, params, compiled)?;
        }
        live.began_with = live.linear_memory();
        Ok(live)
    }

    fn init(&mut self, init: Transform, params: &[u8], compiled: &Compiled) -> Result<(), StartError> {
        let code = self.call(init, params, compiled.limits.start_fuel, compiled).map_err(StartError::Failed)?;
        match code {
            0.. => Ok(()),
            -2 => {
                let bytes = self.output(compiled).map_err(StartError::Failed)?;
                let text =
                    abi::init_error(bytes).map_err(|Malformed(what)| StartError::Failed(Failure::Output(what)))?;
                Err(StartError::Init(abi::words(text)))
            }
            code => Err(StartError::Failed(Failure::Status { code, what: abi::status(code) })),
        }
    }

    /// Finds out whether the size of a block stands in front of it, as dlmalloc has it: with two bits of flags, of which
    /// one says that the block is in use.
    fn probe(&mut self) -> Result<(), Error> {
        let Some(dealloc) = self.dealloc else { return Ok(()) };
        let mut fits = true;
        for size in [64u32, 200] {
            let at = self.alloc.call(&mut self.store, size)?;
            let need = (size + 4).next_multiple_of(8);
            fits &= self.head(at).is_some_and(|head| head & 2 != 0 && (need..=need + 16).contains(&(head & !7)));
            if dealloc.call(&mut self.store, (at, size)).is_err() {
                self.dealloc = None;
                return Ok(());
            }
        }
        self.sized = fits;
        Ok(())
    }

    /// The word in front of a block.
    fn head(&self, at: u32) -> Option<u32> {
        let data = self.memory.data(&self.store);
        let front = data.get(..at as usize)?.last_chunk::<4>()?;
        Some(u32::from_le_bytes(*front))
    }

    /// Gives the guest its output back. False: it trapped over that.
    pub fn free(&mut self, module: &Module) -> bool {
        let Some((at, len)) = self.store.data_mut().out.take() else { return true };
        let Some(dealloc) = self.dealloc else { return true };
        let size = if self.sized { self.head(at).map_or(0, |head| (head & !7).saturating_sub(4)) } else { len };
        let inside = u64::from(at) + u64::from(size) <= self.linear_memory() as u64;
        // What does not look like a block is left where it is.
        if size == 0 || size < len || !inside {
            return true;
        }
        let fueled = self.store.set_fuel(module.0.limits.fuel);
        fueled.and_then(|()| dealloc.call(&mut self.store, (at, size))).is_ok()
    }

    /// Unless it began so large: then it would begin anew for ever.
    pub fn is_too_large(&self, module: &Module) -> bool {
        self.linear_memory() > module.0.limits.rebuild_above.max(2 * self.began_with)
    }

    pub fn linear_memory(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    pub fn set_time(&mut self, now_ms: i64) {
        self.store.data_mut().now_ms = now_ms;
    }

    pub fn is_fed(&self) -> bool {
        self.fed
    }

    pub fn take_log(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.store.data_mut().log)
    }

    pub fn into_log(self) -> Vec<u8> {
        self.store.into_data().log
    }

    /// Hands the input over and calls; the status, whatever it is.
    fn call(&mut self, function: Transform, input: &[u8], fuel: u64, compiled: &Compiled) -> Result<i32, Failure> {
        let len = u32::try_from(input.len()).map_err(|_| Failure::Memory(compiled.limits.memory))?;
        let Self { store, memory, alloc, share, .. } = self;
        store.data_mut().out = None;
        // Others may have given something back, or taken it.
        let most = share.most().min(compiled.limits.memory);
        (store.data_mut().limits, store.data_mut().most) = (limits(most), most);
        let placed = store.set_fuel(fuel).and_then(|()| alloc.call(&mut *store, len));
        let at = placed.map_err(|e| why_within(&e, compiled, store, fuel))?;
        memory
            .write(&mut *store, at as usize, input)
            .map_err(|_| Failure::Output("`alloc` gave a place outside of its memory"))?;
        let called = function.call(&mut *store, (at, len, i32::from(compiled.version)));
        share.set(memory.data_size(&*store));
        called.map_err(|e| why_within(&e, compiled, store, fuel))
    }

    /// The bytes that `copy_records` named.
    fn output(&self, compiled: &Compiled) -> Result<&[u8], Failure> {
        let (at, len) = self.store.data().out.ok_or(Failure::Output("it did not call `copy_records`"))?;
        let (at, len) = (at as usize, len as usize);
        if len > compiled.limits.output {
            return Err(Failure::Output("it is larger than the limit"));
        }
        let data = self.memory.data(&self.store);
        at.checked_add(len).and_then(|end| data.get(at..end)).ok_or(Failure::Output("it lies outside of its memory"))
    }

    /// One call. The outer error is of the call as a whole: nothing was emitted.
    pub fn transform(
        &mut self,
        module: &Module,
        input: &[u8],
        batch: Range<usize>,
        base: Base,
        accumulator: &mut Vec<u8>,
        emit: &mut dyn FnMut(Output<'_>),
    ) -> Result<Result<(), RunError>, Failure> {
        let compiled = &*module.0;
        let code = self.call(self.transform, input, compiled.limits.fuel_for(input), compiled)?;
        let count = usize::try_from(code).map_err(|_| Failure::Status { code, what: abi::status(code) })?;
        let bytes = self.output(compiled)?;
        let aggregate = compiled.kind == Kind::Aggregate;
        let outcome = Outcome::read(bytes, aggregate).map_err(|Malformed(what)| Failure::Output(what))?;
        if outcome.count != count {
            return Err(Failure::Output("another count than it returned"));
        }
        let error_at = origins(&outcome, compiled.kind, &batch, base)?;
        if let Some(new) = outcome.accumulator {
            if new.len() > compiled.limits.accumulator {
                return Err(Failure::Accumulator(compiled.limits.accumulator));
            }
            accumulator.clear();
            accumulator.extend_from_slice(new);
        }
        for packed in outcome.records() {
            // Checked in `origins`; alone, a record needs not say where it comes from.
            let index = if batch.len() == 1 { batch.start } else { packed.offset_delta as usize };
            emit(Output { index, key: packed.key, value: packed.value });
        }
        let Some((index, Reported { text, .. })) = error_at.zip(outcome.error) else { return Ok(Ok(())) };
        Ok(Err(RunError::new(index, base, Failure::Reported(abi::words(text)))))
    }

    pub fn look_back(&mut self, module: &Module, input: &[u8]) -> Result<(), LookBackError> {
        let compiled = &*module.0;
        let Some(function) = self.look_back else { return Ok(()) };
        let fuel = compiled.limits.fuel_for(input);
        match self.call(function, input, fuel, compiled).map_err(LookBackError::Failed)? {
            0.. => {
                self.fed = true;
                self.began_with = self.linear_memory();
                Ok(())
            }
            -99 => {
                let bytes = self.output(compiled).map_err(LookBackError::Failed)?;
                let Reported { text, offset } = abi::look_back_error(bytes)
                    .map_err(|Malformed(what)| LookBackError::Failed(Failure::Output(what)))?;
                Err(LookBackError::Reported { offset, text: abi::words(text) })
            }
            code => Err(LookBackError::Failed(Failure::Status { code, what: abi::status(code) })),
        }
    }
}

/// What a guest may take.
fn limits(memory: usize) -> StoreLimits {
    StoreLimitsBuilder::new().memory_size(memory).table_elements(MAX_TABLE).trap_on_grow_failure(true).build()
}

/// Puts an instance into the store and calls `_initialize`, if there is one.
fn begin(compiled: &Compiled, store: &mut Store<Host>) -> Result<(wasmi::Instance, Memory), Error> {
    store.set_fuel(compiled.limits.start_fuel)?;
    let imports: Vec<Extern> = compiled
        .imports
        .iter()
        .map(|(import, ty)| {
            let import = *import;
            let call = move |caller: wasmi::Caller<'_, Host>, params: &[wasmi::Val], results: &mut [wasmi::Val]| {
                import.call(caller, params, results)
            };
            Extern::Func(Func::new(&mut *store, ty.clone(), call))
        })
        .collect();
    let instance = wasmi::Instance::new(&mut *store, &compiled.module, &imports)?;
    if compiled.has_initialize {
        instance.get_typed_func::<(), ()>(&*store, "_initialize")?.call(&mut *store, ())?;
    }
    let memory = instance.get_memory(&*store, "memory").ok_or_else(|| Error::new("no memory"))?;
    Ok((instance, memory))
}

fn why(error: &Error, compiled: &Compiled, store: &Store<Host>) -> Failure {
    why_within(error, compiled, store, compiled.limits.start_fuel)
}

fn why_within(error: &Error, compiled: &Compiled, store: &Store<Host>, fuel: u64) -> Failure {
    let (host, own) = (store.data(), compiled.limits.memory);
    let all = host.budget.bytes().filter(|_| host.most < own);
    match (error.as_trap_code(), error.kind()) {
        (Some(TrapCode::OutOfFuel), _) => return Failure::Fuel(fuel),
        (Some(TrapCode::GrowthOperationLimited), _) => return all.map_or(Failure::Memory(own), Failure::Budget),
        (None, ErrorKind::Instantiation(_)) if all.is_some() => return Failure::Budget(all.unwrap_or_default()),
        _ => {}
    }
    let said = abi::words(&store.data().log);
    let trap = match error.i32_exit_status() {
        Some(status) => format!("it called exit({status})"),
        None => abi::words(error.to_string().as_bytes()),
    };
    Failure::Trap(if said.is_empty() { trap } else { format!("{trap}: {said}") })
}

/// Checks that each record of the output stems from the input and in its order. Which record failed, if one did.
fn origins(outcome: &Outcome<'_>, kind: Kind, batch: &Range<usize>, base: Base) -> Result<Option<usize>, Failure> {
    let done = outcome.count + usize::from(outcome.error.is_some());
    if batch.len() == 1 {
        let most = if kind == Kind::ArrayMap { usize::MAX } else { 1 };
        let least = usize::from(kind.is_one_to_one());
        return match (least..=most).contains(&done) {
            true => Ok(outcome.error.map(|_| batch.start)),
            false => Err(Failure::Output("not as many records as there were")),
        };
    }
    let mut next = batch.start;
    for packed in outcome.records() {
        let origin = usize::try_from(packed.offset_delta).ok();
        let known = origin.filter(|i| (next..batch.end).contains(i)).ok_or(Failure::Output(UNKNOWN_INPUT))?;
        next = known + 1;
    }
    let error_at = match outcome.error {
        None => None,
        Some(error) => {
            let known = index_of(error.offset, base, batch).filter(|i| *i >= next);
            Some(known.ok_or(Failure::Output(UNKNOWN_INPUT))?)
        }
    };
    let seen = error_at.map_or(batch.end, |i| i + 1) - batch.start;
    if kind.is_one_to_one() && done != seen {
        return Err(Failure::Output("not as many records as there were"));
    }
    Ok(error_at)
}

/// Which of the batch has that offset.
pub fn index_of(offset: i64, base: Base, batch: &Range<usize>) -> Option<usize> {
    let index = usize::try_from(offset.checked_sub(base.offset)?).ok()?;
    batch.contains(&index).then_some(index)
}
