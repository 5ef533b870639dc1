//! The program that is copied to hosts.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

/// An `optwasm` program on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256 in lower-case hexadecimal digits: the hash that `sha256sum` computes on hosts.
    pub sha256: String,
    /// The machine it is for, as `uname -m` says it; none for scripts, which run anywhere.
    pub machine: Option<&'static str>,
}

impl Program {
    /// Reads and hashes a program.
    ///
    /// # Errors
    ///
    /// What the system says of the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hash = Context::new(&SHA256);
        let mut head = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            if head.len() < ELF_HEAD {
                head.extend_from_slice(&buffer[..n.min(ELF_HEAD)]);
            }
            hash.update(&buffer[..n]);
        }
        let digest = hash.finish();
        Ok(Self {
            path: path.to_owned(),
            sha256: digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
            machine: machine(&head),
        })
    }

    /// Whether it runs on a machine that `uname -m` calls `machine`.
    #[must_use]
    pub fn runs_on(&self, machine: &str) -> bool {
        self.machine.is_none_or(|own| own == machine)
    }
}

/// Bytes up to the end of the field `e_machine`.
const ELF_HEAD: usize = 20;

/// The machine that an ELF file is for: `e_machine` at byte 18 (System V ABI, ELF header), of which
/// these two are the ones that optwasm is built for; 62 is EM_X86_64, 183 is EM_AARCH64.
fn machine(head: &[u8]) -> Option<&'static str> {
    if head.len() < ELF_HEAD || !head.starts_with(b"\x7fELF") {
        return None;
    }
    match u16::from_le_bytes([head[18], head[19]]) {
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        _ => Some("another"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_hash_and_machine() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "abc").unwrap();
        let script = Program::open(&script).unwrap();
        // The example of FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(script.sha256, abc);
        assert!(script.runs_on("riscv64"));

        let own = Program::open(&std::env::current_exe().unwrap()).unwrap();
        assert!(own.runs_on(std::env::consts::ARCH));
        assert!(!own.runs_on("riscv64"));
        assert_eq!(machine(b"\x7fELF"), None);
        assert!(Program::open(Path::new("no such file")).is_err());
    }
}
