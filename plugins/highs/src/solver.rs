//! HiGHS as an object: owned, with errors, and without a pointer outside.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use optwasm_model::{Basis, Model, OptionError, Sense};

use crate::ffi::{self, Int};

/// How HiGHS says that a run ended: `kHighsModelStatus…` of `highs_c_api.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelStatus {
    NotSet,
    LoadError,
    ModelError,
    PresolveError,
    SolveError,
    PostsolveError,
    Empty,
    Optimal,
    Infeasible,
    UnboundedOrInfeasible,
    Unbounded,
    ObjectiveBound,
    ObjectiveTarget,
    TimeLimit,
    IterationLimit,
    Unknown,
    SolutionLimit,
    Interrupt,
    /// One that this version does not know.
    Other(Int),
}

/// What HiGHS says while it runs.
pub(crate) enum Event<'a> {
    /// A line of its log.
    Log(&'a str),
    /// A better solution of a mixed-integer program.
    Solution {
        objective: f64,
        bound: f64,
        values: &'a [f64],
    },
    /// It can be interrupted here. Of mixed-integer programs the bound is told, else it is NaN.
    Pause {
        iterations: i64,
        nodes: i64,
        bound: f64,
    },
}

/// What to do after an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    Stop,
}

/// Vectors of HiGHS's answer.
pub(crate) struct Vectors {
    pub values: Vec<f64>,
    pub reduced_costs: Vec<f64>,
    pub duals: Vec<f64>,
}

/// An instance of HiGHS.
pub(crate) struct Highs {
    instance: *mut c_void,
    columns: usize,
    rows: usize,
}

impl Drop for Highs {
    fn drop(&mut self) {
        // SAFETY: the instance is valid, and nobody uses it after this.
        unsafe { ffi::Highs_destroy(self.instance) }
    }
}

/// Why HiGHS did not take something.
#[derive(Debug)]
pub(crate) struct Refused;

impl Highs {
    pub(crate) fn new() -> Self {
        // SAFETY: there is nothing that could be wrong with the call.
        let instance = unsafe { ffi::Highs_create() };
        Self {
            instance,
            columns: 0,
            rows: 0,
        }
    }

    /// Its version, such as `1.15.0`.
    pub(crate) fn version() -> String {
        // SAFETY: HiGHS returns a constant string with a terminating zero.
        let version = unsafe { CStr::from_ptr(ffi::Highs_version()) };
        version.to_string_lossy().into_owned()
    }

