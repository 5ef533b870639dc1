//! What a store knows of the job that it runs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use optwasm_protocol::{Incumbent, Limits};
use wasmtime::{Caller, Memory};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::control::Control;
use crate::ended::Ended;
use crate::guest_log::{Console, GuestLog};
use crate::job::Job;
use crate::limiter::Limiter;

/// Fuel for a call into the host: about what the call itself costs in guest operators.
const CALL_COST: u64 = 100;
/// Bytes copied per unit of fuel.
const BYTES_PER_FUEL: u64 = 8;
/// Host code looks for cancel and deadline once per so many bytes that it produces.
pub(crate) const CHUNK: usize = 1 << 20;

/// Where an open descriptor of 0, 1 or 2 leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    Input,
    Output,
    Error,
}

impl Standard {
    /// Where they lead at first.
    const ALL: [Option<Standard>; 3] = [
        Some(Standard::Input),
        Some(Standard::Output),
        Some(Standard::Error),
    ];
}

/// What may end a job from outside.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) control: Control,
    pub(crate) started: Instant,
    /// How long after the start it must end.
    pub(crate) deadline: Duration,
}

impl Watch {
    /// Whether the job must end now.
    pub(crate) fn check(&self) -> Result<(), Ended> {
        if self.control.is_cancelled() {
            return Err(Ended::Cancelled);
        }
        if self.started.elapsed() >= self.deadline {
            return Err(Ended::Deadline);
        }
        Ok(())
    }
}

/// What a store knows of the job that it runs.
pub(crate) struct JobState {
    pub(crate) job: Job,
    pub(crate) watch: Watch,
    pub(crate) limiter: Limiter,
    pub(crate) memory: Option<Memory>,
    /// Whether stdout is the output, as for plain commands.
    pub(crate) stdout_is_output: bool,
    pub(crate) stdin_position: u64,
    pub(crate) descriptors: [Option<Standard>; 3],
    pub(crate) output: Vec<u8>,
    pub(crate) log: GuestLog,
    pub(crate) incumbent: Option<Incumbent>,
    pub(crate) random: Option<blake3::OutputReader>,
    /// Nanoseconds of virtual time that the guest has slept.
    pub(crate) slept: u64,
    wasi: Option<WasiP1Ctx>,
}

impl JobState {
    pub(crate) fn new(job: Job, control: Control, stdout_is_output: bool) -> Self {
        let Limits { memory, log, .. } = job.limits;
        Self {
            limiter: Limiter::new(memory),
            log: GuestLog::new(log),
            watch: Watch {
                control,
                started: Instant::now(),
                deadline: Duration::from_millis(job.limits.deadline_ms),
            },
            job,
            memory: None,
            stdout_is_output,
            stdin_position: 0,
            descriptors: Standard::ALL,
            output: Vec::new(),
            incumbent: None,
            random: None,
            slept: 0,
            wasi: None,
        }
    }

    /// Makes this the state of another job in the same instance. What the guest has of memory stays
    /// its own and counts.
    pub(crate) fn next(&mut self, job: Job, control: Control) {
        let limits = &job.limits;
        self.limiter.next(limits.memory);
        self.watch = Watch {
            control,
            started: Instant::now(),
            deadline: Duration::from_millis(limits.deadline_ms),
        };
        self.show_job(job);
    }

    /// Takes from the guest's sight what differs between jobs.
    pub(crate) fn hide_job(&mut self) -> Job {
        let hidden = Job {
            input: Bytes::new(),
            resume: None,
            ..self.job.clone()
        };
        std::mem::replace(&mut self.job, hidden)
    }

    /// Lets the guest see this job, as if nothing had run before.
    pub(crate) fn show_job(&mut self, job: Job) {
        self.log = GuestLog::new(job.limits.log);
        self.job = job;
        self.stdin_position = 0;
        self.descriptors = Standard::ALL;
        self.output = Vec::new();
        self.incumbent = None;
        self.random = None;
        self.slept = 0;
        self.wasi = None;
        self.limiter.denied = false;
    }

    /// The context of wasmtime-wasi's functions: one without descriptors, arguments or
    /// environment, made when the first of them is called.
    pub(crate) fn wasi(&mut self) -> &mut WasiP1Ctx {
        self.wasi
            .get_or_insert_with(|| WasiCtxBuilder::new().build_p1())
    }

    pub(crate) fn write_output(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        if (self.output.len() + bytes.len()) as u64 > self.job.limits.output {
            return Err(Ended::OutputTooLarge);
        }
        self.output
            .try_reserve(bytes.len())
            .map_err(|error| Ended::HostOutOfMemory(error.to_string()))?;
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_standard(&mut self, to: Standard, bytes: &[u8]) -> Result<(), Ended> {
        match to {
            Standard::Output if self.stdout_is_output => self.write_output(bytes),
            Standard::Output => {
                self.log.write(Console::Stdout, bytes);
                Ok(())
            }
            _ => {
                self.log.write(Console::Stderr, bytes);
                Ok(())
            }
        }
    }
}

/// Charges the guest for a call into the host that moves `bytes`.
pub(crate) fn charge(caller: &mut Caller<'_, JobState>, bytes: u64) -> wasmtime::Result<()> {
    spend(caller, CALL_COST + bytes / BYTES_PER_FUEL)
}

/// Charges for `bytes` that a call moves which was charged for before they were known.
pub(crate) fn charge_bytes(caller: &mut Caller<'_, JobState>, bytes: u64) -> wasmtime::Result<()> {
    spend(caller, bytes / BYTES_PER_FUEL)
}

fn spend(caller: &mut Caller<'_, JobState>, cost: u64) -> wasmtime::Result<()> {
    let left = caller.get_fuel()?;
    if left < cost {
        caller.set_fuel(0)?;
        return Err(Ended::OutOfFuel.into());
    }
    caller.set_fuel(left - cost)
}

/// The guest's memory and the job's state. A guest without a memory has no valid pointer.
pub(crate) fn memory_and_state<'a>(
    caller: &'a mut Caller<'_, JobState>,
) -> Result<(&'a mut [u8], &'a mut JobState), Ended> {
    let memory = caller.data().memory.ok_or(Ended::BadPointer)?;
    Ok(memory.data_and_store_mut(caller))
}

/// The range of `memory` that a guest names with two `i32`s.
pub(crate) fn range(memory: &[u8], ptr: u32, len: u32) -> Result<std::ops::Range<usize>, Ended> {
    let start = ptr as usize;
    let end = start.checked_add(len as usize).ok_or(Ended::BadPointer)?;
    if end > memory.len() {
        return Err(Ended::BadPointer);
    }
    Ok(start..end)
}

/// Copies `source[offset..]` to the guest, as much as there is and fits; returns how much.
pub(crate) fn copy_to_guest(
    memory: &mut [u8],
    ptr: u32,
    len: u32,
    source: &[u8],
    offset: u64,
    check: impl Fn() -> Result<(), Ended>,
) -> Result<u32, Ended> {
    let target = range(memory, ptr, len)?;
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|offset| source.get(offset..))
        .unwrap_or(&[]);
    let count = rest.len().min(target.len());
    let target = &mut memory[target][..count];
    for (to, from) in target.chunks_mut(CHUNK).zip(rest[..count].chunks(CHUNK)) {
        to.copy_from_slice(from);
        check()?;
    }
    // Bounded by `len`, which is 32 bits.
    Ok(count as u32)
}

/// The input of a job, by reference count.
pub(crate) fn input(state: &JobState) -> Bytes {
    state.job.input.clone()
}
