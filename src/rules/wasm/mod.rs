//! The host of Fluvio SmartModules: a `.wasm` file's bytes in, records out.
//!
//! A [`Module`] is compiled once and shared; an [`Instance`] of it runs records. It is one of `filter`, `map`,
//! `filter_map`, `array_map` and `aggregate`, known by its exports, with `init` and `look_back` if it has them; what
//! crosses the boundary is drawn in [`abi`], what it may import in [`host`].
//!
//! **A guest is never trusted.** It runs in an interpreter, within fuel (instructions) and memory per call; what it says is
//! checked against its own memory and read without allocating by its numbers. A record on which it traps, loops, asks
//! for too much, or after which its output makes no sense, costs an error that names the record, and the instance
//! begins anew. Compiling is bounded as well: the file, the number of its functions, what its sections claim to hold, and no
//! proposal of WebAssembly that compilers do not use by default (no SIMD, no second memory, no 64-bit memory).
//!
//! **As the reference has it** (`fluvio-smartengine`; compared byte by byte in `tests/smartengine`): the order in which
//! exports are looked for, the version of the input, parameters to `init` only, the successes before an error count,
//! an aggregate's accumulator is what the output says even beside an error. Different on purpose: an output whose count
//! is not the returned one, that has bytes left over, or that makes one record into several where the kind does not, is
//! an error; the records before a trap are not lost with it; `_initialize` is called if it is exported; of an error only
//! the words are kept, not the trace.
//!
//! **Batches.** One call for many records costs a third less than one for each, so that is how they run: up to
//! [`Limits::batch`] of them and 64 KiB. Which input an output stems from is what its offset says, checked to ascend. When such a
//! call fails, what the records before the culprit became is unknown; the instance begins anew and they run one by one.
//! One by one from the start run modules of which that could be seen, or whose outputs do not say where they come from:
//! `array_map`, those with `look_back`, those that ask for the time.
//!
//! **Memory.** The input is the guest's to free; its output it leaves to us. The published SDK's `dealloc` wants the size
//! that was allocated, which is not the size of the output, and its allocator checks that. The size stands in front of the
//! block where the allocator is dlmalloc, that of every Rust guest; so it is tried at the start whether what stands there
//! fits, and then believed. An instance that grows nevertheless beyond [`Limits::rebuild_above`] begins anew.
//!
//! All guests of a configuration have one [`Budget`] of linear memory; [`Guest`] is what makes a module a rule.
//!
//! What a guest keeps in its memory (a counter, a set of seen ids) lives as long as the instance, not longer: only an
//! accumulator is state that survives.

pub mod abi;
mod budget;
mod guest;
mod host;
mod instance;
mod live;
mod sections;

use std::sync::Arc;

use wasmi::{CompilationMode, Config, EnforcedLimits, Engine, ExternType, FuncType, ValType};

pub use abi::{Base, LookBack, OLDEST_VERSION, VERSION};
pub use budget::Budget;
pub use guest::{File, Guest, GuestError, Past, Unshown, Use};
pub use instance::{Failure, Instance, Output, RunError, StartError};

use crate::limits::{
    FRAME_RAW_TARGET, MAX_RECORD, MAX_REPORT, MAX_STATE_OWNER_BYTES, MAX_WASM_BYTES, MAX_WASM_MEMORY,
    WASM_REBUILD_ABOVE,
};
use host::Import;

/// What a module may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub file: usize,
    /// Bytes of linear memory of one instance.
    pub memory: usize,
    /// Bytes of linear memory above which an instance begins anew, between two calls.
    pub rebuild_above: usize,
    /// Fuel for one call, about one unit for an instruction, and more of it for each byte of input: a record is decoded
    /// and encoded byte by byte.
    pub fuel: u64,
    pub fuel_per_byte: u64,
    /// Fuel for the start: data, `init`, what is compiled on the way.
    pub start_fuel: u64,
    /// Bytes of the output of one call.
    pub output: usize,
    /// Bytes of an accumulator.
    pub accumulator: usize,
    /// Records of one call.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file: MAX_WASM_BYTES,
            memory: MAX_WASM_MEMORY,
            rebuild_above: WASM_REBUILD_ABOVE,
            fuel: 20_000_000,
            fuel_per_byte: 500,
            start_fuel: 1_000_000_000,
            output: 2 * MAX_RECORD,
            accumulator: MAX_STATE_OWNER_BYTES / 2,
            batch: 64,
        }
    }
}

