//! A token on its way to a worker.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Largest token that is carried. A worker reads at most this much of its token file.
const SECRET_MAX: usize = 4096;

/// A token, which nothing prints: it leaves this type only into a file of mode 0600 or into the
/// standard input of a program.
///
/// The text is one word of printable ASCII without backslashes that does not begin with `-`, so that
/// every shell's built-in `echo` writes it as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Text that is no token: empty, longer than 4096 bytes, or with characters that no token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a token: it has to be one word of printable ASCII characters")]
pub struct NotASecret;

impl Secret {
    /// Takes a token; white space around it is dropped.
    ///
    /// # Errors
    ///
    /// [`NotASecret`].
    pub fn new(text: &str) -> Result<Self, NotASecret> {
        let text = text.trim();
        let fits = !text.is_empty()
            && text.len() <= SECRET_MAX
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotASecret)
        }
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Writes the token into a file of mode 0600, whole or not at all.
    ///
    /// # Errors
    ///
    /// What the system says; a half-written neighbour of the file may then be left.
    pub fn write_to(&self, path: &Path) -> std::io::Result<()> {
        replace(path, format!("{}\n", self.0).as_bytes(), 0o600)
    }
}

/// Writes a file of this mode in one step: what was there is replaced, and followed nowhere.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = Path::new(&draft);
    // One that is there may have another mode.
    match std::fs::remove_file(draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_tokens_are_taken_and_none_is_printed() {
        for bad in [
            "",
            " \n",
            "two words",
            "a\nb",
            "-n",
            "a\\b",
            "ä",
            &"x".repeat(4097),
        ] {
            assert_eq!(Secret::new(bad), Err(NotASecret), "{bad:?}");
        }
        let secret = Secret::new(" owt1.abc_DEF-9\n").unwrap();
        assert_eq!(secret.expose(), "owt1.abc_DEF-9");
        assert!(!format!("{secret:?}").contains("abc"));
    }

    #[test]
    fn the_file_is_private_even_where_another_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "an older one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Secret::new("new").unwrap().write_to(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
