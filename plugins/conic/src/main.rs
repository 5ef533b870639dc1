//! The job: a problem file in, or a patch of one that is a blob; a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_conic::{Settings, SolveError, read_with_blobs as read, solve_program};

/// Solves the problem.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    let settings = Settings::from_options(Options::of_job()?)?;
    let blob = |name: &str| Some(optwasm_guest::blob(name)?.to_vec());
    solve_program(&read(input, blob)?, &settings)
}

#[cfg(test)]
mod tests {
    use optwasm_guest::mock::{Host, Outcome};
    use optwasm_model::{Patch, Status};

    use super::*;

    #[test]
    fn a_patch_is_solved_with_the_blob_that_it_names() {
        let base = b"min\n x\nst\n c: x >= 1\nend\n";
        let mut patch = Patch::of("base", &optwasm_model::read(base).unwrap());
        // x² − 6x.
        patch.add_costs = vec![(0, -7.0)];
        patch.add_quadratic = vec![(0, 2.0)];
        let job = Host::new().input_bytes(patch.to_cbor());
        let run = job.clone().blob("base", base).run(main);
        let solution: Solution = run.output();
        assert_eq!(solution.status, Status::Optimal);
        assert!((solution.values[0] - 3.0).abs() < 1e-6);
        let run = job.run(main);
        assert!(matches!(run.outcome, Outcome::Failed(_)));
        let message = &run.failure().message;
        assert!(
            message.contains("`base`, which this job does not have"),
            "{message}"
        );
    }
}
