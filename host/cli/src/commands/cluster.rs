//! `optwasm workers`, `token`, `shutdown`: the coordinator and who is connected to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use optwasm_client::{Role, WorkerStatus};
use serde_json::{Value as Json, json};

use crate::args::{DrainArgs, Format, ListArgs, ShutdownArgs, TokenAction, TokenArgs};
use crate::exit::{Exit, Failure};
use crate::output::{print, table};
use crate::settings::Settings;
use crate::units::show_bytes;

fn state(status: &WorkerStatus) -> String {
    match (&status.aside, status.away_ms, status.draining) {
        (Some(why), ..) => format!("put aside: {why}"),
        (_, Some(ms), _) => format!("away for {} s", ms / 1000),
        (_, _, true) => "draining".to_owned(),
        _ if status.held > 0 => "working".to_owned(),
        _ => "idle".to_owned(),
    }
}

pub async fn workers(settings: &Settings, args: ListArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    let workers = client.workers().await?;
    let json = |status: &WorkerStatus| {
        json!({
            "schema": "optwasm.worker/1",
            "worker": status.worker.0,
            "name": status.info.name,
            "address": status.peer,
            "slots": status.info.slots,
            "memory": status.info.memory,
            "labels": status.info.labels,
            "engine": status.info.engine,
            "held": status.held,
            "done": status.done,
            "state": state(status),
            "draining": status.draining,
            "away_ms": status.away_ms,
            "aside": status.aside,
            "probe": status.info.probe,
        })
    };
    match args.output {
        Format::Quiet => {}
        Format::Json => {
            let all: Json = workers.iter().map(json).collect();
            print(json!({ "schema": "optwasm.workers/1", "workers": all }))?;
        }
        Format::Jsonl => workers.iter().try_for_each(|status| print(json(status)))?,
        Format::Table => {
            let mut table = table([
                "WORKER", "NAME", "STATE", "ADDRESS", "SLOTS", "HELD", "DONE", "MEMORY", "ENGINE",
                "LABELS",
            ]);
            for status in &workers {
                let labels = status.info.labels.iter();
                let labels: Vec<String> = labels.map(|(k, v)| format!("{k}={v}")).collect();
                table.add_row([
                    status.worker.to_string(),
                    status.info.name.clone(),
                    state(status),
                    status.peer.clone(),
                    status.info.slots.to_string(),
                    status.held.to_string(),
                    status.done.to_string(),
                    show_bytes(status.info.memory),
                    status.info.engine.clone(),
                    labels.join(" "),
                ]);
            }
            print(table)?;
        }
    }
    client.close().await;
    Ok(Exit::Success)
}

pub async fn token(settings: &Settings, args: TokenArgs) -> Result<Exit, Failure> {
    match args.action {
        TokenAction::Create {
            role,
            namespace,
            expires,
        } => {
            let client = settings.client().await?;
            let seconds = expires.map_or(0, |duration| duration.as_secs().max(1));
            print(match namespace {
                Some(namespace) => client.issue_token_of(&namespace, role, seconds).await?,
                None => client.issue_token(role, seconds).await?,
            })?;
            client.close().await;
        }
        TokenAction::Inspect => {
            let Some(token) = settings.token()? else {
                return Err(Failure::usage(
                    "name a token with --token-file, or set $OPTWASM_TOKEN",
                ));
            };
            let claims = token.claims;
            let expires = match claims.expires {
                0 => "never".to_owned(),
                seconds => {
                    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
                    time.map_or("never".to_owned(), |time| {
                        humantime::format_rfc3339_seconds(time).to_string()
                    })
                }
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let expired = claims.is_expired(now.map_or(0, |now| now.as_secs()));
            print(format_args!("name:        {}", claims.name()))?;
            print(format_args!("role:        {}", claims.role))?;
            if matches!(claims.role, Role::Client | Role::Read) {
                print(format_args!("namespace:   {}", claims.namespace))?;
            }
            let note = if expired { " (expired)" } else { "" };
            print(format_args!("expires:     {expires}{note}"))?;
            print(format_args!("coordinator: {}", token.fingerprint))?;
        }
        TokenAction::Revoke { name } => {
            let client = settings.client().await?;
            client.revoke_token(&name).await?;
            client.close().await;
        }
    }
    Ok(Exit::Success)
}

pub async fn drain(settings: &Settings, args: DrainArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    for worker in args.workers {
        client.drain_worker(worker).await?;
    }
    client.close().await;
    Ok(Exit::Success)
}

pub async fn shutdown(settings: &Settings, args: ShutdownArgs) -> Result<Exit, Failure> {
    let client = settings.client().await?;
    client.shutdown(args.with_workers).await?;
    Ok(Exit::Success)
}
