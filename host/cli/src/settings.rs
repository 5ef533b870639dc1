//! Where things are, and whom to talk to: flag, then environment, then file, then default; which of them
//! means what coordinator is [`crate::discovery`].

use std::collections::BTreeMap;
use std::env::VarError;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;
use etcetera::base_strategy::Xdg;
use optwasm_client::{Client, LocalConfig, Locator, Role, Token};
use optwasm_coordinator::dir::{self, Access};
use optwasm_protocol::ContentId;
use optwasm_protocol::access::AccessFile;
use optwasm_sandbox::{Compiler, SandboxConfig};
use serde::Deserialize;

use crate::COMPILE;
use crate::args::ConnectArgs;
use crate::discovery::{self, Choice, Layer, Place, TokenSource};
use crate::exit::{Exit, Failure};

/// The configuration file, in `$XDG_CONFIG_HOME`.
const CONFIG: &str = "optwasm/config.toml";

/// What is in it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// As `--connect`.
    connect: Option<String>,
    /// As `--access-file`.
    access_file: Option<PathBuf>,
    /// As `--token-file`.
    token_file: Option<PathBuf>,
    /// As `--dir`.
    dir: Option<PathBuf>,
    /// Coordinators that `--connect-profile` names.
    #[serde(default)]
    profile: BTreeMap<String, Profile>,
}

/// A coordinator that has a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    connect: Option<String>,
    access_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    dir: Option<PathBuf>,
}

impl Profile {
    fn layer(&self) -> Layer {
        Layer {
            connect: self.connect.clone(),
            access_file: self.access_file.clone(),
            token: self.token_file.clone().map(TokenSource::File),
        }
    }
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
    /// The access file that a flag names, which a coordinator that is started writes.
    pub access_flag: Option<PathBuf>,
    choice: Choice,
    /// The nearest token, whatever place it is for.
    nearest_token: Option<TokenSource>,
}

impl Settings {
    /// `dir` and `cache_dir` are what flags say.
    pub fn load(
        connect: ConnectArgs,
        dir: Option<PathBuf>,
        cache_dir: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        // Without a home directory it takes a word for each place that would be there.
        let base = Xdg::new().ok();
        let path = base.as_ref().map(|base| base.config_dir().join(CONFIG));
        let file = match &path {
            Some(path) => read_config(path)?,
            None => File::default(),
        };
        let path = path.unwrap_or_else(|| CONFIG.into());
        let profile = |name: Option<String>| match name {
            None => Ok(Profile::default()),
            Some(name) => file.profile.get(&name).cloned().ok_or_else(|| {
                let known: Vec<&str> = file.profile.keys().map(String::as_str).collect();
                Failure::usage(format!("{} has no profile `{name}`", path.display())).next(
                    match known.is_empty() {
                        true => format!("Add a section [profile.{name}] to it"),
                        false => format!("There are: {}", known.join(", ")),
                    },
                )
            }),
        };
        // Set to nothing means not set.
        let profile_flag = profile(connect.connect_profile.filter(|name| !name.is_empty()))?;
        let profile_env = profile(environment("OPTWASM_PROFILE")?)?;
        let access_flag = connect.access_file.filter(is_set);
        let token_file = connect.token_file.filter(is_set);
        let token_file_env = environment("OPTWASM_TOKEN_FILE")?.map(PathBuf::from);
        let token_env = environment("OPTWASM_TOKEN")?.map(TokenSource::Text);
        let layers = [
            Layer {
                connect: connect.connect.filter(|name| !name.is_empty()),
                access_file: access_flag.clone(),
                token: token_file.map(TokenSource::File),
            },
            profile_flag.layer(),
            Layer {
                connect: environment("OPTWASM_CONNECT")?,
                access_file: environment("OPTWASM_ACCESS")?.map(PathBuf::from),
                token: token_file_env.map(TokenSource::File).or(token_env),
            },
            profile_env.layer(),
            Layer {
                connect: file.connect,
                access_file: file.access_file,
                token: file.token_file.map(TokenSource::File),
            },
        ];
        let choice = discovery::choose(&layers);
        if let Place::Name(name) = &choice.place
            && !discovery::is_address(name)
        {
            return Err(Failure::usage(format!(
                "`{name}` is not of the form HOST:PORT"
            )));
        }
        let dirs = [
            dir,
            profile_flag.dir,
            environment("OPTWASM_DIR")?.map(PathBuf::from),
            profile_env.dir,
            file.dir,
        ];
        let caches = [
            cache_dir,
            std::env::var_os("OPTWASM_CACHE_DIR").map(PathBuf::from),
        ];
        let place = |said: &[Option<PathBuf>], else_in: fn(&Xdg) -> PathBuf, name| {
            let said = said.iter().flatten().find(is_set).cloned();
            let found = said.or_else(|| base.as_ref().map(|base| else_in(base).join("optwasm")));
            found.ok_or_else(|| {
                Failure::usage("there is no home directory").next(format!("Set $HOME, or {name}"))
            })
        };
        let state = |base: &Xdg| base.state_dir().unwrap_or_else(|| base.data_dir());
        Ok(Self {
            dir: place(&dirs, state, "$OPTWASM_DIR")?,
            cache_dir: place(&caches, BaseStrategy::cache_dir, "$OPTWASM_CACHE_DIR")?
                .join("modules"),
            patience: connect.patience,
            access_flag,
            choice,
            nearest_token: layers.iter().find_map(|layer| layer.token.clone()),
        })
    }

