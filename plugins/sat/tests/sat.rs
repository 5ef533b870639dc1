//! Whole formulas, from file to solution, against answers known otherwise.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use optwasm_model::{Format, Options, Solution, Status};
use optwasm_plugin_sat::{read, solve};
use proptest::prelude::*;

fn with_options(text: &str, options: &[&str]) -> Solution {
    solve(text.as_bytes(), Options::parse(options).unwrap())
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn answer(text: &str) -> Solution {
    with_options(text, &[])
}

fn error(text: &str) -> String {
    solve(text.as_bytes(), Options::default())
        .unwrap_err()
        .to_string()
}

/// Holds a solution against the text, without the plugin's own reader.
fn assert_satisfies(text: &str, solution: &Solution) {
    let body = text.split_once("p cnf").unwrap().1;
    let literals = body.split_whitespace().skip(2);
    let mut holds = false;
    for literal in literals.map(|word| word.parse::<i32>().unwrap()) {
        if literal == 0 {
            assert!(holds, "a clause is violated");
            holds = false;
        } else {
            let value = solution.value(&literal.unsigned_abs().to_string());
            holds |= value == Some(if literal > 0 { 1.0 } else { 0.0 });
        }
    }
}

/// That n + 1 pigeons find room in n holes.
fn pigeons(holes: i32) -> String {
    let variable = |pigeon: i32, hole: i32| pigeon * holes + hole + 1;
    let mut clauses = Vec::new();
    for pigeon in 0..=holes {
        let somewhere: Vec<String> = (0..holes)
            .map(|hole| variable(pigeon, hole).to_string())
            .collect();
        clauses.push(somewhere.join(" "));
        for other in 0..pigeon {
            for hole in 0..holes {
                let (a, b) = (variable(pigeon, hole), variable(other, hole));
                clauses.push(format!("-{a} -{b}"));
            }
        }
    }
    let mut text = format!("p cnf {} {}\n", (holes + 1) * holes, clauses.len());
    for clause in clauses {
        writeln!(text, "{clause} 0").unwrap();
    }
    text
}

#[test]
fn satisfiable_formulas_come_with_an_assignment() {
    let text = include_str!("data/sgen1_sat_90_0.cnf");
    let solution = answer(text);
    assert_eq!(solution.status, Status::Sat);
    assert_eq!(solution.objective, None);
    assert_eq!(solution.variables.len(), 90);
    assert!(solution.iterations.unwrap() > 100);
    assert_satisfies(text, &solution);
}

#[test]
fn unsatisfiable_formulas_are_refuted() {
    for text in [
        include_str!("data/sgen1_unsat_57_0.cnf"),
        &pigeons(6),
        "p cnf 1 2\n1 0\n-1 0\n",
        "p cnf 3 1\n0\n",
    ] {
        let solution = answer(text);
        assert_eq!(solution.status, Status::Unsat);
        assert_eq!(solution.values, []);
    }
}

#[test]
fn variables_in_no_clause_have_values_too() {
    let solution = answer("p cnf 3 1\n-2 0\n");
    assert_eq!(solution.status, Status::Sat);
    assert_eq!(solution.variables, ["1", "2", "3"]);
    assert_eq!(solution.value("2"), Some(0.0));
    let empty = answer("p cnf 0 0\n");
    assert_eq!(empty.status, Status::Sat);
    assert_eq!(empty.values, []);
}

#[test]
fn layout_is_free() {
    // As in SATLIB: comments, odd spaces, and an end mark with more after it.
    let text = "c made by hand\nc\n\np  cnf 3  2 \r\n 1 -2\n3 0 -3 c\n";
    assert!(error(text).starts_with("line 6: expected a literal from -3 to 3, found `c`"));
    let text = "c made by hand\nc\n\np  cnf 3  2 \r\n 1 -2\nc within\n3 0\t-3\n0\n%\n0\n\n";
    assert_eq!(Format::detect(text.as_bytes()), Some(Format::Dimacs));
    let formula = read(text.as_bytes()).unwrap();
    assert_eq!(formula.variables(), 3);
    assert!(formula.clauses().eq([&[1, -2, 3][..], &[-3][..]]));
    assert!(formula.is_satisfied_by(&[true, true, false]));
    assert!(!formula.is_satisfied_by(&[false, true, false]));
    assert!(!formula.is_satisfied_by(&[true, true, true]));
    // A literal twice, and a clause that always holds.
    assert_eq!(answer("p cnf 2 2\n1 1 0 2 -2 0").value("1"), Some(1.0));
}

#[test]
fn errors_name_the_line() {
    for (text, expected) in [
        (
            "",
            "line 1: the file ends where `p cnf VARIABLES CLAUSES` was expected",
        ),
        (
            "c\n1 0\n",
            "line 2: expected `p cnf VARIABLES CLAUSES`, found `1 0`",
        ),
        (
            "p cnf 2\n",
            "line 1: expected `p cnf VARIABLES CLAUSES`, found `p cnf 2`",
        ),
        ("p cnf -1 1\n", "line 1: expected `p cnf VARIABLES CLAUSES`"),
        (
            "p cnf 2 2 2\n",
            "line 1: expected `p cnf VARIABLES CLAUSES`",
        ),
        (
            "p cnf 2 1\n1\n3 0",
            "line 3: expected a literal from -2 to 2, found `3`",
        ),
        ("p cnf 2 1\n1 99999999999 0", "line 2: expected a literal"),
        (
            "p cnf 2 1\n1 \u{e9} 0",
            "line 2: expected a literal from -2 to 2, found `\u{e9}`",
        ),
        (
            "p cnf 2 1\n1 0\n2 0",
            "line 3: expected no more than the 1 clauses declared, found `2`",
        ),
        (
            "p cnf 2 2\n1 2 0\n\n",
            "line 2: the file ends where clause 2 of 2 was expected",
        ),
        (
            "p cnf 2 1\n1 2\n",
            "line 2: the file ends where the `0` that ends a clause was expected",
        ),
        (
            "p cnf 2000000 1\n",
            "line 1: 2000000 variables in a file of 16 bytes are not supported",
        ),
    ] {
        let found = error(text);
        assert!(found.starts_with(expected), "{found} for {text:?}");
    }
}

#[test]
fn the_conflict_limit_ends_the_search() {
    let text = pigeons(9);
    let solution = with_options(&text, &["conflict_limit=500"]);
    assert_eq!(solution.status, Status::IterationLimit);
    let conflicts = solution.iterations.unwrap();
    assert!((500..510).contains(&conflicts), "{conflicts}");
    let text = include_str!("data/sgen1_sat_90_0.cnf");
    let solution = with_options(text, &["conflict_limit=1000000"]);
    assert_eq!(solution.status, Status::Sat);
}

#[test]
fn seeds_change_the_way_but_not_the_answer() {
    let text = include_str!("data/sgen1_sat_90_0.cnf");
    let mut conflicts = Vec::new();
    for seed in 0..6 {
        let option = format!("seed={seed}");
        let solution = with_options(text, &[&option]);
        assert_satisfies(text, &solution);
        assert_eq!(with_options(text, &[&option]), solution);
        conflicts.push(solution.iterations);
    }
    conflicts.sort_unstable();
    conflicts.dedup();
    assert!(conflicts.len() >= 5, "{conflicts:?}");
}

#[test]
fn unknown_options_are_refused() {
    let options = Options::parse(["conflicts=3"]).unwrap();
    let error = solve(b"p cnf 0 0", options).unwrap_err();
    assert_eq!(error.to_string(), "there is no option `conflicts`");
}

proptest! {
    /// Against trying all assignments.
    #[test]
    fn small_formulas_are_decided_rightly(
        clauses in prop::collection::vec(
            prop::collection::vec((1..=6i32, any::<bool>()), 1..4), 0..40)
    ) {
        let mut text = format!("p cnf 6 {}\n", clauses.len());
        for clause in &clauses {
            for (variable, sign) in clause {
                write!(text, "{} ", if *sign { *variable } else { -variable }).unwrap();
            }
            text.push_str("0\n");
        }
        let satisfiable = (0..64u32).any(|bits| {
            clauses.iter().all(|clause| {
                clause.iter().any(|(variable, sign)| (bits >> (variable - 1) & 1 == 1) == *sign)
            })
        });
        let solution = answer(&text);
        if satisfiable {
            prop_assert_eq!(solution.status, Status::Sat);
            assert_satisfies(&text, &solution);
        } else {
            prop_assert_eq!(solution.status, Status::Unsat);
        }
    }

    /// Any bytes at all are read or refused.
    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read(&[&b"p cnf 9 3\n"[..], &bytes].concat());
    }

    /// The same, of what looks like a formula.
    #[test]
    fn reading_near_formulas_never_panics(text in "(c|p cnf [0-9]{1,20} [0-9]{1,20}|[-0-9 %\n]{0,20}|\n){0,8}") {
        let _ = read(text.as_bytes());
    }
}
