//! `optwasm replay`: a job of a coordinator, run again here.

use optwasm_client::{BatchSpec, Memo, Order, Outcome, Profile, Report};
use serde_json::json;

use crate::args::{Format, ReplayArgs};
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::settings::Settings;
use crate::units::show_count;

pub async fn run(settings: &Settings, args: ReplayArgs) -> Result<Exit, Failure> {
    let remote = settings.client().await?;
    let explanation = remote.explain(args.job).await?;
    let Some(theirs) = explanation.report else {
        let message = format!(
            "job {} has not ended: there is nothing to compare",
            args.job
        );
        return Err(Failure::new(Exit::NotFound, message)
            .next(format!("See why with: optwasm explain {}", args.job)));
    };
    let input = match &explanation.input {
        Some(input) => remote.fetch(input).await?,
        None => {
            let message = format!("the input of job {} cannot be read", args.job);
            return Err(Failure::new(Exit::Storage, message)
                .next("Look for damage with: optwasm coordinator check"));
        }
    };
    let local = settings.local_client(Some(1)).await?;
    let mut template = explanation.template;
    let mut blobs = vec![template.module];
    blobs.extend(template.blobs.iter().map(|(_, blob)| *blob));
    for blob in blobs {
        local.put_blob(remote.get_blob(blob).await?).await?;
    }
    remote.close().await;
    template.limits = explanation.limits;
    let is_timed = template.profile == Profile::Timed;
    let mut spec = BatchSpec::new(template);
    spec.memo = Memo::Off;
    let batch = local.submit(spec, [input]).await?;
    let mut results = batch.results(Order::Input).await?;
    let Some((_, ours)) = results.next().await? else {
        return Err(Failure::new(Exit::Bug, "the job has no result"));
    };
    drop(results);

    let comparison = Comparison::of(&theirs, &ours);
    local.close().await;
    match args.output {
        Format::Quiet => {}
        Format::Json | Format::Jsonl => print(json!({
            "schema": "optwasm.replay/1",
            "job": args.job.to_string(),
            "same": comparison.same(),
            "outcome": { "then": theirs.outcome.name(), "now": ours.outcome.name() },
            "output": { "same": comparison.output, "now": comparison.content },
            "fuel": { "then": theirs.fuel, "now": ours.fuel, "exact": comparison.fuel.is_some() },
            "comparable": comparison.comparable,
        }))?,
        Format::Table => {
            print(format_args!(
                "outcome: {} then, {} now",
                theirs.outcome, ours.outcome
            ))?;
            if let Some(same) = comparison.output {
                let word = if same { "the same" } else { "different" };
                print(format_args!("bytes:   {word}"))?;
            }
            let word = match comparison.fuel {
                Some(true) => "the same",
                Some(false) => "different",
                None => "not exact after such an outcome",
            };
            let (then, now) = (show_count(theirs.fuel), show_count(ours.fuel));
            print(format_args!("fuel:    {then} then, {now} now: {word}"))?;
            if is_timed {
                print("The profile `timed` promises nothing of this.")?;
            } else if !comparison.comparable {
                print("Such an outcome depends on the machine, and may differ.")?;
            }
        }
    }
    Ok(
        match comparison.same() || is_timed || !comparison.comparable {
            true => Exit::Success,
            false => Exit::Unverified,
        },
    )
}

/// What two runs of one job have in common.
struct Comparison {
    outcome: bool,
    /// Whether the outputs are the same, where both have one.
    output: Option<bool>,
    content: Option<String>,
    /// Whether fuel is the same, where it is exact in both.
    fuel: Option<bool>,
    /// Whether both outcomes are deterministic.
    comparable: bool,
}

impl Comparison {
    fn of(then: &Report, now: &Report) -> Self {
        let output = match (&then.outcome, &now.outcome) {
            (Outcome::Ok(then), Outcome::Ok(now)) => {
                Some(then.len() == now.len() && then.content_id() == now.content_id())
            }
            _ => None,
        };
        let content = match &now.outcome {
            Outcome::Ok(payload) => Some(payload.content_id().to_string()),
            _ => None,
        };
        let exact = then.outcome.has_exact_fuel() && now.outcome.has_exact_fuel();
        Self {
            outcome: match (&then.outcome, &now.outcome) {
                (Outcome::Ok(_), Outcome::Ok(_)) => true,
                (then, now) => then == now,
            },
            output,
            content,
            fuel: exact.then_some(then.fuel == now.fuel),
            comparable: then.outcome.is_deterministic() && now.outcome.is_deterministic(),
        }
    }

    fn same(&self) -> bool {
        self.outcome && self.output != Some(false) && self.fuel != Some(false)
    }
}
