//! WASI preview 1 as a job sees it: three standard descriptors, a clock and randomness of the
//! job's own, and nothing else (`docs/guest-abi.md` section 5).
//!
//! All functions are answered here, deterministically and charged in fuel: those that jobs really
//! call by what they do, the others by the refusal that is all they could answer where nothing is
//! open. wasmtime-wasi lies underneath as the reference: what is here replaces its functions one
//! by one, and a test holds both to the same names and types.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use optwasm_protocol::Profile;
use wasmtime::{Caller, Linker};

use crate::ended::Ended;
use crate::job::Setup;
use crate::state::{
    CHUNK, JobState, Standard, charge, charge_bytes, copy_to_guest, input, memory_and_state, range,
};

/// Name of the import module.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

type Result<T> = wasmtime::Result<T>;
type Guest<'a> = Caller<'a, JobState>;
type Errno = i32;

// Numbers of WASI preview 1, from its witx description.
const SUCCESS: Errno = 0;
const BADF: Errno = 8;
const INVAL: Errno = 28;
const SPIPE: Errno = 70;
const NOTSUP: Errno = 58;
const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;
const FILETYPE_CHARACTER_DEVICE: u8 = 2;
const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;
const SUBSCRIPTION_SIZE: u64 = 48;
const EVENT_SIZE: u64 = 32;
const EVENT_CLOCK: u8 = 0;
const EVENT_FD_READ: u8 = 1;
const EVENT_FD_WRITE: u8 = 2;
const SUBSCRIBE_ABSOLUTE: u16 = 1;

/// 2024-01-01T00:00:00Z in nanoseconds since 1970: when every job begins. A date after the guest
/// was built keeps programs content that check certificates or time stamps.
const CLOCK_START: u64 = 1_704_067_200_000_000_000;
/// Fuel per nanosecond of virtual time: solvers burn 10 to 20 G fuel a second, so that a guest's
/// own time limits mean about what they say.
const FUEL_PER_NANOSECOND: u64 = 10;
/// What `clock_res_get` says: a microsecond.
const CLOCK_RESOLUTION: u64 = 1000;
/// Subscriptions of one `poll_oneoff`; programs use one or two.
const SUBSCRIPTIONS_MAX: u32 = 64;
/// Iovecs of one call: POSIX's IOV_MAX.
const IOVECS_MAX: u32 = 1024;
/// Sleeping in the timed profile looks for cancel and deadline so often.
const SLEEP_SLICE: Duration = Duration::from_millis(10);

/// Defines functions that can only refuse, because nothing is open that they work on.
macro_rules! refuse {
    ($linker:ident, $($name:ident($($parameter:ty),*);)*) => {
        $($linker.func_wrap(
            MODULE,
            stringify!($name),
            |mut guest: Guest<'_>, $(_: $parameter),*| -> Result<Errno> {
                charge(&mut guest, 0)?;
                Ok(BADF)
            },
        )?;)*
    };
}

