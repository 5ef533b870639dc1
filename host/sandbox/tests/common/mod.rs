//! What the tests of this crate share: a sandbox, and running WebAssembly text in it.

// Each test binary uses its own part.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};

use optwasm_protocol::{ContentId, Outcome, Payload, Profile, Report};
use optwasm_sandbox::{Control, Job, PrepareError, Prepared, Sandbox, SandboxConfig, Setup};

/// The sandbox that tests run in unless they need one of their own.
pub static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| sandbox(8));

pub fn sandbox(slots: u32) -> Sandbox {
    Sandbox::new(SandboxConfig::new(slots)).unwrap()
}

pub fn wasm(text: &str) -> Vec<u8> {
    match wat::parse_str(text) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{error}"),
    }
}

pub fn prepare_bytes(module: &[u8], profile: Profile) -> Result<Prepared, PrepareError> {
    SANDBOX.prepare(ContentId::of(module), module, profile)
}

/// Why a module is rejected.
pub fn rejection(module: &[u8], profile: Profile) -> String {
    match prepare_bytes(module, profile) {
        Ok(_) => panic!("the module is accepted"),
        Err(PrepareError::Rejected(why)) => why,
        Err(PrepareError::Host(why)) => panic!("not the module's fault: {why}"),
    }
}

/// Runs a module in text form; a rejection is an outcome like the others.
pub fn run(text: &str, job: Job) -> Report {
    run_controlled(text, job, &Control::new())
}

pub fn run_controlled(text: &str, job: Job, control: &Control) -> Report {
    run_bytes(&wasm(text), job, control)
}

pub fn run_bytes(module: &[u8], job: Job, control: &Control) -> Report {
    match prepare_bytes(module, job.setup.profile) {
        Ok(prepared) => SANDBOX.run(&prepared, job, control),
        Err(PrepareError::Rejected(why)) => Report::not_run(Outcome::Rejected(why)),
        Err(PrepareError::Host(why)) => panic!("not the module's fault: {why}"),
    }
}

/// A job without input.
pub fn job() -> Job {
    Job::new(Vec::new())
}

pub fn job_of(profile: Profile) -> Job {
    let mut job = job();
    job.setup = Arc::new(Setup {
        profile,
        ..Setup::default()
    });
    job
}

/// The output of a job that succeeded.
pub fn output(report: &Report) -> &[u8] {
    match &report.outcome {
        Outcome::Ok(Payload::Inline(bytes)) => bytes,
        other => panic!("{other}"),
    }
}

/// A module with `imports`, one page of memory and `body` as its `_start`.
pub fn program(imports: &str, body: &str) -> String {
    format!("(module {imports} (memory (export \"memory\") 1) (func (export \"_start\") {body}))")
}
