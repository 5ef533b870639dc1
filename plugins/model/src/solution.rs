//! What a plugin returns, and its encoding.
//!
//! A solution travels as a CBOR map whose keys are the field names below.
//! Vectors of numbers are RFC 8746 typed arrays of little-endian doubles
//! (tag 86), so that no digit is lost and a million values cost 8 MB.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// How a solve ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// Solved to the solver's tolerances; the values are an optimum (of a
    /// nonlinear least-squares problem: a local one).
    Optimal,
    /// As [`Status::Optimal`], but only to a reduced accuracy of some four
    /// digits.
    OptimalInaccurate,
    /// The values meet all constraints, but it is not proved how good they are.
    Feasible,
    /// No point meets all constraints.
    Infeasible,
    /// The objective improves for ever.
    Unbounded,
    /// One of the two, but the solver cannot tell which.
    InfeasibleOrUnbounded,
    /// The solver ran out of iterations or nodes; the values, if there are
    /// any, are the best so far.
    IterationLimit,
    /// The time that the caller gave ran out; the values, if there are any,
    /// are the best so far.
    TimeLimit,
    /// The fuel that was set aside for solving ran out; the values, if there
    /// are any, are the best so far.
    FuelLimit,
    /// The formula has a satisfying assignment: the values.
    Sat,
    /// No assignment satisfies the formula.
    Unsat,
    /// The solver ended without an answer; `message` says why.
    Unknown,
    /// The solver gave up for numerical reasons; the values, if there are
    /// any, must not be relied upon.
    NumericalFailure,
}

impl Status {
    /// The name used in the encoding and on screen, such as `optimal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Optimal => "optimal",
            Status::OptimalInaccurate => "optimal_inaccurate",
            Status::Feasible => "feasible",
            Status::Infeasible => "infeasible",
            Status::Unbounded => "unbounded",
            Status::InfeasibleOrUnbounded => "infeasible_or_unbounded",
            Status::IterationLimit => "iteration_limit",
            Status::TimeLimit => "time_limit",
            Status::FuelLimit => "fuel_limit",
            Status::Sat => "sat",
            Status::Unsat => "unsat",
            Status::Unknown => "unknown",
            Status::NumericalFailure => "numerical_failure",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The result of a solve.
///
/// Vectors are either empty (the solver has no such thing, or found no point)
/// or as long as the list of names they belong to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Solution {
    /// How the solve ended.
    pub status: Status,
    /// Name and version of the solver, such as `microlp 0.7.0`.
    pub solver: String,
    /// The objective at `values`, in the direction and with the constant term
    /// that the model states; of a least-squares problem the residual sum of
    /// squares.
    pub objective: Option<f64>,
    /// The best bound on the objective that was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Relative gap between objective and bound, of mixed-integer programs:
    /// |objective − bound| / |objective|.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// Names of the variables.
    #[serde(default)]
    pub variables: Vec<String>,
    /// Values of the variables.
    #[serde(default, with = "array")]
    pub values: Vec<f64>,
    /// Rate at which the objective changes with each variable's bound.
    #[serde(default, with = "array", skip_serializing_if = "Vec::is_empty")]
    pub reduced_costs: Vec<f64>,
    /// Names of the constraints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// Rate at which the objective changes with each constraint's right-hand
    /// side.
    #[serde(default, with = "array", skip_serializing_if = "Vec::is_empty")]
    pub duals: Vec<f64>,
    /// The basis of the simplex method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// Iterations of the solver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Nodes of the branch-and-bound tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// How good a fit is; of least-squares problems only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitStatistics>,
    /// What the solver has to say about its status, such as the reason of a
    /// failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A basis of a linear program: one letter for each variable and constraint,
/// `B` basic, `L` at its lower bound, `U` at its upper bound, `Z` free and at
/// zero, `N` not basic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Of the variables, in their order.
    pub variables: String,
    /// Of the constraints, in their order.
    pub constraints: String,
}

/// How good a least-squares fit is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitStatistics {
    /// Estimated standard deviation of each parameter, in the order of
    /// [`Solution::values`]. Empty where the Jacobian is rank-deficient.
    #[serde(with = "array")]
    pub standard_deviations: Vec<f64>,
    /// √(residual sum of squares / degrees of freedom); absent where there
    /// are no degrees of freedom.
    pub residual_standard_deviation: Option<f64>,
    /// Observations less parameters.
    pub degrees_of_freedom: u64,
    /// Which of the given starting points led to the result, from 0.
    pub start: u64,
}

/// Why bytes are not a [`Solution`].
#[derive(Debug, thiserror::Error)]
pub enum SolutionError {
    /// The bytes are not CBOR, or not a map with the fields of a solution:
    /// they come from another plugin or version.
    #[error("not an encoded solution: {0}")]
    Decode(String),
}