impl Limits {
    fn fuel_for(&self, input: &[u8]) -> u64 {
        self.fuel.saturating_add(self.fuel_per_byte.saturating_mul(input.len() as u64))
    }
}

/// What a module does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Filter,
    Map,
    FilterMap,
    ArrayMap,
    Aggregate,
}

impl Kind {
    /// In the order in which the reference looks for them; the first that is exported counts.
    const ALL: [Kind; 5] = [Kind::Filter, Kind::Map, Kind::FilterMap, Kind::ArrayMap, Kind::Aggregate];

    /// The name of the export.
    pub fn export(self) -> &'static str {
        match self {
            Kind::Filter => "filter",
            Kind::Map => "map",
            Kind::FilterMap => "filter_map",
            Kind::ArrayMap => "array_map",
            Kind::Aggregate => "aggregate",
        }
    }

    /// Whether each record becomes exactly one.
    fn is_one_to_one(self) -> bool {
        matches!(self, Kind::Map | Kind::Aggregate)
    }
}

/// Why bytes are not a module that can be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("{bytes} bytes; a module has at most {limit} (build it for release and strip it)")]
    TooLarge { bytes: usize, limit: usize },
    #[error("not a WebAssembly file: it does not begin as one")]
    NotWasm,
    #[error("not a WebAssembly module that can be run: {0}")]
    Invalid(String),
    #[error("not a WebAssembly module that can be run: section {0} does not hold what it claims")]
    Section(u8),
    #[error("exports none of filter, map, filter_map, array_map and aggregate: not a SmartModule")]
    NoTransform,
    #[error("exports no `{0}`: not a SmartModule built with fluvio-smartmodule")]
    Missing(&'static str),
    #[error("`{name}` is exported with the type {found}, not {wanted}")]
    Export { name: &'static str, found: String, wanted: String },
    #[error("imports `{name}` from `{module}`, which is not there: a rule sees records and nothing else")]
    Import { module: String, name: String },
    #[error("imports no `copy_records`, so it cannot give anything back")]
    NoCopyRecords,
    #[error("version {0} of the ABI is not known; {OLDEST_VERSION} to {VERSION} are")]
    Version(i16),
}

/// A compiled module; cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Compiled>, Budget);

struct Compiled {
    // An engine of its own: code is freed with its engine, not before.
    engine: Engine,
    module: wasmi::Module,
    imports: Vec<(Import, FuncType)>,
    kind: Kind,
    has_init: bool,
    has_look_back: bool,
    has_initialize: bool,
    dealloc: bool,
    asks_time: bool,
    file: usize,
    limits: Limits,
    version: i16,
}

impl Module {
    pub fn compile(bytes: &[u8], limits: Limits) -> Result<Self, LoadError> {
        Self::compile_for(bytes, limits, VERSION)
    }

    /// For an `aggregate` built with an SDK that is too old for [`VERSION`].
    pub fn compile_for(bytes: &[u8], limits: Limits, version: i16) -> Result<Self, LoadError> {
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(LoadError::Version(version));
        }
        if bytes.len() > limits.file {
            return Err(LoadError::TooLarge { bytes: bytes.len(), limit: limits.file });
        }
        if !bytes.starts_with(b"\0asm") {
            return Err(LoadError::NotWasm);
        }
        if let Some(section) = sections::lying(bytes) {
            return Err(LoadError::Section(section));
        }
        let engine = Engine::new(&config());
        let invalid = |e: wasmi::Error| LoadError::Invalid(abi::words(e.to_string().as_bytes()));
        let module = wasmi::Module::new(&engine, bytes).map_err(invalid)?;
        if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
            return Err(LoadError::Missing("memory"));
        }
        let export = |name, params, results| exported(&module, name, params, results);
        if !export("alloc", 1, 1)? {
            return Err(LoadError::Missing("alloc"));
        }
        let mut kind = None;
        for candidate in Kind::ALL {
            if kind.is_none() && export(candidate.export(), 3, 1)? {
                kind = Some(candidate);
            }
        }
        let kind = kind.ok_or(LoadError::NoTransform)?;
        let (has_init, has_look_back) = (export("init", 3, 1)?, export("look_back", 3, 1)?);
        // These are not asked for: of another type, they are something else.
        let dealloc = export("dealloc", 2, 0).unwrap_or(false);
        let has_initialize = export("_initialize", 0, 0).unwrap_or(false);
        let imports = imports(&module)?;
        let asks_time = imports.iter().any(|(import, _)| *import == Import::Clock);
        let file = bytes.len();
        let compiled = Compiled {
            engine,
            module,
            imports,
            kind,
            has_init,
            has_look_back,
            has_initialize,
            dealloc,
            asks_time,
            file,
            limits,
            version,
        };
        Ok(Self(Arc::new(compiled), Budget::default()))
    }

    /// Its instances take their memory from this.
    #[must_use]
    pub fn within(self, budget: Budget) -> Self {
        Self(self.0, budget)
    }

    /// Makes an instance and calls its `init`, if it has one. `look_back` is what `init` is told of it; records of the
    /// past are given by [`Instance::look_back`].
    pub fn start(&self, params: &[(String, String)], look_back: Option<LookBack>) -> Result<Instance, StartError> {
        Instance::start(self.clone(), params, look_back)
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether parameters are of any use.
    pub fn has_init(&self) -> bool {
        self.0.has_init
    }

    pub fn has_look_back(&self) -> bool {
        self.0.has_look_back
    }

    /// Bytes of the file. Compiled and run, a regex filter of 545 KB took 1 MiB beside its linear memory; one without, 130 KB,
    /// took 0.3 MiB.
    pub fn file_bytes(&self) -> usize {
        self.0.file
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .ignore_custom_sections(true)
        // Checked now, translated when first called: a start takes a millisecond, and unused code no memory.
        .compilation_mode(CompilationMode::LazyTranslation)
        .enforced_limits(EnforcedLimits::strict())
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .set_max_recursion_depth(2000)
        .set_max_stack_height(64 * 1024)
        .set_max_cached_stacks(1);
    config
}

/// Whether a function of this name is exported; an error if its type is another.
fn exported(module: &wasmi::Module, name: &'static str, params: usize, results: usize) -> Result<bool, LoadError> {
    let wanted = FuncType::new(vec![ValType::I32; params], vec![ValType::I32; results]);
    match module.get_export(name) {
        Some(ExternType::Func(ty)) if ty == wanted => Ok(true),
        Some(ExternType::Func(ty)) => Err(LoadError::Export { name, found: shown(&ty), wanted: shown(&wanted) }),
        _ => Ok(false),
    }
}

/// `(i32, i32) -> i32`.
fn shown(ty: &FuncType) -> String {
    let list = |types: &[ValType]| types.iter().map(|t| format!("{t:?}").to_lowercase()).collect::<Vec<_>>().join(", ");
    format!("({}) -> {}", list(ty.params()), if ty.results().is_empty() { "()".into() } else { list(ty.results()) })
}

fn imports(module: &wasmi::Module) -> Result<Vec<(Import, FuncType)>, LoadError> {
    let mut found = Vec::new();
    for import in module.imports() {
        let known = Import::find(import.module(), import.name());
        let same = |(_, ty): &(Import, FuncType)| matches!(import.ty(), ExternType::Func(wanted) if wanted == ty);
        found.push(known.filter(same).ok_or_else(|| {
            let bounded = |text: &str| abi::words(text.as_bytes());
            LoadError::Import { module: bounded(import.module()), name: bounded(import.name()) }
        })?);
    }
    if !found.iter().any(|(import, _)| *import == Import::CopyRecords) {
        return Err(LoadError::NoCopyRecords);
    }
    Ok(found)
}

const _: () = {
    // A record of the largest size, decoded, copied and encoded into a buffer that doubles, beside the guest's own stack.
    assert!(MAX_WASM_MEMORY >= 6 * MAX_RECORD + 2 * 1024 * 1024);
    assert!(WASM_REBUILD_ABOVE < MAX_WASM_MEMORY);
    // What is kept of a guest's words fits into a report.
    assert!(host::MAX_LOG >= MAX_REPORT);
    assert!(FRAME_RAW_TARGET <= MAX_RECORD);
};
