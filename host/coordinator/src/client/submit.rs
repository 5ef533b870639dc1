//! Submissions: checked, read part by part, and stored.

use std::time::{Duration, Instant};

use optwasm_protocol::job::Template;
use optwasm_protocol::message::{BatchSpec, ErrorCode, Response, SubmitPart};
use optwasm_protocol::{
    BLOB_MAX, INLINE_MAX, Instances, JOBS_MAX, Namespace, Outcome, Payload, Profile, Stream,
};
use optwasm_store::Store;

use super::blobs::{Reserved, time_for};
use super::{ENTRIES_MAX, Failure, TEXT_MAX, fail, safe};
use crate::Coordinator;

/// Inputs of all submissions together that are in memory and not stored yet; a submission beyond it
/// is read no further until others are stored.
const SUBMITTING_MAX: u64 = 1 << 30;
/// Inputs of one submission, and of all of one namespace, so that one alone does not keep others
/// waiting.
const SUBMITTING_OWN_MAX: u64 = SUBMITTING_MAX / 2;
/// Most retries: each leaves a line in the job's history, which fits a message.
const RETRIES_MAX: u32 = 1000;
/// What an input occupies beside its bytes, generously: as the store counts it.
const INPUT_OVERHEAD: u64 = 256;
/// Most workers that can be asked to agree: beyond it, cost grows and certainty does not.
const VERIFY_MAX: u32 = 5;
/// Longest name of a batch: a thousand of them travel in one message.
const NAME_MAX: usize = 256;
/// Largest log that a job may keep: it travels inside one message with the rest of its report.
const LOG_MAX: u64 = 1 << 20;

/// Whether a batch's description is within reason, in words where it is not.
fn check(spec: &BatchSpec) -> Result<(), String> {
    let Template {
        args,
        env,
        blobs,
        limits,
        ..
    } = &spec.template;
    let entries = args.len() + env.len() + blobs.len() + spec.require.len();
    if entries > ENTRIES_MAX {
        return Err(format!(
            "more than {ENTRIES_MAX} arguments, variables, blobs and labels"
        ));
    }
    let pairs = env.iter().map(|(k, v)| k.len() + v.len());
    let labels = spec.require.iter().map(|(k, v)| k.len() + v.len());
    let text: usize = pairs.chain(labels).sum::<usize>()
        + args.iter().map(String::len).sum::<usize>()
        + blobs.iter().map(|(name, _)| name.len()).sum::<usize>()
        + spec.name.len();
    if spec.name.len() > NAME_MAX {
        return Err(format!("a name of more than {NAME_MAX} bytes"));
    }
    if text > TEXT_MAX {
        return Err(format!(
            "more than {TEXT_MAX} bytes of arguments and variables"
        ));
    }
    let nul = args.iter().chain(env.iter().flat_map(|(k, v)| [k, v]));
    if nul.into_iter().any(|text| text.contains('\0')) {
        return Err("an argument or variable holds a NUL character".to_owned());
    }
    if env
        .iter()
        .any(|(key, _)| key.is_empty() || key.contains('='))
    {
        return Err("a variable's name is empty or holds `=`".to_owned());
    }
    if limits.log > LOG_MAX {
        return Err(format!(
            "a log of {} bytes; the limit is {LOG_MAX}",
            limits.log
        ));
    }
    if limits.output > BLOB_MAX {
        return Err(format!(
            "an output of {} bytes; the limit is {BLOB_MAX}",
            limits.output
        ));
    }
    if spec
        .id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > NAME_MAX)
    {
        return Err(format!("an id has 1 to {NAME_MAX} bytes"));
    }
    if !(1..=VERIFY_MAX).contains(&spec.verify) {
        return Err(format!("1 to {VERIFY_MAX} workers can be asked to agree"));
    }
    if spec.verify > 1 && spec.template.profile == Profile::Timed {
        return Err("jobs that see the time cannot be confirmed by another".to_owned());
    }
    if spec.verify > 1 && spec.home.is_some() {
        return Err("jobs at home with one worker cannot be confirmed by another".to_owned());
    }
    if spec.verify > 1 && matches!(spec.template.instances, Instances::Kept(_)) {
        return Err("jobs that find what others left cannot be confirmed by another".to_owned());
    }
    if let Some(name) = spec
        .retry_on
        .iter()
        .find(|name| !Outcome::NAMES.contains(&name.as_str()))
    {
        return Err(format!("no outcome is called `{name}`"));
    }
    if spec.retry_on.iter().any(|name| name == "ok") {
        return Err("what has succeeded is not tried again".to_owned());
    }
    if spec.retries > RETRIES_MAX {
        return Err(format!("more than {RETRIES_MAX} retries"));
    }
    if limits.fuel == 0 || limits.deadline_ms == 0 {
        return Err("a limit of 0 fuel or 0 ms lets nothing run".to_owned());
    }
    Ok(())
}

