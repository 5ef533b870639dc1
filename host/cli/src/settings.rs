//! Where things are, and whom to talk to: flag, then environment, then file, then default.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;
use optwasm_client::{Client, LocalConfig, Token};
use optwasm_coordinator::dir;
use optwasm_protocol::ContentId;
use optwasm_sandbox::{Compiler, SandboxConfig};
use serde::Deserialize;

use crate::COMPILE;
use crate::args::ConnectArgs;
use crate::exit::{Exit, Failure};

/// `$XDG_CONFIG_HOME/optwasm/config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// As `--connect`.
    connect: Option<String>,
    /// As `--token-file`.
    token_file: Option<PathBuf>,
    /// As `--dir`.
    dir: Option<PathBuf>,
}

/// What holds for every command.
#[derive(Debug)]
pub struct Settings {
    /// The directory of this machine's coordinator.
    pub dir: PathBuf,
    /// Where compiled modules are kept.
    pub cache_dir: PathBuf,
    /// How long to try to connect again.
    pub patience: Duration,
    connect: Option<String>,
    token_file: Option<PathBuf>,
    /// The token file that the configuration names, which an environment variable overrides.
    configured_token_file: Option<PathBuf>,
}

/// A coordinator and what admits to it.
pub struct Remote {
    pub address: SocketAddr,
    pub token: Token,
}

impl Settings {
    pub fn load(connect: ConnectArgs, dir: Option<PathBuf>) -> Result<Self, Failure> {
        let base = etcetera::base_strategy::Xdg::new()
            .map_err(|_| Failure::usage("there is no home directory: set $HOME, or use --dir"))?;
        let path = base.config_dir().join("optwasm/config.toml");
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
            Err(_) => File::default(),
        };
        let state = base.state_dir().unwrap_or_else(|| base.data_dir());
        Ok(Self {
            dir: dir.or(file.dir).unwrap_or_else(|| state.join("optwasm")),
            cache_dir: std::env::var_os("OPTWASM_CACHE_DIR")
                .map_or_else(|| base.cache_dir().join("optwasm"), PathBuf::from)
                .join("modules"),
            patience: connect.patience,
            // Set to nothing means not set.
            connect: connect
                .connect
                .filter(|name| !name.is_empty())
                .or(file.connect),
            token_file: connect.token_file,
            configured_token_file: file.token_file,
        })
    }

    /// The token that the user named: by a file, or in the environment.
    pub fn token(&self) -> Result<Option<Token>, Failure> {
        let text = if let Some(path) = &self.token_file {
            read_token(path)?
        } else if let Ok(text) = std::env::var("OPTWASM_TOKEN") {
            text
        } else if let Some(path) = &self.configured_token_file {
            read_token(path)?
        } else {
            return Ok(None);
        };
        let token = text.parse::<Token>();
        token
            .map(Some)
            .map_err(|error| Failure::new(Exit::Unauthorized, error))
    }

    /// The coordinator that is configured: named by the user, or running on this machine.
    pub fn remote(&self) -> Result<Option<Remote>, Failure> {
        let token = self.token()?;
        if self.connect.is_none() || token.is_none() {
            let access = dir::access(&self.dir)?;
            return match (&self.connect, access) {
                (None, None) => Ok(None),
                (None, Some(access)) => Ok(Some(Remote {
                    address: access.address,
                    token: match token {
                        Some(token) => token,
                        None => access.token.parse().map_err(Failure::usage)?,
                    },
                })),
                (Some(name), Some(access)) if resolve(name)? == access.address => {
                    Ok(Some(Remote {
                        address: access.address,
                        token: access.token.parse().map_err(Failure::usage)?,
                    }))
                }
                (Some(name), _) => Err(Failure::new(
                    Exit::Unauthorized,
                    format!("connecting to {name} needs a token"),
                )
                .next("Put it into a file and name that with --token-file, or set $OPTWASM_TOKEN")),
            };
        }
        let (Some(name), Some(token)) = (&self.connect, token) else {
            return Ok(None);
        };
        Ok(Some(Remote {
            address: resolve(name)?,
            token,
        }))
    }

    /// The coordinator that is configured, where there has to be one.
    pub fn required_remote(&self) -> Result<Remote, Failure> {
        self.remote()?.ok_or_else(|| {
            Failure::new(
                Exit::Unreachable,
                "no coordinator is running on this machine",
            )
            .next("Start one with `optwasm coordinator`, or name one with --connect HOST:PORT")
        })
    }

    /// A client of the coordinator that is configured.
    pub async fn client(&self) -> Result<Client, Failure> {
        let remote = self.required_remote()?;
        self.connect_to(&remote).await
    }

    /// A client of that coordinator.
    pub async fn connect_to(&self, remote: &Remote) -> Result<Client, Failure> {
        let mut client = Client::connect(remote.address, &remote.token).await?;
        client.patience(self.patience);
        Ok(client)
    }

    /// A client that runs jobs here.
    pub async fn local_client(&self, slots: Option<u32>) -> Result<Client, Failure> {
        let slots = slots.unwrap_or_else(cores).clamp(1, 4096);
        let config = LocalConfig {
            sandbox: sandbox_config(slots, Some(self.cache_dir.clone())),
            memory: u64::MAX,
        };
        Ok(Client::local(config).await?)
    }
}

/// A sandbox that compiles in a child process, but for modules that came with this program.
pub fn sandbox_config(slots: u32, cache_dir: Option<PathBuf>) -> SandboxConfig {
    let compiler = match std::env::current_exe() {
        Ok(program) => Compiler::Child {
            program,
            args: vec![COMPILE.to_owned()],
        },
        Err(_) => Compiler::InProcess,
    };
    SandboxConfig {
        cache_dir,
        compiler,
        trusted: optwasm_bundle::ids().map(ContentId::from_bytes).collect(),
        ..SandboxConfig::new(slots)
    }
}

/// Cores of this machine that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// Largest file that is read in search of a token.
const TOKEN_FILE_MAX: u64 = 4096;

fn read_token(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(TOKEN_FILE_MAX).read_to_string(&mut text))
        .map_err(|error| Failure::new(Exit::NotFound, format!("{}: {error}", path.display())))?;
    Ok(text)
}

/// The address that `HOST:PORT` stands for; IPv4 first, which listens by default.
fn resolve(name: &str) -> Result<SocketAddr, Failure> {
    let found = name
        .to_socket_addrs()
        .map_err(|error| Failure::new(Exit::Unreachable, format!("{name}: {error}")))?;
    let mut all: Vec<SocketAddr> = found.collect();
    all.sort_by_key(|address| !address.is_ipv4());
    all.first()
        .copied()
        .ok_or_else(|| Failure::new(Exit::Unreachable, format!("{name} has no address")))
}
