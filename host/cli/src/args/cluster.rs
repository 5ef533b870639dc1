//! What can be typed about coordinators, workers, tokens and namespaces.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use optwasm_client::{Limit, Namespace, Role, WorkerId};

use super::{Format, ListArgs, path};
use crate::units::{
    parse_bytes, parse_bytes_limit, parse_count, parse_count_limit, parse_duration, parse_pair,
};

#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Only that of this namespace
    #[arg(long)]
    pub namespace: Option<Namespace>,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// How the list is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct NamespaceArgs {
    #[command(subcommand)]
    pub action: NamespaceAction,
}

#[derive(Debug, Subcommand)]
pub enum NamespaceAction {
    /// List namespaces, and what each may have
    List(ListArgs),
    /// Change what a namespace may have, which need not be known yet
    Set {
        /// Its name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`
        name: Namespace,
        #[command(flatten)]
        quota: QuotaArgs,
    },
}

#[derive(Debug, Args)]
pub struct QuotaArgs {
    /// Share of the workers' time among namespaces that have jobs waiting [at first: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub weight: Option<u32>,
    /// Jobs that may wait, or `none` [at first: none]
    #[arg(long, value_name = "N", value_parser = parse_count_limit)]
    pub max_queued: Option<Limit>,
    /// Bytes of inputs, results and blobs, or `none` [at first: none]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_limit)]
    pub max_bytes: Option<Limit>,
    /// Fuel that may be used in all, or `none` [at first: none]
    #[arg(long, value_name = "FUEL", value_parser = parse_count_limit)]
    pub max_fuel: Option<Limit>,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Numbers of the workers, as `optwasm workers` lists them
    #[arg(required = true)]
    pub workers: Vec<WorkerId>,
}

#[derive(Debug, Args)]
pub struct ShutdownArgs {
    /// Have its workers leave, too
    #[arg(long)]
    pub with_workers: bool,
}

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Issue a token and print it
    Create {
        /// What its holder may do: admin, client, worker, read
        role: Role,
        /// Whose batches a client or reader sees [default: those of the namespace `default`]
        #[arg(long)]
        namespace: Option<Namespace>,
        /// How long it is valid [default: for ever]
        #[arg(long, value_parser = parse_duration)]
        expires: Option<Duration>,
    },
    /// Say what a token allows; it is read from the token file or $OPTWASM_TOKEN
    Inspect,
    /// Revoke a token by its name, for good
    Revoke {
        /// The name, as `token inspect` prints it
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CoordinatorArgs {
    #[command(subcommand)]
    pub action: Option<CoordinatorAction>,
    #[command(flatten)]
    pub start: StartArgs,
}

#[derive(Debug, Args)]
pub struct StartArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "0.0.0.0:4710", env = "OPTWASM_LISTEN")]
    pub listen: SocketAddr,
    /// How other machines reach it [default: this machine's name, or the address to listen on]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub advertise: Option<String>,
    /// Let the access file admit clients, too, and not only workers
    #[arg(long, requires = "access_file")]
    pub access_clients: bool,
    /// Most that batches, results and blobs may occupy; beyond it new work is refused
    #[arg(long, default_value = "1TiB", value_parser = parse_bytes)]
    pub max_store: u64,
    /// Disk space kept free, so that results find room when the disk is full
    #[arg(long, default_value = "64MiB", value_parser = parse_bytes)]
    pub reserve: u64,
    /// Where blobs are kept: a URL such as s3://bucket/folder [default: the directory]
    #[arg(long, value_name = "URL")]
    pub blobs: Option<String>,
    /// Keep everything in memory: what is acknowledged ends with the process
    #[arg(long, conflicts_with_all = ["reserve", "blobs"])]
    pub in_memory: bool,
    /// How long a worker that lost its connection keeps what it runs
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub lease: Duration,
    /// Jobs of one namespace that may wait; a submission beyond that waits, too
    #[arg(long, value_parser = parse_count)]
    pub max_queued: Option<u64>,
    /// Forget batches so long after they ended [default: when they are removed]
    #[arg(long, value_parser = parse_duration)]
    pub keep: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum CoordinatorAction {
    /// Show how the coordinator is
    Status(ListArgs),
    /// Take no new jobs, hand out none, and stop when none is running
    Drain,
    /// Find what is damaged in its directory, while it is stopped
    Check {
        /// Put aside what is damaged, so that the rest can be used
        #[arg(long)]
        repair: bool,
        /// How the findings are printed
        #[arg(long, default_value = "table")]
        output: Format,
    },
    /// Copy all that it keeps, while it runs or is stopped
    Backup {
        /// Directory to write, which must be empty or not exist
        #[arg(value_hint = ValueHint::DirPath)]
        dest: PathBuf,
    },
    /// Give space of removed batches back to the disk, while it is stopped
    Compact,
}

#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Jobs at once [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub slots: Option<u32>,
    /// Memory for all jobs together [default: 80 % of this machine's, or of what its control group may use]
    #[arg(long, value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Label that batches may require
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// Name, for people [default: the machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Leave after so long without work, counted from connecting, also while the connection is lost
    #[arg(long, value_parser = parse_duration)]
    pub idle_timeout: Option<Duration>,
    /// Leave after so long, and take no job before that cannot end by then
    #[arg(long, value_parser = parse_duration)]
    pub leave_after: Option<Duration>,
    /// Where compiled modules are kept [env: OPTWASM_CACHE_DIR] [default: $XDG_CACHE_HOME/optwasm]
    #[arg(long, value_parser = path(), value_hint = ValueHint::DirPath)]
    pub cache_dir: Option<PathBuf>,
    /// Blobs kept in memory, at most
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes)]
    pub blob_cache: u64,
    /// Leave when this process, which is the parent, has ended
    #[arg(long, hide = true)]
    pub parent: Option<u32>,
}
