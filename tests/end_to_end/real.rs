//! Real servers for tests, shared with those of `host/fleet`: sshd and Slurm, of Debian's packages.

#[path = "../../host/fleet/tests/common/debian.rs"]
pub mod debian;
#[path = "../../host/fleet/tests/common/slurm.rs"]
pub mod slurm;
#[path = "../../host/fleet/tests/common/sshd.rs"]
pub mod sshd;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
