//! Building guests: a cargo of its own, with the guest compiler and the guest flags.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{GuestToolchain, TARGET, ToolchainError, flags, run};

/// A build of one package's binaries for wasm32-wasip1.
///
/// The build never shares a target directory with a surrounding cargo: that would wait for the
/// surrounding one for ever. From a build script:
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use optwasm_toolchain::{GuestBuild, GuestToolchain, sources};
///
/// let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
/// let guests = GuestBuild::new("../linear")
///     .profile("guest")
///     .target_dir(out.join("guests"))
///     .build(&GuestToolchain::find()?)?;
/// for source in guests.iter().flat_map(|guest| sources(guest)) {
///     println!("cargo:rerun-if-changed={}", source.display());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GuestBuild {
    manifest_dir: PathBuf,
    package: Option<String>,
    bin: Option<String>,
    profile: String,
    target_dir: Option<PathBuf>,
    features: Vec<String>,
    unroll: Option<u8>,
    show_output: bool,
}

impl GuestBuild {
    /// Builds the package whose `Cargo.toml` lies in `manifest_dir`: all its binaries, with the
    /// profile `release`, into `target/guests` in that folder.
    pub fn new(manifest_dir: impl Into<PathBuf>) -> Self {
        Self {
            manifest_dir: manifest_dir.into(),
            package: None,
            bin: None,
            profile: "release".to_owned(),
            target_dir: None,
            features: Vec::new(),
            unroll: None,
            show_output: false,
        }
    }

    /// Builds the package of this name, where `manifest_dir` is a workspace of several.
    #[must_use]
    pub fn package(mut self, name: impl Into<String>) -> Self {
        self.package = Some(name.into());
        self
    }

    /// Builds only the binary of this name.
    #[must_use]
    pub fn bin(mut self, name: impl Into<String>) -> Self {
        self.bin = Some(name.into());
        self
    }

    /// The cargo profile; packages of this repository use `guest`.
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = name.into();
        self
    }

    /// Turns on a feature of the package.
    #[must_use]
    pub fn feature(mut self, name: impl Into<String>) -> Self {
        self.features.push(name.into());
        self
    }

    /// How often loops are unrolled, where another number than the template's makes the guest
    /// faster, or much smaller. Such guests are built in a folder `unroll-N` of the target
    /// directory: cargo does not tell apart what it has built with other flags that remap paths.
    #[must_use]
    pub fn unroll(mut self, count: u8) -> Self {
        self.unroll = Some(count);
        self
    }

    /// Where cargo keeps its files. It must not be that of a cargo that waits for this build.
    #[must_use]
    pub fn target_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.target_dir = Some(dir.into());
        self
    }

    /// Passes cargo's messages through to stderr; without it they appear only in an error.
    #[must_use]
    pub fn show_output(mut self, show: bool) -> Self {
        self.show_output = show;
        self
    }

    /// Builds and returns the paths of the modules, sorted.
    ///
    /// # Errors
    ///
    /// [`ToolchainError::Failed`] with the compiler's messages; [`ToolchainError::NoBinary`] if the
    /// package has no such binary.
    pub fn build(&self, toolchain: &GuestToolchain) -> Result<Vec<PathBuf>, ToolchainError> {
        let manifest_dir = std::path::absolute(&self.manifest_dir)
            .map_err(ToolchainError::io(&self.manifest_dir))?;
        let mut target_dir = self
            .target_dir
            .clone()
            .unwrap_or_else(|| manifest_dir.join("target/guests"));
        let mut flags = flags::rust_flags();
        if let Some(count) = self.unroll {
            target_dir.push(format!("unroll-{count}"));
            flags = flags::unrolled(flags, count);
        }
        let mut command = toolchain.cargo_command_with(flags);
        command
            .current_dir(&manifest_dir)
            .args([
                "build",
                "--target",
                TARGET,
                "--message-format=json-render-diagnostics",
            ])
            .args(["--profile", &self.profile])
            .arg("--target-dir")
            .arg(std::path::absolute(&target_dir).map_err(ToolchainError::io(&target_dir))?);
        match &self.bin {
            Some(bin) => command.args(["--bin", bin]),
            None => command.arg("--bins"),
        };
        if let Some(package) = &self.package {
            command.args(["--package", package]);
        }
        if !self.features.is_empty() {
            command.arg("--features").arg(self.features.join(","));
        }
        let messages = run::output_showing(&mut command, self.show_output)?;
        let mut modules: Vec<PathBuf> = messages.lines().filter_map(module_of_message).collect();
        modules.sort();
        if modules.is_empty() {
            let name = self.package.clone();
            return Err(ToolchainError::NoBinary(
                name.unwrap_or_else(|| manifest_dir.display().to_string()),
            ));
        }
        Ok(modules)
    }
}

