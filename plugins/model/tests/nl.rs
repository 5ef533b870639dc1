//! AMPL's `.nl` files: reading, classifying, writing.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::nl::{self, Degree, Expression, NlModel, Node, Operator, SuffixTarget};
use optwasm_model::{ReadError, Sense};

// All but the last two were written by Pyomo's writer; those, which are the
// same model, by AMPL's own library (`nlwpy`).
const HS71: &str = include_str!("../../nlp/tests/data/hs71.nl");
const HS35: &str = include_str!("../../nlp/tests/data/hs35.nl");
const MILP: &str = include_str!("data/milp.nl");
const MINLP: &str = include_str!("data/minlp.nl");
const DEFINED: &str = include_str!("data/defined.nl");
const FUNCTIONS: &str = include_str!("data/functions.nl");
const MIQP: &str = include_str!("data/miqp.nl");
const MIQP_BINARY: &[u8] = include_bytes!("data/miqp-binary.nl");

fn read(text: &str) -> NlModel {
    nl::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A file with one objective, n variables and m constraints, none of them
/// bounded; `segments` are the rest.
fn small(n: usize, m: usize, segments: &str) -> String {
    let bounds = |count| "3\n".repeat(count);
    format!(
        "g3 1 1 0\n{n} {m} 1 0 0 0\n{m} 1\n0 0\n{n} {n} {n}\n0 0 0 1\n0 0 0 0 0\n\
         0 0\n0 0\n2 0 0 0 0\n{segments}\nb\n{}r\n{}",
        bounds(n),
        bounds(m)
    )
}

/// The value of an objective that is given as lines of a file.
fn value(expression: &str, x: &[f64]) -> f64 {
    read(&small(x.len(), 0, &format!("O0 0\n{expression}"))).objective_at(x)
}

fn error(text: &str) -> String {
    nl::read(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn hs71_has_its_functions_bounds_and_start() {
    let model = read(HS71);
    assert_eq!(model.options, [1, 1, 0]);
    let x = [1.0, 4.743, 3.82115, 1.379408];
    assert_eq!(
        model.objective_at(&x),
        x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]
    );
    let rows = model.constraints_at(&x);
    assert_eq!(rows[0], x[0] * x[1] * x[2] * x[3]);
    let squares: f64 = x.iter().map(|x| x * x).sum();
    assert!((rows[1] - squares).abs() < 1e-12);
    assert_eq!(
        (model.constraints[0].lower, model.constraints[0].upper),
        (25.0, f64::INFINITY)
    );
    assert_eq!(
        (model.constraints[1].lower, model.constraints[1].upper),
        (40.0, 40.0)
    );
    let variables = model.variables.iter();
    let (starts, bounds): (Vec<f64>, Vec<_>) =
        variables.map(|v| (v.start, (v.lower, v.upper))).unzip();
    assert_eq!(starts, [1.0, 5.0, 5.0, 1.0]);
    assert_eq!(bounds, [(1.0, 5.0); 4]);
    assert_eq!(model.class().to_string(), "nonlinear program");
    assert!(model.to_model().is_none());
}

#[test]
fn a_quadratic_objective_is_expanded() {
    let model = read(HS35);
    assert_eq!(model.class().degree, Degree::Quadratic);
    let quadratic = model.to_model().unwrap();
    for x in [
        [0.5, 0.5, 0.5],
        [4.0 / 3.0, 7.0 / 9.0, 4.0 / 9.0],
        [-1.0, 2.0, 3.0],
    ] {
        let difference = quadratic.objective_at(&x) - model.objective_at(&x);
        assert!(difference.abs() < 1e-12, "{difference}");
    }
    assert_eq!(quadratic.constant, 9.0);
    assert_eq!(quadratic.columns[1].name, "x1");
    assert_eq!(quadratic.rows[0].name, "c0");
    // It is convex: 2x² has the entry 4 in Q.
    assert!(quadratic.quadratic.contains(&(0, 0, 4.0)));
    assert_eq!(optwasm_model::read(HS35.as_bytes()), Ok(quadratic));
}

#[test]
fn squares_products_and_defined_variables_expand_to_quadratics() {
    // v2 = 2x₀ − 3 (by its terms and expression), and (v2 + x₁)² / 4 − x₀x₁.
    let text = small(
        2,
        1,
        "V2 1 0\n0 2\nn-3\nC0\no0\no2\nn2\nv1\nn5\nO0 1\no1\no3\no5\no0\nv2\nv1\nn2\nn4\no2\nv0\nv1\nJ0 1\n0 1\nG0 1\n1 0.5",
    );
    let model = read(&text);
    let expanded = model.to_model().unwrap();
    assert_eq!(expanded.sense, Sense::Maximize);
    for x in [[0.0, 0.0], [1.0, 2.0], [-3.0, 0.5]] {
        let (a, b) = (2.0 * x[0] - 3.0 + x[1], x[0] * x[1]);
        let by_hand = a * a / 4.0 - b + 0.5 * x[1];
        assert!((model.objective_at(&x) - by_hand).abs() < 1e-12);
        assert!((expanded.objective_at(&x) - by_hand).abs() < 1e-12);
    }
    // The row's constant went to its sides.
    let coefficients = expanded.row_coefficients();
    assert_eq!(coefficients, [vec![(0, 1.0), (1, 2.0)]]);
    assert_eq!(model.constraints_at(&[1.0, 1.0]), [8.0]);
}

#[test]
fn a_constant_in_a_row_moves_to_its_sides() {
    let text = small(1, 1, "C0\nn5\nO0 0\nn7\nJ0 1\n0 1").replace("r\n3\n", "r\n0 1 9\n");
    let model = read(&text).to_model().unwrap();
    assert_eq!((model.rows[0].lower, model.rows[0].upper), (-4.0, 4.0));
    assert_eq!(model.constant, 7.0);
}

#[test]
fn what_cancels_is_linear_and_what_does_not_is_not() {
    let class = |objective: &str, row: &str| {
        let text = small(2, 1, &format!("O0 0\n{objective}\nC0\n{row}"));
        read(&text).class().degree
    };
    let product = "o2\nv0\nv1";
    assert_eq!(
        class(&format!("o1\n{product}\n{product}"), "n0"),
        Degree::Linear
    );
    assert_eq!(class(product, "v0"), Degree::Quadratic);
    assert_eq!(class("v0", product), Degree::Nonlinear);
    assert_eq!(
        class(&format!("o2\nv0\n{product}"), "n0"),
        Degree::Nonlinear
    );
    assert_eq!(class("o44\nn1", "n0"), Degree::Linear);
    assert_eq!(class("o44\nv0", "n0"), Degree::Nonlinear);
    assert_eq!(class("o3\nn1\nv0", "n0"), Degree::Nonlinear);
    assert_eq!(class("o3\nv0\nn0", "n0"), Degree::Nonlinear);
    assert_eq!(class("o5\nv0\nn3", "n0"), Degree::Nonlinear);
}

#[test]
fn an_expansion_too_large_counts_as_nonlinear() {
    // (x₀ + … + x₃₉₉₉)²: eight million terms.
    let sum: String = (0..4000).map(|i| format!("v{i}\n")).collect();
    let text = small(4000, 0, &format!("O0 0\no77\no54\n4000\n{sum}"));
    assert_eq!(read(&text).class().degree, Degree::Nonlinear);
    let sum: String = (0..100).map(|i| format!("v{i}\n")).collect();
    let text = small(100, 0, &format!("O0 0\no77\no54\n100\n{sum}"));
    assert_eq!(read(&text).to_model().unwrap().quadratic.len(), 5050);
}

#[test]
fn integer_variables_are_the_last_of_each_class() {
    let integers = |text: &str| -> Vec<usize> {
        let variables = read(text).variables;
        (0..variables.len())
            .filter(|&i| variables[i].integer)
            .collect()
    };
    assert_eq!(integers(MINLP), [1, 3, 5, 7, 8]);
    assert_eq!(integers(MILP), [1, 2]);
    assert_eq!(integers(MIQP), [3, 4]);
    // Some writers count those nonlinear in objectives only by themselves.
    let other = MINLP.replace("\n 4 6 2 ", "\n 4 4 2 ");
    assert_eq!(integers(&other), [1, 3, 5, 7, 8]);
    assert_eq!(
        read(MINLP).class().to_string(),
        "mixed-integer nonlinear program"
    );
    assert_eq!(
        read(MILP).class().to_string(),
        "mixed-integer linear program"
    );
    assert!(read(MILP).to_model().unwrap().columns[1].integer);
    assert!(matches!(
        optwasm_model::read(MINLP.as_bytes())
            .unwrap_err()
            .to_string()
            .as_str(),
        "this is a mixed-integer nonlinear program"
    ));
}

#[test]
fn a_linear_model_becomes_one() {
    let model = read(MILP).to_model().unwrap();
    assert_eq!(model.sense, Sense::Maximize);
    // 3x + 2i + 4b with 2x + i + 3b ≤ 8 and 1 ≤ x + i ≤ 6, in the file's order.
    assert_eq!(model.columns.len(), 3);
    assert_eq!(model.objective_at(&[1.0, 0.0, 0.0]), 3.0);
    assert_eq!(
        model
            .rows
            .iter()
            .filter(|r| r.lower == 1.0 && r.upper == 6.0)
            .count(),
        1
    );
    assert_eq!(model.entries.len(), 5);
}

#[test]
fn defined_variables_suffixes_and_initial_duals() {
    let model = read(DEFINED);
    let (x, y, z): (f64, f64, f64) = (0.3, 1.2, 2.0);
    let e = x * x + y.sin() + 3.0 * z;
    assert_eq!(model.defined_at(&[x, y, z]).len(), 2);
    let objective = e * e + (e / 10.0).exp() + y.ln();
    assert!((model.objective_at(&[x, y, z]) - objective).abs() < 1e-12);
    let rows = model.constraints_at(&[x, y, z]);
    assert!((rows[0] - (e * x - y.sqrt())).abs() < 1e-12);
    assert!((rows[1] - (x * x + z)).abs() < 1e-12);
    // The other branch of the condition.
    assert!((model.constraints_at(&[-0.3, y, z])[1] - (0.3 + z)).abs() < 1e-12);
    assert_eq!(model.constraints[0].dual_start, 0.25);
    let scaling = model.suffix("scaling_factor", SuffixTarget::Constraints);
    assert_eq!(scaling.unwrap().values, [(0, 0.5)]);
    let priority = model.suffix("prio", SuffixTarget::Variables).unwrap();
    assert!(!priority.real);
    assert_eq!(priority.values, [(1, 7.0)]);
    assert!(model.suffix("prio", SuffixTarget::Problem).is_none());
}

#[test]
fn functions_that_pyomo_writes() {
    let (x, y): (f64, f64) = (0.4, 1.5);
    let expected = x.sin()
        + x.cos()
        + x.tan()
        + x.asin()
        + x.acos()
        + x.atan()
        + x.sinh()
        + x.cosh()
        + x.tanh()
        + x.asinh()
        + y.acosh()
        + x.atanh()
        + x.exp()
        + y.ln()
        + y.log10()
        + y.sqrt()
        + (x - y).abs()
        + x.powf(y)
        + x / y
        - 2f64.powf(x);
    assert!((read(FUNCTIONS).objective_at(&[x, y]) - expected).abs() < 1e-12);
}

#[test]
fn operators_have_their_values() {
    for (expression, expected) in [
        ("o4\nn7\nn-4", 3.0),
        ("o6\nn5\nn3", 2.0),
        ("o6\nn3\nn5", 0.0),
        ("o11\n3\nn2\nn-1\nn4", -1.0),
        ("o12\n2\nn2\nn9", 9.0),
        ("o13\nn-1.5", -2.0),
        ("o14\nn-1.5", -1.0),
        ("o20\nn0\nn0", 0.0),
        ("o21\nn1\nn-2", 1.0),
        ("o22\nn1\nn1", 0.0),
        ("o23\nn1\nn1", 1.0),
        ("o24\nn1\nn1", 1.0),
        ("o28\nn1\nn2", 0.0),
        ("o29\nn3\nn2", 1.0),
        ("o30\nn3\nn2", 1.0),
        ("o34\nn3", 0.0),
        ("o35\nn0\nn3\nn4", 4.0),
        ("o48\nn1\nn0", std::f64::consts::FRAC_PI_2),
        ("o55\nn-7\nn2", -3.0),
        ("o56\nn1234.5\nn2", 1200.0),
        ("o57\nn2.346\nn2", 2.35),
        ("o58\nn2.346\nn2", 2.34),
        ("o59\n3\nn0\nn2\nn1", 2.0),
        ("o60\n4\nn2\nn0\nn2\nn2", 2.0),
        ("o62\nn2\no59\n2\nn1\nn1", 1.0),
        ("o63\nn1\no59\n2\nn1\nn1", 0.0),
        ("o66\nn2\no59\n2\nn1\nn1", 1.0),
        ("o67\nn2\no59\n2\nn1\nn1", 0.0),
        ("o68\nn1\no59\n2\nn1\nn1", 1.0),
        ("o69\nn2\no59\n2\nn1\nn1", 0.0),
        ("o70\n3\nn1\nn1\nn0", 0.0),
        ("o71\n3\nn1\nn1\nn0", 1.0),
        ("o72\nn1\nn0\nn1", 0.0),
        ("o73\nn2\nn3", 1.0),
        ("o74\n3\nn1\nn2\nn1", 0.0),
        ("o75\n3\nn1\nn2\nn1", 1.0),
        ("o76\nn3\nn2", 9.0),
        ("o77\nn3", 9.0),
        ("o78\nn2\nn3", 8.0),
        ("o16\ns-12", 12.0),
        ("l-100000", -100000.0),
    ] {
        let found = value(expression, &[]);
        assert!((found - expected).abs() < 1e-12, "{expression:?}: {found}");
    }
}

#[test]
fn piecewise_linear_functions_pass_through_the_origin() {
    // Slopes −1, 2, 3 with breakpoints 1 and 4.
    let at = |x| value("o64\n3\nn-1\nn1\ns2\nn4\nl3\nv0", &[x]);
    for (x, expected) in [
        (0.0, 0.0),
        (-2.0, 2.0),
        (1.0, -1.0),
        (3.0, 3.0),
        (4.0, 5.0),
        (5.0, 8.0),
    ] {
        assert_eq!(at(x), expected, "{x}");
    }
    // The origin in the last piece.
    let at = |x| value("o64\n2\nn1\nn-3\nn5\nv0", &[x]);
    assert_eq!((at(-3.0), at(-4.0), at(2.0)), (-15.0, -16.0, 10.0));
}

#[test]
fn a_binary_file_has_the_model_of_the_text_file() {
    let (text, binary) = (read(MIQP), nl::read(MIQP_BINARY).unwrap());
    assert_eq!(binary, text);
    // min (x − y)² + ½xz + y − 2i + ½b + 3
    let x = [2.0, 3.0, 1.5, 1.0, 6.0];
    assert_eq!(binary.objective_at(&x), 1.0 + 1.5 + 3.0 + 0.5 - 12.0 + 3.0);
    assert_eq!(binary.constraints_at(&x), [-1.0, 6.1]);
    assert_eq!(
        binary.class().to_string(),
        "mixed-integer quadratic program"
    );
    assert_eq!(
        binary
            .suffix("scale", SuffixTarget::Constraints)
            .unwrap()
            .values
            .len(),
        2
    );
}

#[test]
fn writing_is_the_reverse_of_reading() {
    for text in [HS71, HS35, MILP, MINLP, DEFINED, FUNCTIONS, MIQP] {
        let model = read(text);
        assert_eq!(nl::read(&model.write_text().unwrap()), Ok(model.clone()));
        assert_eq!(nl::read(&model.write_binary().unwrap()), Ok(model));
    }
    let logical = small(
        2,
        0,
        "O0 0\no64\n3\nn-1\nn1\nn2\nn4\nn3\nv0\nL0\no74\n2\nv0\nv1",
    );
    let logical = logical.replace("2 0 1 0 0 0\n", "2 0 1 0 0 1\n");
    let model = read(&logical);
    assert_eq!(
        model.class().to_string(),
        "nonlinear program with logical constraints"
    );
    assert_eq!(nl::read(&model.write_text().unwrap()), Ok(model));
}

#[test]
fn bounds_of_every_kind_are_written() {
    let mut model = read(&small(2, 0, "O0 0\nn0"));
    let infinity = f64::INFINITY;
    for (lower, upper) in [
        (-infinity, infinity),
        (-1.5, infinity),
        (-infinity, 1e-300),
        (1.0, 1.0),
        (2.0, 1.0),
        (infinity, infinity),
        (infinity, 3.0),
        (-infinity, -infinity),
        (0.1, 1e300),
    ] {
        model.variables[0].lower = lower;
        model.variables[0].upper = upper;
        for file in [model.write_text(), model.write_binary()] {
            let back = nl::read(&file.unwrap()).unwrap();
            assert_eq!(
                (back.variables[0].lower, back.variables[0].upper),
                (lower, upper)
            );
        }
    }
}

#[test]
fn a_model_built_in_memory_is_written() {
    let mut model = read(&small(3, 1, "O0 0\nn0\nC0\nn0"));
    let square = Expression::operation(Operator::Square, [Expression::variable(2)]);
    let sum = [square, Expression::number(0.0), Expression::defined(0)];
    model.constraints[0].expression = Expression::operation(Operator::Sum, sum);
    model.defined[0].linear = vec![(1, 4.0)];
    let text = model.write_text().unwrap();
    let back = nl::read(&text).unwrap();
    let x = [1.0, 2.0, 3.0];
    assert_eq!(back.constraints_at(&x), [17.0]);
    // Readers take the sparsity of the Jacobian from the linear terms.
    assert_eq!(back.constraints[0].linear, [(1, 0.0), (2, 0.0)]);

    // Of the nonlinear variables the continuous ones must come first.
    model.variables[0].integer = true;
    assert_eq!(model.write_text(), None);
    model.variables[0].integer = false;
    model.variables[2].integer = true;
    assert_eq!(
        nl::read(&model.write_text().unwrap()).unwrap().variables,
        model.variables
    );
}

#[test]
#[should_panic(expected = "does not take 1 arguments")]
fn an_operation_without_its_arguments_is_refused() {
    let _ = Expression::operation(Operator::Multiply, [Expression::variable(0)]);
}

#[test]
fn expressions_may_be_nested_as_deeply_as_the_file_is_long() {
    let depth = 200_000;
    let model = read(&small(1, 0, &format!("O0 0\n{}v0", "o16\n".repeat(depth))));
    assert_eq!(model.objectives[0].expression.nodes().len(), depth + 1);
    assert_eq!(model.objective_at(&[3.0]), 3.0);
    assert_eq!(model.class().degree, Degree::Linear);
    assert!(nl::read(&model.write_text().unwrap()).is_ok());
}

#[test]
fn doubling_defined_variables_cost_no_time() {
    // vᵢ₊₁ = vᵢ + vᵢ, a hundred times: 2¹⁰⁰ paths.
    let mut segments = "V1 0 0\nv0\n".to_owned();
    for i in 1..100 {
        segments.push_str(&format!("V{} 0 0\no0\nv{i}\nv{i}\n", i + 1));
    }
    let text =
        small(1, 0, &format!("{segments}O0 0\nv100")).replace("\n2 0 0 0 0\n", "\n100 0 0 0 0\n");
    let model = read(&text);
    assert_eq!(model.objective_at(&[1.0]), 2f64.powi(99));
    assert_eq!(model.to_model().unwrap().columns[0].cost, 2f64.powi(99));
}

#[test]
fn no_variables_and_several_objectives() {
    let text = small(1, 0, "O0 0\nv0\nO1 1\no16\nv0").replace("1 0 1 0 0 0\n", "1 0 2 0 0 0\n");
    let model = read(&text);
    assert_eq!(model.objectives[1].sense, Sense::Maximize);
    assert_eq!(model.objective_at(&[5.0]), 5.0);
    let empty = "g3 1 1 0\n0 0 0\n0 0\n0 0\n0 0 0\n0 0\n0 0\n0 0\n0 0\n0 0 0 0 0\n";
    assert_eq!(
        read(empty).to_model(),
        Some(optwasm_model::Model::default())
    );
    assert_eq!(
        nl::read(&read(empty).write_text().unwrap()).map(|m| m.options),
        Ok(vec![1, 1, 0])
    );
}

#[test]
fn errors_name_the_line() {
    let at = |segments: &str| error(&small(2, 1, segments));
    for (segments, message) in [
        (
            "O0 0\nx",
            "line 12: expected an expression (n, v or o), found `x`",
        ),
        (
            "O0 0\nv4",
            "line 12: expected a variable below 4, found `4`",
        ),
        (
            "O0 0\nv2",
            "line 12: expected a defined variable whose V segment comes before, found `v2`",
        ),
        ("O0 0\no99\nv0", "line 12: expected an opcode, found `99`"),
        ("O0 0\no-1\nv0", "line 12: expected an opcode, found `-1`"),
        (
            "O0 0\nn1e999",
            "line 12: expected a number, finite, found `inf`",
        ),
        ("O0 0\nnan", "line 12: expected a number, found `an`"),
        (
            "O0 0\no11\n0",
            "line 13: expected at least 1 arguments, found `0`",
        ),
        (
            "O7 0\nn0",
            "line 11: expected an objective below 1, found `7`",
        ),
        ("O0 0\nn0\nO0 0\nn0", "line 13: O segment `0` appears twice"),
        ("b\n3\n3", "line 14: segment `b` appears twice"),
        (
            "J0 3\n0 1\n1 1\n2 1",
            "line 14: expected an index below 2, found `2`",
        ),
        (
            "J0 2\n0 1\n1 what",
            "line 13: expected a number, found `what`",
        ),
        (
            "J0 99999\n0 1",
            "line 11: expected a number of terms that the file has room for, found `99999`",
        ),
        (
            "V0 0 0\nn1",
            "line 11: expected a defined variable from 2 on, found `0`",
        ),
        (
            "Z",
            "line 11: expected a segment (one of C L O V J G b r x d k K S), found `Z`",
        ),
        ("F0 1 -1 f", "line 11: imported functions are not supported"),
        (
            "O0 0\nf0 1\nv0",
            "line 12: imported functions are not supported",
        ),
        ("O0 0\no65\nn1", "line 12: strings are not supported"),
        ("O0 0\nh3:abc", "line 12: strings are not supported"),
        (
            "O0 0\no64\n3\nn1\nn2\nn3\nn1\nn4\nv0",
            "line 17: expected breakpoints in ascending order, found `1`",
        ),
        (
            "r\n5 1 1",
            "line 12: complementarity constraints (this is a complementarity problem) are not supported",
        ),
        (
            "r\n9 1 1",
            "line 12: expected a kind of bound (0 to 5), found `9`",
        ),
        (
            "S0 1",
            "line 11: expected the name of a suffix, found nothing",
        ),
        ("S0 1 s\n0 1.5", "line 12: expected an integer, found `1.5`"),
    ] {
        assert_eq!(at(segments), message, "{segments:?}");
    }
    // Of the header.
    for (old, new, message) in [
        (
            "g3 1 1 0",
            "g3 1 1",
            "line 1: expected `g` or `b` and the number of options, found `g3 1 1`",
        ),
        (
            "\n 4 2 1 0 1",
            "\n 4 2",
            "line 2: expected numbers of variables, constraints and objectives, none above the length of the file, found `4 2`",
        ),
        (
            "\n 4 2 1 0 1",
            "\n 4000 2 1",
            "line 2: expected numbers of variables, constraints and objectives, none above the length of the file, found `4000 2 1`",
        ),
        (
            "\n 0 0 0 0 0 ",
            "\n 0 0 5 0 0 ",
            "line 7: expected numbers of integer variables that their classes have room for, found `greater ones`",
        ),
    ] {
        assert!(HS71.contains(old));
        assert_eq!(error(&HS71.replacen(old, new, 1)), message);
    }
    assert_eq!(
        error(""),
        "line 1: the file ends where `g` or `b` and the number of options was expected"
    );
    // Of a file that ends where a segment begins.
    for (segment, line) in [("G0", 71), ("J1", 66)] {
        let cut = &HS71[..HS71.find(segment).unwrap()];
        let missing = &segment[..1];
        let expected =
            format!("line {line}: the file ends where another {missing} segment was expected");
        assert_eq!(error(cut), expected);
    }
}

#[test]
fn errors_of_binary_files_name_the_byte() {
    let mut bytes = MIQP_BINARY.to_vec();
    let at = bytes.windows(5).position(|w| w == b"o\x36\0\0\0").unwrap();
    bytes[at] = b'?';
    let error = nl::read(&bytes).unwrap_err();
    let expected = format!(
        "byte {}: expected an expression (n, v or o), found `?`",
        at + 1
    );
    assert_eq!(error.to_string(), expected);
    let twice = [MIQP_BINARY, b"C\0\0\0\0s\0\0"].concat();
    let expected = format!("byte {}: C segment `0` appears twice", twice.len());
    assert_eq!(nl::read(&twice).unwrap_err().to_string(), expected);
    let function = [MIQP_BINARY, b"F"].concat();
    let expected = format!(
        "byte {}: imported functions are not supported",
        function.len()
    );
    assert_eq!(nl::read(&function).unwrap_err().to_string(), expected);
    let cut = MIQP_BINARY.len() - 3;
    assert!(matches!(
        nl::read(&MIQP_BINARY[..cut]),
        Err(ReadError::AtByte { offset, .. }) if offset == MIQP_BINARY.len() - 8
    ));
    let text = String::from_utf8_lossy(MIQP_BINARY).into_owned();
    let big_endian = text.replacen("\n 0 0 1 1\t", "\n 0 0 2 1\t", 1);
    assert_ne!(big_endian, text);
    assert!(matches!(
        nl::read(big_endian.as_bytes()),
        Err(ReadError::Unsupported { line: 6, .. })
    ));
}

#[test]
fn nodes_are_in_prefix_order() {
    let model = read(&small(2, 0, "O0 0\no1\nv0\no2\nn3\nv1"));
    assert_eq!(
        model.objectives[0].expression.nodes(),
        [
            Node::Operation(Operator::Subtract, 2),
            Node::Variable(0),
            Node::Operation(Operator::Multiply, 2),
            Node::Number(3.0),
            Node::Variable(1),
        ]
    );
}

/// The header is read outside of every sandbox, too: what it declares must not cost more than it.
#[test]
fn counts_that_the_file_cannot_hold_are_refused() {
    let text = small(1, 0, "");
    for counts in ["2000000000 0 0 0 0", "900 900 900 900 900"] {
        let lying = text.replacen("\n2 0 0 0 0\n", &format!("\n{counts}\n"), 1);
        assert_ne!(lying, text);
        assert!(error(&lying).contains("common expressions"), "{counts}");
    }
    let text = small(1, 0, "O0 0\nn1");
    let many = format!("\n2 0 0 0 0{}\n", " 9".repeat(100));
    let model = read(&text.replacen("\n2 0 0 0 0\n", &many, 1));
    assert_eq!(model.objective_at(&[0.0]), 1.0);
}