    /// Sets an option from text, by the type that HiGHS says it has.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let unknown = || OptionError::Unknown(name.to_owned());
        let wrong = |expected: &str| OptionError::value(name, value, expected);
        let key = CString::new(name).map_err(|_| unknown())?;
        let mut kind: Int = 0;
        let instance = self.instance;
        // SAFETY: the instance is valid, `key` ends with a zero, `kind` can be written.
        if unsafe { ffi::Highs_getOptionType(instance, key.as_ptr(), &mut kind) } != 0 {
            return Err(unknown());
        }
        let (done, expected) = match kind {
            ffi::OPTION_BOOL => {
                let switch = match value {
                    "true" | "on" | "yes" | "1" => 1,
                    "false" | "off" | "no" | "0" => 0,
                    _ => return Err(wrong("true or false")),
                };
                // SAFETY: as above.
                let done = unsafe { ffi::Highs_setBoolOptionValue(instance, key.as_ptr(), switch) };
                (done, "true or false")
            }
            ffi::OPTION_INT => {
                let number: Int = value.parse().map_err(|_| wrong("an integer"))?;
                // SAFETY: as above.
                let done = unsafe { ffi::Highs_setIntOptionValue(instance, key.as_ptr(), number) };
                (done, "an integer in its range")
            }
            ffi::OPTION_DOUBLE => {
                let number: f64 = value.parse().map_err(|_| wrong("a number"))?;
                // SAFETY: as above.
                let done =
                    unsafe { ffi::Highs_setDoubleOptionValue(instance, key.as_ptr(), number) };
                (done, "a number in its range")
            }
            ffi::OPTION_STRING => {
                let text = CString::new(value).map_err(|_| wrong("text"))?;
                // SAFETY: as above; HiGHS copies the text.
                let done = unsafe {
                    ffi::Highs_setStringOptionValue(instance, key.as_ptr(), text.as_ptr())
                };
                (done, "one of its words")
            }
            _ => return Err(unknown()),
        };
        if done == 0 {
            Ok(())
        } else {
            Err(wrong(expected))
        }
    }

    /// Gives it the model.
    pub(crate) fn pass(&mut self, model: &Model) -> Result<(), Refused> {
        let matrix = Compressed::new(
            model.columns.len(),
            model.entries.iter().map(|e| (e.column, e.row, e.value)),
        )?;
        // The upper triangle by rows is the lower triangle by columns, which HiGHS wants.
        let quadratic = Compressed::new(model.columns.len(), model.quadratic.iter().copied())?;
        let columns = Int::try_from(model.columns.len()).map_err(|_| Refused)?;
        let rows = Int::try_from(model.rows.len()).map_err(|_| Refused)?;
        let vector = |value: fn(&optwasm_model::Column) -> f64| -> Vec<f64> {
            model.columns.iter().map(value).collect()
        };
        let cost = vector(|column| column.cost);
        let lower = vector(|column| column.lower);
        let upper = vector(|column| column.upper);
        let row_lower: Vec<f64> = model.rows.iter().map(|row| row.lower).collect();
        let row_upper: Vec<f64> = model.rows.iter().map(|row| row.upper).collect();
        // HiGHS numbers what a variable may be so: continuous, integer, and these two with 0 beside.
        let integrality: Vec<Int> = model
            .columns
            .iter()
            .map(|c| Int::from(c.integer) + 2 * Int::from(c.semicontinuous))
            .collect();
        let sense = match model.sense {
            Sense::Minimize => 1,
            Sense::Maximize => -1,
        };
        // SAFETY: all vectors have the lengths that the counts say, the starts are ascending and
        // end below the number of entries, and HiGHS copies what it is given. Null pointers stand
        // for what is absent.
        let status = unsafe {
            ffi::Highs_passModel(
                self.instance,
                columns,
                rows,
                matrix.len(),
                quadratic.len(),
                ffi::FORMAT_COLUMNWISE,
                ffi::HESSIAN_TRIANGULAR,
                sense,
                model.constant,
                cost.as_ptr(),
                lower.as_ptr(),
                upper.as_ptr(),
                row_lower.as_ptr(),
                row_upper.as_ptr(),
                matrix.starts.as_ptr(),
                matrix.indices.as_ptr(),
                matrix.values.as_ptr(),
                quadratic.or_null(quadratic.starts.as_ptr()),
                quadratic.or_null(quadratic.indices.as_ptr()),
                quadratic.or_null(quadratic.values.as_ptr()),
                if model.is_mixed_integer() {
                    integrality.as_ptr()
                } else {
                    std::ptr::null()
                },
            )
        };
        if status == ffi::STATUS_ERROR {
            return Err(Refused);
        }
        self.columns = model.columns.len();
        self.rows = model.rows.len();
        Ok(())
    }

    /// Gives it a point to start from, one value for each column. HiGHS looks itself whether it is
    /// of use.
    pub(crate) fn start_from(&mut self, values: &[f64]) {
        if values.len() != self.columns {
            return;
        }
        // SAFETY: there is a value for each column; null pointers stand for what is not known.
        unsafe {
            ffi::Highs_setSolution(
                self.instance,
                values.as_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                std::ptr::null(),
            );
        }
    }

    /// Solves. `listen` hears what happens and may stop it.
    pub(crate) fn run(&mut self, listen: &mut dyn FnMut(Event<'_>) -> Next) -> ModelStatus {
        let mut listener: Listener<'_> = listen;
        let user: *mut Listener<'_> = &mut listener;
        // SAFETY: the listener outlives the block, at whose end HiGHS is told not to call any more:
        // it would also when it is asked about the run.
        unsafe {
            ffi::Highs_setCallback(self.instance, callback, user.cast());
            for kind in CALLBACKS {
                ffi::Highs_startCallback(self.instance, kind);
            }
            ffi::Highs_run(self.instance);
            for kind in CALLBACKS {
                ffi::Highs_stopCallback(self.instance, kind);
            }
        }
        // SAFETY: the instance is valid.
        match unsafe { ffi::Highs_getModelStatus(self.instance) } {
            0 => ModelStatus::NotSet,
            1 => ModelStatus::LoadError,
            2 => ModelStatus::ModelError,
            3 => ModelStatus::PresolveError,
            4 => ModelStatus::SolveError,
            5 => ModelStatus::PostsolveError,
            6 => ModelStatus::Empty,
            7 => ModelStatus::Optimal,
            8 => ModelStatus::Infeasible,
            9 => ModelStatus::UnboundedOrInfeasible,
            10 => ModelStatus::Unbounded,
            11 => ModelStatus::ObjectiveBound,
            12 => ModelStatus::ObjectiveTarget,
            13 => ModelStatus::TimeLimit,
            14 => ModelStatus::IterationLimit,
            15 => ModelStatus::Unknown,
            16 => ModelStatus::SolutionLimit,
            17 => ModelStatus::Interrupt,
            other => ModelStatus::Other(other),
        }
    }

    /// Whether it has a point that meets all constraints.
    pub(crate) fn has_feasible_point(&self) -> bool {
        self.integer(c"primal_solution_status") == Some(ffi::SOLUTION_FEASIBLE.into())
    }

    /// Whether the point comes with multipliers that are right for it.
    pub(crate) fn has_duals(&self) -> bool {
        self.integer(c"dual_solution_status") == Some(ffi::SOLUTION_FEASIBLE.into())
    }

    pub(crate) fn objective(&self) -> f64 {
        // SAFETY: the instance is valid.
        unsafe { ffi::Highs_getObjectiveValue(self.instance) }
    }

    /// A number that HiGHS knows about its run, by HiGHS's name for it.
    pub(crate) fn integer(&self, name: &CStr) -> Option<i64> {
        let mut value: Int = 0;
        // SAFETY: the instance is valid, the name ends with a zero, the value can be written.
        let status =
            unsafe { ffi::Highs_getIntInfoValue(self.instance, name.as_ptr(), &mut value) };
        (status == 0).then_some(value.into())
    }

    /// Nodes of branch and bound.
    pub(crate) fn nodes(&self) -> Option<u64> {
        let mut value: i64 = 0;
        // SAFETY: as in `integer`.
        let status = unsafe {
            ffi::Highs_getInt64InfoValue(self.instance, c"mip_node_count".as_ptr(), &mut value)
        };
        (status == 0).then_some(value)?.try_into().ok()
    }

    /// As [`integer`](Self::integer), of real numbers; `None` also where it is not finite.
    pub(crate) fn number(&self, name: &CStr) -> Option<f64> {
        let mut value = f64::NAN;
        // SAFETY: as in `integer`.
        let status =
            unsafe { ffi::Highs_getDoubleInfoValue(self.instance, name.as_ptr(), &mut value) };
        (status == 0 && value.is_finite()).then_some(value)
    }

    pub(crate) fn vectors(&self) -> Vectors {
        let mut vectors = Vectors {
            values: vec![0.0; self.columns],
            reduced_costs: vec![0.0; self.columns],
            duals: vec![0.0; self.rows],
        };
        let mut activity = vec![0.0; self.rows];
        // SAFETY: each vector is as long as the model that was passed has columns or rows.
        unsafe {
            ffi::Highs_getSolution(
                self.instance,
                vectors.values.as_mut_ptr(),
                vectors.reduced_costs.as_mut_ptr(),
                activity.as_mut_ptr(),
                vectors.duals.as_mut_ptr(),
            );
        }
        vectors
    }

    /// The basis, where the run left one.
    pub(crate) fn basis(&self) -> Option<Basis> {
        if self.integer(c"basis_validity") != Some(1) {
            return None;
        }
        let mut columns: Vec<Int> = vec![0; self.columns];
        let mut rows: Vec<Int> = vec![0; self.rows];
        // SAFETY: as in `vectors`.
        let status =
            unsafe { ffi::Highs_getBasis(self.instance, columns.as_mut_ptr(), rows.as_mut_ptr()) };
        let letters = |statuses: &[Int]| -> String {
            // `kHighsBasisStatus…` of highs_c_api.h.
            let letter = |status: &Int| match status {
                0 => 'L',
                1 => 'B',
                2 => 'U',
                3 => 'Z',
                _ => 'N',
            };
            statuses.iter().map(letter).collect()
        };
        (status == 0).then(|| Basis {
            variables: letters(&columns),
            constraints: letters(&rows),
        })
    }
}

