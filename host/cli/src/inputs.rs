//! What jobs work on: files, directories, lines, JSON, stdin; and the module that works on it.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use optwasm_client::{
    BatchSpec, Client, Instances, Limits, Memo, Outcome, Seed, Template, WorkerId,
};
use optwasm_protocol::BLOB_MAX;

use crate::args::{InputArgs, JobArgs, MemoArg, QueueArgs};
use crate::exit::{Exit, Failure};
use crate::units::show_bytes;
use crate::values;

/// One input, and what to call its output.
pub struct Input {
    pub name: Option<String>,
    pub bytes: Bytes,
}

/// Reads everything that `args` name.
pub fn read(args: &InputArgs) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    if args.inputs.is_empty() {
        let bytes = if std::io::stdin().is_terminal() {
            Bytes::new()
        } else {
            read_stdin(BLOB_MAX)?
        };
        split(args, None, bytes, &mut inputs)?;
    }
    for path in &args.inputs {
        if path.as_os_str() == "-" {
            split(args, None, read_stdin(BLOB_MAX)?, &mut inputs)?;
        } else if path.is_dir() {
            for file in files_in(path)? {
                split(args, Some(&file), read_file(&file, BLOB_MAX)?, &mut inputs)?;
            }
        } else {
            split(args, Some(path), read_file(path, BLOB_MAX)?, &mut inputs)?;
        }
    }
    if inputs.is_empty() {
        return Err(Failure::usage("there are no inputs in what was named"));
    }
    Ok(inputs)
}

fn split(
    args: &InputArgs,
    path: Option<&Path>,
    bytes: Bytes,
    inputs: &mut Vec<Input>,
) -> Result<(), Failure> {
    let place = path.map_or("stdin".to_owned(), |path| path.display().to_string());
    let convert = |place: &str, json: &[u8]| match values::cbor_of_json(json) {
        Ok(cbor) => Ok(Bytes::from(cbor)),
        Err(error) => Err(Failure::usage(format!("{place}: {error}"))),
    };
    if !args.each_line && !args.jsonl {
        let name = path.and_then(Path::file_name);
        inputs.push(Input {
            name: name.map(|name| name.to_string_lossy().into_owned()),
            bytes: if args.json {
                convert(&place, &bytes)?
            } else {
                bytes
            },
        });
        return Ok(());
    }
    for (number, line) in lines(&bytes).enumerate() {
        let bytes = if args.jsonl {
            convert(&format!("{place}:{}", number + 1), &line)?
        } else {
            line
        };
        inputs.push(Input { name: None, bytes });
    }
    Ok(())
}

/// Lines without their ends; empty ones do not count.
fn lines(bytes: &Bytes) -> impl Iterator<Item = Bytes> {
    let whole = bytes.clone();
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(move |line| whole.slice_ref(line))
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| unreadable(directory, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Usage,
    };
    Failure::new(exit, format!("{}: {error}", path.display()))
}

fn too_large(name: &str, max: u64) -> Failure {
    Failure::usage(format!(
        "{name} is too large: an input may have {}",
        show_bytes(max)
    ))
}

/// Reads a file of up to `max` bytes, after a look at its size.
pub fn read_file(path: &Path, max: u64) -> Result<Bytes, Failure> {
    let failed = |error| unreadable(path, &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let name = path.display().to_string();
    if size > max {
        return Err(too_large(&name, max));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    let mut limited = file.take(max + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(too_large(&name, max));
    }
    Ok(bytes.into())
}

/// Reads stdin to its end, or to `max` bytes.
pub fn read_stdin(max: u64) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let mut limited = std::io::stdin().lock().take(max + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(Path::new("stdin"), &error))?;
    if bytes.len() as u64 > max {
        return Err(too_large("stdin", max));
    }
    Ok(bytes.into())
}

/// The module that `name` stands for: a file, or a built-in plugin.
pub fn read_module(name: &str) -> Result<Bytes, Failure> {
    let path = Path::new(name);
    if !path.exists()
        && let Some(plugin) = optwasm_bundle::find(name)
    {
        return Ok(Bytes::from_static(plugin.wasm));
    }
    read_file(path, BLOB_MAX).map_err(|failure| match failure.exit {
        Exit::NotFound => Failure::new(
            Exit::NotFound,
            format!("there is no file and no plugin `{name}`"),
        )
        .next("List plugins with: optwasm plugins"),
        _ => failure,
    })
}

/// Whether there is such a worker.
async fn check_worker(client: &Client, wanted: WorkerId) -> Result<(), Failure> {
    let workers = client.workers().await?;
    if workers.iter().any(|worker| worker.worker == wanted) {
        return Ok(());
    }
    let numbers: Vec<String> = workers.iter().map(|w| w.worker.to_string()).collect();
    let there = match numbers.as_slice() {
        [] => "there are none".to_owned(),
        numbers => format!("there are {}", numbers.join(", ")),
    };
    let failure = Failure::new(Exit::NotFound, format!("no worker {wanted}: {there}"));
    Err(failure.next("List them with: optwasm workers"))
}

/// What the jobs are, with module and blobs given to the coordinator.
pub async fn batch_spec(
    client: &Client,
    module: Bytes,
    job: &JobArgs,
    queue: &QueueArgs,
) -> Result<BatchSpec, Failure> {
    let unknown = |name: &&String| !Outcome::NAMES.contains(&name.as_str());
    if let Some(name) = queue.retry_on.iter().find(unknown) {
        return Err(Failure::usage(format!("no outcome is called `{name}`"))
            .next(format!("Outcomes are: {}", Outcome::NAMES.join(", "))));
    }
    let mut template = Template::new(client.put_blob(module).await?);
    let defaults = Limits::default();
    let millis = |d: std::time::Duration| d.as_millis().min(u128::from(u64::MAX)) as u64;
    template.limits = Limits {
        fuel: job.fuel.unwrap_or(defaults.fuel),
        memory: job.memory.unwrap_or(defaults.memory),
        deadline_ms: job.deadline.map_or(defaults.deadline_ms, millis),
        output: job.max_output.unwrap_or(defaults.output),
        log: job.max_log.unwrap_or(defaults.log),
    };
    template.profile = job.profile;
    template.seed = Seed::from(job.seed);
    template.instances = match job.max_tasks_per_instance {
        Some(jobs) => Instances::Kept(jobs),
        None if job.resident => Instances::Resident,
        None => Instances::Fresh,
    };
    template.args.clone_from(&job.args);
    template.env.clone_from(&job.env);
    for (name, file) in &job.blob {
        let blob = client
            .put_blob(read_file(Path::new(file), BLOB_MAX)?)
            .await?;
        template.blobs.push((name.clone(), blob));
    }
    let mut spec = BatchSpec::new(template);
    spec.name.clone_from(&queue.name);
    spec.priority = queue.priority;
    spec.weight = queue.weight;
    spec.require = queue.require.iter().cloned().collect();
    spec.retries = queue.retries;
    spec.retry_on.clone_from(&queue.retry_on);
    spec.id.clone_from(&queue.id);
    spec.verify = queue.verify;
    if let Some(home) = queue.home {
        check_worker(client, home).await?;
        spec.home = Some(home);
    }
    spec.memo = match queue.memo {
        // What ran elsewhere does not stand for what is to run there.
        MemoArg::On if queue.home.is_some() => Memo::Off,
        MemoArg::On => Memo::On,
        MemoArg::Off => Memo::Off,
        MemoArg::Refresh => Memo::Refresh,
    };
    Ok(spec)
}
