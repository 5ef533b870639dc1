//! The functions of `optwasm_v1`, as `docs/guest-abi.md` section 3 describes them.

use bytes::Bytes;
use optwasm_protocol::Incumbent;
use optwasm_protocol::message::JobEvent;
use serde::Deserialize;
use wasmtime::{Caller, Linker};

use crate::ended::Ended;
use crate::guest_log::{WARN, harmless};
use crate::state::{JobState, charge, copy_to_guest, input, memory_and_state, range};

/// Name of the import module.
pub(crate) const MODULE: &str = "optwasm_v1";
/// Its functions.
pub(crate) const FUNCTIONS: &[&str] = &[
    "input_len",
    "input_read",
    "output_write",
    "fail",
    "panic",
    "log",
    "progress",
    "incumbent",
    "checkpoint",
    "resume_len",
    "resume_read",
    "blob_open",
    "blob_len",
    "blob_read",
    "fuel_left",
    "seed",
];

/// Longest text that is taken from a guest in one piece: messages are for people.
const TEXT_MAX: usize = 16 * 1024;
/// Causes that are kept of an error.
const CHAIN_MAX: usize = 32;
/// Largest incumbent and checkpoint: they travel inside messages, which hold 4 MiB.
const EVENT_MAX: usize = 1 << 20;
/// Longest log target and file name, and what finding a blob by its name is charged for at most.
const NAME_MAX: usize = 256;

type Result<T> = wasmtime::Result<T>;
type Guest<'a> = Caller<'a, JobState>;

/// Defines all functions.
pub(crate) fn define(linker: &mut Linker<JobState>) -> Result<()> {
    linker.func_wrap(MODULE, "input_len", |mut guest: Guest<'_>| {
        charge(&mut guest, 0)?;
        Ok(input(guest.data()).len() as u64)
    })?;
    linker.func_wrap(
        MODULE,
        "input_read",
        |mut guest: Guest<'_>, offset: u64, ptr: u32, len: u32| {
            let source = input(guest.data());
            read(&mut guest, &source, offset, ptr, len)
        },
    )?;
    linker.func_wrap(MODULE, "output_write", output_write)?;
    linker.func_wrap(MODULE, "fail", fail)?;
    linker.func_wrap(MODULE, "panic", panic)?;
    linker.func_wrap(MODULE, "log", log)?;
    linker.func_wrap(MODULE, "progress", progress)?;
    linker.func_wrap(MODULE, "incumbent", incumbent)?;
    linker.func_wrap(MODULE, "checkpoint", checkpoint)?;
    linker.func_wrap(MODULE, "resume_len", |mut guest: Guest<'_>| {
        charge(&mut guest, 0)?;
        let resume = &guest.data().job.resume;
        Ok(resume.as_ref().map_or(-1, |bytes| bytes.len() as i64))
    })?;
    linker.func_wrap(
        MODULE,
        "resume_read",
        |mut guest: Guest<'_>, offset: u64, ptr: u32, len: u32| {
            let source = guest.data().job.resume.clone().unwrap_or_default();
            read(&mut guest, &source, offset, ptr, len)
        },
    )?;
    linker.func_wrap(MODULE, "blob_open", blob_open)?;
    linker.func_wrap(MODULE, "blob_len", |mut guest: Guest<'_>, handle: u32| {
        charge(&mut guest, 0)?;
        Ok(blob(guest.data(), handle)?.len() as u64)
    })?;
    linker.func_wrap(
        MODULE,
        "blob_read",
        |mut guest: Guest<'_>, handle: u32, offset: u64, ptr: u32, len: u32| {
            let source = blob(guest.data(), handle)?;
            read(&mut guest, &source, offset, ptr, len)
        },
    )?;
    linker.func_wrap(MODULE, "fuel_left", |mut guest: Guest<'_>| {
        charge(&mut guest, 0)?;
        guest.get_fuel()
    })?;
    linker.func_wrap(MODULE, "seed", |mut guest: Guest<'_>, ptr: u32| {
        charge(&mut guest, 32)?;
        let (memory, state) = memory_and_state(&mut guest)?;
        let target = range(memory, ptr, 32)?;
        memory[target].copy_from_slice(&state.job.setup.seed.0);
        Ok(())
    })?;
    Ok(())
}

/// Copies a piece of `source` to the guest. What is charged is what is copied, so that asking for
/// more than there is costs nothing more.
fn read(guest: &mut Guest<'_>, source: &Bytes, offset: u64, ptr: u32, len: u32) -> Result<u32> {
    let available = (source.len() as u64).saturating_sub(offset);
    charge(guest, available.min(u64::from(len)))?;
    let (memory, state) = memory_and_state(guest)?;
    Ok(copy_to_guest(memory, ptr, len, source, offset, || {
        state.watch.check()
    })?)
}

/// Bytes of a text that the guest names, cut at `max`.
fn cut(memory: &[u8], ptr: u32, len: u32, max: usize) -> std::result::Result<&[u8], Ended> {
    let text = &memory[range(memory, ptr, len)?];
    Ok(&text[..text.len().min(max)])
}

/// What reading texts of these lengths, cut at these maxima, is charged for.
fn charge_texts<const N: usize>(guest: &mut Guest<'_>, texts: [(u32, usize); N]) -> Result<()> {
    let taken = texts.map(|(len, max)| u64::from(len).min(max as u64));
    charge(guest, taken.iter().sum())
}

/// Text for people: harmless to a terminal.
fn readable(bytes: &[u8]) -> String {
    harmless(&String::from_utf8_lossy(bytes))
}

