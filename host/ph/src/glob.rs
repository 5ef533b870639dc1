//! Patterns of variable names.
//!
//! `*` stands for any characters, also for none, and `?` for exactly one. All else stands for
//! itself. Brackets have no meaning, unlike in the globs of shells: they are part of the names that
//! modelling languages write, such as `acres[wheat]`.

/// Whether `pattern` has `*` or `?`.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Whether `pattern` matches all of `name`. Takes time proportional to the product of their lengths.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // The last star seen and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_and_brackets_are_plain() {
        for (pattern, name, expected) in [
            ("x", "x", true),
            ("x", "xy", false),
            ("x*", "x", true),
            ("x*", "xyz", true),
            ("*", "", true),
            ("?", "", false),
            ("x[?]", "x[1]", true),
            ("x[?]", "x1", false),
            ("x[*,b]", "x[a,b]", true),
            ("x[*,b]", "x[a,c]", false),
            ("*a*b", "aabab", true),
            ("*a*b", "aaba", false),
            ("ä?", "äö", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(&"*a".repeat(500), &"a".repeat(499)));
    }
}
