//! Ranges in names: `node[01-03,7]` is `node01`, `node02`, `node03` and `node7`, as Slurm writes
//! lists of hosts. Leading zeros of the first number set the width.

/// Why a name with brackets stands for no hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A bracket without its other.
    #[error("`{0}` has a bracket without its other")]
    Bracket(String),
    /// What is in the brackets is neither a number nor two with `-` between.
    #[error("`{0}` is not a range such as 01-16")]
    Range(String),
    /// The last number is smaller than the first.
    #[error("the range `{0}` runs backwards")]
    Backwards(String),
    /// More hosts than one file may have.
    #[error("too many hosts")]
    TooMany,
}

/// All names that `pattern` stands for, in order, at most `max`.
pub(super) fn expand(pattern: &str, max: usize) -> Result<Vec<String>, RangeError> {
    let bracket = || RangeError::Bracket(pattern.to_owned());
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('[') {
        let (list, after) = after.split_once(']').ok_or_else(bracket)?;
        if before.contains(']') || list.contains('[') {
            return Err(bracket());
        }
        let mut numbers = Vec::new();
        for range in list.split(',') {
            push_range(range, max, &mut numbers)?;
        }
        if names.len().saturating_mul(numbers.len()) > max {
            return Err(RangeError::TooMany);
        }
        names = names
            .iter()
            .flat_map(|name| {
                numbers
                    .iter()
                    .map(move |number| format!("{name}{before}{number}"))
            })
            .collect();
        rest = after;
    }
    if rest.contains(']') {
        return Err(bracket());
    }
    if names.len() > max {
        return Err(RangeError::TooMany);
    }
    for name in &mut names {
        name.push_str(rest);
    }
    Ok(names)
}

fn push_range(range: &str, max: usize, numbers: &mut Vec<String>) -> Result<(), RangeError> {
    let wrong = || RangeError::Range(range.to_owned());
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits {
            text.parse::<u64>().map_err(|_| wrong())
        } else {
            Err(wrong())
        }
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let width = if first.starts_with('0') {
        first.len()
    } else {
        0
    };
    let (from, to) = (number(first)?, number(last)?);
    if to < from {
        return Err(RangeError::Backwards(range.to_owned()));
    }
    if to - from >= max as u64 || numbers.len() as u64 + (to - from) >= max as u64 {
        return Err(RangeError::TooMany);
    }
    numbers.extend((from..=to).map(|n| format!("{n:0width$}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_expand_in_order() {
        let all = |pattern| expand(pattern, 100).unwrap();
        assert_eq!(all("a"), ["a"]);
        assert_eq!(all("n[08-11]x"), ["n08x", "n09x", "n10x", "n11x"]);
        assert_eq!(all("n[9-10,007]"), ["n9", "n10", "n007"]);
        assert_eq!(all("r[1-2]n[1-2]"), ["r1n1", "r1n2", "r2n1", "r2n2"]);
    }

    #[test]
    fn wrong_ranges_are_refused() {
        for bad in ["n[", "n]", "n[1", "n1]", "n[[1]]", "n][1]"] {
            assert!(
                matches!(expand(bad, 9), Err(RangeError::Bracket(_))),
                "{bad}"
            );
        }
        for bad in [
            "[]",
            "[a]",
            "[1-]",
            "[-1]",
            "[1-2-3]",
            "[1,]",
            "[+1]",
            "[99999999999999999999]",
        ] {
            assert!(matches!(expand(bad, 9), Err(RangeError::Range(_))), "{bad}");
        }
        assert!(matches!(expand("[2-1]", 9), Err(RangeError::Backwards(_))));
        assert_eq!(
            expand("[0-18446744073709551615]", 9),
            Err(RangeError::TooMany)
        );
        assert_eq!(expand("[1-5][1-2]", 9), Err(RangeError::TooMany));
        assert_eq!(expand("a", 0), Err(RangeError::TooMany));
        assert_eq!(expand("[1-9]", 9).unwrap().len(), 9);
    }
}
