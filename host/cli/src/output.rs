//! What goes out: results in the format that was asked for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use comfy_table::{Table, TableStyle};
use optwasm_client::{Client, LogRecord, Outcome, Report};
use serde_json::{Value as Json, json};

use crate::args::Format;
use crate::exit::{Exit, Failure};
use crate::units::{show_bytes, show_count, show_micros};
use crate::values;

/// A table without lines, as `ps` prints them.
pub fn table(header: impl IntoIterator<Item = &'static str>) -> Table {
    let mut table = Table::new();
    let header: Vec<&str> = header.into_iter().collect();
    table.load_style(TableStyle::new()).set_header(header);
    table
}

/// Writes a file, whole or not at all.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&draft, content).and_then(|()| fs::rename(&draft, path));
    written.map_err(|error| {
        // What is left behind where even that fails is a hidden file.
        let _ = fs::remove_file(&draft);
        Failure::new(Exit::Storage, format!("{}: {error}", path.display()))
    })
}

/// Prints a line to stdout. A reader that went away ends the command quietly.
pub fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(closed)
}

/// What it is that stdout takes no more. A reader that went away ends the command here, quietly.
pub fn closed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        // As programs do whose output is piped into `head`.
        std::process::exit(0);
    }
    Failure::new(Exit::Storage, format!("stdout: {error}"))
}

/// Prints results as they come.
pub struct ResultPrinter {
    format: Option<Format>,
    out_dir: Option<PathBuf>,
    names: Vec<Option<String>>,
    is_cbor: bool,
    single: bool,
    stdout: BufWriter<StdoutLock<'static>>,
    rows: Vec<Json>,
    table: Option<Table>,
    /// How the job ended, where there is only one.
    pub last: Option<Outcome>,
    /// Jobs that did not succeed.
    pub failed: u64,
    workers: BTreeSet<String>,
}

impl ResultPrinter {
    /// A printer for the results of `jobs` jobs. `names` are what the outputs are called in
    /// `out_dir`; `is_cbor` says that outputs are CBOR and shown as JSON.
    pub fn new(
        format: Option<Format>,
        out_dir: Option<PathBuf>,
        names: Vec<Option<String>>,
        is_cbor: bool,
        jobs: u32,
    ) -> Result<Self, Failure> {
        if let Some(dir) = &out_dir {
            fs::create_dir_all(dir).map_err(|error| cannot_write(dir, &error))?;
        }
        let header = [
            "JOB", "OUTCOME", "FUEL", "MEMORY", "TIME", "WORKER", "OUTPUT",
        ];
        Ok(Self {
            format,
            names: unique(names),
            out_dir,
            is_cbor,
            single: jobs == 1,
            stdout: BufWriter::new(io::stdout().lock()),
            rows: Vec::new(),
            table: (format == Some(Format::Table)).then(|| table(header)),
            last: None,
            failed: 0,
            workers: BTreeSet::new(),
        })
    }

    /// Takes one result in.
    pub async fn result(
        &mut self,
        client: &Client,
        index: u32,
        report: Report,
    ) -> Result<(), Failure> {
        let wants_output = self.format != Some(Format::Quiet) || self.out_dir.is_some();
        let mut output = None;
        if let Outcome::Ok(payload) = &report.outcome {
            if wants_output {
                output = Some(client.fetch(payload).await?);
            }
        } else {
            self.failed += 1;
        }
        if let (Some(dir), Some(bytes)) = (&self.out_dir, &output) {
            let name = self.names.get(index as usize).cloned().flatten();
            let path = dir.join(name.unwrap_or_else(|| format!("{index}.out")));
            fs::write(&path, bytes).map_err(|error| cannot_write(&path, &error))?;
        }
        match self.format {
            None => self.plain(index, &report, output.as_deref())?,
            Some(Format::Quiet) => {}
            Some(Format::Table) => self.row(index, &report, output.as_deref()),
            Some(Format::Json) => {
                let row = self.json(index, &report, output.as_deref());
                self.rows.push(row);
            }
            Some(Format::Jsonl) => {
                let row = self.json(index, &report, output.as_deref());
                writeln!(self.stdout, "{row}").map_err(closed)?;
            }
        }
        if !report.worker.is_empty() && !self.workers.contains(&report.worker) {
            self.workers.insert(report.worker);
        }
        self.last = Some(report.outcome);
        Ok(())
    }

    /// Names of the workers whose results were taken in.
    pub fn workers(&self) -> &BTreeSet<String> {
        &self.workers
    }