/// Defines all functions.
pub(crate) fn define(linker: &mut Linker<JobState>) -> Result<()> {
    wasmtime_wasi::p1::add_to_linker_sync(linker, |state: &mut JobState| state.wasi())?;
    linker.allow_shadowing(true);
    linker.func_wrap(
        MODULE,
        "args_sizes_get",
        |guest: Guest<'_>, a: u32, b: u32| sizes_get(guest, List::Args, a, b),
    )?;
    linker.func_wrap(MODULE, "args_get", |guest: Guest<'_>, a: u32, b: u32| {
        list_get(guest, List::Args, a, b)
    })?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        |guest: Guest<'_>, a: u32, b: u32| sizes_get(guest, List::Environ, a, b),
    )?;
    linker.func_wrap(MODULE, "environ_get", |guest: Guest<'_>, a: u32, b: u32| {
        list_get(guest, List::Environ, a, b)
    })?;
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "clock_res_get", clock_res_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "poll_oneoff", poll_oneoff)?;
    linker.func_wrap(MODULE, "sched_yield", |mut guest: Guest<'_>| {
        charge(&mut guest, 0)?;
        Ok(SUCCESS)
    })?;
    linker.func_wrap(
        MODULE,
        "proc_exit",
        |mut guest: Guest<'_>, code: i32| -> Result<()> {
            charge(&mut guest, 0)?;
            Err(Ended::Exit(code).into())
        },
    )?;
    linker.func_wrap(MODULE, "proc_raise", |mut guest: Guest<'_>, _: i32| {
        charge(&mut guest, 0)?;
        Ok(NOTSUP)
    })?;
    linker.func_wrap(MODULE, "fd_read", fd_read)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "fd_close", |mut guest: Guest<'_>, fd: u32| {
        charge(&mut guest, 0)?;
        let slot = guest.data_mut().descriptors.get_mut(fd as usize);
        Ok(slot.and_then(Option::take).map_or(BADF, |_| SUCCESS))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_renumber",
        |mut guest: Guest<'_>, from: u32, to: u32| {
            charge(&mut guest, 0)?;
            let state = guest.data_mut();
            let (Some(source), Some(_)) = (descriptor(state, from), descriptor(state, to)) else {
                return Ok(BADF);
            };
            state.descriptors[from as usize] = None;
            state.descriptors[to as usize] = Some(source);
            Ok(SUCCESS)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |guest: Guest<'_>, fd: u32, _: i64, _: u32, _: u32| known(guest, fd, SPIPE),
    )?;
    linker.func_wrap(MODULE, "fd_tell", |guest: Guest<'_>, fd: u32, _: u32| {
        known(guest, fd, SPIPE)
    })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", fd_fdstat_get)?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |guest: Guest<'_>, fd: u32, _: u32| known(guest, fd, SUCCESS),
    )?;
    linker.func_wrap(MODULE, "fd_filestat_get", fd_filestat_get)?;
    refuse! { linker,
        fd_advise(i32, i64, i64, i32);
        fd_allocate(i32, i64, i64);
        fd_datasync(i32);
        fd_fdstat_set_rights(i32, i64, i64);
        fd_filestat_set_size(i32, i64);
        fd_filestat_set_times(i32, i64, i64, i32);
        fd_pread(i32, i32, i32, i64, i32);
        fd_prestat_dir_name(i32, i32, i32);
        fd_prestat_get(i32, i32);
        fd_pwrite(i32, i32, i32, i64, i32);
        fd_readdir(i32, i32, i32, i64, i32);
        fd_sync(i32);
        path_create_directory(i32, i32, i32);
        path_filestat_get(i32, i32, i32, i32, i32);
        path_filestat_set_times(i32, i32, i32, i32, i64, i64, i32);
        path_link(i32, i32, i32, i32, i32, i32, i32);
        path_open(i32, i32, i32, i32, i32, i64, i64, i32, i32);
        path_readlink(i32, i32, i32, i32, i32, i32);
        path_remove_directory(i32, i32, i32);
        path_rename(i32, i32, i32, i32, i32, i32);
        path_symlink(i32, i32, i32, i32, i32);
        path_unlink_file(i32, i32, i32);
        sock_accept(i32, i32, i32);
        sock_recv(i32, i32, i32, i32, i32, i32);
        sock_send(i32, i32, i32, i32, i32);
        sock_shutdown(i32, i32);
    }
    Ok(())
}

fn descriptor(state: &JobState, fd: u32) -> Option<Standard> {
    state.descriptors.get(fd as usize).copied().flatten()
}

/// `answer` where `fd` is open.
fn known(mut guest: Guest<'_>, fd: u32, answer: Errno) -> Result<Errno> {
    charge(&mut guest, 0)?;
    Ok(descriptor(guest.data(), fd).map_or(BADF, |_| answer))
}

fn write_bytes(memory: &mut [u8], ptr: u32, bytes: &[u8]) -> std::result::Result<(), Ended> {
    let target = range(memory, ptr, bytes.len() as u32)?;
    memory[target].copy_from_slice(bytes);
    Ok(())
}

fn read_u32(memory: &[u8], ptr: u32) -> std::result::Result<u32, Ended> {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&memory[range(memory, ptr, 4)?]);
    Ok(u32::from_le_bytes(bytes))
}

fn read_u64(memory: &[u8], ptr: u32) -> std::result::Result<u64, Ended> {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&memory[range(memory, ptr, 8)?]);
    Ok(u64::from_le_bytes(bytes))
}

#[derive(Clone, Copy)]
enum List {
    Args,
    Environ,
}

