//! The TOML form of a host file.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{Host, HostProblem, HostsError, at};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    host: Vec<Table>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    user: Option<String>,
    port: Option<u16>,
    slots: Option<u32>,
    memory: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Spanned<String>,
    user: Option<String>,
    port: Option<u16>,
    slots: Option<u32>,
    memory: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The hosts, whose names may have ranges, and the lines of their names.
pub(super) fn parse(text: &str) -> Result<Vec<(usize, Host)>, HostsError> {
    let line_of = |offset: usize| {
        let before = text.as_bytes().get(..offset).unwrap_or_default();
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    };
    let file: File = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        at(
            line_of(start),
            HostProblem::Toml(error.message().to_owned()),
        )
    })?;
    let File { defaults, host } = file;
    let hosts = host.into_iter().map(|table| {
        let mut labels = defaults.labels.clone();
        labels.extend(table.labels);
        let line = line_of(table.name.span().start);
        let host = Host {
            name: table.name.into_inner(),
            user: table.user.or_else(|| defaults.user.clone()),
            port: table.port.or(defaults.port),
            slots: table.slots.or(defaults.slots),
            memory: table.memory.or_else(|| defaults.memory.clone()),
            labels,
        };
        (line, host)
    });
    Ok(hosts.collect())
}
