//! How an attempt ended, and what it cost.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ContentId, Payload, WorkerId};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The guest finished and left this output.
    #[serde(rename = "ok")]
    Ok(Payload),
    /// The guest said that it failed, or left with a non-zero exit code.
    GuestError {
        /// Its code: 1 for an `Err` of a job function, the exit code of a plain command.
        code: i32,
        /// What it said.
        message: String,
        /// The causes, from the nearest to the root.
        chain: Vec<String>,
    },
    /// The guest panicked.
    Panic {
        /// The panic's message.
        message: String,
        /// Source file, as the guest's compiler named it.
        file: String,
        /// Line in it, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
        /// The guest's functions, innermost first.
        frames: Vec<String>,
    },
    /// The guest executed a trapping instruction or misused a host function.
    Trap {
        /// Why.
        kind: TrapKind,
        /// The guest's functions, innermost first.
        frames: Vec<String>,
    },
    /// The guest used up its fuel.
    OutOfFuel,
    /// The guest failed after it was denied memory.
    MemoryLimit,
    /// The guest wrote more output than allowed.
    OutputTooLarge,
    /// The module or the job's description is not acceptable.
    Rejected(String),
    /// The guest recursed too deeply. The depth differs by machine.
    StackOverflow,
    /// The attempt ran past its deadline.
    Deadline,
    /// The worker had no memory left for a guest that was within its limits, or no way to read
    /// its input.
    HostOutOfMemory(String),
    /// The host code around the guest panicked.
    HostPanic(String),
    /// The job lost this many workers.
    WorkerLost(Vec<Loss>),
    /// The submitter cancelled the job.
    Cancelled,
    /// The coordinator's disk has damaged the job's input or its result.
    Damaged(String),
    /// Workers that were to confirm each other's results came to different ones, and no result
    /// has enough of them. These are their names.
    Disputed(Vec<String>),
}

impl Outcome {
    /// Whether the job succeeded.
    pub fn is_ok(&self) -> bool {
        matches!(self, Outcome::Ok(_))
    }

    /// Whether the same job would end the same way on any machine of one engine fingerprint.
    pub fn is_deterministic(&self) -> bool {
        match self {
            Outcome::Ok(_)
            | Outcome::GuestError { .. }
            | Outcome::Panic { .. }
            | Outcome::Trap { .. }
            | Outcome::OutOfFuel
            | Outcome::MemoryLimit
            | Outcome::OutputTooLarge
            | Outcome::Rejected(_) => true,
            Outcome::StackOverflow
            | Outcome::Deadline
            | Outcome::HostOutOfMemory(_)
            | Outcome::HostPanic(_)
            | Outcome::WorkerLost(_)
            | Outcome::Cancelled
            | Outcome::Damaged(_)
            | Outcome::Disputed(_) => false,
        }
    }

    /// The names of all outcomes, for filters.
    pub const NAMES: [&'static str; 16] = [
        "ok",
        "guest-error",
        "panic",
        "trap",
        "out-of-fuel",
        "memory-limit",
        "output-too-large",
        "rejected",
        "stack-overflow",
        "deadline",
        "host-out-of-memory",
        "host-panic",
        "worker-lost",
        "cancelled",
        "damaged",
        "disputed",
    ];

    /// Whether the fuel reported beside this outcome is exact, and so the same everywhere.
    pub fn has_exact_fuel(&self) -> bool {
        matches!(
            self,
            Outcome::Ok(_) | Outcome::GuestError { .. } | Outcome::OutOfFuel
        )
    }

    /// The outcome's name in tables, JSON and filters.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Ok(_) => "ok",
            Outcome::GuestError { .. } => "guest-error",
            Outcome::Panic { .. } => "panic",
            Outcome::Trap { .. } => "trap",
            Outcome::OutOfFuel => "out-of-fuel",
            Outcome::MemoryLimit => "memory-limit",
            Outcome::OutputTooLarge => "output-too-large",
            Outcome::Rejected(_) => "rejected",
            Outcome::StackOverflow => "stack-overflow",
            Outcome::Deadline => "deadline",
            Outcome::HostOutOfMemory(_) => "host-out-of-memory",
            Outcome::HostPanic(_) => "host-panic",
            Outcome::WorkerLost(_) => "worker-lost",
            Outcome::Cancelled => "cancelled",
            Outcome::Damaged(_) => "damaged",
            Outcome::Disputed(_) => "disputed",
        }
    }

    /// The guest's functions at the end, innermost first; empty for outcomes without frames.
    pub fn frames(&self) -> &[String] {
        match self {
            Outcome::Panic { frames, .. } | Outcome::Trap { frames, .. } => frames,
            _ => &[],
        }
    }
}

