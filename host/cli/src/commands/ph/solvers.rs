//! Which plugins solve which models.

use bytes::Bytes;
use optwasm_bundle::Plugin;
use optwasm_client::Client;
use optwasm_ph::{Class, Solver};

use crate::args::ph::{ProgramArgs, SolverArgs};
use crate::exit::Failure;
use crate::inputs;
use crate::solving::check_option;

/// What each plugin takes, and who comes first: HiGHS, where it is built, takes everything, and the
/// simplex method finds vertices, which scenarios agree on sooner.
const TAKES: [(&str, &[Class]); 3] = [
    (
        "highs",
        &[Class::Linear, Class::MixedInteger, Class::Quadratic],
    ),
    ("linear", &[Class::Linear, Class::MixedInteger]),
    ("conic", &[Class::Linear, Class::Quadratic]),
];

/// A plugin, the classes it takes, and its options.
pub struct Chosen {
    plugin: &'static Plugin,
    takes: &'static [Class],
    options: Vec<String>,
}

/// The plugins for programs of these classes, in the order in which they are asked.
pub fn choose(args: &SolverArgs, classes: &[Class]) -> Result<Vec<Chosen>, Failure> {
    let mut order: Vec<Chosen> = Vec::new();
    for (name, takes) in TAKES {
        let Some(plugin) = optwasm_bundle::find(name) else {
            continue;
        };
        order.push(Chosen {
            plugin,
            takes,
            options: Vec::new(),
        });
    }
    if let Some(name) = &args.solver {
        let place = order.iter().position(|chosen| chosen.plugin.name() == name);
        let place = place.ok_or_else(|| {
            let names: Vec<&str> = order.iter().map(|chosen| chosen.plugin.name()).collect();
            Failure::usage(format!("`{name}` is none of the solvers for this"))
                .next(format!("They are: {}", names.join(", ")))
        })?;
        order[..=place].rotate_right(1);
    }
    if let Some(preferred) = order.first_mut() {
        for (name, value) in &args.options.option {
            check_option(preferred.plugin, name, value)?;
            preferred.options.push(format!("{name}={value}"));
        }
    }
    let mut needed = vec![false; order.len()];
    for class in classes {
        let place = order.iter().position(|chosen| chosen.takes.contains(class));
        let place = place
            .ok_or_else(|| Failure::usage(format!("no plugin here takes {class} programs")))?;
        needed[place] = true;
    }
    if let (Some(name), Some(false)) = (&args.solver, needed.first()) {
        return Err(Failure::usage(format!(
            "plugin {name} takes none of the programs that this needs"
        )));
    }
    let needed = order.into_iter().zip(needed).filter(|(_, needed)| *needed);
    Ok(needed.map(|(chosen, _)| chosen).collect())
}

/// Gives their modules to the coordinator.
pub async fn prepare(
    client: &Client,
    chosen: Vec<Chosen>,
    program: &ProgramArgs,
) -> Result<Vec<Solver>, Failure> {
    let mut solvers = Vec::new();
    for chosen in chosen {
        let module = Bytes::from_static(chosen.plugin.wasm);
        let mut spec = inputs::batch_spec(client, module, &program.job, &program.queue).await?;
        spec.template.args.extend(chosen.options);
        solvers.push(Solver {
            takes: chosen.takes.to_vec(),
            spec,
        });
    }
    Ok(solvers)
}
