//! The dialect of MPS files, and what is wrong with broken ones.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Model, ReadError, Sense, mps};

const INF: f64 = f64::INFINITY;

/// A model of one row of each type and the columns x, y, z; the rest of the
/// file is given.
fn with(sections: &str) -> Result<Model, ReadError> {
    let text = format!(
        "NAME test\nROWS\n N cost\n L l\n G g\n E e\n N other\nCOLUMNS\n \
         x cost 1 l 1\n x g 2 other 5\n MARKER 'MARKER' 'INTORG'\n y cost -2 e 1\n \
         MARKER 'MARKER' 'INTEND'\n z l 3\n{sections}ENDATA\n"
    );
    mps::read(text.as_bytes())
}

fn bounds(model: &Model, name: &str) -> (f64, f64, bool) {
    let column = model.columns.iter().find(|c| c.name == name).unwrap();
    (column.lower, column.upper, column.integer)
}

fn sides(model: &Model, name: &str) -> (f64, f64) {
    let row = model.rows.iter().find(|r| r.name == name).unwrap();
    (row.lower, row.upper)
}

#[test]
fn defaults() {
    let model = with("").unwrap();
    assert_eq!(model.name, "test");
    assert_eq!(model.sense, Sense::Minimize);
    assert_eq!(sides(&model, "l"), (-INF, 0.0));
    assert_eq!(sides(&model, "g"), (0.0, INF));
    assert_eq!(sides(&model, "e"), (0.0, 0.0));
    assert_eq!(bounds(&model, "x"), (0.0, INF, false));
    assert_eq!(
        bounds(&model, "y"),
        (0.0, 1.0, true),
        "integer without bounds is binary"
    );
    assert_eq!(model.columns[0].cost, 1.0);
    assert_eq!(model.entries.len(), 4, "the second N row is dropped");
}

#[test]
fn semicontinuous_variables() {
    let model = with("BOUNDS\n LO b x 2\n SC b x 10\n SI b y 3\n SC b z\n").unwrap();
    assert!(model.columns.iter().all(|column| column.semicontinuous));
    assert!(model.is_mixed_integer());
    assert_eq!(bounds(&model, "x"), (2.0, 10.0, false));
    assert_eq!(bounds(&model, "y"), (0.0, 3.0, true));
    assert_eq!(
        bounds(&model, "z"),
        (0.0, INF, false),
        "no number, no bound"
    );
    assert_eq!(with("BOUNDS\n SC x 10\n").unwrap().columns[0].upper, 10.0);
    // In rows l, g and e: x + 3z <= 0, 2x >= 0, y = 0.
    assert_eq!(model.violation(&[0.0, 0.0, 0.0]), 0.0);
    assert_eq!(model.violation(&[0.5, 0.0, -1.0]), 1.0);
}

#[test]
fn right_hand_sides_and_ranges() {
    let model = with("RHS\n rhs cost 7 l 4\n rhs g 5 e 6\nRANGES\n r l 1 g 2\n r e -3\n").unwrap();
    assert_eq!(model.constant, -7.0);
    assert_eq!(sides(&model, "l"), (3.0, 4.0));
    assert_eq!(sides(&model, "g"), (5.0, 7.0));
    assert_eq!(sides(&model, "e"), (3.0, 6.0));
    let model = with("RHS\n l -4 e 6\nRANGES\n l -1 e 3\n").unwrap();
    assert_eq!(
        sides(&model, "l"),
        (-5.0, -4.0),
        "the set's name may be missing"
    );
    assert_eq!(sides(&model, "e"), (6.0, 9.0));
}

#[test]
fn every_type_of_bound() {
    for (lines, name, expected) in [
        (" UP b x 4\n", "x", (0.0, 4.0, false)),
        (" UP x 4\n", "x", (0.0, 4.0, false)),
        (" UP b x -4\n", "x", (-INF, -4.0, false)),
        (" LO b x -9\n UP b x -4\n", "x", (-9.0, -4.0, false)),
        (" LO b x 2\n", "x", (2.0, INF, false)),
        (" FX b x 3\n", "x", (3.0, 3.0, false)),
        (" FR b x\n", "x", (-INF, INF, false)),
        (" FR x\n", "x", (-INF, INF, false)),
        (" MI b x\n", "x", (-INF, INF, false)),
        (" UP b x 4\n PL b x\n", "x", (0.0, INF, false)),
        (" BV b x\n", "x", (0.0, 1.0, true)),
        (" LI b x 2\n", "x", (2.0, INF, true)),
        (" UI b x 9\n", "x", (0.0, 9.0, true)),
        (" LO b y 0\n", "y", (0.0, INF, true)),
        (" UP b y 8\n", "y", (0.0, 8.0, true)),
        (" UP b x 1e30\n", "x", (0.0, INF, false)),
        (" UP b x 1.5D+01\n", "x", (0.0, 15.0, false)),
    ] {
        let model = with(&format!("BOUNDS\n{lines}")).unwrap();
        assert_eq!(bounds(&model, name), expected, "{lines}");
    }
}