fn output_write(mut guest: Guest<'_>, ptr: u32, len: u32) -> Result<()> {
    charge(&mut guest, u64::from(len))?;
    let (memory, state) = memory_and_state(&mut guest)?;
    let source = range(memory, ptr, len)?;
    Ok(state.write_output(&memory[source])?)
}

fn fail(mut guest: Guest<'_>, code: i32, ptr: u32, len: u32) -> Result<()> {
    #[derive(Deserialize)]
    struct Failure {
        message: String,
        #[serde(default)]
        chain: Vec<String>,
    }
    const MAX: usize = CHAIN_MAX * TEXT_MAX;
    charge_texts(&mut guest, [(len, MAX)])?;
    let (memory, _) = memory_and_state(&mut guest)?;
    let bytes = cut(memory, ptr, len, MAX)?;
    let text = |text: &str| readable(&text.as_bytes()[..text.len().min(TEXT_MAX)]);
    let (message, chain) = match ciborium::from_reader::<Failure, _>(bytes) {
        Ok(failure) => {
            let chain = failure.chain.iter().take(CHAIN_MAX);
            (
                text(&failure.message),
                chain.map(|cause| text(cause)).collect(),
            )
        }
        Err(_) => (readable(&bytes[..bytes.len().min(TEXT_MAX)]), Vec::new()),
    };
    Err(Ended::Fail {
        code,
        message,
        chain,
    }
    .into())
}

fn panic(
    mut guest: Guest<'_>,
    message_ptr: u32,
    message_len: u32,
    file_ptr: u32,
    file_len: u32,
    line: u32,
    column: u32,
) -> Result<()> {
    charge_texts(&mut guest, [(message_len, TEXT_MAX), (file_len, NAME_MAX)])?;
    let (memory, _) = memory_and_state(&mut guest)?;
    Err(Ended::Panic {
        message: readable(cut(memory, message_ptr, message_len, TEXT_MAX)?),
        file: readable(cut(memory, file_ptr, file_len, NAME_MAX)?),
        line,
        column,
    }
    .into())
}

fn log(
    mut guest: Guest<'_>,
    level: i32,
    target_ptr: u32,
    target_len: u32,
    message_ptr: u32,
    message_len: u32,
) -> Result<()> {
    charge_texts(
        &mut guest,
        [(target_len, NAME_MAX), (message_len, TEXT_MAX)],
    )?;
    let (memory, state) = memory_and_state(&mut guest)?;
    let target = cut(memory, target_ptr, target_len, NAME_MAX)?;
    let message = cut(memory, message_ptr, message_len, TEXT_MAX)?;
    if state.log.is_full() {
        state.log.drop_record();
        return Ok(());
    }
    let (target, message) = (
        String::from_utf8_lossy(target),
        String::from_utf8_lossy(message),
    );
    state.log.record(level.clamp(1, 5) as u8, &target, &message);
    Ok(())
}

fn progress(mut guest: Guest<'_>, done: f64, total: f64) -> Result<u32> {
    charge(&mut guest, 0)?;
    guest
        .data()
        .watch
        .control
        .observe(JobEvent::Progress(done, total));
    Ok(0)
}

/// Bytes of an incumbent or a checkpoint; `None`, with a word in the log, where they are too many.
fn event_bytes(guest: &mut Guest<'_>, what: &str, ptr: u32, len: u32) -> Result<Option<Vec<u8>>> {
    charge(guest, u64::from(len))?;
    let (memory, state) = memory_and_state(guest)?;
    let source = range(memory, ptr, len)?;
    if source.len() > EVENT_MAX {
        let message = format!("{what} of {len} bytes dropped: the limit is {EVENT_MAX}");
        state.log.record(WARN, "optwasm", &message);
        return Ok(None);
    }
    Ok(Some(memory[source].to_vec()))
}

fn incumbent(mut guest: Guest<'_>, objective: f64, bound: f64, ptr: u32, len: u32) -> Result<()> {
    if let Some(solution) = event_bytes(&mut guest, "incumbent", ptr, len)? {
        let incumbent = Incumbent {
            objective,
            bound: (!bound.is_nan()).then_some(bound),
            solution,
        };
        let state = guest.data_mut();
        if state.watch.control.is_observed() {
            state
                .watch
                .control
                .observe(JobEvent::Incumbent(incumbent.clone()));
        }
        state.incumbent = Some(incumbent);
    }
    Ok(())
}

fn checkpoint(mut guest: Guest<'_>, ptr: u32, len: u32) -> Result<()> {
    if let Some(bytes) = event_bytes(&mut guest, "checkpoint", ptr, len)? {
        let control = &guest.data().watch.control;
        control.observe(JobEvent::Checkpoint(bytes.into()));
    }
    Ok(())
}

fn blob_open(mut guest: Guest<'_>, ptr: u32, len: u32) -> Result<i32> {
    charge_texts(&mut guest, [(len, NAME_MAX)])?;
    let (memory, state) = memory_and_state(&mut guest)?;
    let name = &memory[range(memory, ptr, len)?];
    let mut blobs = state.job.setup.blobs.iter();
    let place = blobs.position(|(candidate, _)| candidate.as_bytes() == name);
    Ok(place.map_or(-1, |place| place as i32))
}

fn blob(state: &JobState, handle: u32) -> std::result::Result<Bytes, Ended> {
    let blob = state.job.setup.blobs.get(handle as usize);
    blob.map(|(_, bytes)| bytes.clone()).ok_or(Ended::BadHandle)
}
