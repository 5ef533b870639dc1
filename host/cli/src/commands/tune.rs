//! `optwasm tune`: searches for the parameters with which an objective has the least loss.
//!
//! Its directory holds `journal.jsonl`, from which a search goes on, `results.jsonl` with a line for
//! each evaluation, and the pictures of `optwasm tune report`.

mod optimizer;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use optimizer::Optimizer;
use optwasm_client::ContentId;
use optwasm_tune::{
    Against, Budgets, Config, Drive, DriveError, Incumbent, JournalError, Method, Order,
    RandomSampler, Record, ReportError, Resumed, Sampler, Search, Settings as SearchSettings,
    Space, Told, TpeSampler, TpeSettings, convergence_svg, ranking_svg, read_known, read_results,
};
use serde_json::json;

use crate::args::{Format, MethodArg, SamplerArg, TuneAction, TuneArgs};
use crate::commands::run::{check_min_workers, client, wait_for_workers};
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::{print, table, write_file};
use crate::run_batch::Signals;
use crate::settings::Settings;

const JOURNAL: &str = "journal.jsonl";
const RESULTS: &str = "results.jsonl";

/// Largest file that is read: results of some ten million evaluations.
const FILE_MAX: u64 = 4 << 30;

/// Iterations of a search that another limit ends: as many as can be numbered.
const ENDLESS: u32 = u32::MAX;

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
    let mut search_settings = search_settings(&args, space)?;
    search_settings.objective = Some(ContentId::of(&module).to_string());
    let (sampler, optimizer) = sampler(&args)?;
    let (search, mut files) = Files::open(&args.dir, args.resume, search_settings, sampler)?;
    let (client, local) = client(settings, &args.place).await?;
    check_min_workers(local, args.min_workers)?;
    let spec = inputs::batch_spec(&client, module, &args.job, &args.queue).await?;
    let mut signals = Signals::listen()?;
    tokio::select! {
        waited = wait_for_workers(&client, args.min_workers, args.place.wait_timeout) => waited?,
        signal = signals.next() => return Ok(signal),
    }
    let drive = Drive {
        spec,
        parallel: args.parallel,
        // A time that no clock reaches is none.
        until: args.time.and_then(|time| Instant::now().checked_add(time)),
    };
    let mut found = Found::by(&search);
    let mut trouble = None;
    let heard = |told: &Told| {
        found.note(told);
        if trouble.is_none() {
            trouble = show(told, &mut files.results, args.output).err();
        }
    };
    let (mut stopped, search) = tokio::select! {
        driven = drive.run(&client, search, &mut files.journal, heard) => {
            (None, driven.map_err(|error| explain(error, &args.dir))?)
        }
        signal = signals.next() => (Some(signal), None),
    };
    client.close().await;
    if let Some(optimizer) = optimizer {
        tokio::select! {
            () = optimizer.end(search) => {}
            signal = signals.next() => stopped = Some(signal),
        }
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
        print(format_args!(
            "{} evaluations, {} of them crashed",
            found.evaluations, found.crashed
        ))?;
        print_best(&found.best)?;
    }
    // A search in which nothing could be evaluated has found nothing.
    Ok(match found.best.is_empty() {
        false => Exit::Success,
        true => Exit::JobsFailed,
    })
}

/// What a search has found so far.
struct Found {
    evaluations: u64,
    crashed: u64,
    /// The best at each budget, ascending.
    best: Vec<Incumbent>,
}

impl Found {
    fn by(search: &Search) -> Self {
        let progress = search.progress();
        Self {
            evaluations: progress.told,
            crashed: progress.crashed,
            best: search.incumbents().cloned().collect(),
        }
    }

    fn note(&mut self, told: &Told) {
        self.evaluations += 1;
        self.crashed += u64::from(told.record.loss.is_none());
        if let Some(best) = &told.incumbent {
            self.best.retain(|other| other.budget != best.budget);
            self.best.push(best.clone());
            self.best.sort_by(|a, b| a.budget.total_cmp(&b.budget));
        }
    }
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
        settings.known = records(file, read_known)?;
    }
    Ok(settings)
}

type BoxedSampler = Box<dyn Sampler + Send>;

/// The sampler, and the program behind it where it is one.
fn sampler(args: &TuneArgs) -> Result<(BoxedSampler, Option<Optimizer>), Failure> {
    Ok(match (&args.optimizer, args.sampler) {
        (Some(command), _) => {
            let (sampler, optimizer) = Optimizer::start(command)?;
            (sampler, Some(optimizer))
        }
        (None, SamplerArg::Random) => (Box::new(RandomSampler), None),
        (None, SamplerArg::Tpe) => (Box::new(TpeSampler::new(TpeSettings::default())), None),
    })
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
        let mut options = OpenOptions::new();
        let journal = options.append(true).create(true).open(&path);
        let journal = journal.map_err(failed)?;
        // It is locked until it is closed, with this process at the latest.
        match journal.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process is searching in {}", dir.display());
                return Err(Failure::usage(message).next("Wait for it, or name another: --dir"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let known = inputs::read_file(&path, FILE_MAX)?;
        if !known.is_empty() && !resume {
            let message = format!("{} is there already", path.display());
            return Err(Failure::usage(message).next("Go on with it: --resume"));
        }
        let Resumed { search, valid } = Search::resume(settings, sampler, &known)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let open = || {
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
            "budget {}: loss {:?} with {} ({})",
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

fn print_best(best: &[Incumbent]) -> Result<(), Failure> {
    if best.is_empty() {
        return print("no evaluation has returned a loss");
    }
    let mut table = table(["BUDGET", "LOSS", "ID", "PARAMETERS"]);
    for best in best {
        table.add_row([
            best.budget.to_string(),
            format!("{:?}", best.loss),
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

type Reader = fn(&[u8]) -> Result<Vec<Record>, JournalError>;

/// What `read` finds in a file, or in the directory of a search.
fn records(path: &Path, read: Reader) -> Result<Vec<Record>, Failure> {
    let path = match path.is_dir() {
        true => path.join(JOURNAL),
        false => path.to_owned(),
    };
    let bytes = inputs::read_file(&path, FILE_MAX)?;
    read(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn report(dir: &Path, output: Format) -> Result<Exit, Failure> {
    let records = records(dir, read_results)?;
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
        let svg = match svg {
            // One budget has no ranks to compare, and a search that has just begun no curve.
            Err(ReportError::Nothing(_)) => continue,
            svg => svg.map_err(picture)?,
        };
        let path = dir.join(name);
        write_file(&path, svg)?;
        written.push(path.display().to_string());
    }
    let best = best(&records);
    match output {
        Format::Table => {
            print_best(&best)?;
            if !written.is_empty() {
                print(format_args!("Pictures: {}", written.join(", ")))?;
            }
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