/// What HiGHS calls back for.
const CALLBACKS: [c_int; 5] = [
    ffi::CALLBACK_LOGGING,
    ffi::CALLBACK_SIMPLEX_INTERRUPT,
    ffi::CALLBACK_IPM_INTERRUPT,
    ffi::CALLBACK_MIP_IMPROVING_SOLUTION,
    ffi::CALLBACK_MIP_INTERRUPT,
];

type Listener<'a> = &'a mut dyn FnMut(Event<'_>) -> Next;

/// What HiGHS calls.
extern "C" fn callback(
    kind: c_int,
    message: *const c_char,
    out: *const ffi::CallbackOut,
    input: *mut ffi::CallbackIn,
    user: *mut c_void,
) {
    // SAFETY: `run` passed a listener that lives until the run ends, and HiGHS has one thread.
    let listener = unsafe { &mut *user.cast::<Listener<'_>>() };
    // SAFETY: HiGHS passes its data, which is valid during the call.
    let Some(out) = (unsafe { out.as_ref() }) else {
        return;
    };
    let event = match kind {
        ffi::CALLBACK_LOGGING if !message.is_null() => {
            // SAFETY: the message ends with a zero.
            let line = unsafe { CStr::from_ptr(message) }.to_string_lossy();
            listener(Event::Log(line.trim_end()));
            return;
        }
        ffi::CALLBACK_MIP_IMPROVING_SOLUTION if !out.mip_solution.is_null() => {
            let length = usize::try_from(out.mip_solution_size).unwrap_or(0);
            Event::Solution {
                objective: out.objective_function_value,
                bound: out.mip_dual_bound,
                // SAFETY: HiGHS says how long its solution is.
                values: unsafe { std::slice::from_raw_parts(out.mip_solution, length) },
            }
        }
        ffi::CALLBACK_MIP_INTERRUPT => Event::Pause {
            iterations: out.mip_total_lp_iterations,
            nodes: out.mip_node_count,
            bound: out.mip_dual_bound,
        },
        ffi::CALLBACK_SIMPLEX_INTERRUPT => Event::Pause {
            iterations: out.simplex_iteration_count.into(),
            nodes: 0,
            bound: f64::NAN,
        },
        ffi::CALLBACK_IPM_INTERRUPT => Event::Pause {
            iterations: out.ipm_iteration_count.into(),
            nodes: 0,
            bound: f64::NAN,
        },
        _ => return,
    };
    if listener(event) == Next::Stop {
        // SAFETY: HiGHS passes a place for answers, which is valid during the call.
        if let Some(input) = unsafe { input.as_mut() } {
            input.user_interrupt = 1;
        }
    }
}

/// A sparse matrix by columns.
struct Compressed {
    starts: Vec<Int>,
    indices: Vec<Int>,
    values: Vec<f64>,
}

impl Compressed {
    /// Sorts (major, minor, value) by major, of which there are `count`.
    fn new(
        count: usize,
        entries: impl Iterator<Item = (usize, usize, f64)> + Clone,
    ) -> Result<Self, Refused> {
        let total = entries.clone().count();
        Int::try_from(total).map_err(|_| Refused)?;
        let mut next = vec![0_usize; count + 1];
        for (major, _, _) in entries.clone() {
            next[major + 1] += 1;
        }
        for major in 0..count {
            next[major + 1] += next[major];
        }
        // The total fits, so each of these does.
        let starts = next.iter().map(|start| *start as Int).collect();
        let mut indices = vec![0; total];
        let mut values = vec![0.0; total];
        for (major, minor, value) in entries {
            let place = next[major];
            next[major] += 1;
            indices[place] = Int::try_from(minor).map_err(|_| Refused)?;
            values[place] = value;
        }
        Ok(Self {
            starts,
            indices,
            values,
        })
    }

    fn len(&self) -> Int {
        // `new` refuses what does not fit.
        self.values.len() as Int
    }

    fn or_null<T>(&self, pointer: *const T) -> *const T {
        if self.values.is_empty() {
            std::ptr::null()
        } else {
            pointer
        }
    }
}
