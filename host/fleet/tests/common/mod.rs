//! What the tests share.

#![allow(clippy::unwrap_used, dead_code)]

pub mod batch;
pub mod bench;
pub mod debian;
pub mod slurm;
pub mod sshd;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Says something on the real standard error, also where the test succeeds.
pub fn announce(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The token that all tests hand over; it must be found in token files only.
pub const TOKEN: &str = "owt1.a-Secret_Token.0123456789";

/// A program that behaves as a worker: it reads its token file, says so in its log, and sleeps until
/// it is asked to end. What it was given is in `args.PID` beside the token file.
pub const WORKER: &str = r#"#!/bin/sh
[ "$1" = --version ] && { echo "stand-in 1.0"; exit; }
stubborn=
take=
for arg; do
  [ -n "$take" ] && file=$arg
  take=
  case $arg in
    --token-file) take=1 ;;
    --token-file=*) file=${arg#*=} ;;
    --label=stubborn=*) stubborn=1 ;;
  esac
done
[ -r "$file" ] || { echo "no token file"; exit 2; }
case $(cat "$file") in *refuse*) echo "the token is refused"; exit 5 ;; esac
for arg; do printf '<%s>\n' "$arg"; done > "${file%/*}/args.$$"
echo "joined with a token of mode $(stat -c %a "$file") and hash $(sha256sum < "$file" | cut -c 1-8)"
if [ -n "$stubborn" ]; then trap 'echo no' TERM; else trap 'echo leaving; exit 0' TERM; fi
while :; do sleep 0.05; done
"#;

/// Line of the stand-in's log with a token of mode 0600 and the hash of [`TOKEN`].
pub fn joined() -> String {
    use ring::digest::{SHA256, digest};
    let hash = digest(&SHA256, format!("{TOKEN}\n").as_bytes());
    let hash: String = hash.as_ref()[..4]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("joined with a token of mode 600 and hash {hash}")
}

/// Every file below `dir` whose content has `needle`.
pub fn files_with(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(needle))
        {
            found.push(path);
        }
    }
    found
}

/// Whether some process has this in its arguments or in its environment.
pub fn seen_in_proc(needle: &str) -> bool {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| *entry.file_name() != *own)
        .any(|entry| {
            ["cmdline", "environ"].iter().any(|file| {
                std::fs::read(entry.path().join(file))
                    .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(needle))
            })
        })
}

pub fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