    /// Lets readers see what has been printed so far.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(closed)
    }

    /// Prints what could only be printed at the end.
    pub fn finish(&mut self) -> Result<(), Failure> {
        if self.format == Some(Format::Json) {
            let rows = std::mem::take(&mut self.rows);
            let document = json!({ "schema": "optwasm.results/1", "results": rows });
            writeln!(self.stdout, "{document}").map_err(closed)?;
        }
        if let Some(table) = self.table.take() {
            writeln!(self.stdout, "{table}").map_err(closed)?;
        }
        self.flush()
    }

    fn plain(&mut self, index: u32, report: &Report, output: Option<&[u8]>) -> Result<(), Failure> {
        let Some(bytes) = output else {
            self.flush()?;
            print_failure(index, report, self.single);
            return Ok(());
        };
        if self.out_dir.is_some() {
            return Ok(());
        }
        if self.is_cbor {
            let value = values::json_of_output(bytes, true);
            return writeln!(self.stdout, "{value}").map_err(closed);
        }
        self.stdout.write_all(bytes).map_err(closed)?;
        // Outputs of many jobs should not run into each other; that of one is left as it is.
        if !self.single && !bytes.ends_with(b"\n") {
            self.stdout.write_all(b"\n").map_err(closed)?;
        }
        Ok(())
    }

    fn row(&mut self, index: u32, report: &Report, output: Option<&[u8]>) {
        let shown = match (&report.outcome, output) {
            (Outcome::Ok(_), Some(bytes)) => {
                let value = values::json_of_output(bytes, self.is_cbor);
                let text = match value {
                    Json::String(text) => text,
                    other => other.to_string(),
                };
                text.lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(60)
                    .collect()
            }
            (outcome, _) => outcome.to_string(),
        };
        if let Some(table) = &mut self.table {
            table.add_row([
                index.to_string(),
                report.outcome.name().to_owned(),
                show_count(report.fuel),
                show_bytes(report.peak_memory),
                show_micros(report.wall_us),
                report.worker.clone(),
                shown,
            ]);
        }
    }

    fn json(&self, index: u32, report: &Report, output: Option<&[u8]>) -> Json {
        let mut row = json!({
            "schema": "optwasm.result/1",
            "index": index,
            "outcome": report.outcome.name(),
            "fuel": report.fuel,
            "fuel_exact": report.outcome.has_exact_fuel(),
            "peak_memory": report.peak_memory,
            "wall_us": report.wall_us,
            "worker": report.worker,
            "attempt": report.attempt,
        });
        if report.memo {
            row["memo"] = true.into();
        }
        if !report.witnesses.is_empty() {
            row["witnesses"] = report.witnesses.clone().into();
        }
        if let Some(bytes) = output {
            row["output"] = values::json_of_output(bytes, self.is_cbor);
        }
        if !report.outcome.is_ok() {
            row["error"] = report.outcome.to_string().into();
        }
        match &report.outcome {
            Outcome::GuestError { code, chain, .. } => {
                row["code"] = (*code).into();
                row["chain"] = chain.clone().into();
            }
            Outcome::Panic { frames, .. } | Outcome::Trap { frames, .. } => {
                row["frames"] = frames.clone().into();
            }
            _ => {}
        }
        if !report.log.is_empty() {
            let entry =
                |r: &LogRecord| json!({"level": r.level, "target": r.target, "message": r.message});
            row["log"] = report.log.iter().map(entry).collect();
        }
        if report.log_dropped > 0 {
            row["log_dropped"] = report.log_dropped.into();
        }
        if let Some(incumbent) = &report.incumbent {
            row["incumbent"] = json!({
                "objective": incumbent.objective,
                "bound": incumbent.bound,
                "solution": values::json_of_output(&incumbent.solution, true),
            });
        }
        row
    }
}

/// Says on stderr how a job failed, with its log and the guest's functions.
fn print_failure(index: u32, report: &Report, single: bool) {
    let mut stderr = io::stderr().lock();
    let job = if single {
        "the job".to_owned()
    } else {
        format!("job {index}")
    };
    // Messages that cannot be written have nowhere to go.
    let _ = writeln!(stderr, "optwasm: {job} failed: {}", report.outcome);
    for frame in report.outcome.frames() {
        let _ = writeln!(stderr, "    at {frame}");
    }
    if single {
        for record in &report.log {
            let _ = writeln!(stderr, "    {}: {}", record.target, record.message);
        }
    }
}

fn cannot_write(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Storage, format!("{}: {error}", path.display()))
}

/// File names for outputs: `x.mps` becomes `x.mps.out`, and a name that occurs twice is told
/// apart by the number of its job.
fn unique(names: Vec<Option<String>>) -> Vec<Option<String>> {
    let mut counts = std::collections::HashMap::<String, u32>::new();
    for name in names.iter().flatten() {
        *counts.entry(name.clone()).or_default() += 1;
    }
    let names = names.into_iter().enumerate();
    names
        .map(|(index, name)| {
            let name = name?;
            Some(match counts.get(&name) {
                Some(1) => format!("{name}.out"),
                _ => format!("{index}-{name}.out"),
            })
        })
        .collect()
}