impl List {
    /// The strings as the guest sees them, in pieces that are to be written one after the other.
    fn strings(self, setup: &Setup) -> impl Iterator<Item = [&[u8]; 4]> {
        let (args, env) = match self {
            List::Args => (Some(setup.args.iter()), None),
            List::Environ => (None, Some(setup.env.iter())),
        };
        let program = args.is_some().then(|| [&b"job\0"[..], b"", b"", b""]);
        let args = args.into_iter().flatten();
        let env = env.into_iter().flatten();
        program
            .into_iter()
            .chain(args.map(|arg| [arg.as_bytes(), b"\0", b"", b""]))
            .chain(env.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"]))
    }

    /// Number of strings, and bytes of all of them together.
    fn size(self, setup: &Setup) -> (usize, usize) {
        self.strings(setup).fold((0, 0), |(count, size), pieces| {
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            (count + 1, size + length)
        })
    }
}

fn sizes_get(mut guest: Guest<'_>, list: List, count_ptr: u32, size_ptr: u32) -> Result<Errno> {
    charge(&mut guest, 8)?;
    let (memory, state) = memory_and_state(&mut guest)?;
    let (count, size) = list.size(&state.job.setup);
    write_bytes(memory, count_ptr, &(count as u32).to_le_bytes())?;
    write_bytes(memory, size_ptr, &(size as u32).to_le_bytes())?;
    Ok(SUCCESS)
}

fn list_get(mut guest: Guest<'_>, list: List, pointers: u32, buffer: u32) -> Result<Errno> {
    let (count, size) = list.size(&guest.data().job.setup);
    charge(&mut guest, (size + 4 * count) as u64)?;
    let (memory, state) = memory_and_state(&mut guest)?;
    let (mut pointer, mut place) = (pointers, buffer);
    for pieces in list.strings(&state.job.setup) {
        write_bytes(memory, pointer, &place.to_le_bytes())?;
        pointer = pointer.checked_add(4).ok_or(Ended::BadPointer)?;
        for piece in pieces {
            write_bytes(memory, place, piece)?;
            place = place
                .checked_add(piece.len() as u32)
                .ok_or(Ended::BadPointer)?;
        }
    }
    Ok(SUCCESS)
}

/// The time that the guest reads.
fn now(guest: &mut Guest<'_>, clock: u32) -> Result<Option<u64>> {
    if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC) {
        return Ok(None);
    }
    let state = guest.data();
    let time = if state.job.setup.profile == Profile::Timed {
        match clock {
            CLOCK_REALTIME => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos() as u64,
            _ => state.watch.started.elapsed().as_nanos() as u64,
        }
    } else {
        let (budget, slept) = (state.job.limits.fuel, state.slept);
        let used = budget.saturating_sub(guest.get_fuel()?);
        (CLOCK_START + used / FUEL_PER_NANOSECOND).saturating_add(slept)
    };
    Ok(Some(time))
}

fn clock_time_get(mut guest: Guest<'_>, clock: u32, _precision: u64, ptr: u32) -> Result<Errno> {
    charge(&mut guest, 8)?;
    let Some(time) = now(&mut guest, clock)? else {
        return Ok(INVAL);
    };
    let (memory, _) = memory_and_state(&mut guest)?;
    write_bytes(memory, ptr, &time.to_le_bytes())?;
    Ok(SUCCESS)
}

fn clock_res_get(mut guest: Guest<'_>, clock: u32, ptr: u32) -> Result<Errno> {
    charge(&mut guest, 8)?;
    if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC) {
        return Ok(INVAL);
    }
    let (memory, _) = memory_and_state(&mut guest)?;
    write_bytes(memory, ptr, &CLOCK_RESOLUTION.to_le_bytes())?;
    Ok(SUCCESS)
}

fn random_get(mut guest: Guest<'_>, ptr: u32, len: u32) -> Result<Errno> {
    // Making a random byte costs about as much as eight copied ones.
    charge(&mut guest, u64::from(len) * 8)?;
    let (memory, state) = memory_and_state(&mut guest)?;
    let target = range(memory, ptr, len)?;
    for piece in memory[target].chunks_mut(CHUNK) {
        if state.job.setup.profile == Profile::Timed {
            getrandom::fill(piece).map_err(|e| Ended::HostOutOfMemory(e.to_string()))?;
        } else {
            let seed = &state.job.setup.seed.0;
            state
                .random
                .get_or_insert_with(|| blake3::Hasher::new_keyed(seed).finalize_xof())
                .fill(piece);
        }
        state.watch.check()?;
    }
    Ok(SUCCESS)
}

