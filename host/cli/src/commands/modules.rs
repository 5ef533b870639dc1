//! `optwasm plugins`, `check`, `new`: modules and where they come from.

use std::path::Path;

use optwasm_client::{Limits, Outcome};
use optwasm_protocol::ContentId;
use optwasm_sandbox::{Control, EngineKind, Job, PrepareError, Sandbox, Setup, gate};
use optwasm_toolchain::{GuestToolchain, Origin, template};
use serde_json::{Value as Json, json};

use crate::args::{CheckArgs, Format, ListArgs, NewArgs};
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::{print, table};
use crate::settings::{Settings, sandbox_config};
use crate::units::{show_bytes, show_count, show_micros};

pub fn plugins(args: ListArgs) -> Result<Exit, Failure> {
    let json = |plugin: &optwasm_bundle::Plugin| {
        json!({
            "schema": "optwasm.plugin/1",
            "name": plugin.name,
            "version": plugin.version,
            "summary": plugin.summary,
            "formats": plugin.formats,
            "module": ContentId::of(plugin.wasm).to_string(),
        })
    };
    let all = optwasm_bundle::plugins();
    match args.output {
        Format::Quiet => {}
        Format::Json => {
            let plugins: Json = all.iter().map(json).collect();
            print(json!({ "schema": "optwasm.plugins/1", "plugins": plugins }))?;
        }
        Format::Jsonl => all.iter().try_for_each(|plugin| print(json(plugin)))?,
        Format::Table => {
            let mut table = table(["NAME", "VERSION", "READS", "SOLVES"]);
            for plugin in all {
                let formats = plugin.formats.join(", ");
                table.add_row([plugin.name, plugin.version, &formats, plugin.summary]);
            }
            print(table)?;
        }
    }
    Ok(Exit::Success)
}

/// What an empty run may use: enough to start, little enough to be quick.
const CHECK_FUEL: u64 = 10_000_000_000;
const CHECK_DEADLINE_MS: u64 = 10_000;

pub async fn check(settings: &Settings, args: CheckArgs) -> Result<Exit, Failure> {
    let module = inputs::read_module(&args.module)?;
    let id = ContentId::of(&module);
    let inspection = gate::inspect(&module, EngineKind::of(args.profile))
        .map_err(|why| Failure::new(Exit::Rejected, format!("rejected: {why}")))?;
    let sandbox = Sandbox::new(sandbox_config(1, Some(settings.cache_dir.clone())))
        .map_err(|error| Failure::new(Exit::Bug, error))?;
    let checking = std::thread::Builder::new()
        .stack_size(optwasm_sandbox::STACK_SIZE)
        .spawn(move || {
            let prepared = sandbox.prepare(id, &module, args.profile)?;
            let mut job = Job::new(Vec::new());
            job.setup = std::sync::Arc::new(Setup {
                profile: args.profile,
                ..Setup::default()
            });
            job.limits = Limits {
                fuel: CHECK_FUEL,
                deadline_ms: CHECK_DEADLINE_MS,
                ..Limits::default()
            };
            Ok(sandbox.run(&prepared, job, &Control::new()))
        })
        .map_err(|error| Failure::new(Exit::Bug, format!("threads: {error}")))?;
    let report = checking
        .join()
        .map_err(|_| Failure::new(Exit::Bug, "the check panicked"))?
        .map_err(|error: PrepareError| match error {
            PrepareError::Rejected(_) => Failure::new(Exit::Rejected, format!("rejected: {error}")),
            PrepareError::Host(_) => Failure::new(Exit::Bug, error),
        })?;
    let kind = if inspection.is_sdk {
        "SDK guest"
    } else {
        "plain command"
    };
    if args.output == Format::Table {
        print(format_args!("module:    {id}"))?;
        print(format_args!("kind:      {kind}"))?;
        if let Some(abi) = &inspection.abi {
            print(format_args!("built by:  {} for ABI {}", abi.sdk, abi.abi))?;
            print(format_args!("reads:     {}", abi.input))?;
            print(format_args!("returns:   {}", abi.output))?;
        }
        print(format_args!("functions: {}", inspection.functions))?;
        print(format_args!(
            "memory:    {} at the start",
            show_bytes(inspection.minimum_memory)
        ))?;
        print(format_args!(
            "imports:   {}",
            inspection.imports.join("\n           ")
        ))?;
        print(format_args!(
            "empty run: {}: {} fuel, {}",
            report.outcome,
            show_count(report.fuel),
            show_micros(report.wall_us)
        ))?;
    } else if args.output != Format::Quiet {
        print(json!({
            "schema": "optwasm.check/1",
            "module": id.to_string(),
            "kind": kind,
            "abi": inspection.abi,
            "functions": inspection.functions,
            "minimum_memory": inspection.minimum_memory,
            "imports": inspection.imports,
            "empty_run": {
                "outcome": report.outcome.name(),
                "fuel": report.fuel,
                "wall_us": report.wall_us,
            },
        }))?;
    }
    // That a guest refuses an empty input is no fault of the module.
    Ok(match report.outcome {
        Outcome::Rejected(_) => Exit::Rejected,
        _ => Exit::Success,
    })
}

pub fn new(args: NewArgs) -> Result<Exit, Failure> {
    let name = Path::new(&args.name)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .ok_or_else(|| Failure::usage("name the crate"))?;
    let toolchain = GuestToolchain::find();
    // Only a compiler that Cargo would not find by itself is written into the project.
    let private = toolchain.as_ref().ok();
    let private = private.filter(|toolchain| toolchain.origin() != Origin::Ordinary);
    let rustc = private.map(GuestToolchain::rustc);
    template::write(&name, Path::new(&args.name), rustc)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    print(format_args!(
        "wrote {0}\nBuild and run it with:\n    cd {0} && cargo wasm && \
         optwasm run target/wasm32-wasip1/release/{name}.wasm --json input.json",
        args.name
    ))?;
    if let Err(error) = toolchain {
        eprintln!("optwasm: to build it you need a compiler for wasm32-wasip1: {error}");
    }
    Ok(Exit::Success)
}
