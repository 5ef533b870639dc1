//! `optwasm jobs`, `watch`, `wait`, `results`, `cancel`, `rm`: batches on a coordinator.

use optwasm_client::{BatchStatus, LimitsChange, Order, Outcome, Which};
use serde_json::{Value as Json, json};

use crate::args::{
    BatchArgs, Format, JobsArgs, ProgressArg, RemoveArgs, ResultsArgs, RetryArgs, WaitArgs,
};
use crate::commands::run::output_is_cbor;
use crate::exit::{Exit, Failure};
use crate::output::{ResultPrinter, print, table};
use crate::progress::Progress;
use crate::run_batch::{Follow, Signals, follow};
use crate::settings::Settings;
use crate::units::show_count;

fn state(status: &BatchStatus) -> &'static str {
    match (status.is_done(), status.cancelled) {
        (_, true) => "cancelled",
        (true, _) if status.failed() > 0 => "failed",
        (true, _) => "done",
        _ if status.running > 0 => "running",
        _ => "waiting",
    }
}

fn json(status: &BatchStatus) -> Json {
    json!({
        "schema": "optwasm.batch/1",
        "batch": status.batch.0,
        "namespace": status.namespace.as_str(),
        "name": status.name,
        "module": status.module.to_string(),
        "state": state(status),
        "jobs": status.jobs,
        "running": status.running,
        "done": status.done,
        "outcomes": status.outcomes,
        "retries": status.retries,
        "memo": status.memo,
        "confirmed": status.confirmed,
        "contradicted": status.contradicted,
        "fuel": status.fuel,
        "submitted_ms": status.submitted_ms,
        "ended_ms": status.ended_ms,
        "waiting_for": status.waiting_for,
    })
}

/// Exit code of a batch that is done.
fn exit(status: &BatchStatus) -> Exit {
    if status.outcomes.contains_key("disputed") {
        return Exit::Unverified;
    }
    match (status.cancelled, status.failed()) {
        (true, _) => Exit::Cancelled,
        (_, 0) => Exit::Success,
        _ => Exit::JobsFailed,
    }
}

pub async fn jobs(settings: &Settings, args: JobsArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let batches = match &args.namespace {
        Some(namespace) => client.batches_of(namespace).await?,
        None => client.batches().await?,
    };
    match args.list.output {
        Format::Quiet => {}
        Format::Json => {
            let all: Json = batches.iter().map(json).collect();
            print(json!({ "schema": "optwasm.batches/1", "batches": all }))?;
        }
        Format::Jsonl => batches.iter().try_for_each(|status| print(json(status)))?,
        Format::Table => {
            let mut header = vec![
                "BATCH", "STATE", "DONE", "RUNNING", "FAILED", "FUEL", "NAME",
            ];
            // Where there is only one, nobody needs to know of it.
            let several = batches.iter().any(|status| !status.namespace.is_default());
            if several {
                header.push("NAMESPACE");
            }
            let mut table = table(header);
            for status in &batches {
                let mut row = vec![
                    status.batch.to_string(),
                    state(status).to_owned(),
                    format!("{}/{}", status.done, status.jobs),
                    status.running.to_string(),
                    status.failed().to_string(),
                    show_count(status.fuel),
                    status.name.clone(),
                ];
                if several {
                    row.push(status.namespace.to_string());
                }
                table.add_row(row);
            }
            print(table)?;
        }
    }
    client.close().await;
    Ok(Exit::Success)
}