impl fmt::Display for Outcome {
    /// One line without frames, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Ok(output) => write!(f, "ok, {} bytes", output.len()),
            Outcome::GuestError {
                code,
                message,
                chain,
            } => {
                write!(f, "error {code}: {message}")?;
                chain.iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
            Outcome::Panic {
                message,
                file,
                line,
                column,
                ..
            } => write!(f, "panicked at {file}:{line}:{column}: {message}"),
            Outcome::Trap { kind, .. } => write!(f, "trap: {kind}"),
            Outcome::OutOfFuel => f.write_str("out of fuel"),
            Outcome::MemoryLimit => f.write_str("failed after it was denied memory"),
            Outcome::OutputTooLarge => f.write_str("output too large"),
            Outcome::Rejected(why) => write!(f, "rejected: {why}"),
            Outcome::StackOverflow => f.write_str("stack overflow"),
            Outcome::Deadline => f.write_str("deadline passed"),
            Outcome::HostOutOfMemory(why) => write!(f, "worker out of memory: {why}"),
            Outcome::HostPanic(why) => write!(f, "worker fault: {why}"),
            Outcome::WorkerLost(losses) => {
                write!(f, "lost {} workers:", losses.len())?;
                losses
                    .iter()
                    .try_for_each(|loss| write!(f, " {}", loss.worker_name))
            }
            Outcome::Cancelled => f.write_str("cancelled"),
            Outcome::Damaged(what) => write!(f, "damaged on the coordinator's disk: {what}"),
            Outcome::Disputed(workers) => {
                write!(
                    f,
                    "workers came to different results: {}",
                    workers.join(", ")
                )
            }
        }
    }
}

/// Why a guest trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TrapKind {
    /// `unreachable`: what an abort compiles to.
    Unreachable,
    /// Memory access outside the memory.
    MemoryOutOfBounds,
    /// Table access outside the table.
    TableOutOfBounds,
    /// Call through an empty table entry.
    NullReference,
    /// Call through a table entry of another type.
    BadSignature,
    /// Integer overflow, as in `i32::MIN / -1`.
    IntegerOverflow,
    /// Integer division by zero.
    DivisionByZero,
    /// Conversion of a float that no integer represents.
    BadConversion,
    /// A host function was given a range outside the memory.
    BadPointer,
    /// A host function was given a handle that it never handed out.
    BadHandle,
    /// A guest exception that nobody caught.
    Exception,
    /// Any other trap.
    Other,
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrapKind::Unreachable => "unreachable executed",
            TrapKind::MemoryOutOfBounds => "memory access out of bounds",
            TrapKind::TableOutOfBounds => "table access out of bounds",
            TrapKind::NullReference => "call of a null reference",
            TrapKind::BadSignature => "indirect call with the wrong signature",
            TrapKind::IntegerOverflow => "integer overflow",
            TrapKind::DivisionByZero => "integer division by zero",
            TrapKind::BadConversion => "float not representable as integer",
            TrapKind::BadPointer => "host function given a range outside the memory",
            TrapKind::BadHandle => "host function given an unknown handle",
            TrapKind::Exception => "uncaught exception",
            TrapKind::Other => "trap",
        })
    }
}

/// One worker that was lost while it held the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The worker's connection.
    pub worker: WorkerId,
    /// Its name.
    pub worker_name: String,
    /// The attempt that it held.
    pub attempt: u32,
}

/// The best solution that a job has reported so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incumbent {
    /// Its objective value.
    pub objective: f64,
    /// A proven bound on the optimum, where one is known.
    pub bound: Option<f64>,
    /// The solution, in the guest's own encoding.
    #[serde(with = "serde_bytes")]
    pub solution: Vec<u8>,
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    #[serde(rename = "l")]
    pub level: u8,
    /// Where the guest logged it: a module path, or `stdout` or `stderr`.
    #[serde(rename = "t")]
    pub target: String,
    /// The text, without control characters.
    #[serde(rename = "m")]
    pub message: String,
}

