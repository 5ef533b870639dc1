//! `optwasm coordinator status|drain|check|backup|compact`: how a coordinator and its directory are.

use std::path::Path;

use optwasm_coordinator::dir::StateDir;
use optwasm_store::{BlobPlace, SqliteOptions, SqliteStore, sqlite};
use serde_json::json;

use crate::args::{Format, ListArgs, StartArgs};
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::settings::Settings;
use crate::units::{show_bytes, show_count};

/// Opens the store of the coordinator that is being started.
pub fn open(settings: &Settings, args: &StartArgs) -> Result<SqliteStore, Failure> {
    let options = SqliteOptions {
        limit: args.max_store,
        reserve: args.reserve,
        blobs: match &args.blobs {
            Some(url) => BlobPlace::Url(url.clone()),
            None => BlobPlace::default(),
        },
        ..SqliteOptions::default()
    };
    Ok(SqliteStore::open(&settings.dir, options)?)
}

pub async fn status(settings: &Settings, args: ListArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let status = client.status().await?;
    client.close().await;
    match args.output {
        Format::Quiet => {}
        Format::Json | Format::Jsonl => {
            let mut document = json!(status);
            document["schema"] = "optwasm.coordinator/1".into();
            print(document)?;
        }
        Format::Table => {
            let state = match (&status.refusing, status.draining) {
                (Some(why), _) => format!("refuses new work: {why}"),
                (None, true) => "draining".to_owned(),
                (None, false) => "in service".to_owned(),
            };
            print(format_args!("state:    {state}"))?;
            print(format_args!(
                "workers:  {} connected, {} away",
                status.workers, status.away
            ))?;
            print(format_args!(
                "jobs:     {} waiting, {} with workers, in {} batches",
                show_count(status.waiting),
                show_count(status.held),
                status.live_batches
            ))?;
            print(format_args!("store:    {}", status.store))?;
            print(format_args!(
                "space:    {} used, room for {}",
                show_bytes(status.used),
                show_bytes(status.room)
            ))?;
            print(format_args!("software: {}", status.software))?;
        }
    }
    Ok(Exit::Success)
}

pub async fn drain(settings: &Settings) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    client.drain().await?;
    client.close().await;
    Ok(Exit::Success)
}

pub fn check(settings: &Settings, repair: bool, output: Format) -> Result<Exit, Failure> {
    let _lock = StateDir::open(&settings.dir)?;
    let report = sqlite::check(&settings.dir, repair)?;
    let damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
    match output {
        Format::Quiet => {}
        Format::Json | Format::Jsonl => print(json!({
            "schema": "optwasm.check/1",
            "batches": report.batches,
            "results": report.results,
            "blobs": report.blobs,
            "damage": damage,
            "repaired": repair && !damage.is_empty(),
        }))?,
        Format::Table => {
            for line in &damage {
                print(line)?;
            }
            print(format_args!(
                "checked {} batches, {} results and {} blobs: {}",
                report.batches,
                report.results,
                report.blobs,
                match damage.len() {
                    0 => "all is well".to_owned(),
                    found => format!("{found} damaged"),
                }
            ))?;
        }
    }
    if damage.is_empty() {
        return Ok(Exit::Success);
    }
    if repair {
        if output == Format::Table {
            print("What is damaged was put aside; the rest can be used.")?;
        }
        return Ok(Exit::Success);
    }
    Err(Failure::new(Exit::Storage, "the store is damaged")
        .next("Put aside what is damaged with: optwasm coordinator check --repair"))
}

pub fn backup(settings: &Settings, dest: &Path) -> Result<Exit, Failure> {
    sqlite::backup(&settings.dir, dest)?;
    StateDir::copy_identity(&settings.dir, dest)?;
    print(format_args!(
        "copied to {}; it is used with: optwasm coordinator --dir {}",
        dest.display(),
        dest.display()
    ))?;
    Ok(Exit::Success)
}

pub fn compact(settings: &Settings) -> Result<Exit, Failure> {
    let _lock = StateDir::open(&settings.dir)?;
    sqlite::compact(&settings.dir)?;
    Ok(Exit::Success)
}