pub async fn watch(settings: &Settings, args: BatchArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let mut signals = Signals::listen()?;
    let mut watch = client.batch(args.batch).watch().await?;
    let mut progress: Option<Progress> = None;
    let mut last = None;
    loop {
        let status = tokio::select! {
            status = watch.next() => status?,
            signal = signals.next() => {
                if let Some(progress) = progress {
                    progress.finish();
                }
                return Ok(signal);
            }
        };
        let Some(status) = status else { break };
        progress
            .get_or_insert_with(|| Progress::new(status.jobs, ProgressArg::Auto))
            .update(&status);
        last = Some(status);
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    let Some(status) = last else {
        return Err(Failure::new(
            Exit::Unreachable,
            "the coordinator said nothing",
        ));
    };
    let outcomes = status.outcomes.iter();
    let outcomes: Vec<String> = outcomes
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    print(format_args!(
        "batch {}: {}/{} done: {}",
        status.batch,
        status.done,
        status.jobs,
        outcomes.join(", ")
    ))?;
    client.close().await;
    Ok(exit(&status))
}

pub async fn wait(settings: &Settings, args: WaitArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let mut signals = Signals::listen()?;
    let batch = client.batch(args.batch);
    let timeout = async {
        match args.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let status = tokio::select! {
        status = batch.wait() => status?,
        () = timeout => {
            let message = format!("batch {} is not done; it goes on", args.batch);
            return Err(Failure::new(Exit::TimedOut, message));
        }
        signal = signals.next() => return Ok(signal),
    };
    client.close().await;
    Ok(exit(&status))
}

pub async fn results(settings: &Settings, args: ResultsArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let batch = client.batch(args.batch);
    let status = batch.status().await?;
    let order = if args.as_completed {
        Order::Completion
    } else {
        Order::Input
    };
    // Whether outputs are CBOR stands in the module, which the coordinator has.
    let is_cbor = match client.get_blob(status.module).await {
        Ok(module) => output_is_cbor(&module, optwasm_client::Profile::Extended),
        Err(_) => false,
    };
    let mut printer =
        ResultPrinter::new(args.output, args.out_dir, Vec::new(), is_cbor, status.jobs)?;
    if args.follow {
        let how = Follow {
            local: false,
            wait_timeout: None,
            order,
            progress: match args.output {
                Some(Format::Quiet) => ProgressArg::None,
                _ => ProgressArg::Auto,
            },
        };
        return follow(&client, batch, &mut printer, status.jobs, how).await;
    }
    let mut results = batch.results_so_far(order).await?;
    let mut printed = 0;
    while let Some((index, report)) = results.next().await? {
        printer.result(&client, index, report).await?;
        printed += 1;
    }
    printer.finish()?;
    if printed < status.jobs && args.output.is_none() {
        eprintln!(
            "optwasm: {printed} of {} results; wait for the rest with --follow",
            status.jobs
        );
    }
    client.close().await;
    Ok(match printer.failed {
        0 => Exit::Success,
        _ => Exit::JobsFailed,
    })
}

pub async fn cancel(settings: &Settings, args: BatchArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    client.batch(args.batch).cancel().await?;
    client.close().await;
    Ok(Exit::Success)
}

pub async fn retry(settings: &Settings, args: RetryArgs) -> Result<Exit, Failure> {
    let unknown = |name: &&String| !Outcome::NAMES.contains(&name.as_str());
    if let Some(name) = args.outcome.iter().find(unknown) {
        return Err(Failure::usage(format!("no outcome is called `{name}`"))
            .next(format!("Outcomes are: {}", Outcome::NAMES.join(", "))));
    }
    let which = match args.jobs {
        Some(ranges) => Which::Jobs(ranges),
        None if args.all => Which::All,
        None if !args.outcome.is_empty() => Which::Outcomes(args.outcome),
        None => Which::Failed,
    };
    let change = LimitsChange {
        fuel: args.fuel,
        memory: args.memory,
        deadline_ms: args.deadline,
    };
    let client = settings.client().await?;
    let jobs = client.batch(args.batch).retry(which, change).await?;
    client.close().await;
    print(format_args!("batch {}: {jobs} jobs run again", args.batch))?;
    Ok(Exit::Success)
}

pub async fn remove(settings: &Settings, args: RemoveArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    for batch in args.batches {
        client.batch(batch).remove().await?;
    }
    client.close().await;
    Ok(Exit::Success)
}