    /// The token that the user named: by a file, or in the environment.
    pub fn token(&self) -> Result<Option<Token>, Failure> {
        self.nearest_token.as_ref().map(read_token).transpose()
    }

    /// The coordinator that is configured, as `role` is to find it: named by the user, or running on
    /// this machine.
    pub fn remote(&self, role: Role) -> Result<Option<Locator>, Failure> {
        let token = self.choice.token.as_ref().map(read_token).transpose()?;
        match (&self.choice.place, token) {
            (Place::Name(name), Some(token)) => Ok(Some(Locator::Name(name.clone(), token))),
            (Place::Name(name), None) => match dir::access(&self.dir)? {
                Some(access) if stands_for(name, access.address) => local(&access, None).map(Some),
                _ => Err(Failure::new(
                    Exit::Unauthorized,
                    format!("connecting to {name} needs a token"),
                )
                .next("Put it into a file and name that with --token-file, or set $OPTWASM_TOKEN")),
            },
            (Place::File(path), token) => Ok(Some(Locator::File {
                path: path.clone(),
                role,
                token,
            })),
            (Place::Here, token) => match dir::access(&self.dir)? {
                Some(access) => local(&access, token).map(Some),
                None => Ok(None),
            },
        }
    }

    /// The coordinator that is configured, where there has to be one.
    pub fn required_remote(&self, role: Role) -> Result<Locator, Failure> {
        self.remote(role)?.ok_or_else(|| {
            Failure::new(
                Exit::Unreachable,
                "no coordinator is running on this machine",
            )
            .next("Start one with `optwasm coordinator`, or name one with --connect HOST:PORT")
        })
    }

    /// `HOST:PORT` of the coordinator that is configured, as other machines reach it, and as this one
    /// does.
    pub fn addresses(&self) -> Result<(String, String), Failure> {
        match &self.choice.place {
            Place::Name(name) => Ok((name.clone(), name.clone())),
            Place::File(path) => {
                let address = AccessFile::read(path)?.address;
                Ok((address.clone(), address))
            }
            Place::Here => match dir::access(&self.dir)? {
                Some(access) => Ok((access.advertised, access.address.to_string())),
                None => Err(self.required_remote(Role::Client).map_or_else(
                    |failure| failure,
                    |_| Failure::new(Exit::Unreachable, "the coordinator ended"),
                )),
            },
        }
    }

    /// A token for workers that is at hand: in the file that the user names, in the access file, in the
    /// coordinator's directory, or the one that this command was given.
    pub fn worker_token(&self, file: Option<&Path>) -> Result<Option<Token>, Failure> {
        if let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) {
            return read_token(&TokenSource::File(path.to_owned())).map(Some);
        }
        match &self.choice.place {
            Place::File(path) => Ok(Some(AccessFile::read(path)?.token(Role::Worker, path)?)),
            Place::Here if self.choice.token.is_none() => {
                let path = dir::token_file(&self.dir, Role::Worker);
                match path.exists() {
                    true => read_token(&TokenSource::File(path)).map(Some),
                    false => Ok(None),
                }
            }
            Place::Here | Place::Name(_) => Ok(self
                .token()?
                .filter(|token| token.claims.role == Role::Worker)),
        }
    }

    /// A client of the coordinator that is configured.
    pub async fn client(&self) -> Result<Client, Failure> {
        self.connect_to(self.required_remote(Role::Client)?).await
    }

    /// A client of that coordinator.
    pub async fn connect_to(&self, remote: Locator) -> Result<Client, Failure> {
        let mut client = Client::find(remote).await?;
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

fn read_token(source: &TokenSource) -> Result<Token, Failure> {
    let text = match source {
        TokenSource::Text(text) => text.clone(),
        TokenSource::File(path) => {
            let mut text = String::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(TOKEN_FILE_MAX).read_to_string(&mut text))
                .map_err(|error| {
                    Failure::new(Exit::NotFound, format!("{}: {error}", path.display()))
                })?;
            text
        }
    };
    let token = text.parse::<Token>();
    token.map_err(|error| Failure::new(Exit::Unauthorized, error))
}

/// The configuration file; nothing where there is none.
fn read_config(path: &Path) -> Result<File, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // Not a directory: $HOME is /dev/null, or the like.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(File::default());
        }
        Err(error) => {
            return Err(Failure::usage(format!("{}: {error}", path.display()))
                .next("Make it readable, or choose another folder with $XDG_CONFIG_HOME"));
        }
    };
    toml::from_str(&text).map_err(|error| {
        let text = format!("{}: {}", path.display(), error.to_string().trim_end());
        Failure::usage(text)
            .next("Correct it. Its keys are listed in docs/operations.md, section 5")
    })
}

/// A variable of the environment; set to nothing means not set.
fn environment(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Failure::usage(format!("${name} is not UTF-8"))),
    }
}

fn is_set(path: &impl AsRef<OsStr>) -> bool {
    !path.as_ref().is_empty()
}

/// The coordinator that runs on this machine.
fn local(access: &Access, token: Option<Token>) -> Result<Locator, Failure> {
    let token = match token {
        Some(token) => token,
        None => access.token.parse().map_err(Failure::usage)?,
    };
    Ok(Locator::Address(access.address, token))
}

/// Whether `HOST:PORT` stands for this address.
fn stands_for(name: &str, address: SocketAddr) -> bool {
    name.to_socket_addrs()
        .is_ok_and(|mut found| found.any(|one| one == address))
}
