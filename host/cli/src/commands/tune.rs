//! `optwasm tune`: searches for the parameters with which an objective has the least loss.
//!
//! Its directory holds `journal.jsonl`, from which a search goes on, `results.jsonl` with a line for
//! each evaluation, and the pictures of `optwasm tune report`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use optwasm_tune::{
    Against, Budgets, Config, Drive, DriveError, ExternalSampler, Incumbent, Method, Order,
    RandomSampler, Record, Resumed, Sampler, Search, Settings as SearchSettings, Space, Told,
    TpeSampler, TpeSettings, convergence_svg, ranking_svg, read_results,
};
use serde_json::json;

use crate::args::{Format, MethodArg, SamplerArg, TuneAction, TuneArgs};
use crate::commands::run::client;
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::{print, table, write_file};
use crate::run_batch::Signals;
use crate::settings::Settings;

const JOURNAL: &str = "journal.jsonl";
const RESULTS: &str = "results.jsonl";

/// Largest file that is read: results of some ten million evaluations.
const FILE_MAX: u64 = 4 << 30;

/// Iterations of a search that another limit ends: with ten thousand evaluations each, more than
/// anybody waits for.
const ENDLESS: u32 = 1_000_000;

pub async fn run(settings: &Settings, args: TuneArgs) -> Result<Exit, Failure> {
    match args.action {
        Some(TuneAction::Report { dir, output }) => report(&dir, output),
        None => search(settings, args).await,
    }
}

