//! `optwasm ph report`: what uncertainty costs.

use optwasm_ph::{Class, Study};
use serde_json::json;

use super::{files, with_driver};
use crate::args::Format;
use crate::args::ph::PhReportArgs;
use crate::exit::{Exit, Failure};
use crate::output::{print, table};
use crate::settings::Settings;

pub async fn run(settings: &Settings, args: &PhReportArgs) -> Result<Exit, Failure> {
    let problem = files::read_problem(&args.program.files)?;
    let mut study = Study::new(&problem, !args.no_recourse).map_err(Failure::usage)?;
    // Averages and the extensive form are of no other classes.
    let models = problem.scenarios.iter().map(|scenario| &scenario.model);
    let classes: Vec<Class> = models.map(Class::of).collect();
    let done = with_driver(settings, &args.program, &classes, async |driver| {
        driver.study(&mut study).await
    })
    .await?;
    if let Err(signal) = done {
        return Ok(signal);
    }
    let summary = study.summary();
    let rows = [
        ("EV", summary.ev, "optimum of the expected value problem"),
        ("WS", summary.ws, "wait and see: each scenario by itself"),
        ("RP", summary.rp, "recourse problem: the stochastic program"),
        ("EEV", summary.eev, "the first stage of EV in all scenarios"),
        ("EVPI", summary.evpi, "value of perfect information"),
        ("VSS", summary.vss, "value of the stochastic solution"),
    ];
    match args.output {
        Format::Table => {
            let mut table = table(["", "VALUE", "MEANING"]);
            for (name, value, meaning) in rows {
                let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.6}"));
                table.add_row([name, &value, meaning]);
            }
            print(table)?;
            for remark in &summary.remarks {
                print(format_args!("note: {remark}"))?;
            }
        }
        Format::Json | Format::Jsonl => {
            let mut document = json!(summary);
            document["schema"] = "optwasm.ph.report/1".into();
            print(document)?;
        }
        Format::Quiet => {}
    }
    // Without the wait-and-see optimum nothing is known.
    Ok(match summary.ws {
        Some(_) => Exit::Success,
        None => Exit::JobsFailed,
    })
}
