//! What a guest may import: `copy_records`, and of WASI what a module built for `wasm32-wasip1` brings along.
//!
//! A rule is a function of its records, so nothing of this machine is shown: no files, no arguments, no environment.
//! What must give something gives the same each time: `random_get` zeros, `clock_time_get` the time of the record in hand
//! (the monotonic clock stands still). What is written to standard output or error is kept as log text, the last
//! [`MAX_LOG`] bytes of it. Whatever else is imported is an error that names it.

use super::budget::Budget;
use wasmi::{Caller, Error, FuncType, Memory, StoreLimits, TrapCode, Val, ValType};

/// Bytes of log text kept until they are taken.
pub const MAX_LOG: usize = 1024;
/// Buffers that one `fd_write` may name.
const MAX_IOVS: u32 = 64;

/// Error numbers of WASI.
const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
const NOSYS: i32 = 52;

/// What the host knows while a guest runs.
pub struct Host {
    /// Place and length of the last `copy_records`.
    pub out: Option<(u32, u32)>,
    /// Of the record in hand, in milliseconds since 1970.
    pub now_ms: i64,
    pub log: Vec<u8>,
    pub limits: StoreLimits,
    /// Bytes of memory that they allow, and whose it is.
    pub most: usize,
    pub budget: Budget,
}

/// A function that is there to be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    CopyRecords,
    FdWrite,
    Random,
    Clock,
    /// Two counts that are zero.
    Zeros,
    Exit,
    /// Gives this and does nothing.
    Gives(i32),
}

const I: ValType = ValType::I32;
const L: ValType = ValType::I64;

type Row = (&'static str, &'static [ValType], Import);

const WASI: [Row; 22] = [
    ("args_get", &[I, I], Import::Gives(SUCCESS)),
    ("args_sizes_get", &[I, I], Import::Zeros),
    ("clock_res_get", &[I, I], Import::Gives(INVAL)),
    ("clock_time_get", &[I, L, I], Import::Clock),
    ("environ_get", &[I, I], Import::Gives(SUCCESS)),
    ("environ_sizes_get", &[I, I], Import::Zeros),
    ("fd_close", &[I], Import::Gives(BADF)),
    ("fd_fdstat_get", &[I, I], Import::Gives(BADF)),
    ("fd_fdstat_set_flags", &[I, I], Import::Gives(BADF)),
    ("fd_filestat_get", &[I, I], Import::Gives(BADF)),
    ("fd_prestat_dir_name", &[I, I, I], Import::Gives(BADF)),
    ("fd_prestat_get", &[I, I], Import::Gives(BADF)),
    ("fd_read", &[I, I, I, I], Import::Gives(BADF)),
    ("fd_seek", &[I, L, I, I], Import::Gives(BADF)),
    ("fd_write", &[I, I, I, I], Import::FdWrite),
    ("path_filestat_get", &[I, I, I, I, I], Import::Gives(BADF)),
    ("path_open", &[I, I, I, I, I, L, L, I, I], Import::Gives(BADF)),
    ("path_readlink", &[I, I, I, I, I, I], Import::Gives(BADF)),
    ("poll_oneoff", &[I, I, I, I], Import::Gives(NOSYS)),
    ("proc_exit", &[I], Import::Exit),
    ("random_get", &[I, I], Import::Random),
    ("sched_yield", &[], Import::Gives(SUCCESS)),
];

impl Import {
    /// The import of that name: `copy_records` from any module, as the reference takes it. None: there is no such.
    pub fn find(module: &str, name: &str) -> Option<(Self, FuncType)> {
        if name == "copy_records" {
            return Some((Import::CopyRecords, FuncType::new([I, I], [])));
        }
        if module != "wasi_snapshot_preview1" {
            return None;
        }
        let (_, params, import) = WASI.iter().find(|(known, ..)| *known == name)?;
        let results: &[ValType] = if *import == Import::Exit { &[] } else { &[I] };
        Some((*import, FuncType::new(params.iter().copied(), results.iter().copied())))
    }

