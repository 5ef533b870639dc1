//! The part of HiGHS's C interface that this plugin uses, as `highs_c_api.h` and
//! `HighsCallbackStruct.h` of HiGHS 1.15.0 declare it.

use std::ffi::{c_char, c_int, c_void};

/// `HighsInt` of a build without `HIGHSINT64`.
pub type Int = i32;

/// What HiGHS tells a callback.
#[repr(C)]
pub struct CallbackOut {
    cbdata: *mut c_void,
    pub log_type: c_int,
    pub running_time: f64,
    pub simplex_iteration_count: Int,
    pub ipm_iteration_count: Int,
    pub pdlp_iteration_count: Int,
    pub objective_function_value: f64,
    pub mip_node_count: i64,
    pub mip_total_lp_iterations: i64,
    pub mip_primal_bound: f64,
    pub mip_dual_bound: f64,
    pub mip_gap: f64,
    pub mip_solution: *const f64,
    pub mip_solution_size: Int,
    // Fields about cuts follow, which nobody here reads.
}

/// What a callback tells HiGHS.
#[repr(C)]
pub struct CallbackIn {
    pub user_interrupt: c_int,
    // Fields about solutions of the caller's own follow, which nobody here writes.
}

pub type Callback = extern "C" fn(
    kind: c_int,
    message: *const c_char,
    out: *const CallbackOut,
    input: *mut CallbackIn,
    user: *mut c_void,
);

pub const CALLBACK_LOGGING: c_int = 0;
pub const CALLBACK_SIMPLEX_INTERRUPT: c_int = 1;
pub const CALLBACK_IPM_INTERRUPT: c_int = 2;
pub const CALLBACK_MIP_IMPROVING_SOLUTION: c_int = 4;
pub const CALLBACK_MIP_INTERRUPT: c_int = 6;

pub const STATUS_ERROR: Int = -1;

pub const OPTION_BOOL: Int = 0;
pub const OPTION_INT: Int = 1;
pub const OPTION_DOUBLE: Int = 2;
pub const OPTION_STRING: Int = 3;

pub const FORMAT_COLUMNWISE: Int = 1;
pub const HESSIAN_TRIANGULAR: Int = 1;

pub const SOLUTION_FEASIBLE: Int = 2;

unsafe extern "C" {
    pub fn Highs_create() -> *mut c_void;
    pub fn Highs_destroy(highs: *mut c_void);
    pub fn Highs_version() -> *const c_char;
    pub fn Highs_run(highs: *mut c_void) -> Int;
    pub fn Highs_getModelStatus(highs: *const c_void) -> Int;
    pub fn Highs_passModel(
        highs: *mut c_void,
        columns: Int,
        rows: Int,
        entries: Int,
        quadratic_entries: Int,
        format: Int,
        quadratic_format: Int,
        sense: Int,
        offset: f64,
        cost: *const f64,
        column_lower: *const f64,
        column_upper: *const f64,
        row_lower: *const f64,
        row_upper: *const f64,
        starts: *const Int,
        indices: *const Int,
        values: *const f64,
        quadratic_starts: *const Int,
        quadratic_indices: *const Int,
        quadratic_values: *const f64,
        integrality: *const Int,
    ) -> Int;
    pub fn Highs_setSolution(
        highs: *mut c_void,
        column_value: *const f64,
        row_value: *const f64,
        column_dual: *const f64,
        row_dual: *const f64,
    ) -> Int;
    pub fn Highs_getSolution(
        highs: *const c_void,
        column_value: *mut f64,
        column_dual: *mut f64,
        row_value: *mut f64,
        row_dual: *mut f64,
    ) -> Int;
    pub fn Highs_getBasis(
        highs: *const c_void,
        column_status: *mut Int,
        row_status: *mut Int,
    ) -> Int;
    pub fn Highs_getIntInfoValue(highs: *const c_void, name: *const c_char, value: *mut Int)
    -> Int;
    pub fn Highs_getInt64InfoValue(
        highs: *const c_void,
        name: *const c_char,
        value: *mut i64,
    ) -> Int;
    pub fn Highs_getDoubleInfoValue(
        highs: *const c_void,
        name: *const c_char,
        value: *mut f64,
    ) -> Int;
    pub fn Highs_getObjectiveValue(highs: *const c_void) -> f64;
    pub fn Highs_getOptionType(highs: *const c_void, name: *const c_char, kind: *mut Int) -> Int;
    pub fn Highs_setBoolOptionValue(highs: *mut c_void, name: *const c_char, value: Int) -> Int;
    pub fn Highs_setIntOptionValue(highs: *mut c_void, name: *const c_char, value: Int) -> Int;
    pub fn Highs_setDoubleOptionValue(highs: *mut c_void, name: *const c_char, value: f64) -> Int;
    pub fn Highs_setStringOptionValue(
        highs: *mut c_void,
        name: *const c_char,
        value: *const c_char,
    ) -> Int;
    pub fn Highs_setCallback(highs: *mut c_void, callback: Callback, user: *mut c_void) -> Int;
    pub fn Highs_startCallback(highs: *mut c_void, kind: c_int) -> Int;
    pub fn Highs_stopCallback(highs: *mut c_void, kind: c_int) -> Int;
}