/// How an attempt ended and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    #[serde(rename = "o")]
    pub outcome: Outcome,
    /// Fuel used; exact where [`Outcome::has_exact_fuel`] says so, else a lower bound.
    #[serde(rename = "f", default)]
    pub fuel: u64,
    /// Largest size of all memories and tables together, in bytes.
    #[serde(rename = "m", default)]
    pub peak_memory: u64,
    /// Wall-clock time of the run in microseconds.
    #[serde(rename = "w", default)]
    pub wall_us: u64,
    /// Name of the worker that ran it; empty where none did.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub worker: String,
    /// Which attempt this was, from 1, or the last that was begun; 0 where the job never ran.
    #[serde(rename = "a", default)]
    pub attempt: u32,
    /// The log, cut at its limit.
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogRecord>,
    /// Log entries that were dropped.
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    pub log_dropped: u64,
    /// The last incumbent, whatever the outcome.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub incumbent: Option<Incumbent>,
    /// Whether it is the result of an identical job that ran before, and this one did not run.
    #[serde(rename = "c", default, skip_serializing_if = "is_false")]
    pub memo: bool,
    /// Names of the workers that came to the same result, where the batch asked for more than one.
    #[serde(rename = "v", default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Report {
    /// About how many bytes it takes in a message. Never much less than it really takes, so that
    /// messages can be closed before they are too large.
    pub fn size(&self) -> usize {
        // Numbers, names of fields, and heads of texts.
        const FIXED: usize = 96;
        const HEAD: usize = 16;
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + HEAD).sum::<usize>();
        let outcome = match &self.outcome {
            Outcome::Ok(Payload::Inline(output)) => output.len(),
            Outcome::GuestError { message, chain, .. } => message.len() + texts(chain),
            Outcome::Panic {
                message,
                file,
                frames,
                ..
            } => message.len() + file.len() + texts(frames),
            Outcome::Trap { frames, .. } => texts(frames),
            Outcome::Rejected(why)
            | Outcome::HostOutOfMemory(why)
            | Outcome::HostPanic(why)
            | Outcome::Damaged(why) => why.len(),
            Outcome::Disputed(workers) => texts(workers),
            Outcome::WorkerLost(losses) => {
                let losses = losses.iter();
                losses.map(|loss| loss.worker_name.len() + 4 * HEAD).sum()
            }
            _ => 0,
        };
        let log = self.log.iter();
        let log: usize = log.map(|r| r.target.len() + r.message.len() + HEAD).sum();
        let incumbent = self.incumbent.as_ref();
        let incumbent = incumbent.map_or(0, |i| i.solution.len() + 4 * HEAD);
        FIXED + outcome + log + incumbent + self.worker.len() + texts(&self.witnesses)
    }

    /// What two runs of the same job have to agree on: outcome, output, and fuel where that is
    /// exact. `None` where the outcome is not deterministic.
    pub fn digest(&self) -> Option<ContentId> {
        if !self.outcome.is_deterministic() {
            return None;
        }
        let fuel = self.outcome.has_exact_fuel().then_some(self.fuel);
        let mut bytes = Vec::new();
        let encoded = match &self.outcome {
            Outcome::Ok(output) => {
                ciborium::into_writer(&(output.len(), output.content_id(), fuel), &mut bytes)
            }
            other => ciborium::into_writer(&(other, fuel), &mut bytes),
        };
        // Writing to memory does not fail.
        encoded.ok().map(|()| ContentId::of(&bytes))
    }

    /// The report of a job that never ran.
    pub fn not_run(outcome: Outcome) -> Self {
        Self {
            outcome,
            fuel: 0,
            peak_memory: 0,
            wall_us: 0,
            worker: String::new(),
            attempt: 0,
            log: Vec::new(),
            log_dropped: 0,
            incumbent: None,
            memo: false,
            witnesses: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_report_covers_what_it_takes() {
        let text = "x".repeat(1000);
        let frames = vec![text.clone(); 32];
        let outcomes = [
            Outcome::Ok(vec![1; 5000].into()),
            Outcome::GuestError {
                code: -1,
                message: text.clone(),
                chain: frames.clone(),
            },
            Outcome::Panic {
                message: text.clone(),
                file: text.clone(),
                line: u32::MAX,
                column: u32::MAX,
                frames: frames.clone(),
            },
            Outcome::Trap {
                kind: TrapKind::Unreachable,
                frames,
            },
            Outcome::Rejected(text.clone()),
            Outcome::HostPanic(text.clone()),
            Outcome::OutOfFuel,
        ];
        for outcome in outcomes {
            let mut report = Report::not_run(outcome);
            report.fuel = u64::MAX;
            report.peak_memory = u64::MAX;
            report.wall_us = u64::MAX;
            report.attempt = u32::MAX;
            report.log_dropped = u64::MAX;
            for _ in 0..100 {
                report.log.push(LogRecord {
                    level: 3,
                    target: String::new(),
                    message: String::new(),
                });
            }
            report.incumbent = Some(Incumbent {
                objective: 1.0,
                bound: Some(0.5),
                solution: vec![0; 100],
            });
            let mut encoded = Vec::new();
            ciborium::into_writer(&report, &mut encoded).unwrap();
            assert!(
                report.size() + 64 >= encoded.len(),
                "{} {}",
                report.size(),
                encoded.len()
            );
        }
    }
}
