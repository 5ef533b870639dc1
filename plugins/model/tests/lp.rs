//! The dialect of LP files, and what is wrong with broken ones.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Model, Sense, lp};

const INF: f64 = f64::INFINITY;

fn read(text: &str) -> Model {
    lp::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn fault(text: &str) -> String {
    lp::read(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_whole_file() {
    let model = read(
        "\\ a comment\nMaximize\n profit: 3 x + 2y - 4 + 1.5e1 z \\ another\n + x\n\
         Subject To\n c1: x + y\n  - z <= 10\n range: -2 <= 0 x + y <= 8\n x >= 1\nBounds\n\
         -5 <= y <= 5\n z free\nGenerals\n x\nBinaries\n b\nEnd\nwhat follows is ignored",
    );
    assert_eq!(model.sense, Sense::Maximize);
    assert_eq!(model.constant, -4.0);
    let costs: Vec<_> = model
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.cost))
        .collect();
    assert_eq!(costs, [("x", 4.0), ("y", 2.0), ("z", 15.0), ("b", 0.0)]);
    assert_eq!(model.rows.len(), 3);
}

#[test]
fn rows_have_one_or_two_sides_in_any_order() {
    for (row, sides) in [
        ("x + y <= 4", (-INF, 4.0)),
        ("x + y < 4", (-INF, 4.0)),
        ("x + y =< 4", (-INF, 4.0)),
        ("x + y >= -4", (-4.0, INF)),
        ("x + y => - 4", (-4.0, INF)),
        ("x + y = 4", (4.0, 4.0)),
        ("4 >= x + y", (-INF, 4.0)),
        ("1 <= x + y <= 4", (1.0, 4.0)),
        ("4 >= x + y >= 1", (1.0, 4.0)),
        ("-inf <= x + y <= 4", (-INF, 4.0)),
        ("x + y - 1 <= 4", (-INF, 5.0)),
        ("x + y >= -1e20", (-INF, INF)),
    ] {
        for label in ["", "name: "] {
            let model = read(&format!("min\n x\nst\n{label}{row}\n 2 x >= 1\nend\n"));
            assert_eq!(model.rows.len(), 2, "{row}");
            assert_eq!((model.rows[0].lower, model.rows[0].upper), sides, "{row}");
            let name = if label.is_empty() { "c1" } else { "name" };
            assert_eq!(model.rows[0].name, name);
        }
    }
}

#[test]
fn a_row_without_variables() {
    let model = read("min\n x\nst\n c: >= 1\n x >= 2\nend\n");
    assert_eq!((model.rows[0].lower, model.rows[0].upper), (1.0, INF));
    assert_eq!(model.rows.len(), 2);
}

#[test]
fn terms_of_one_variable_are_added_up() {
    let model = read("min\n x\nst\n 2 x + y - 3 x + - y <= 1\nend\n");
    assert_eq!(model.entries.len(), 1);
    assert_eq!(model.entries[0].value, -1.0);
}

#[test]
fn every_form_of_bound() {
    for (bound, sides) in [
        ("x <= 4", (0.0, 4.0)),
        ("x >= -4", (-4.0, INF)),
        ("x = 4", (4.0, 4.0)),
        ("x FREE", (-INF, INF)),
        ("-inf <= x <= 4", (-INF, 4.0)),
        ("x >= -Infinity", (-INF, INF)),
        ("1 <= x", (1.0, INF)),
        ("5 >= x >= 2", (2.0, 5.0)),
        ("x <= 1e30", (0.0, INF)),
        ("x <= -1", (0.0, -1.0)),
    ] {
        let model = read(&format!("min\n x\nst\n x <= 9\nbounds\n {bound}\nend\n"));
        assert_eq!(
            (model.columns[0].lower, model.columns[0].upper),
            sides,
            "{bound}"
        );
    }
}

#[test]
fn binaries_keep_tighter_bounds() {
    let model = read("min\n x\nst\nbounds\n x = 0\nbin\n x\nend\n");
    let column = &model.columns[0];
    assert_eq!(
        (column.lower, column.upper, column.integer),
        (0.0, 0.0, true)
    );
}

#[test]
fn semicontinuous_variables_keep_their_bounds() {
    let model = read("min\n x\nst\nbounds\n 2 <= x <= 9\nsemi-continuous\n x\nend\n");
    let column = &model.columns[0];
    assert_eq!((column.lower, column.upper), (2.0, 9.0));
    assert!(column.semicontinuous && model.is_mixed_integer());
}

#[test]
fn quadratic_objectives_mean_half_of_xqx() {
    let expected = [(0, 0, 2.0), (0, 1, 2.0), (1, 1, -6.0)];
    for text in [
        "min\n x + [ 2 x^2 + 4 x*y - 6 y ^ 2 ] / 2\nst\n x + y >= 1\nend\n",
        "min\n obj: [ x ^2 + 2 x * y - 3 y^2 ] + x\nst\nend\n",
        "min\n x - [ - 2 x^2 - 4 y * x + 6 y^2 ]/2\nend\n",
    ] {
        assert_eq!(read(text).quadratic, expected, "{text}");
    }
}

#[test]
fn keywords_count_only_at_the_beginning_of_a_line() {
    let model = read("min\n x\nst\n end: x >= 2\n row: x + bounds <= 3\nend\n");
    assert_eq!(model.rows[0].name, "end");
    assert_eq!(model.columns[1].name, "bounds");
}

#[test]
fn faults_name_their_line() {
    for (text, message) in [
        (
            "x + y",
            "line 1: expected `minimize` or `maximize`, found `x`",
        ),
        (
            "min\n x\nst\n x + y\nend",
            "line 5: expected `<=`, `>=` or `=`, found `end`",
        ),
        (
            "min\n x\nst\n x >= y\nend",
            "line 4: expected a number, found `y`",
        ),
        (
            "min\n x\nst\n x >= ",
            "line 4: the file ends where a number was expected",
        ),
        ("min\n x +\nst\nend", "line 3: expected a term, found `st`"),
        (
            "min\n x\nst\n 1 <= a: x\nend",
            "line 4: expected a term, found `a`",
        ),
        (
            "min\n x\nst\n a: x >= 1\n a: x >= 2\nend",
            "line 5: row `a` appears twice",
        ),
        (
            "min\n x\nst\n [ x^2 ] <= 1\nend",
            "line 4: quadratic constraints are not supported",
        ),
        (
            "min\n [ x^3 ]\nend",
            "line 2: expected the exponent 2, found `3`",
        ),
        (
            "min\n [ x^2 ] / 3\nend",
            "line 2: expected the divisor 2, found `3`",
        ),
        (
            "min\n [ x ]\nend",
            "line 2: expected `^2` or `*`, found `]`",
        ),
        (
            "min\n x\nst\n x > 1\nsos\n s: x:1",
            "line 5: special ordered sets are not supported",
        ),
        (
            "min\n x\nst\n b = 1 -> x <= 1\nend",
            "line 4: indicator constraints are not supported",
        ),
        (
            "min\n x\nmax\n x\nend",
            "line 3: section `objective` appears twice",
        ),
        (
            "min\n 1e999 x\nend",
            "line 2: expected a finite number, found `infinity`",
        ),
    ] {
        assert_eq!(fault(text), message, "{text}");
    }
}