/// Waits until so many more jobs may be queued, where the client wants to wait.
async fn queue_room<S: Store>(
    coordinator: &Coordinator<S>,
    namespace: &Namespace,
    jobs: u64,
    wait: bool,
) -> Result<(), Failure> {
    let inner = &coordinator.0;
    loop {
        let room = inner.room.notified();
        if inner.hub.borrow().has_room_for(namespace, jobs) {
            return Ok(());
        }
        if !wait {
            let waiting = inner.hub.borrow().namespace(namespace).queued;
            let message = format!("{waiting} jobs are queued already; try again later");
            return Err(fail(ErrorCode::Busy, message));
        }
        room.await;
    }
}

/// Takes a batch in, part by part; it is stored when this returns.
pub(super) async fn submit<S: Store>(
    coordinator: &Coordinator<S>,
    namespace: &Namespace,
    spec: BatchSpec,
    wait: bool,
    stream: &mut Stream,
) -> Result<Response, Failure> {
    check(&spec).map_err(|why| fail(ErrorCode::Invalid, why))?;
    let inner = &coordinator.0;
    let store = &inner.store;
    // What is known already takes no room.
    let known = inner.hub.borrow().knows(namespace, &spec);
    // Nothing is read of what would have to wait.
    if !known {
        inner.hub.borrow().check_quota(namespace, 1, 1)?;
        queue_room(coordinator, namespace, 1, wait).await?;
    }
    let mut inputs: Vec<Payload> = Vec::new();
    let mut read_for = Duration::ZERO;
    let mut held = Reserved::new(&inner.submitting, 0);
    let lane = inner.lanes.of(namespace);
    let mut own = Reserved::new(&lane.submitting, 0);
    let is_too_much = |held: &Reserved<'_>, all: u64, most: u64| all > most && held.bytes < all / 2;
    loop {
        while is_too_much(&held, inner.submitting.get(), SUBMITTING_MAX)
            || is_too_much(&own, lane.submitting.get(), SUBMITTING_OWN_MAX)
        {
            inner.room.notified().await;
        }
        let begun = Instant::now();
        let patience = time_for(held.bytes).saturating_sub(read_for);
        let part = tokio::time::timeout(patience, stream.reader.expect()).await;
        let Ok(part) = part else {
            return Err(fail(ErrorCode::Invalid, "it was sent too slowly"));
        };
        read_for += begun.elapsed();
        let SubmitPart::Inputs(more) = part? else {
            break;
        };
        let mut bytes = 0;
        for input in &more {
            match input {
                Payload::Inline(bytes) if bytes.len() > INLINE_MAX => {
                    return Err(fail(ErrorCode::Invalid, "an inline input is too large"));
                }
                Payload::Blob(_, id) if !store.owns_blob(namespace, id) => {
                    let message = format!("the input {id} was not uploaded");
                    return Err(fail(ErrorCode::NotFound, message));
                }
                Payload::Inline(inline) => bytes += inline.len() as u64,
                Payload::Blob(..) => {}
            }
            bytes += INPUT_OVERHEAD;
        }
        held.grow(bytes);
        own.grow(bytes);
        if held.bytes > SUBMITTING_OWN_MAX {
            let message = format!(
                "the inputs of one batch take more than {} MiB: submit several, or put large ones \
                 as blobs",
                SUBMITTING_OWN_MAX >> 20
            );
            return Err(fail(ErrorCode::Invalid, message));
        }
        if !known && held.bytes > store.room() {
            let why = store.health().refusing;
            let message = why.unwrap_or_else(|| {
                let room = store.room();
                format!("the inputs do not fit: there is room for {room} bytes")
            });
            return Err(fail(ErrorCode::Storage, message));
        }
        inputs.extend(more);
        if !known {
            let hub = inner.hub.borrow();
            hub.check_quota(namespace, inputs.len() as u64, held.bytes)?;
        }
        if inputs.len() > JOBS_MAX as usize {
            let message = format!("more than {JOBS_MAX} jobs");
            return Err(fail(ErrorCode::Invalid, message));
        }
    }
    if inputs.is_empty() {
        return Err(fail(ErrorCode::Invalid, "a batch without jobs"));
    }
    if !known {
        queue_room(coordinator, namespace, inputs.len() as u64, wait).await?;
    }
    let template = &spec.template;
    let shared = template.blobs.iter().map(|(_, id)| id);
    for id in shared.chain([&template.module]) {
        if !store.owns_blob(namespace, id) {
            return Err(fail(
                ErrorCode::NotFound,
                format!("the blob {id} was not uploaded"),
            ));
        }
    }
    // While this submission was on its way, others may have taken the place of one that was here.
    for input in &inputs {
        if let Payload::Blob(_, id) = input
            && !store.owns_blob(namespace, id)
        {
            let message = format!("the input {id} was dropped for want of room");
            return Err(fail(ErrorCode::Storage, message));
        }
    }
    inputs.shrink_to_fit();
    let submitted = inner
        .hub
        .borrow_mut()
        .submit(inner.now(), namespace, spec, inputs);
    let (batch, waiter) = submitted?;
    safe(waiter).await?;
    Ok(Response::Submitted(batch))
}