#[test]
fn direction_of_the_objective() {
    for header in ["OBJSENSE MAX\n", "OBJSENSE\n    MAXIMIZE\n"] {
        let text = format!("NAME\n{header}ROWS\n N c\nCOLUMNS\n x c 1\nENDATA\n");
        assert_eq!(mps::read(text.as_bytes()).unwrap().sense, Sense::Maximize);
    }
    let text =
        "NAME\nOBJNAME\n second\nROWS\n N first\n N second\nCOLUMNS\n x first 1 second 2\nENDATA\n";
    assert_eq!(mps::read(text.as_bytes()).unwrap().columns[0].cost, 2.0);
}

#[test]
fn quadratic_objectives_mean_half_of_xqx() {
    let triangle = with("QUADOBJ\n x x 4\n z x 6\n").unwrap();
    assert_eq!(triangle.quadratic, [(0, 0, 4.0), (0, 2, 6.0)]);
    for section in [
        "QMATRIX\n x x 4\n x z 6\n z x 6\n",
        "QSECTION cost\n x x 4\n x z 6\n",
    ] {
        assert_eq!(with(section).unwrap().quadratic, triangle.quadratic);
    }
    // x + ½(4x² + 2·6xz) at (1, 0, 2)
    assert_eq!(triangle.objective_at(&[1.0, 0.0, 2.0]), 1.0 + 2.0 + 12.0);
}

#[test]
fn fixed_columns_allow_blanks_in_names() {
    let text = "NAME          BLANKS\nROWS\n N  COST\n L  MY ROW\nCOLUMNS\n    \
                A COL     COST               1.0   MY ROW             2.0\nRHS\n    \
                RHS       MY ROW             3.0\nBOUNDS\n UP BND       A COL              4.0\nENDATA\n";
    let model = mps::read(text.as_bytes()).unwrap();
    assert_eq!(model.columns[0].name, "A COL");
    assert_eq!((model.columns[0].cost, model.columns[0].upper), (1.0, 4.0));
    assert_eq!(
        (model.rows[0].name.as_str(), model.rows[0].upper),
        ("MY ROW", 3.0)
    );
    assert_eq!(model.entries[0].value, 2.0);
}

#[test]
fn faults_name_their_line() {
    // `with` uses the first 14 lines.
    for (sections, message) in [
        ("RHS\n r nil 1\n", "line 16: unknown row `nil`"),
        ("RHS\n r l one\n", "line 16: expected a number, found `one`"),
        ("RHS\n r l nan\n", "line 16: expected a number, found `nan`"),
        (
            "RHS\n r\n",
            "line 16: expected pairs of row and value, found `r`",
        ),
        ("BOUNDS\n UP b q 1\n", "line 16: unknown column `q`"),
        (
            "BOUNDS\n XX b x 1\n",
            "line 16: expected a bound type (LO, UP, FX, FR, MI, PL, BV, LI, UI, SC, SI), found `XX`",
        ),
        ("WHAT\n", "line 15: expected an MPS section, found `WHAT`"),
        ("SOS\n", "line 15: special ordered sets are not supported"),
        (
            "QCMATRIX l\n",
            "line 15: quadratic constraints are not supported",
        ),
        (
            "QSECTION l\n",
            "line 15: quadratic constraints are not supported",
        ),
        (
            "COLUMNS\n x l 3\n",
            "line 16: coefficient of row `l` appears twice",
        ),
        (
            "COLUMNS\n v l inf\n",
            "line 16: expected a finite number, found `inf`",
        ),
        ("ROWS\n L l\n", "line 16: row `l` appears twice"),
        (
            "ROWS\n Z k\n",
            "line 16: expected a row type N, L, G or E, found `Z`",
        ),
    ] {
        assert_eq!(with(sections).unwrap_err().to_string(), message);
    }
    assert_eq!(
        mps::read(b"NAME\nROWS\n N c\n").unwrap_err().to_string(),
        "line 3: the file ends where ENDATA was expected"
    );
}
