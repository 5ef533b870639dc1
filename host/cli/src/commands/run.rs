//! `optwasm run`: jobs, here or on a coordinator.

use std::time::Duration;

use bytes::Bytes;
use optwasm_client::{BatchSpec, Client, Order, Role};
use optwasm_sandbox::engine::EngineKind;

use crate::args::{Format, PlaceArgs, ProgressArg, RunArgs};
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::ResultPrinter;
use crate::run_batch::{Follow, follow};
use crate::settings::Settings;

/// The client that `place` asks for, and whether it runs jobs here.
pub async fn client(settings: &Settings, place: &PlaceArgs) -> Result<(Client, bool), Failure> {
    if !place.local
        && let Some(remote) = settings.remote(Role::Client)?
    {
        return Ok((settings.connect_to(remote).await?, false));
    }
    Ok((settings.local_client(place.slots).await?, true))
}

/// Whether a module's output is CBOR: its SDK says so, and not that it is bytes.
pub fn output_is_cbor(module: &[u8], profile: optwasm_client::Profile) -> bool {
    let inspection = optwasm_sandbox::gate::inspect(module, EngineKind::of(profile));
    let abi = inspection.ok().and_then(|inspection| inspection.abi);
    abi.is_some_and(|abi| {
        let output: String = abi.output.split_whitespace().collect();
        !output.is_empty() && output != "Vec<u8>"
    })
}

pub async fn run(settings: &Settings, args: RunArgs) -> Result<Exit, Failure> {
    let module = inputs::read_module(&args.module)?;
    let is_cbor = output_is_cbor(&module, args.job.profile);
    let read = inputs::read(&args.input)?;
    let (client, local) = client(settings, &args.place).await?;
    let spec = inputs::batch_spec(&client, module, &args.job, &args.queue).await?;
    let (names, contents): (Vec<_>, Vec<_>) = read.into_iter().map(|i| (i.name, i.bytes)).unzip();
    if args.each_worker {
        let [input] = <[_; 1]>::try_from(contents)
            .map_err(|_| Failure::usage("--each-worker runs one job, so it takes one input"))?;
        let printer = |jobs| ResultPrinter::new(args.output, args.out_dir, names, is_cbor, jobs);
        return on_each_worker(&client, spec, input, printer).await;
    }
    let jobs = contents.len() as u32;
    let batch = client.submit(spec, contents).await?;
    let mut printer = ResultPrinter::new(args.output, args.out_dir, names, is_cbor, jobs)?;
    let how = Follow {
        local,
        wait_timeout: args.place.wait_timeout,
        order: Order::Input,
        progress: match args.output {
            Some(Format::Quiet) => ProgressArg::None,
            _ => args.progress,
        },
    };
    let exit = follow(&client, batch, &mut printer, jobs, how).await?;
    client.close().await;
    Ok(exit)
}

/// Whether `--min-workers` can come true.
pub fn check_min_workers(local: bool, least: usize) -> Result<(), Failure> {
    match local && least > 1 {
        false => Ok(()),
        true => Err(Failure::usage(
            "--min-workers: there are no workers but this process, as no coordinator is named or \
             runs here",
        )),
    }
}

/// Waits until there are so many workers, and says so where there are not.
pub async fn wait_for_workers(
    client: &Client,
    least: usize,
    patience: Option<Duration>,
) -> Result<(), Failure> {
    let mut pool = client.pool().await?;
    if pool.len() < least {
        match least {
            1 => eprintln!("optwasm: waiting for a worker"),
            workers => eprintln!("optwasm: waiting for {workers} workers"),
        }
        pool.wait_for(least, patience.unwrap_or(Duration::MAX))
            .await?;
    }
    Ok(())
}

/// Runs one job on every worker there is.
async fn on_each_worker(
    client: &Client,
    spec: BatchSpec,
    input: Bytes,
    printer: impl FnOnce(u32) -> Result<ResultPrinter, Failure>,
) -> Result<Exit, Failure> {
    let pool = client.pool().await?;
    let reports = pool.apply_raw(&spec, input).await?;
    let mut printer = printer(reports.len() as u32)?;
    for (index, report) in (0..).zip(reports) {
        printer.result(client, index, report).await?;
    }
    printer.finish()?;
    Ok(match printer.failed {
        0 => Exit::Success,
        _ => Exit::JobsFailed,
    })
}
