//! The built-in plugins as WebAssembly modules, with their manifests.
//!
//! A plugin is a job module with a name and a description of what it solves, its
//! [`Manifest`]. Its input is a problem file, its arguments are options, and its
//! output is a [`Solution`](optwasm_model::Solution) in CBOR. [`detect()`]
//! chooses the plugin for a file by the file's content.

mod detect;
mod manifest;

use std::sync::LazyLock;

pub use detect::{Unsolved, detect};
pub use manifest::{Kind, Linked, Manifest, ManifestError, OptionSpec};
/// Models, files and solutions: what plugins read and return.
pub use optwasm_model as model;

/// A built-in plugin.
#[derive(Debug)]
pub struct Plugin {
    /// What it says about itself.
    pub manifest: Manifest,
    /// The module.
    pub wasm: &'static [u8],
    /// BLAKE3 hash of the module.
    pub id: [u8; 32],
    /// All software that is linked into the module, with its licences.
    pub linked: Vec<Linked>,
}

impl Plugin {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }
}

/// All built-in plugins share the version of this workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A plugin as the build script found it.
struct Built {
    manifest: &'static str,
    /// The crates linked into it: `name version licence`, one a line.
    crates: &'static str,
    wasm: &'static [u8],
    /// BLAKE3 hash of `wasm`.
    id: [u8; 32],
}

static BUILT: &[Built] = include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

static PLUGINS: LazyLock<Vec<Plugin>> = LazyLock::new(|| {
    let read = |built: &Built| {
        let manifest: Manifest =
            toml::from_str(built.manifest).expect("a test reads every manifest");
        let mut linked = manifest.linked.clone();
        linked.extend(built.crates.lines().filter_map(|line| {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            Some(Linked {
                name: words.next()?,
                version: words.next()?,
                licence: words.next()?,
            })
        }));
        Plugin {
            manifest,
            wasm: built.wasm,
            id: built.id,
            linked,
        }
    };
    BUILT.iter().map(read).collect()
});

/// The determinism probe: a job that computes what machines are most likely to disagree about.
/// Workers on which it gives the same bytes for the same fuel agree on other jobs, too.
pub static PROBE: &[u8] = include_bytes!(env!("OPTWASM_PLUGIN_PROBE"));

/// BLAKE3 hash of the probe.
static PROBE_ID: [u8; 32] = *include_bytes!(concat!(env!("OUT_DIR"), "/probe.id"));

/// All built-in plugins. Which there are depends on what the build found: without a C++ compiler
/// for WebAssembly there is no `highs`.
pub fn plugins() -> &'static [Plugin] {
    &PLUGINS
}

/// BLAKE3 hashes of everything that is built in, plugins and probe. They were taken when it was
/// built: hashing tens of megabytes at every start would take milliseconds.
pub fn ids() -> impl Iterator<Item = [u8; 32]> {
    BUILT.iter().map(|built| built.id).chain([PROBE_ID])
}

/// The built-in plugin of that name.
pub fn find(name: &str) -> Option<&'static Plugin> {
    plugins().iter().find(|plugin| plugin.name() == name)
}
