//! `optwasm ph run --extensive`: all scenarios in one program.

use optwasm_bundle::model::Status;
use optwasm_ph::{Class, Extensive};

use super::{files, show, with_driver};
use crate::args::ph::PhRunArgs;
use crate::exit::{Exit, Failure};
use crate::output::write_file;
use crate::settings::Settings;

pub async fn run(settings: &Settings, args: &PhRunArgs) -> Result<Exit, Failure> {
    let problem = files::read_problem(&args.program.files)?;
    let form = Extensive::new(&problem);
    let classes = [Class::of(&form.model)];
    let solved = with_driver(settings, &args.program, &classes, async |driver| {
        driver.solve(&form.model).await
    })
    .await?;
    let solution = match solved {
        Ok(solution) => solution,
        Err(signal) => return Ok(signal),
    };
    let status = solution.status;
    let no_point = || {
        let message = solution.message.as_deref().unwrap_or_default();
        let failure = format!("the extensive form ended as {status} {message}");
        Failure::new(Exit::JobsFailed, failure.trim_end())
    };
    let may_have_point = !matches!(
        status,
        Status::Infeasible
            | Status::Unbounded
            | Status::InfeasibleOrUnbounded
            | Status::Unknown
            | Status::NumericalFailure
    );
    let tree = form.read_back(&problem, &solution.values);
    let tree = tree.filter(|_| may_have_point).ok_or_else(no_point)?;
    if let Some(path) = &args.solution {
        write_file(path, tree.values_csv(&problem, &form))?;
    }
    let summary = show::Summary {
        how: (
            format!("the extensive form is {status}"),
            status.as_str().to_owned(),
        ),
        iterations: None,
        objective: solution.objective,
        outer: solution.bound,
        gap: solution.gap,
        from: "the extensive form",
        first_stage: show::first_stage(&problem, &tree.variables),
        remarks: solution.message.into_iter().collect(),
    };
    show::print_summary(args.output, &summary)?;
    Ok(Exit::Success)
}
