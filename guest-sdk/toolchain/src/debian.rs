//! Toolchains out of Debian packages, for machines where rustup cannot add targets.
//!
//! Debian carries a rustc without a wasm32 standard library, the library's source, wasi-libc, lld
//! and clang. The packages are downloaded and unpacked into a private folder: nothing is installed
//! system-wide, and even the package lists are private, so that no step needs root. The unpacked
//! `usr` folder *is* the toolchain: rustc and clang find their files relative to themselves. Small
//! scripts in its `bin` point the loader to the private shared libraries, and the standard library
//! is built once by the ordinary cargo.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{Draft, Lock};
use crate::{TARGET, ToolchainError, cache, run};

/// Key of Rust toolchains made here: `rust-<recipe>-<package version>`. The recipe changes whenever
/// the layout of the folders made here changes, so that old ones are not used.
pub(crate) const RUST_KIND: &str = "rust-r1-";
/// Key of C and C++ toolchains made here: `c-<recipe>-<package version>`.
pub(crate) const C_KIND: &str = "c-r2-";

/// Newest and oldest LLVM whose Debian packages are tried for C.
/// 22 is the newest in Debian 12 today; wasm32 runtime packages (`libclang-rt-N-dev-wasm32`)
/// begin with 14.
const LLVM_NEWEST: u32 = 26;
const LLVM_OLDEST: u32 = 14;

/// Where Debian keeps shared libraries on x86-64, the one architecture this recipe knows.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";

/// What tells the user how far an installation is.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(&str);

/// Makes the Rust toolchain and returns its folder.
pub(crate) fn install_rust(
    root: &Path,
    cargo: &Path,
    progress: Progress<'_>,
) -> Result<PathBuf, ToolchainError> {
    let _lock = Lock::take(root)?;
    if let Some(made_meanwhile) = cache::newest(root, RUST_KIND) {
        return Ok(made_meanwhile);
    }
    let draft = Draft::new(root, "rust")?;
    let apt = Apt::update(draft.path(), progress)?;
    let version = apt.version("rustc-web")?;
    let std_package = apt.dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = apt.dependency(&std_package, "libllvm")?;
    let lld = format!("lld-{}", llvm.trim_start_matches("libllvm"));
    let usr = apt.unpack(
        &[
            "rustc-web",
            "libstd-rust-web-dev",
            &std_package,
            "rust-web-src",
            &llvm,
            &lld,
            "wasi-libc",
        ],
        &llvm,
        progress,
    )?;

    fs::create_dir_all(usr.join("libexec")).map_err(ToolchainError::io(&usr))?;
    for program in ["rustc", "rustdoc"] {
        rename(
            &usr.join("bin").join(program),
            &usr.join("libexec").join(program),
        )?;
        wrap(&usr, program, &format!("libexec/{program}"), "")?;
    }
    // rustc looks for the linker by this name here.
    let host_bin = usr.join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
    fs::create_dir_all(&host_bin).map_err(ToolchainError::io(&host_bin))?;
    link(
        &format!("../../../llvm-{}/bin/lld", &lld[4..]),
        &host_bin.join("rust-lld"),
    )?;

    let library = usr.join("lib/rustlib").join(TARGET).join("lib");
    copy_all(
        &usr.join("lib/wasm32-wasi"),
        &library.join("self-contained"),
    )?;
    progress("building the standard library for wasm32-wasip1 (about a minute)");
    build_std(&usr, cargo, draft.path(), &library)?;

    for waste in ["src", "share"] {
        let waste = usr.join(waste);
        fs::remove_dir_all(&waste).map_err(ToolchainError::io(&waste))?;
    }
    draft.finish(&usr, &format!("{RUST_KIND}{version}"))
}

