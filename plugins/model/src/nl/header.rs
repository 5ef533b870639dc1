//! The ten lines that every `.nl` file begins with.
//!
//! They are text in binary files too. Source: Gay, "Hooking Your Solver to
//! AMPL" (1997), and "Writing .nl Files" (2005). The variables of a file are
//! sorted into classes, and of the integer variables the header tells only
//! how many there are in each class, at its end:
//!
//! | class | from | to | integer |
//! |---|---|---|---|
//! | nonlinear in constraints and objectives | 0 | `both` | the last `integers[0]` |
//! | nonlinear in constraints only | `both` | `constraints` | the last `integers[1]` |
//! | nonlinear in objectives only | `constraints` | `objectives` | the last `integers[2]` |
//! | linear | the greater of the two | all | the last `binary + integer` |

use std::ops::Range;

use super::input::Input;
use crate::ReadError;

/// Classes of the variables by where they appear nonlinearly; the numbers are
/// those of the file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Classes {
    pub constraints: usize,
    pub objectives: usize,
    pub both: usize,
}

impl Classes {
    /// The three classes of nonlinear variables and that of the linear ones.
    pub fn ranges(self, variables: usize) -> [Range<usize>; 4] {
        let nonlinear = self.constraints.max(self.objectives);
        [
            0..self.both,
            self.both..self.constraints,
            self.constraints..nonlinear,
            nonlinear..variables,
        ]
    }
}

pub(super) struct Header {
    /// Numbers that a `.sol` file repeats.
    pub options: Vec<i64>,
    /// A tolerance of the simplex method that a `.sol` file repeats.
    pub tolerance: Option<f64>,
    pub variables: usize,
    pub constraints: usize,
    pub objectives: usize,
    pub logical: usize,
    pub classes: Classes,
    /// Which variables are integer.
    pub integers: Vec<Range<usize>>,
    /// Defined variables.
    pub defined: usize,
    /// Terms in all J segments and in all G segments.
    pub nonzeros: [usize; 2],
}

impl Header {
    pub fn read(input: &mut Input<'_>) -> Result<Header, ReadError> {
        let (binary, options, tolerance) = first_line(input)?;

        let sizes = counts(input, 3, "numbers of variables, constraints and objectives")?;
        let [variables, constraints, objectives] = [sizes[0], sizes[1], sizes[2]];
        let logical = sizes.get(5).copied().unwrap_or(0);
        counts(input, 2, "numbers of nonlinear constraints and objectives")?;
        counts(input, 2, "numbers of network constraints")?;

        let expected = "numbers of variables nonlinear in constraints, objectives and both";
        let nonlinear = counts(input, 3, expected)?;
        // AMPL's own C++ library may count a variable several times.
        let mut classes = Classes {
            constraints: nonlinear[0].min(variables),
            objectives: nonlinear[1].min(variables),
            both: nonlinear[2].min(nonlinear[0]).min(variables),
        };

        let arithmetic_at = input.line();
        let functions = counts(input, 2, "numbers of network variables and functions")?;
        // 1 is IEEE little-endian; text files have 0, which is unspecified.
        if binary && !matches!(functions.get(2), None | Some(0 | 1)) {
            return Err(ReadError::Unsupported {
                line: arithmetic_at,
                feature: "binary files of other than little-endian IEEE arithmetic are".into(),
            });
        }

        let at = input.line();
        let discrete = counts(input, 2, "numbers of binary and integer variables")?;
        let discrete = |index: usize| discrete.get(index).copied().unwrap_or(0);
        let nonzeros = counts(input, 2, "numbers of nonzeros")?;
        counts(input, 2, "lengths of names")?;
        let defined = counts(input, 5, "five numbers of common expressions")?;
        // Each takes a line or more of its own.
        let defined: usize = defined.iter().take(5).sum();
        if defined > input.len() {
            let found = defined.to_string();
            return Err(input.expected("numbers of common expressions that fit the file", &found));
        }
        if binary {
            input.become_binary();
        }

        // Some writers count variables nonlinear in objectives only without
        // those in constraints only, which the format has before them.
        if discrete(4) > 0 && classes.objectives <= classes.constraints {
            let only_constraints = classes.constraints - classes.both;
            classes.objectives = (classes.objectives + only_constraints).min(variables);
        }
        let integers = integers(classes, variables, discrete);
        let integers = integers.ok_or_else(|| {
            let expected = "numbers of integer variables that their classes have room for";
            ReadError::expected(at, expected, "greater ones")
        })?;
        Ok(Header {
            options,
            tolerance,
            variables,
            constraints,
            objectives,
            logical,
            classes,
            integers,
            defined,
            nonzeros: [nonzeros[0], nonzeros[1]],
        })
    }
}