/// Pointer and length of each of a guest's buffers.
fn iovecs(memory: &[u8], ptr: u32, count: u32) -> std::result::Result<Vec<(u32, u32)>, Ended> {
    let table = range(memory, ptr, count.saturating_mul(8))?;
    Ok(memory[table]
        .chunks_exact(8)
        .map(|entry| {
            let word = |at: usize| {
                u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
            };
            (word(0), word(4))
        })
        .collect())
}

fn fd_read(mut guest: Guest<'_>, fd: u32, list: u32, count: u32, read: u32) -> Result<Errno> {
    charge(&mut guest, 0)?;
    match descriptor(guest.data(), fd) {
        Some(Standard::Input) => {}
        _ => return Ok(BADF),
    }
    if count > IOVECS_MAX {
        return Ok(INVAL);
    }
    let source = input(guest.data());
    let (memory, state) = memory_and_state(&mut guest)?;
    let buffers = iovecs(memory, list, count)?;
    let wanted: u64 = buffers.iter().map(|(_, len)| u64::from(*len)).sum();
    let available = (source.len() as u64).saturating_sub(state.stdin_position);
    charge_bytes(&mut guest, wanted.min(available))?;
    let (memory, state) = memory_and_state(&mut guest)?;
    let mut total = 0u32;
    for (ptr, len) in buffers {
        let copied = copy_to_guest(memory, ptr, len, &source, state.stdin_position, || {
            state.watch.check()
        })?;
        state.stdin_position += u64::from(copied);
        total = total.saturating_add(copied);
    }
    write_bytes(memory, read, &total.to_le_bytes())?;
    Ok(SUCCESS)
}

fn fd_write(mut guest: Guest<'_>, fd: u32, list: u32, count: u32, written: u32) -> Result<Errno> {
    charge(&mut guest, 0)?;
    let Some(standard @ (Standard::Output | Standard::Error)) = descriptor(guest.data(), fd) else {
        return Ok(BADF);
    };
    if count > IOVECS_MAX {
        return Ok(INVAL);
    }
    let (memory, _) = memory_and_state(&mut guest)?;
    let buffers = iovecs(memory, list, count)?;
    let mut total = 0u32;
    for (_, len) in &buffers {
        total = match total.checked_add(*len) {
            Some(total) => total,
            None => return Ok(INVAL),
        };
    }
    charge_bytes(&mut guest, u64::from(total))?;
    let (memory, state) = memory_and_state(&mut guest)?;
    for (ptr, len) in buffers {
        let source = range(memory, ptr, len)?;
        for piece in memory[source].chunks(CHUNK) {
            state.write_standard(standard, piece)?;
            state.watch.check()?;
        }
    }
    write_bytes(memory, written, &total.to_le_bytes())?;
    Ok(SUCCESS)
}

fn fd_fdstat_get(mut guest: Guest<'_>, fd: u32, ptr: u32) -> Result<Errno> {
    charge(&mut guest, 24)?;
    let rights = match descriptor(guest.data(), fd) {
        None => return Ok(BADF),
        Some(Standard::Input) => RIGHT_FD_READ,
        Some(_) => RIGHT_FD_WRITE,
    };
    let mut stat = [0; 24];
    stat[0] = FILETYPE_CHARACTER_DEVICE;
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    let (memory, _) = memory_and_state(&mut guest)?;
    write_bytes(memory, ptr, &stat)?;
    Ok(SUCCESS)
}

fn fd_filestat_get(mut guest: Guest<'_>, fd: u32, ptr: u32) -> Result<Errno> {
    charge(&mut guest, 64)?;
    if descriptor(guest.data(), fd).is_none() {
        return Ok(BADF);
    }
    let mut stat = [0; 64];
    stat[16] = FILETYPE_CHARACTER_DEVICE;
    let (memory, _) = memory_and_state(&mut guest)?;
    write_bytes(memory, ptr, &stat)?;
    Ok(SUCCESS)
}

/// A clock or descriptor that a guest waits for.
struct Subscription {
    userdata: u64,
    kind: u8,
    clock: u32,
    timeout: u64,
    flags: u16,
}

fn subscription(memory: &[u8], ptr: u32) -> std::result::Result<Subscription, Ended> {
    // `poll_oneoff` has checked that the whole table is in memory.
    Ok(Subscription {
        userdata: read_u64(memory, ptr)?,
        kind: memory[ptr as usize + 8],
        clock: read_u32(memory, ptr + 16)?,
        timeout: read_u64(memory, ptr + 24)?,
        flags: (read_u32(memory, ptr + 40)? & 0xffff) as u16,
    })
}

