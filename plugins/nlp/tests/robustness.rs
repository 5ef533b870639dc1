//! Whatever file is read, the solve returns.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Options, Status};
use optwasm_plugin_nlp::solve;
use proptest::prelude::*;

const HS71: &str = include_str!("data/hs71.nl");
const DEFINED: &str = include_str!("../../model/tests/data/defined.nl");
const MINLP: &str = include_str!("../../model/tests/data/minlp.nl");

/// What an answer must be like whatever the program is.
fn solve_some(bytes: &[u8]) {
    let options = Options::parse(["max_iter=30", "relax_integrality=yes"]).unwrap();
    let Ok(solution) = solve(bytes, options, |_| ()) else {
        return;
    };
    if solution.status == Status::Optimal {
        assert!(solution.objective.is_some_and(f64::is_finite));
        assert!(solution.values.iter().all(|value| value.is_finite()));
    }
    assert!([0, solution.variables.len()].contains(&solution.values.len()));
    assert!([0, solution.constraints.len()].contains(&solution.duals.len()));
}

proptest! {
    // Each case is three solves, some of which run to the limit.
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn lines_changed(
        at in 10usize..60,
        line in prop::sample::select(vec![
            "n0", "n-1", "n1e300", "n1e-300", "v0", "v1", "o16", "o39", "o43", "o44", "o42",
            "o77", "o53", "3", "4 0", "2 1e19", "1 -1e19", "0 5 5", "0 1e300", "0 -1e300", "1 0",
        ]),
    ) {
        for text in [HS71, DEFINED, MINLP] {
            let mut lines: Vec<&str> = text.lines().collect();
            let at = at.min(lines.len() - 1);
            lines[at] = line;
            solve_some(lines.join("\n").as_bytes());
        }
    }

    #[test]
    fn bytes_changed(at in 0.0..1.0, byte in prop::sample::select(b"0123459nvo-.\n ".to_vec())) {
        for text in [HS71, DEFINED, MINLP] {
            let mut bytes = text.as_bytes().to_vec();
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = byte;
            solve_some(&bytes);
        }
    }
}