/// Builds std with the unpacked rustc and puts its libraries into `library`.
fn build_std(usr: &Path, cargo: &Path, work: &Path, library: &Path) -> Result<(), ToolchainError> {
    let package = work.join("std");
    fs::create_dir_all(package.join("src")).map_err(ToolchainError::io(&package))?;
    let manifest = "[package]\nname = \"empty\"\nedition = \"2024\"\n[lib]\n[workspace]\n";
    for (file, text) in [("Cargo.toml", manifest), ("src/lib.rs", "")] {
        fs::write(package.join(file), text).map_err(ToolchainError::io(package.join(file)))?;
    }
    // Guests carry the paths of the library's source in panic messages: they must be the same on
    // every machine, and be those of the official toolchain. Bitcode makes LTO possible.
    let source =
        fs::canonicalize(usr.join("lib/rustlib/src/rust")).map_err(ToolchainError::io(usr))?;
    let flags = [
        "-Cembed-bitcode=yes".to_owned(),
        format!("--remap-path-prefix={}=/rustc", source.display()),
        format!(
            "--remap-path-prefix={}=/rustc",
            usr.join("lib/rustlib/src/rust").display()
        ),
    ];
    let mut command = Command::new(cargo);
    run::clean_cargo_environment(&mut command);
    command
        .current_dir(&package)
        .env("RUSTC", usr.join("bin/rustc"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", package.join("target"))
        .args(["build", "--release", "--target", TARGET])
        .arg("-Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test");
    run::output(&mut command)?;

    let built = package.join("target").join(TARGET).join("release/deps");
    for file in list(&built)? {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libempty-") {
            rename(&file, &library.join(name))?;
        }
    }
    Ok(())
}

/// Makes the C toolchain and returns its folder.
pub(crate) fn install_c(root: &Path, progress: Progress<'_>) -> Result<PathBuf, ToolchainError> {
    let _lock = Lock::take(root)?;
    if let Some(made_meanwhile) = cache::newest(root, C_KIND) {
        return Ok(made_meanwhile);
    }
    let draft = Draft::new(root, "c")?;
    let apt = Apt::update(draft.path(), progress)?;
    let (number, version) = (LLVM_OLDEST..=LLVM_NEWEST)
        .rev()
        .find_map(|number| {
            apt.version(&format!("libclang-rt-{number}-dev-wasm32"))
                .ok()?;
            Some((number, apt.version(&format!("clang-{number}")).ok()?))
        })
        .ok_or_else(|| cannot("Debian offers no clang with a wasm32 runtime"))?;
    let llvm = apt.dependency(&format!("clang-{number}"), "libllvm")?;
    let usr = apt.unpack(
        &[
            &format!("clang-{number}"),
            &format!("libclang-cpp{number}"),
            &format!("libclang-common-{number}-dev"),
            &format!("libclang-rt-{number}-dev-wasm32"),
            &format!("libc++-{number}-dev-wasm32"),
            &format!("libc++abi-{number}-dev-wasm32"),
            &format!("lld-{number}"),
            &format!("llvm-{number}"),
            &llvm,
            "wasi-libc",
        ],
        &llvm,
        progress,
    )?;
    // Debian names the system root after the old spelling of the target, and lld after the version.
    for folder in ["include", "lib"] {
        link("wasm32-wasi", &usr.join(folder).join(TARGET))?;
    }
    let programs = format!("lib/llvm-{number}/bin");
    link(
        "lld",
        &usr.join(&programs).join(format!("wasm-ld-{number}")),
    )?;
    let arguments = format!("--target={TARGET} --sysroot=\"$here/..\"");
    wrap(&usr, "clang", &format!("{programs}/clang"), &arguments)?;
    wrap(&usr, "clang++", &format!("{programs}/clang++"), &arguments)?;
    wrap(&usr, "llvm-ar", &format!("{programs}/llvm-ar"), "")?;
    draft.finish(&usr, &format!("{C_KIND}{version}"))
}

/// Writes `bin/<program>`: a script that runs `real` with the private libraries.
fn wrap(usr: &Path, program: &str, real: &str, arguments: &str) -> Result<(), ToolchainError> {
    let script = format!(
        "#!/bin/sh\n\
         here=\"${{0%/*}}\"\n\
         export LD_LIBRARY_PATH=\"$here/../{LIBRARIES}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         exec \"$here/../{real}\" {arguments} \"$@\"\n"
    );
    let path = usr.join("bin").join(program);
    fs::write(&path, script).map_err(ToolchainError::io(&path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(ToolchainError::io(&path))
}

/// apt with package lists of its own, in a folder of its own.
struct Apt {
    folder: PathBuf,
    private_lists: bool,
}

impl Apt {
    /// Fetches the package lists; falls back to the system's where that fails.
    fn update(work: &Path, progress: Progress<'_>) -> Result<Self, ToolchainError> {
        for program in ["apt-get", "apt-cache", "dpkg"] {
            run::output(Command::new(program).arg("--version"))?;
        }
        if run::output(Command::new("dpkg").arg("--print-architecture"))?.trim() != "amd64" {
            return Err(cannot("the Debian recipe knows x86-64 only"));
        }
        let folder = work.join("apt");
        let lists = folder.join("lists/partial");
        fs::create_dir_all(&lists).map_err(ToolchainError::io(&lists))?;
        progress("fetching Debian's package lists");
        let mut apt = Self {
            folder,
            private_lists: true,
        };
        if let Err(error) = run::output(apt.command("apt-get").arg("update")) {
            progress(&format!(
                "going on with the system's package lists: {error}"
            ));
            apt.private_lists = false;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The sandbox user `_apt` could not write into a private folder.
        command
            .env("LC_ALL", "C")
            .current_dir(&self.folder)
            .args(["-o", "APT::Sandbox::User=root"]);
        if self.private_lists {
            for (key, value) in [("Dir::State::lists", "lists"), ("Dir::Cache", ".")] {
                command
                    .arg("-o")
                    .arg(format!("{key}={}", self.folder.join(value).display()));
            }
        }
        command
    }

    /// The version of `package` that apt would install.
    fn version(&self, package: &str) -> Result<String, ToolchainError> {
        let policy = run::output(self.command("apt-cache").args(["policy", package]))?;
        let candidate = policy
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate: "));
        match candidate {
            // A colon (the epoch's) would make the folder unusable in a PATH.
            Some(version) if version != "(none)" => Ok(version.replace(':', "-")),
            _ => Err(cannot(&format!("Debian offers no package {package}"))),
        }
    }

    /// The direct dependency of `package` whose name starts with `prefix`; such names carry
    /// versions and cannot be written down here.
    fn dependency(&self, package: &str, prefix: &str) -> Result<String, ToolchainError> {
        let text = run::output(self.command("apt-cache").args(["depends", package]))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .ok_or_else(|| cannot(&format!("{package} depends on no {prefix}*")))
    }

    /// Packages that `package` needs, directly or not, and that are not installed here.
    fn missing(&self, package: &str) -> Result<BTreeSet<String>, ToolchainError> {
        let text = run::output(
            self.command("apt-cache")
                .args(["depends", "--recurse"])
                .args(
                    [
                        "recommends",
                        "suggests",
                        "conflicts",
                        "breaks",
                        "replaces",
                        "enhances",
                    ]
                    .map(|kind| format!("--no-{kind}")),
                )
                .arg(package),
        )?;
        let needed = text
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
        Ok(needed
            .filter(|name| {
                let query = ["-W", "-f", "${db:Status-Abbrev}", name];
                !run::output(Command::new("dpkg-query").args(query))
                    .is_ok_and(|status| status.starts_with("ii"))
            })
            .map(str::to_owned)
            .collect())
    }

    /// Downloads the packages, and what `llvm` needs and the system lacks, and unpacks them.
    fn unpack(
        &self,
        packages: &[&str],
        llvm: &str,
        progress: Progress<'_>,
    ) -> Result<PathBuf, ToolchainError> {
        let mut all = self.missing(llvm)?;
        all.extend(packages.iter().map(|&name| name.to_owned()));
        let names = all.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        progress(&format!("downloading from Debian: {names}"));
        run::output(self.command("apt-get").arg("download").args(&all))?;
        let files: Vec<_> = list(&self.folder)?
            .into_iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        progress(&format!("unpacking {} packages", files.len()));
        let unpacked = self.folder.join("unpacked");
        for file in files {
            run::output(Command::new("dpkg").arg("-x").arg(&file).arg(&unpacked))?;
            fs::remove_file(&file).map_err(ToolchainError::io(&file))?;
        }
        // Some libraries still lie in /lib: bring them to the others.
        let old = unpacked.join(LIBRARIES);
        if old.exists() {
            copy_all(&old, &unpacked.join("usr").join(LIBRARIES))?;
        }
        Ok(unpacked.join("usr"))
    }
}

fn cannot(tried: &str) -> ToolchainError {
    ToolchainError::CannotInstall {
        tried: tried.to_owned(),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, ToolchainError> {
    let entries = fs::read_dir(folder).map_err(ToolchainError::io(folder))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn rename(from: &Path, to: &Path) -> Result<(), ToolchainError> {
    fs::rename(from, to).map_err(ToolchainError::io(from))
}

fn link(to: &str, at: &Path) -> Result<(), ToolchainError> {
    if at.symlink_metadata().is_ok() {
        return Ok(());
    }
    symlink(to, at).map_err(ToolchainError::io(at))
}

/// Copies the files of one folder into another, which is made.
fn copy_all(from: &Path, to: &Path) -> Result<(), ToolchainError> {
    fs::create_dir_all(to).map_err(ToolchainError::io(to))?;
    for file in list(from)? {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, to.join(name)).map_err(ToolchainError::io(&file))?;
    }
    Ok(())
}