/// Where the integer variables are. `discrete` has the numbers of binary and
/// of other linear ones and of those in the three nonlinear classes.
fn integers(
    classes: Classes,
    variables: usize,
    discrete: impl Fn(usize) -> usize,
) -> Option<Vec<Range<usize>>> {
    let [both, constraints, objectives, _] = classes.ranges(variables);
    // Linear ones are the last of all, whatever else they are counted as.
    let linear = discrete(0).saturating_add(discrete(1));
    [
        (both, discrete(2)),
        (constraints, discrete(3)),
        (objectives, discrete(4)),
        (0..variables, linear),
    ]
    .into_iter()
    .filter(|&(_, count)| count > 0)
    .map(|(class, count)| (count <= class.len()).then(|| class.end - count..class.end))
    .collect()
}

/// The form, the options and the tolerance: `g3 1 1 0`.
fn first_line(input: &mut Input<'_>) -> Result<(bool, Vec<i64>, Option<f64>), ReadError> {
    /// As many as the AMPL Solver Library allows.
    const MOST_OPTIONS: usize = 9;
    /// The second option says by this value that a tolerance follows.
    const TOLERANCE_FOLLOWS: i64 = 3;
    const EXPECTED: &str = "`g` or `b` and the number of options";

    let line = input.line();
    let words = input.header_line(EXPECTED)?;
    let joined = || words.join(" ");
    let wrong = || ReadError::expected(line, EXPECTED, &joined());
    let first = words.first().ok_or_else(wrong)?;
    let (binary, count) = match first.split_at_checked(1) {
        Some(("g", count)) => (false, count),
        Some(("b", count)) => (true, count),
        _ => return Err(wrong()),
    };
    let count: usize = match count {
        "" => 0,
        count => count.parse().map_err(|_| wrong())?,
    };
    let given = words.get(1..=count).filter(|_| count <= MOST_OPTIONS);
    let options: Result<Vec<i64>, _> = given
        .ok_or_else(wrong)?
        .iter()
        .map(|word| word.parse())
        .collect();
    let options = options.map_err(|_| wrong())?;
    let tolerance = match (options.get(1), words.get(1 + count)) {
        (Some(&TOLERANCE_FOLLOWS), Some(word)) => {
            let number: f64 = word.parse().map_err(|_| wrong())?;
            number.is_finite().then_some(number)
        }
        _ => None,
    };
    Ok((binary, options, tolerance))
}

/// The counts on a line, at least so many. None exceeds the length of the
/// file, of which whatever is counted takes a byte at least; so what they
/// make readers allocate is proportional to it.
fn counts(input: &mut Input<'_>, at_least: usize, expected: &str) -> Result<Vec<usize>, ReadError> {
    let line = input.line();
    let words = input.header_line(expected)?;
    let counts: Option<Vec<usize>> = words.iter().map(|word| word.parse().ok()).collect();
    let most = input.len();
    counts
        .filter(|counts| counts.len() >= at_least && counts.iter().all(|&count| count <= most))
        .ok_or_else(|| {
            let expected = format!("{expected}, none above the length of the file");
            ReadError::expected(line, expected, &words.join(" "))
        })
}
