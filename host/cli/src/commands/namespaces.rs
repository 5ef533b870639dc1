//! `optwasm usage`, `namespace`: users of a coordinator, and what each may have.

use optwasm_client::{Namespace, NamespaceStatus, QuotaChange};
use serde_json::{Value as Json, json};

use crate::args::{Format, ListArgs, NamespaceAction, NamespaceArgs, QuotaArgs, UsageArgs};
use crate::exit::{Exit, Failure};
use crate::output::{print, table};
use crate::settings::Settings;
use crate::units::{show_bytes, show_count};

fn json(status: &NamespaceStatus) -> Json {
    let (quota, usage) = (&status.quota, &status.usage);
    json!({
        "schema": "optwasm.namespace/1",
        "namespace": status.namespace.as_str(),
        "weight": quota.weight,
        "max_queued": quota.max_queued,
        "max_bytes": quota.max_bytes,
        "max_fuel": quota.max_fuel,
        "ok": usage.ok,
        "failed": usage.failed,
        "cancelled": usage.cancelled,
        "memo": usage.memo,
        "fuel": usage.fuel,
        "slot_us": usage.slot_us,
        "bytes": usage.bytes,
        "queued": status.queued,
        "running": status.running,
    })
}

fn print_json(format: Format, all: &[NamespaceStatus]) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let all: Json = all.iter().map(json).collect();
            print(json!({ "schema": "optwasm.namespaces/1", "namespaces": all }))
        }
        Format::Jsonl => all.iter().try_for_each(|status| print(json(status))),
        Format::Quiet | Format::Table => Ok(()),
    }
}

/// Time in slots as people read it.
fn show_time(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0..60 => format!("{:.3} s", us as f64 / 1e6),
        _ => {
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            format!("{hours}:{minutes:02}:{:02}", seconds % 60)
        }
    }
}

pub async fn usage(settings: &Settings, args: UsageArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let mut all = client.namespaces().await?;
    if let Some(namespace) = &args.namespace {
        all.retain(|status| status.namespace == *namespace);
        if all.is_empty() {
            let why = format!("there is no namespace {namespace}");
            return Err(Failure::new(Exit::NotFound, why).next("List them with: optwasm usage"));
        }
    }
    let format = if args.json { Format::Json } else { args.output };
    print_json(format, &all)?;
    if format == Format::Table {
        let mut table = table([
            "NAMESPACE",
            "OK",
            "FAILED",
            "CANCELLED",
            "MEMO",
            "FUEL",
            "TIME",
            "BYTES",
            "QUEUED",
            "RUNNING",
        ]);
        for status in &all {
            let usage = &status.usage;
            table.add_row([
                status.namespace.to_string(),
                usage.ok.to_string(),
                usage.failed.to_string(),
                usage.cancelled.to_string(),
                usage.memo.to_string(),
                show_count(usage.fuel),
                show_time(usage.slot_us),
                show_bytes(usage.bytes),
                status.queued.to_string(),
                status.running.to_string(),
            ]);
        }
        print(table)?;
    }
    client.close().await;
    Ok(Exit::Success)
}

pub async fn namespace(settings: &Settings, args: NamespaceArgs) -> Result<Exit, Failure> {
    match args.action {
        NamespaceAction::List(args) => list(settings, args).await,
        NamespaceAction::Set { name, quota } => set(settings, &name, &quota).await,
    }
}

async fn list(settings: &Settings, args: ListArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let all = client.namespaces().await?;
    print_json(args.output, &all)?;
    if args.output == Format::Table {
        let mut table = table(["NAMESPACE", "WEIGHT", "MAX QUEUED", "MAX BYTES", "MAX FUEL"]);
        let show = |limit: Option<u64>, show: fn(u64) -> String| {
            limit.map_or_else(|| "none".to_owned(), show)
        };
        for status in &all {
            let quota = &status.quota;
            table.add_row([
                status.namespace.to_string(),
                quota.weight.to_string(),
                show(quota.max_queued, show_count),
                show(quota.max_bytes, show_bytes),
                show(quota.max_fuel, show_count),
            ]);
        }
        print(table)?;
    }
    client.close().await;
    Ok(Exit::Success)
}

async fn set(settings: &Settings, name: &Namespace, quota: &QuotaArgs) -> Result<Exit, Failure> {
    let change = QuotaChange {
        weight: quota.weight,
        max_queued: quota.max_queued,
        max_bytes: quota.max_bytes,
        max_fuel: quota.max_fuel,
    };
    if change == QuotaChange::default() {
        return Err(Failure::usage(
            "name what to change: --weight, --max-queued, --max-bytes or --max-fuel",
        ));
    }
    let client = settings.client().await?;
    client.set_quota(name, change).await?;
    client.close().await;
    Ok(Exit::Success)
}