async fn search(settings: &Settings, args: TuneArgs) -> Result<Exit, Failure> {
    let (Some(space), Some(module)) = (&args.space, &args.module) else {
        return Err(Failure::usage(
            "a file with parameters and a module are needed",
        ));
    };
    let text = inputs::read_file(space, FILE_MAX)?;
    let text = String::from_utf8(text.to_vec())
        .map_err(|_| Failure::usage(format!("{}: this is no text", space.display())))?;
    let space = Space::from_toml(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", space.display())))?;
    let module = inputs::read_module(module)?;
    let search_settings = search_settings(&args, space)?;
    let (sampler, mut optimizer) = sampler(&args)?;
    let (mut search, mut files) = Files::open(&args.dir, args.resume, search_settings, sampler)?;
    let (client, _) = client(settings, &args.place).await?;
    let drive = Drive {
        spec: inputs::batch_spec(&client, module, &args.job, &args.queue).await?,
        parallel: args.parallel,
        until: args.time.map(|time| Instant::now() + time),
    };
    let mut signals = Signals::listen()?;
    if args.min_workers > 0 {
        let patience = args.place.wait_timeout.unwrap_or(Duration::MAX);
        eprintln!("optwasm: waiting for {} workers", args.min_workers);
        let mut pool = client.pool().await?;
        tokio::select! {
            waited = pool.wait_for(args.min_workers, patience) => waited?,
            signal = signals.next() => return Ok(signal),
        }
    }
    let mut trouble = None;
    let stopped = {
        let heard = |told: &Told| {
            if trouble.is_none() {
                trouble = show(told, &mut files.results, args.output).err();
            }
        };
        let driven = drive.run(&client, &mut search, &mut files.journal, heard);
        tokio::select! {
            driven = driven => {
                driven.map_err(|error| explain(error, &args.dir))?;
                None
            }
            signal = signals.next() => Some(signal),
        }
    };
    client.close().await;
    if let Some(child) = &mut optimizer {
        // It ends when its input does; one that does not is ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    if let Some(failure) = trouble {
        return Err(failure);
    }
    if let Some(signal) = stopped {
        eprintln!(
            "optwasm: stopped. Go on with the same command and --resume; best so far: optwasm \
             tune report {}",
            args.dir.display()
        );
        return Ok(signal);
    }
    if args.output == Format::Table {
        let progress = search.progress();
        print(format_args!(
            "{} evaluations, {} of them crashed",
            progress.told, progress.crashed
        ))?;
        print_best(search.incumbents())?;
    }
    // A search in which nothing could be evaluated has found nothing.
    Ok(match search.incumbents().next() {
        Some(_) => Exit::Success,
        None => Exit::JobsFailed,
    })
}

/// What the arguments ask for.
fn search_settings(args: &TuneArgs, space: Space) -> Result<SearchSettings, Failure> {
    let method = args.method.unwrap_or(match args.min_budget {
        Some(_) => MethodArg::Hyperband,
        None => MethodArg::Plain,
    });
    let budgets = || {
        let min = args
            .min_budget
            .ok_or_else(|| Failure::usage("this method needs the smallest budget: --min-budget"))?;
        Ok::<_, Failure>(Budgets {
            min,
            max: args.max_budget,
            eta: args.eta,
        })
    };
    let method = match method {
        MethodArg::Plain => Method::Plain {
            budget: args.max_budget,
        },
        MethodArg::SuccessiveHalving => Method::SuccessiveHalving(budgets()?),
        MethodArg::Hyperband => Method::Hyperband(budgets()?),
    };
    if args.iterations.is_none() && args.evaluations.is_none() && args.time.is_none() {
        return Err(Failure::usage(
            "a search without a limit does not end: give --iterations, --evaluations or --time",
        ));
    }
    let mut settings =
        SearchSettings::new(space, method.clone(), args.iterations.unwrap_or(ENDLESS));
    settings.seed = args.job.seed;
    settings.evaluations = args.evaluations;
    if args.deterministic {
        settings.order = match args.group {
            Some(group) => Order::Deterministic { group },
            None => Order::deterministic(&method),
        };
    }
    if let Some(file) = &args.warm_start {
        settings.known = records(file)?;
    }
    Ok(settings)
}

type BoxedSampler = Box<dyn Sampler + Send>;

/// The sampler, and the program behind it where it is one.
fn sampler(args: &TuneArgs) -> Result<(BoxedSampler, Option<Child>), Failure> {
    let Some(command) = &args.optimizer else {
        return Ok(match args.sampler {
            SamplerArg::Random => (Box::new(RandomSampler), None),
            SamplerArg::Tpe => (Box::new(TpeSampler::new(TpeSettings::default())), None),
        });
    };
    let failed = |error| Failure::usage(format!("{command}: {error}"));
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (Some(answers), Some(questions)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(Failure::new(Exit::Bug, "the optimizer has no pipes"));
    };
    let sampler = ExternalSampler::new(command, BufReader::new(answers), questions);
    Ok((Box::new(sampler), Some(child)))
}

/// The files of a search, to whose ends lines are added.
struct Files {
    journal: File,
    results: File,
}

impl Files {
    /// Begins a search, or goes on with that in `dir`.
    fn open(
        dir: &Path,
        resume: bool,
        settings: SearchSettings,
        sampler: BoxedSampler,
    ) -> Result<(Search, Self), Failure> {
        let failed = |error| Failure::new(Exit::Storage, format!("{}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join(JOURNAL);
        let known = match path.exists() {
            true if !resume => {
                let message = format!("{} is there already", path.display());
                return Err(Failure::usage(message).next("Go on with it: --resume"));
            }
            true => inputs::read_file(&path, FILE_MAX)?,
            false => Default::default(),
        };
        let Resumed { search, valid } = Search::resume(settings, sampler, &known)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let open = || {
            let mut options = OpenOptions::new();
            let journal = options.append(true).create(true).open(&path)?;
            journal.set_len(valid as u64)?;
            // What was cut off of one may be whole in the other, so that it is written anew.
            let results = File::create(dir.join(RESULTS))?;
            Ok(Self { journal, results })
        };
        let mut files = open().map_err(failed)?;
        let damaged = |error| Failure::usage(format!("{}: {error}", path.display()));
        for record in read_results(&known[..valid]).map_err(damaged)? {
            files.record(&record).map_err(failed)?;
        }
        Ok((search, files))
    }

    fn record(&mut self, record: &Record) -> std::io::Result<()> {
        write_record(&mut self.results, record)
    }
}

fn write_record(file: &mut File, record: &Record) -> std::io::Result<()> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    file.write_all(line.as_bytes())
}

/// Writes a result down and prints it, where it was asked for.
fn show(told: &Told, results: &mut File, output: Format) -> Result<(), Failure> {
    let failed = |error| Failure::new(Exit::Storage, format!("{RESULTS}: {error}"));
    write_record(results, &told.record).map_err(failed)?;
    match (output, &told.incumbent) {
        (Format::Json | Format::Jsonl, _) => print(json!(told.record)),
        (Format::Table, Some(best)) => print(format_args!(
            "budget {}: loss {} with {} ({})",
            best.budget,
            best.loss,
            in_words(&best.config),
            best.id
        )),
        _ => Ok(()),
    }
}

fn in_words(config: &Config) -> String {
    let words = config
        .iter()
        .map(|(name, value)| format!("{name}={}", json!(value)));
    words.collect::<Vec<_>>().join(" ")
}

fn print_best<'a>(best: impl Iterator<Item = &'a Incumbent>) -> Result<(), Failure> {
    let mut table = table(["BUDGET", "LOSS", "ID", "PARAMETERS"]);
    for best in best {
        table.add_row([
            best.budget.to_string(),
            best.loss.to_string(),
            best.id.to_string(),
            in_words(&best.config),
        ]);
    }
    print(table)
}

fn explain(error: DriveError, dir: &Path) -> Failure {
    let resume = "Go on with the same command and --resume";
    match error {
        DriveError::Client(error) => Failure::from(error).next(resume),
        DriveError::Sampler(error) => Failure::new(Exit::JobsFailed, error).next(resume),
        DriveError::Journal(error) => {
            Failure::new(Exit::Storage, format!("{}: {error}", dir.display())).next(resume)
        }
    }
}

/// The results in a file, or in the directory of a search.
fn records(path: &Path) -> Result<Vec<Record>, Failure> {
    let path = match path.is_dir() {
        true => path.join(JOURNAL),
        false => path.to_owned(),
    };
    let bytes = inputs::read_file(&path, FILE_MAX)?;
    read_results(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn report(dir: &Path, output: Format) -> Result<Exit, Failure> {
    let records = records(dir)?;
    let picture = |error| Failure::new(Exit::Bug, format!("the picture: {error}"));
    let pictures = [
        (
            "convergence.svg",
            convergence_svg(&records, Against::Evaluations),
        ),
        (
            "convergence-time.svg",
            convergence_svg(&records, Against::Seconds),
        ),
        ("ranking.svg", ranking_svg(&records)),
    ];
    let mut written = Vec::new();
    for (name, svg) in pictures {
        let path = dir.join(name);
        write_file(&path, svg.map_err(picture)?)?;
        written.push(path.display().to_string());
    }
    let best = best(&records);
    match output {
        Format::Table => {
            print_best(best.iter())?;
            print(format_args!("Pictures: {}", written.join(", ")))?;
        }
        Format::Json | Format::Jsonl => {
            let best: Vec<_> = best
                .iter()
                .map(|best| {
                    json!({
                        "budget": best.budget, "loss": best.loss, "id": best.id,
                        "config": best.config,
                    })
                })
                .collect();
            print(json!({
                "schema": "optwasm.tune/1", "evaluations": records.len(), "best": best,
                "pictures": written,
            }))?;
        }
        Format::Quiet => {}
    }
    Ok(Exit::Success)
}

/// The best at each budget, ascending.
fn best(records: &[Record]) -> Vec<Incumbent> {
    let mut best: Vec<Incumbent> = Vec::new();
    for record in records {
        let Some(loss) = record.loss else { continue };
        let candidate = Incumbent {
            id: record.id,
            config: record.config.clone(),
            budget: record.budget,
            loss,
        };
        match best.iter_mut().find(|best| best.budget == record.budget) {
            Some(best) if (loss, record.id) < (best.loss, best.id) => *best = candidate,
            Some(_) => {}
            None => best.push(candidate),
        }
    }
    best.sort_by(|a, b| a.budget.total_cmp(&b.budget));
    best
}