/// Descriptors are always ready, so clocks matter only where nothing else is waited for; then the
/// nearest one passes.
fn poll_oneoff(
    mut guest: Guest<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    ready: u32,
) -> Result<Errno> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        charge(&mut guest, 0)?;
        return Ok(INVAL);
    }
    charge(
        &mut guest,
        u64::from(count) * (SUBSCRIPTION_SIZE + EVENT_SIZE),
    )?;
    let (memory, _) = memory_and_state(&mut guest)?;
    range(memory, subscriptions, count * SUBSCRIPTION_SIZE as u32)?;
    range(memory, events, count * EVENT_SIZE as u32)?;
    let waited_for = (0..count)
        .map(|i| subscription(memory, subscriptions + i * SUBSCRIPTION_SIZE as u32))
        .collect::<std::result::Result<Vec<_>, _>>()?;

    let mut results = Vec::new();
    let mut nearest: Option<(u64, &Subscription)> = None;
    for wanted in &waited_for {
        match wanted.kind {
            EVENT_CLOCK => {
                let Some(time) = now(&mut guest, wanted.clock)? else {
                    results.push((wanted, INVAL));
                    continue;
                };
                let duration = if wanted.flags & SUBSCRIBE_ABSOLUTE != 0 {
                    wanted.timeout.saturating_sub(time)
                } else {
                    wanted.timeout
                };
                if nearest.is_none_or(|(least, _)| duration < least) {
                    nearest = Some((duration, wanted));
                }
            }
            EVENT_FD_READ | EVENT_FD_WRITE => {
                let known = descriptor(guest.data(), wanted.clock).is_some();
                results.push((wanted, if known { SUCCESS } else { BADF }));
            }
            _ => results.push((wanted, INVAL)),
        }
    }
    if results.is_empty()
        && let Some((duration, wanted)) = nearest
    {
        sleep(guest.data_mut(), duration)?;
        results.push((wanted, SUCCESS));
    }

    let (memory, _) = memory_and_state(&mut guest)?;
    for (index, (wanted, errno)) in results.iter().enumerate() {
        let mut event = [0; EVENT_SIZE as usize];
        event[..8].copy_from_slice(&wanted.userdata.to_le_bytes());
        event[8..10].copy_from_slice(&(*errno as u16).to_le_bytes());
        event[10] = wanted.kind;
        write_bytes(memory, events + index as u32 * EVENT_SIZE as u32, &event)?;
    }
    write_bytes(memory, ready, &(results.len() as u32).to_le_bytes())?;
    Ok(SUCCESS)
}

fn sleep(state: &mut JobState, nanoseconds: u64) -> std::result::Result<(), Ended> {
    if state.job.setup.profile != Profile::Timed {
        state.slept = state.slept.saturating_add(nanoseconds);
        return Ok(());
    }
    let mut left = Duration::from_nanos(nanoseconds);
    while !left.is_zero() {
        state.watch.check()?;
        let slice = left.min(SLEEP_SLICE);
        std::thread::sleep(slice);
        left -= slice;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use wasmtime::{FuncType, Store};

    use super::*;
    use crate::control::Control;
    use crate::engine::{EngineKind, compiling_engine};
    use crate::gate::WASI_FUNCTIONS;
    use crate::job::Job;

    #[test]
    fn functions_have_the_names_and_types_of_wasmtime_wasi() {
        let engine = compiling_engine(EngineKind::Strict).unwrap();
        let state = JobState::new(Job::new(Vec::new()), Control::new(), true);
        let mut store = Store::new(&engine, state);
        let mut reference = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut reference, |state: &mut JobState| state.wasi())
            .unwrap();
        let mut ours = Linker::new(&engine);
        define(&mut ours).unwrap();
        assert_eq!(ours.iter(&mut store).count(), WASI_FUNCTIONS.len());
        for name in WASI_FUNCTIONS {
            let mut ty = |linker: &Linker<JobState>| {
                let function = linker.get(&mut store, MODULE, name).unwrap();
                function.into_func().unwrap().ty(&store)
            };
            assert!(FuncType::eq(&ty(&reference), &ty(&ours)), "{name}");
        }
    }
}
