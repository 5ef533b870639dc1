//! Words that end up in a shell, a file name or a directive: quoted, or refused.
//!
//! Where a POSIX shell reads the text, any word can be quoted ([`shell`]). Where something else does,
//! as the lines `#SBATCH` of a batch script, a host's name on ssh's command line, or a folder's name,
//! there is no quoting that holds everywhere, so such words are [`plain`] or refused.

/// A word that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A name is empty, too long, begins with `-` or `.`, or has a character other than letters,
    /// digits and those listed. Choose another.
    #[error("{what} `{}`: only letters, digits and {allowed} may be in it, and it must not begin with - or .", word.escape_debug())]
    NotPlain {
        /// What the word is.
        what: &'static str,
        /// The word.
        word: String,
        /// Characters that are allowed beside letters and digits.
        allowed: &'static str,
    },
    /// A path is not absolute, and nobody knows what it would be relative to. Write it out.
    #[error("{what} `{}` is not an absolute path", word.escape_debug())]
    NotAbsolute {
        /// What the path is.
        what: &'static str,
        /// The path.
        word: String,
    },
    /// A word has control characters, which have no place in one line. Remove them.
    #[error("`{}` has control characters", .0.escape_debug())]
    Control(String),
}

/// Longest plain word: file systems take no longer names.
const PLAIN_MAX: usize = 255;

/// Checks that `word` consists of ASCII letters, digits and `allowed`, is not empty, and begins with
/// neither `-`, which would make it an option, nor `.`, which would make it a hidden or a parent folder.
pub(crate) fn plain(
    what: &'static str,
    word: &str,
    allowed: &'static str,
) -> Result<(), WordError> {
    let fits = !word.is_empty()
        && word.len() <= PLAIN_MAX
        && !word.starts_with(['-', '.'])
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || allowed.contains(c));
    if fits {
        Ok(())
    } else {
        Err(not_plain(what, word, allowed))
    }
}

pub(crate) fn not_plain(what: &'static str, word: &str, allowed: &'static str) -> WordError {
    WordError::NotPlain {
        what,
        word: word.chars().take(PLAIN_MAX).collect(),
        allowed,
    }
}

/// Checks that `path` is absolute and plain, with `/` and `-_.+@` in it.
pub(crate) fn plain_path(what: &'static str, path: &str) -> Result<(), WordError> {
    plain(what, path, "-_./+@")?;
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(WordError::NotAbsolute {
            what,
            word: path.to_owned(),
        })
    }
}

/// The word as a POSIX shell reads it back.
///
/// # Errors
///
/// [`WordError::Control`]: a line break would also be one in the script around it.
pub(crate) fn shell(word: &str) -> Result<String, WordError> {
    if word.chars().any(char::is_control) {
        return Err(WordError::Control(word.to_owned()));
    }
    shlex::try_quote(word)
        .map(|quoted| quoted.into_owned())
        .map_err(|_| WordError::Control(word.to_owned()))
}

/// The words as a POSIX shell reads them back.
pub(crate) fn shell_all<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<String, WordError> {
    let quoted: Result<Vec<_>, _> = words.into_iter().map(shell).collect();
    Ok(quoted?.join(" "))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn through(program: &str, word: &str) -> String {
        let script = format!("printf '%s' {}", shell(word).unwrap());
        let output = Command::new(program)
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn hostile_words_come_through_a_shell_unchanged() {
        for word in [
            "",
            " ",
            "'",
            "''",
            "\"",
            "$(touch x)",
            "`touch x`",
            "a;b",
            "a&b",
            "!x",
            "~",
            "*",
            "\\",
            "\\'",
            "-n",
            "#",
            "$HOME",
            "a'b\"c\\d",
            "^a",
            "ä€",
            "{a,b}",
            "%s",
        ] {
            assert_eq!(through("sh", word), word);
            assert_eq!(through("bash", word), word);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_word_comes_through_a_shell_unchanged(word in "[^\\p{Cc}]{0,40}") {
            prop_assert_eq!(through("sh", &word), word);
        }
    }

    #[test]
    fn what_no_quoting_holds_for_is_refused() {
        assert!(shell("a\nb").is_err());
        assert!(shell("a\0b").is_err());
        for bad in [
            "",
            "-o",
            ".",
            "..",
            "a b",
            "a\n",
            "a/b",
            "$x",
            "ä",
            &"x".repeat(256),
        ] {
            assert!(plain("name", bad, "-_.").is_err(), "{bad:?}");
        }
        assert!(plain("name", "gpu-07.cluster_a", "-_.").is_ok());
    }
}
