//! The built-in plugins as WebAssembly modules, with their manifests.
//!
//! A plugin is a job module with a name and a description of what it solves.
//! Its input is a problem file, and its output is a
//! [`Solution`](solution::Solution) in CBOR. [`detect()`] chooses the plugin for
//! a file by the file's content.

mod detect;

pub use detect::detect;
/// What plugins return, and how it is encoded.
pub mod solution {
    pub use optwasm_model::{FitStatistics, Solution, SolutionError, Status};
}

/// A built-in plugin.
#[derive(Debug, Clone, Copy)]
pub struct Plugin {
    /// Its name, as in `linear`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// The problems that it solves.
    pub solves: &'static str,
    /// The file formats that it reads.
    pub formats: &'static [&'static str],
    /// What the solution contains besides status, objective and values.
    pub returns: &'static str,
    /// The software that does the work, with its version.
    pub solver: &'static str,
    /// The module.
    pub wasm: &'static [u8],
}

/// All built-in plugins share the version of this workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

static PLUGINS: [Plugin; 3] = [
    Plugin {
        name: "linear",
        version: VERSION,
        summary: "Linear and mixed-integer linear programs",
        solves: "linear programs by the simplex method, and mixed-integer linear programs \
                 by branch and bound to a relative gap of 1e-4",
        formats: &["MPS", "CPLEX LP"],
        returns: "of mixed-integer programs: best bound, nodes; better solutions while it runs",
        solver: "microlp 0.7.0",
        wasm: include_bytes!(env!("OPTWASM_PLUGIN_LINEAR")),
    },
    Plugin {
        name: "conic",
        version: VERSION,
        summary: "Convex quadratic and conic programs",
        solves: "linear, convex quadratic, second-order cone, semidefinite, exponential and \
                 power cone programs by an interior-point method",
        formats: &["MPS", "QPS", "CPLEX LP", "CBF", "SDPA sparse"],
        returns: "duals of the constraints, reduced costs",
        solver: "Clarabel 0.11.1",
        wasm: include_bytes!(env!("OPTWASM_PLUGIN_CONIC")),
    },
    Plugin {
        name: "least-squares",
        version: VERSION,
        summary: "Nonlinear regression",
        solves: "nonlinear least-squares fits of a formula to data by the Levenberg-Marquardt \
                 method, from one or more starting points",
        formats: &["NIST StRD", "JSON", "CBOR"],
        returns: "standard deviations of the parameters and of the residuals",
        solver: "levenberg-marquardt 0.15.0",
        wasm: include_bytes!(env!("OPTWASM_PLUGIN_LEAST_SQUARES")),
    },
];

/// The determinism probe: a job that computes what machines are most likely to disagree about.
/// Workers on which it gives the same bytes for the same fuel agree on other jobs, too.
pub static PROBE: &[u8] = include_bytes!(env!("OPTWASM_PLUGIN_PROBE"));

/// All built-in plugins.
pub fn plugins() -> &'static [Plugin] {
    &PLUGINS
}

/// The built-in plugin of that name.
pub fn find(name: &str) -> Option<&'static Plugin> {
    PLUGINS.iter().find(|plugin| plugin.name == name)
}