impl Solution {
    /// A solution without a point.
    pub fn without_values(status: Status, solver: impl Into<String>) -> Self {
        Solution {
            status,
            solver: solver.into(),
            objective: None,
            bound: None,
            gap: None,
            variables: Vec::new(),
            values: Vec::new(),
            reduced_costs: Vec::new(),
            constraints: Vec::new(),
            duals: Vec::new(),
            basis: None,
            iterations: None,
            nodes: None,
            fit: None,
            message: None,
        }
    }

    /// The value of the variable called `name`.
    pub fn value(&self, name: &str) -> Option<f64> {
        let index = self.variables.iter().position(|v| v == name)?;
        self.values.get(index).copied()
    }

    /// Makes a solution that leaves out variables that are zero, as what a solver publishes while it
    /// runs may do, one that has a value for each of `names`. One that has no values at all stays so.
    pub fn expand<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        if self.objective.is_none() {
            return;
        }
        let given: HashMap<&str, f64> = self
            .variables
            .iter()
            .map(String::as_str)
            .zip(self.values.iter().copied())
            .collect();
        let names: Vec<String> = names.map(str::to_owned).collect();
        let value = |name: &String| given.get(name.as_str()).copied().unwrap_or(0.0);
        self.values = names.iter().map(value).collect();
        self.variables = names;
    }

    /// Encodes the solution as CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes)
            .expect("writing to a Vec cannot fail, and every field has a CBOR form");
        bytes
    }

    /// Decodes what [`Solution::to_cbor`] or a plugin wrote.
    ///
    /// # Errors
    ///
    /// [`SolutionError::Decode`] if `bytes` are anything else.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, SolutionError> {
        ciborium::from_reader(bytes).map_err(|error| SolutionError::Decode(error.to_string()))
    }
}

/// `Vec<f64>` as an RFC 8746 typed array: tag 86 on the little-endian bytes.
mod array {
    use ciborium::tag::Required;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_bytes::ByteBuf;

    /// RFC 8746 table 1: IEEE 754 binary64, little endian, typed array.
    const FLOAT64_LITTLE_ENDIAN: u64 = 86;

    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Required::<_, FLOAT64_LITTLE_ENDIAN>(ByteBuf::from(bytes)).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let Required(bytes) =
            Required::<ByteBuf, FLOAT64_LITTLE_ENDIAN>::deserialize(deserializer)?;
        let (doubles, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(D::Error::custom(
                "typed array of doubles with a broken length",
            ));
        }
        Ok(doubles.iter().copied().map(f64::from_le_bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_zero() {
        let mut solution = Solution::without_values(Status::TimeLimit, "solver 1.0");
        solution.expand(["x"].into_iter());
        assert!(solution.values.is_empty());
        solution.objective = Some(3.0);
        solution.variables = vec!["y".into()];
        solution.values = vec![3.0];
        solution.expand(["x", "y", "z"].into_iter());
        assert_eq!(solution.values, [0.0, 3.0, 0.0]);
        assert_eq!(solution.value("z"), Some(0.0));
    }

    #[test]
    fn a_solution_survives_its_encoding_bit_for_bit() {
        let mut solution = Solution::without_values(Status::Optimal, "solver 1.0");
        solution.objective = Some(0.1 + 0.2);
        solution.variables = vec!["x".into(), "y".into()];
        solution.values = vec![-0.0, f64::MIN_POSITIVE];
        solution.fit = Some(FitStatistics {
            standard_deviations: vec![1.0 / 3.0],
            residual_standard_deviation: None,
            degrees_of_freedom: 7,
            start: 1,
        });
        let back = Solution::from_cbor(&solution.to_cbor()).unwrap();
        assert_eq!(back, solution);
        assert!(back.values[0].is_sign_negative());
        assert_eq!(back.value("y"), Some(f64::MIN_POSITIVE));
    }

    #[test]
    fn values_are_a_typed_array() {
        let mut solution = Solution::without_values(Status::Optimal, "s");
        solution.values = vec![1.0];
        let bytes = solution.to_cbor();
        // RFC 8746: tag 86 is d8 56, then a byte string of 8 bytes.
        let expected = [
            &b"values"[..],
            &[0xd8, 86, 0x48, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
        ]
        .concat();
        assert!(bytes.windows(expected.len()).any(|w| w == expected));
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(Solution::from_cbor(b"").is_err());
        assert!(Solution::from_cbor(b"\xa1\x66status\x65wrong").is_err());
        let whole = Solution::without_values(Status::Infeasible, "s").to_cbor();
        for end in 0..whole.len() {
            assert!(Solution::from_cbor(&whole[..end]).is_err());
        }
    }
}
