//! `optwasm explain`: why a job is not running, or what happened to it.

use std::time::Duration;

use optwasm_client::{AttemptEnd, Ending, Explanation, Phase};
use serde_json::{Value as Json, json};

use crate::args::{ExplainArgs, Format};
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::settings::Settings;
use crate::units::{show_bytes, show_count, show_micros};

pub async fn run(settings: &Settings, args: ExplainArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let explanation = client.explain(args.job).await?;
    client.close().await;
    match args.output {
        Format::Quiet => {}
        Format::Json | Format::Jsonl => print(json(&explanation))?,
        Format::Table => print(text(&explanation).join("\n"))?,
    }
    Ok(Exit::Success)
}

fn seconds(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

/// How an attempt ended, in words.
fn ending(end: &AttemptEnd) -> String {
    match &end.ending {
        Ending::Retried(outcome) => format!("ended with `{outcome}`, and was tried again"),
        Ending::Lost { blamed: true } => {
            "its worker was lost while it may have been running".to_owned()
        }
        Ending::Lost { blamed: false } => "its worker was lost before it began".to_owned(),
        Ending::Witness => "gave a result that others were asked to confirm".to_owned(),
        Ending::Differs => "gave another result than the one that counts".to_owned(),
        Ending::Confirms => "came late, with the same result as the one that counts".to_owned(),
        Ending::Reopened(outcome) => format!("ended with `{outcome}`, and was run again by a user"),
    }
}

fn text(explanation: &Explanation) -> Vec<String> {
    let mut lines = vec![match &explanation.phase {
        Phase::Waiting(why) => format!("job {} waits: {why}", explanation.job),
        Phase::Held {
            worker,
            worker_name,
            attempt,
            for_ms,
            away_ms,
        } => {
            let away = away_ms.map_or_else(String::new, |ms| {
                format!("; that has been away for {}", seconds(ms))
            });
            format!(
                "job {}: attempt {attempt} is with worker {worker} ({worker_name}) for {}{away}",
                explanation.job,
                seconds(*for_ms)
            )
        }
        Phase::Ended => match &explanation.report {
            Some(report) if report.memo => format!(
                "job {} did not run: an identical job had this result: {}",
                explanation.job, report.outcome
            ),
            Some(report) => {
                let attempt = match report.attempt {
                    0 => "without running".to_owned(),
                    attempt => format!("in attempt {attempt}"),
                };
                format!(
                    "job {} ended {attempt}: {}",
                    explanation.job, report.outcome
                )
            }
            None => format!("job {} has ended", explanation.job),
        },
    }];
    for end in &explanation.history {
        let attempt = match end.attempt {
            0 => "another attempt".to_owned(),
            attempt => format!("attempt {attempt}"),
        };
        lines.push(format!(
            "  {attempt} on {}: {}",
            end.worker_name,
            ending(end)
        ));
    }
    if let Some(report) = &explanation.report {
        if !report.worker.is_empty() {
            lines.push(format!(
                "  attempt {} on {}: {}, {} of fuel, {} of memory, {}",
                report.attempt,
                report.worker,
                report.outcome.name(),
                show_count(report.fuel),
                show_bytes(report.peak_memory),
                show_micros(report.wall_us),
            ));
        }
        if !report.witnesses.is_empty() {
            lines.push(format!(
                "  workers that agree: {}",
                report.witnesses.join(", ")
            ));
        }
        for record in &report.log {
            lines.push(format!("  {}: {}", record.target, record.message));
        }
    }
    let limits = &explanation.limits;
    lines.push(format!(
        "  module {:?}, profile {}, input {}; may use {} of fuel, {} of memory, {}",
        explanation.template.module,
        explanation.template.profile,
        show_bytes(explanation.input.as_ref().map_or(0, |input| input.len())),
        show_count(limits.fuel),
        show_bytes(limits.memory),
        seconds(limits.deadline_ms),
    ));
    if explanation.report.is_some() {
        lines.push(format!(
            "Run it here with: optwasm replay {}",
            explanation.job
        ));
    }
    lines
}

fn json(explanation: &Explanation) -> Json {
    let history = explanation.history.iter().map(|end| {
        json!({
            "attempt": end.attempt,
            "worker": end.worker.0,
            "worker_name": end.worker_name,
            "ended_ms": end.ended_ms,
            "ending": end.ending,
            "text": ending(end),
        })
    });
    let report = explanation.report.as_ref().map(|report| {
        json!({
            "outcome": report.outcome.name(),
            "text": report.outcome.to_string(),
            "attempt": report.attempt,
            "worker": report.worker,
            "fuel": report.fuel,
            "memo": report.memo,
            "witnesses": report.witnesses,
        })
    });
    json!({
        "schema": "optwasm.explanation/1",
        "job": explanation.job.to_string(),
        "phase": explanation.phase,
        "history": history.collect::<Vec<_>>(),
        "result": report,
        "module": explanation.template.module,
        "profile": explanation.template.profile,
        "limits": explanation.limits,
        "text": text(explanation),
    })
}
