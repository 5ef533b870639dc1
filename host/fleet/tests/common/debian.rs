//! Programs out of Debian packages, unpacked into a private folder and used in place: nothing is
//! installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs and where their libraries are.
pub struct Unpacked {
    pub root: PathBuf,
}

impl Unpacked {
    /// The path of a file in one of the packages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// For `LD_LIBRARY_PATH`.
    pub fn libraries(&self) -> String {
        ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
            .map(|folder| self.root.join(folder).display().to_string())
            .join(":")
    }
}

/// Downloads and unpacks packages, once for a target directory.
///
/// # Errors
///
/// Why it cannot be done here.
pub fn unpack(name: &str, packages: &[&str]) -> Result<Unpacked, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian");
    fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let lock = File::create(home.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let root = home.join(name);
    if root.exists() {
        return Ok(Unpacked { root });
    }
    let architecture = run(Command::new("dpkg").arg("--print-architecture"))?;
    if architecture.trim() != "amd64" {
        return Err(format!(
            "packages are fetched for amd64 only, this is {architecture}"
        ));
    }
    let work = home.join("work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(work.join("lists/partial")).map_err(|error| error.to_string())?;
    if download(&work, packages, false).is_err() {
        // The system's lists may be missing or old.
        run(apt(&work, true).arg("update"))?;
        download(&work, packages, true)?;
    }
    for entry in fs::read_dir(&work)
        .map_err(|error| error.to_string())?
        .flatten()
    {
        if entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "deb")
        {
            run(Command::new("dpkg")
                .arg("-x")
                .arg(entry.path())
                .arg(work.join("unpacked")))?;
        }
    }
    fs::rename(work.join("unpacked"), &root).map_err(|error| error.to_string())?;
    let _ = fs::remove_dir_all(&work);
    Ok(Unpacked { root })
}

fn download(work: &Path, packages: &[&str], private_lists: bool) -> Result<String, String> {
    run(apt(work, private_lists).arg("download").args(packages))
}

fn apt(work: &Path, private_lists: bool) -> Command {
    let mut command = Command::new("apt-get");
    // The sandbox user `_apt` could not write into a private folder.
    command
        .current_dir(work)
        .args(["-o", "APT::Sandbox::User=root", "-q"]);
    if private_lists {
        command.arg("-o").arg(format!(
            "Dir::State::lists={}",
            work.join("lists").display()
        ));
        command
            .arg("-o")
            .arg(format!("Dir::Cache={}", work.display()));
    }
    command
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{command:?}: {}",
            errors.lines().last().unwrap_or_default()
        ))
    }
}
