//! What this machine computes like: its engine, and its answers to the determinism probe.

use optwasm_bundle::PROBE;
use optwasm_client::{Outcome, Payload, Profile};
use optwasm_protocol::ContentId;
use optwasm_sandbox::{Control, EngineKind, Job, Sandbox};

use crate::exit::{Exit, Failure};
use crate::settings::{Settings, sandbox_config};

/// Architecture and fingerprint of this program's strict engine.
pub fn engine() -> String {
    let fingerprint = data_encoding::HEXLOWER.encode(&EngineKind::Strict.fingerprint()[..8]);
    format!("{}-{fingerprint}", std::env::consts::ARCH)
}

/// Hash of what the determinism probe gives on this machine: every bit of its output, and its fuel.
pub fn answers(sandbox: &Sandbox) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(Exit::Bug, format!("determinism probe: {why}"));
    let prepared = sandbox
        .prepare(ContentId::of(PROBE), PROBE, Profile::Strict)
        .map_err(|error| failed(error.to_string()))?;
    let report = sandbox.run(&prepared, Job::new(Vec::new()), &Control::default());
    let Outcome::Ok(Payload::Inline(output)) = &report.outcome else {
        return Err(failed(report.outcome.to_string()));
    };
    let mut answers = output.to_vec();
    answers.extend_from_slice(&report.fuel.to_le_bytes());
    let hash = ContentId::of(&answers).to_string();
    // Eight digits tell the few kinds of machines of one pool apart.
    Ok(hash[..8].to_owned())
}

/// The group of workers that this machine would belong to, as coordinators name it.
pub fn group(settings: &Settings) -> Result<String, Failure> {
    let sandbox = Sandbox::new(sandbox_config(1, Some(settings.cache_dir.clone())))
        .map_err(|error| Failure::new(Exit::Bug, error))?;
    Ok(format!("{}/{}", engine(), answers(&sandbox)?))
}
