//! Linear, mixed-integer and quadratic programs.

/// Whether the objective is to become small or large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sense {
    /// The least value is sought.
    #[default]
    Minimize,
    /// The greatest value is sought.
    Maximize,
}

/// A variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name, unique within the model.
    pub name: String,
    /// Linear objective coefficient.
    pub cost: f64,
    /// Lower bound; −∞ if there is none.
    pub lower: f64,
    /// Upper bound; +∞ if there is none.
    pub upper: f64,
    /// Whether only integers are allowed.
    pub integer: bool,
    /// Whether 0 is allowed as well as what lies between the bounds.
    pub semicontinuous: bool,
}

impl Column {
    /// A continuous variable in [0, ∞) without cost: what MPS and LP files
    /// mean by a variable of which they say nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        Column {
            name: name.into(),
            cost: 0.0,
            lower: 0.0,
            upper: f64::INFINITY,
            integer: false,
            semicontinuous: false,
        }
    }
}

/// A constraint `lower ≤ a·x ≤ upper`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name, unique within the model.
    pub name: String,
    /// Lower side; −∞ if there is none.
    pub lower: f64,
    /// Upper side; +∞ if there is none.
    pub upper: f64,
}

/// A nonzero of the constraint matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Index into [`Model::rows`].
    pub row: usize,
    /// Index into [`Model::columns`].
    pub column: usize,
    /// The coefficient.
    pub value: f64,
}

/// A program in the form
///
/// ```text
/// min or max   constant + c·x + ½ xᵀQx
/// subject to   rowₗ ≤ Ax ≤ rowᵤ,  colₗ ≤ x ≤ colᵤ (or x = 0),  some x integer
/// ```
///
/// All numbers except bounds are finite, and no bound is NaN. A lower bound
/// may exceed its upper one: such a model is infeasible, not malformed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    /// The model's name; may be empty.
    pub name: String,
    /// Direction of the objective.
    pub sense: Sense,
    /// Constant term of the objective.
    pub constant: f64,
    /// The variables.
    pub columns: Vec<Column>,
    /// The constraints.
    pub rows: Vec<Row>,
    /// The matrix A; no (row, column) occurs twice.
    pub entries: Vec<Entry>,
    /// The upper triangle of the symmetric matrix Q as (i, j, value) with
    /// i ≤ j; no (i, j) occurs twice. Empty in a linear model.
    pub quadratic: Vec<(usize, usize, f64)>,
}

impl Model {
    /// Whether any variable must be integer.
    pub fn has_integers(&self) -> bool {
        self.columns.iter().any(|column| column.integer)
    }

    /// Whether any variable may be 0 or between its bounds.
    pub fn has_semicontinuous(&self) -> bool {
        self.columns.iter().any(|column| column.semicontinuous)
    }

    /// Whether solving it takes branching: variables are integer or semi-continuous.
    pub fn is_mixed_integer(&self) -> bool {
        self.has_integers() || self.has_semicontinuous()
    }

    /// The objective at `x`.
    ///
    /// # Panics
    ///
    /// If `x` has not one value for every column.
    pub fn objective_at(&self, x: &[f64]) -> f64 {
        assert_eq!(x.len(), self.columns.len(), "one value for every column");
        let linear: f64 = self.columns.iter().zip(x).map(|(c, x)| c.cost * x).sum();
        let quadratic: f64 = self
            .quadratic
            .iter()
            .map(|&(i, j, q)| if i == j { 0.5 } else { 1.0 } * q * x[i] * x[j])
            .sum();
        self.constant + linear + quadratic
    }

    /// The constraint matrix by rows: for each row its (column, coefficient)
    /// pairs in the order of [`Model::entries`].
    pub fn row_coefficients(&self) -> Vec<Vec<(usize, f64)>> {
        let mut rows = vec![Vec::new(); self.rows.len()];
        for entry in &self.entries {
            rows[entry.row].push((entry.column, entry.value));
        }
        rows
    }

    /// The largest amount by which `x` breaks a row, a bound or integrality;
    /// 0 if it is feasible, NaN if a value is.
    ///
    /// # Panics
    ///
    /// If `x` has not one value for every column.
    pub fn violation(&self, x: &[f64]) -> f64 {
        assert_eq!(x.len(), self.columns.len(), "one value for every column");
        let mut activity = vec![0.0; self.rows.len()];
        for entry in &self.entries {
            activity[entry.row] += entry.value * x[entry.column];
        }
        let rows = self
            .rows
            .iter()
            .zip(&activity)
            .map(|(row, a)| (row.lower - a).max(a - row.upper));
        let columns = self.columns.iter().zip(x).map(|(column, &x)| {
            let off_integer = if column.integer {
                (x - x.round()).abs()
            } else {
                0.0
            };
            let off_bounds = (column.lower - x).max(x - column.upper);
            let off_bounds = if column.semicontinuous {
                off_bounds.min(x.abs())
            } else {
                off_bounds
            };
            off_bounds.max(off_integer)
        });
        if x.iter().any(|x| x.is_nan()) {
            return f64::NAN;
        }
        rows.chain(columns).fold(0.0, f64::max)
    }
}