impl GuestToolchain {
    /// Cargo set up to build guests: the guest compiler, the guest flags, and nothing of the
    /// environment that a surrounding cargo made for host builds.
    #[must_use]
    pub fn cargo_command(&self) -> Command {
        self.cargo_command_with(flags::rust_flags())
    }

    fn cargo_command_with(&self, mut flags: Vec<String>) -> Command {
        let mut command = Command::new(&self.cargo);
        run::clean_cargo_environment(&mut command);
        // Panic messages carry source paths. Without the machine's part of them, the same sources
        // give the same module, and so the same content address, everywhere.
        if let Some(home) = cargo_home() {
            flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
        }
        command
            .env("RUSTC", &self.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        command
    }
}

impl GuestToolchain {
    /// The crates that are linked into the guests of a package of the workspace at `root`, without
    /// those of the workspace itself: `name version licence`, one a line.
    ///
    /// # Errors
    ///
    /// [`ToolchainError::Failed`] with cargo's messages.
    pub fn linked_crates(&self, root: &Path, package: &str) -> Result<String, ToolchainError> {
        let mut command = self.cargo_command();
        command
            .current_dir(root)
            .args(["tree", "--package", package, "--target", TARGET])
            .args([
                "--edges",
                "normal,no-proc-macro",
                "--prefix",
                "none",
                "--no-dedupe",
            ])
            .args(["--format", "{p}\t{l}"]);
        let tree = run::output(&mut command)?;
        let mut crates: Vec<String> = tree.lines().filter_map(linked_crate).collect();
        crates.sort();
        crates.dedup();
        Ok(crates.join("\n"))
    }
}

/// `name version licence` of a line of `cargo tree`; `None` of crates with a path, which are ours,
/// and of macros, which are not linked.
fn linked_crate(line: &str) -> Option<String> {
    let (package, licence) = line.split_once('\t')?;
    if package.contains('(') {
        return None;
    }
    let (name, version) = package.split_once(" v")?;
    let licence = if licence.is_empty() {
        "unknown"
    } else {
        licence
    };
    Some(format!("{name} {version} {licence}"))
}

fn cargo_home() -> Option<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// The `.wasm` file of a binary that one of cargo's JSON messages reports, if it does.
fn module_of_message(line: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let kinds = message["target"]["kind"].as_array()?;
    if message["reason"] != "compiler-artifact" || !kinds.iter().any(|kind| kind == "bin") {
        return None;
    }
    let files = message["filenames"]
        .as_array()?
        .iter()
        .filter_map(|file| file.as_str());
    files
        .map(PathBuf::from)
        .find(|file| file.extension().is_some_and(|end| end == "wasm"))
}

/// The source files that `module` was built from, for `cargo:rerun-if-changed`. Cargo lists them
/// in a file beside the module; where that is missing, the answer is empty.
#[must_use]
pub fn sources(module: &Path) -> Vec<PathBuf> {
    let Ok(text) = std::fs::read_to_string(module.with_extension("d")) else {
        return Vec::new();
    };
    // `target: source source …`, as for make; spaces inside a path are escaped by a backslash.
    let Some((_, list)) = text.split_once(": ") else {
        return Vec::new();
    };
    let mut paths = vec![String::new()];
    let mut chars = list.trim_end().chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(' ')) => {
                chars.next();
                paths
                    .last_mut()
                    .expect("the list starts with one path")
                    .push(' ');
            }
            (' ' | '\n', _) => paths.push(String::new()),
            _ => paths
                .last_mut()
                .expect("the list starts with one path")
                .push(c),
        }
    }
    paths
        .into_iter()
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_with_spaces_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("a.wasm");
        std::fs::write(
            folder.path().join("a.d"),
            "/t/a.wasm: /x/main.rs /my\\ home/lib.rs\n",
        )
        .unwrap();
        assert_eq!(
            sources(&module),
            [PathBuf::from("/x/main.rs"), "/my home/lib.rs".into()]
        );
        assert!(sources(&folder.path().join("b.wasm")).is_empty());
    }

    #[test]
    fn only_binaries_are_modules() {
        let bin =
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"]},"filenames":["/t/a.wasm"]}"#;
        let lib =
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"]},"filenames":["/t/a.rlib"]}"#;
        assert_eq!(module_of_message(bin), Some("/t/a.wasm".into()));
        assert_eq!(module_of_message(lib), None);
        assert_eq!(module_of_message("warning: no JSON"), None);
    }
}