    pub fn call(self, caller: Caller<'_, Host>, params: &[Val], results: &mut [Val]) -> Result<(), Error> {
        let number = |i: usize| params.get(i).and_then(Val::i32).unwrap_or(0) as u32;
        let errno = match self {
            Import::CopyRecords => {
                let mut caller = caller;
                caller.data_mut().out = Some((number(0), number(1)));
                return Ok(());
            }
            Import::Exit => return Err(Error::i32_exit(number(0) as i32)),
            Import::FdWrite => fd_write(caller, [number(0), number(1), number(2), number(3)]),
            Import::Random => random(caller, number(0), number(1))?,
            Import::Clock => {
                let nanos = if number(0) == 0 { caller.data().now_ms.max(0).saturating_mul(1_000_000) } else { 0 };
                write(caller, number(2), &nanos.to_le_bytes())
            }
            Import::Zeros => zeros(caller, number(0), number(1)),
            Import::Gives(errno) => errno,
        };
        if let Some(result) = results.first_mut() {
            *result = Val::I32(errno);
        }
        Ok(())
    }
}

fn memory(caller: &Caller<'_, Host>) -> Option<Memory> {
    caller.get_export("memory").and_then(|export| export.into_memory())
}

fn write(mut caller: Caller<'_, Host>, at: u32, bytes: &[u8]) -> i32 {
    let Some(memory) = memory(&caller) else { return FAULT };
    memory.write(&mut caller, at as usize, bytes).map_or(FAULT, |()| SUCCESS)
}

fn zeros(mut caller: Caller<'_, Host>, first: u32, second: u32) -> i32 {
    let Some(memory) = memory(&caller) else { return FAULT };
    let mut zero = |at: u32| memory.write(&mut caller, at as usize, &[0; 4]).is_ok();
    if zero(first) && zero(second) { SUCCESS } else { FAULT }
}

/// Filling costs fuel, as it does in the guest: else a few instructions could keep the host busy.
fn random(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<i32, Error> {
    let left = caller.get_fuel()?.checked_sub(u64::from(len) / 8).ok_or(TrapCode::OutOfFuel)?;
    caller.set_fuel(left)?;
    let Some(memory) = memory(&caller) else { return Ok(FAULT) };
    let (at, len) = (at as usize, len as usize);
    let place = at.checked_add(len).and_then(|end| memory.data_mut(&mut caller).get_mut(at..end));
    Ok(place.map_or(FAULT, |place| {
        place.fill(0);
        SUCCESS
    }))
}

/// Takes everything, keeps the last of it.
fn fd_write(mut caller: Caller<'_, Host>, [fd, iovs, count, written]: [u32; 4]) -> i32 {
    if fd != 1 && fd != 2 {
        return BADF;
    }
    if count > MAX_IOVS {
        return INVAL;
    }
    let Some(memory) = memory(&caller) else { return FAULT };
    let (data, host) = memory.data_and_store_mut(&mut caller);
    let mut total: u32 = 0;
    for i in 0..count as usize {
        let Some(pair) = data.get(iovs as usize..).and_then(|rest| rest.chunks_exact(8).nth(i)) else { return FAULT };
        let [a, b, c, d, e, f, g, h] = *pair else { return FAULT };
        let (at, len) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
        let Some(text) = at.checked_add(len).and_then(|end| data.get(at..end)) else { return FAULT };
        keep_last(text, &mut host.log);
        total = total.saturating_add(len as u32);
    }
    memory.write(&mut caller, written as usize, &total.to_le_bytes()).map_or(FAULT, |()| SUCCESS)
}

fn keep_last(text: &[u8], log: &mut Vec<u8>) {
    let text = &text[text.len().saturating_sub(MAX_LOG)..];
    let over = (log.len() + text.len()).saturating_sub(MAX_LOG);
    log.drain(..over.min(log.len()));
    log.extend_from_slice(text);
}
