//! `optwasm plugins`, `check`, `new`: modules and where they come from.

use std::path::Path;

use optwasm_bundle::{Linked, OptionSpec, Plugin};
use optwasm_client::{Limits, Outcome};
use optwasm_protocol::ContentId;
use optwasm_sandbox::{Control, EngineKind, Job, PrepareError, Sandbox, Setup, gate};
use optwasm_toolchain::{GuestToolchain, Origin, template};
use serde_json::{Value as Json, json};

use crate::args::{CheckArgs, Format, NewArgs, PluginsArgs};
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::{print, table};
use crate::settings::{Settings, sandbox_config};
use crate::solving::find_plugin;
use crate::units::{show_bytes, show_count, show_micros};

pub fn plugins(args: PluginsArgs) -> Result<Exit, Failure> {
    if let Some(name) = &args.name {
        let plugin = find_plugin(name)?;
        match args.output {
            Format::Quiet => {}
            Format::Json | Format::Jsonl => print(json_of(plugin))?,
            Format::Table => print_plugin(plugin)?,
        }
        return Ok(Exit::Success);
    }
    let all = optwasm_bundle::plugins();
    match args.output {
        Format::Quiet => {}
        Format::Json => {
            let plugins: Json = all.iter().map(json_of).collect();
            print(json!({ "schema": "optwasm.plugins/1", "plugins": plugins }))?;
        }
        Format::Jsonl => all.iter().try_for_each(|plugin| print(json_of(plugin)))?,
        Format::Table => {
            let mut table = table(["NAME", "SOLVER", "LICENCE", "READS", "SOLVES"]);
            for plugin in all {
                let manifest = &plugin.manifest;
                table.add_row([
                    &manifest.name,
                    &manifest.solver,
                    &manifest.licence,
                    &manifest.formats.join(", "),
                    &manifest.summary,
                ]);
            }
            print(table)?;
        }
    }
    Ok(Exit::Success)
}

fn json_of(plugin: &Plugin) -> Json {
    let manifest = &plugin.manifest;
    let option = |option: &OptionSpec| {
        json!({
            "name": option.name,
            "type": option.kind.name(),
            "default": option.default.as_ref().map(|_| option.default_text()),
            "min": option.min,
            "max": option.max,
            "choices": option.choices,
            "about": option.about,
        })
    };
    let linked = |linked: &Linked| json!({ "name": linked.name, "version": linked.version, "licence": linked.licence });
    json!({
        "schema": "optwasm.plugin/1",
        "name": manifest.name,
        "version": optwasm_bundle::VERSION,
        "summary": manifest.summary,
        "solves": manifest.solves,
        "formats": manifest.formats,
        "returns": manifest.returns,
        "statuses": manifest.statuses,
        "limits": manifest.limits,
        "solver": manifest.solver,
        "licence": manifest.licence,
        "options": manifest.options.iter().map(option).collect::<Json>(),
        "linked": plugin.linked.iter().map(linked).collect::<Json>(),
        "output": "optwasm.solution/1",
        "module": ContentId::from_bytes(plugin.id).to_string(),
        "module_bytes": plugin.wasm.len(),
    })
}

fn print_plugin(plugin: &Plugin) -> Result<(), Failure> {
    let manifest = &plugin.manifest;
    print(format_args!("{}: {}", manifest.name, manifest.summary))?;
    let id = ContentId::from_bytes(plugin.id);
    let size = show_bytes(plugin.wasm.len() as u64);
    for (title, text) in [
        ("solves", &manifest.solves),
        ("reads", &manifest.formats.join(", ")),
        ("returns", &manifest.returns),
        ("statuses", &manifest.statuses.join(", ")),
        ("limits", &manifest.limits),
        ("solver", &manifest.solver),
        ("licence", &manifest.licence),
        ("module", &format!("{id}, {size}")),
    ] {
        if !text.is_empty() {
            print(format_args!("{title:<10}{text}"))?;
        }
    }
    if !manifest.options.is_empty() {
        let mut options = table(["OPTION", "TAKES", "DEFAULT", "ABOUT"]);
        for option in &manifest.options {
            options.add_row([
                &option.name,
                &option.expected(),
                &option.default_text(),
                &option.about,
            ]);
        }
        print(format_args!("\n{options}"))?;
    }
    let mut linked = table(["LINKED IN", "VERSION", "LICENCE"]);
    for Linked {
        name,
        version,
        licence,
    } in &plugin.linked
    {
        linked.add_row([name, version, licence]);
    }
    print(format_args!("\n{linked}"))
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
    let prepared = sandbox
        .prepare(id, &module, args.profile)
        .map_err(|error| match error {
            PrepareError::Rejected(_) => Failure::new(Exit::Rejected, format!("rejected: {error}")),
            PrepareError::Host(_) => Failure::new(Exit::Bug, error),
        })?;
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
    let report = sandbox.run(&prepared, job, &Control::new());
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
