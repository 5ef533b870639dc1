//! `optwasm submit`: jobs for a coordinator, without waiting for them.

use serde_json::json;

use crate::args::{Format, SubmitArgs};
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::print;
use crate::settings::Settings;

pub async fn run(settings: &Settings, args: SubmitArgs) -> Result<Exit, Failure> {
    let module = inputs::read_module(&args.module)?;
    let read = inputs::read(&args.input)?;
    let client = settings.client().await?;
    let spec = inputs::batch_spec(&client, module, &args.job, &args.queue).await?;
    let jobs = read.len();
    let contents = read.into_iter().map(|input| input.bytes);
    let batch = match args.no_wait {
        true => client.try_submit(spec, contents).await?,
        false => client.submit(spec, contents).await?,
    };
    let id = batch.id();
    match args.output {
        Format::Quiet => {}
        Format::Json | Format::Jsonl => print(json!({
            "schema": "optwasm.submitted/1", "batch": id.0, "jobs": jobs,
        }))?,
        Format::Table => {
            print(format_args!("batch {id}: {jobs} jobs"))?;
            print(format_args!(
                "Follow it with: optwasm watch {id}\nRead its results with: optwasm results {id}"
            ))?;
        }
    }
    client.close().await;
    Ok(Exit::Success)
}
