//! A manifest for workers on Kubernetes.
//!
//! A Deployment keeps so many workers, a Job starts them once and lets them leave. The token is a Secret
//! that the user makes, mounted as a file. Every text of the user is written as a JSON string, which YAML
//! reads as it is (YAML 1.2.2, section 1.2: JSON is a subset).

use std::time::Duration;

use crate::words::{WordError, not_plain, plain, shell};
use crate::worker::WorkerSpec;

/// What keeps the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As many as said, for ever.
    Deployment,
    /// As many as said, until they leave by themselves.
    Job,
}

/// Workers on Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What keeps them.
    pub kind: Kind,
    /// The name of the Deployment or Job.
    pub name: String,
    /// The namespace. Default: that of the context.
    pub namespace: Option<String>,
    /// What a worker is started with.
    pub worker: WorkerSpec,
    /// How many workers.
    pub replicas: u32,
    /// The container image; `optwasm` has to be its entry point.
    pub image: String,
    /// The Secret with the token, and its key.
    pub secret: (String, String),
    /// Cores of a worker, which are requested.
    pub cpus: u32,
    /// Memory of a worker in MiB, which is requested and its limit.
    pub memory_mib: u64,
    /// How long a worker may finish what it runs when it is stopped. Default 10 minutes.
    pub stop_after: Duration,
}

/// Longest name of things in Kubernetes that pods are named after (RFC 1123 labels).
const NAME_MAX: usize = 63;

/// Failures that each pod of a Job may have: the default of Kubernetes, which counts those of all its
/// pods together.
const BACKOFF_LIMIT: u64 = 6;

/// The user and group that the worker runs as: `nonroot` of the usual minimal images.
const USER: u32 = 65532;

impl Manifest {
    /// A Deployment of `replicas` workers called `name`, of 4 cores and 8 GiB each.
    #[must_use]
    pub fn new(name: &str, worker: WorkerSpec, replicas: u32, image: &str) -> Self {
        Self {
            kind: Kind::Deployment,
            name: name.to_owned(),
            namespace: None,
            worker,
            replicas,
            image: image.to_owned(),
            secret: ("optwasm-worker".to_owned(), "token".to_owned()),
            cpus: 4,
            memory_mib: 8192,
            stop_after: Duration::from_secs(600),
        }
    }

    /// The command that makes the Secret from a token file.
    ///
    /// # Errors
    ///
    /// As [`Manifest::render`].
    pub fn secret_command(&self, token_file: &str) -> Result<String, WordError> {
        self.check()?;
        let (name, key) = &self.secret;
        let namespace = self
            .namespace
            .as_ref()
            .map(|name| format!(" --namespace={name}"));
        let file = shell(&format!("--from-file={key}={token_file}"))?;
        let namespace = namespace.unwrap_or_default();
        Ok(format!(
            "kubectl create secret generic {name}{namespace} {file}"
        ))
    }

    /// The manifest, as YAML.
    ///
    /// # Errors
    ///
    /// [`WordError`], where a name is none of Kubernetes, or a word has control characters.
    pub fn render(&self) -> Result<String, WordError> {
        self.check()?;
        let mut worker = self.worker.clone();
        worker.slots = worker.slots.or(Some(self.cpus));
        // A fifth is for the worker itself, as on other machines.
        let memory = format!("{}MiB", self.memory_mib / 5 * 4);
        worker.memory = worker.memory.or(Some(memory));
        let mut args = worker.args();
        args.push(format!("--token-file=/run/optwasm/{}", self.secret.1));
        let mut list = String::new();
        for arg in &args {
            // Kubernetes itself expands `$(NAME)` in arguments, and takes `$$` for `$`.
            let arg = text(&arg.replace('$', "$$"))?;
            list.push_str(&format!("            - {arg}\n"));
        }
        let name = text(&self.name)?;
        let namespace = match &self.namespace {
            Some(namespace) => format!("  namespace: {}\n", text(namespace)?),
            None => String::new(),
        };
        let (head, spec, restart) = match self.kind {
            Kind::Deployment => (
                "apiVersion: apps/v1\nkind: Deployment\n",
                format!(
                    "  replicas: {}\n  selector:\n    matchLabels:\n      \
                     app.kubernetes.io/instance: {name}\n",
                    self.replicas
                ),
                "Always",
            ),
            Kind::Job => (
                "apiVersion: batch/v1\nkind: Job\n",
                format!(
                    "  parallelism: {0}\n  completions: {0}\n  backoffLimit: {1}\n",
                    self.replicas,
                    u64::from(self.replicas) * BACKOFF_LIMIT,
                ),
                "OnFailure",
            ),
        };
        Ok(format!(
            "{head}\
             metadata:\n\
             \x20 name: {name}\n\
             {namespace}\
             \x20 labels:\n\
             \x20   app.kubernetes.io/name: optwasm-worker\n\
             \x20   app.kubernetes.io/instance: {name}\n\
             spec:\n\
             {spec}\
             \x20 template:\n\
             \x20   metadata:\n\
             \x20     labels:\n\
             \x20       app.kubernetes.io/name: optwasm-worker\n\
             \x20       app.kubernetes.io/instance: {name}\n\
             \x20   spec:\n\
             \x20     restartPolicy: {restart}\n\
             \x20     automountServiceAccountToken: false\n\
             \x20     enableServiceLinks: false\n\
             \x20     terminationGracePeriodSeconds: {stop}\n\
             \x20     securityContext:\n\
             \x20       runAsNonRoot: true\n\
             \x20       runAsUser: {USER}\n\
             \x20       runAsGroup: {USER}\n\
             \x20       fsGroup: {USER}\n\
             \x20       seccompProfile:\n\
             \x20         type: RuntimeDefault\n\
             \x20     containers:\n\
             \x20       - name: worker\n\
             \x20         image: {image}\n\
             \x20         args:\n\
             {list}\
             \x20         env:\n\
             \x20           - name: OPTWASM_CACHE_DIR\n\
             \x20             value: /var/cache/optwasm\n\
             \x20           - name: HOME\n\
             \x20             value: /var/cache/optwasm\n\
             \x20         resources:\n\
             \x20           requests:\n\
             \x20             cpu: \"{cpus}\"\n\
             \x20             memory: {mib}Mi\n\
             \x20           limits:\n\
             \x20             memory: {mib}Mi\n\
             \x20         securityContext:\n\
             \x20           allowPrivilegeEscalation: false\n\
             \x20           readOnlyRootFilesystem: true\n\
             \x20           capabilities:\n\
             \x20             drop:\n\
             \x20               - ALL\n\
             \x20         volumeMounts:\n\
             \x20           - name: token\n\
             \x20             mountPath: /run/optwasm\n\
             \x20             readOnly: true\n\
             \x20           - name: cache\n\
             \x20             mountPath: /var/cache/optwasm\n\
             \x20     volumes:\n\
             \x20       - name: token\n\
             \x20         secret:\n\
             \x20           secretName: {secret}\n\
             \x20           defaultMode: 288 # 0440, which YAML 1.2 would read as a decimal number\n\
             \x20           items:\n\
             \x20             - key: {key}\n\
             \x20               path: {key}\n\
             \x20       - name: cache\n\
             \x20         emptyDir: {{}}\n",
            stop = self.stop_after.as_secs(),
            image = text(&self.image)?,
            cpus = self.cpus,
            mib = self.memory_mib,
            secret = text(&self.secret.0)?,
            key = text(&self.secret.1)?,
        ))
    }

    fn check(&self) -> Result<(), WordError> {
        label("name", &self.name)?;
        if let Some(namespace) = &self.namespace {
            label("namespace", namespace)?;
        }
        label("secret", &self.secret.0)?;
        plain("key", &self.secret.1, "-_.")?;
        plain("image", &self.image, "-_./:@")
    }
}

/// A label of RFC 1123: lower-case letters, digits and `-`, and no `-` at the end.
fn label(what: &'static str, name: &str) -> Result<(), WordError> {
    plain(what, name, "-")?;
    let fits = name.len() <= NAME_MAX
        && !name.ends_with('-')
        && !name.bytes().any(|b| b.is_ascii_uppercase());
    if fits {
        Ok(())
    } else {
        Err(not_plain(
            what,
            name,
            "- (no capitals, 63 characters at most)",
        ))
    }
}

/// A JSON string.
fn text(word: &str) -> Result<String, WordError> {
    if word.chars().any(char::is_control) {
        return Err(WordError::Control(word.to_owned()));
    }
    Ok(format!(
        "\"{}\"",
        word.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

#[cfg(test)]
mod tests {
    use saphyr::{LoadableYamlNode, Yaml};

    use super::*;

    const HOSTILE: &str = "$(HOME) $$ a: \"b\" #c \\ {{d}} - 'e' \u{e4}";

    fn manifest(kind: Kind) -> Manifest {
        let worker = WorkerSpec {
            name: Some(HOSTILE.into()),
            ..WorkerSpec::new("head:4710")
        };
        Manifest {
            kind,
            namespace: Some("lab".into()),
            ..Manifest::new("workers", worker, 3, "registry.site:5000/optwasm:0.1.0")
        }
    }

    #[test]
    fn a_yaml_reader_finds_what_was_asked_for() {
        for (kind, name, api, count) in [
            (Kind::Deployment, "Deployment", "apps/v1", "replicas"),
            (Kind::Job, "Job", "batch/v1", "parallelism"),
        ] {
            let text = manifest(kind).render().unwrap();
            let documents = Yaml::load_from_str(&text).unwrap();
            assert_eq!(documents.len(), 1);
            let doc = &documents[0];
            assert_eq!(doc["kind"].as_str(), Some(name));
            assert_eq!(doc["apiVersion"].as_str(), Some(api));
            assert_eq!(doc["metadata"]["namespace"].as_str(), Some("lab"));
            assert_eq!(doc["spec"][count].as_integer(), Some(3));
            if kind == Kind::Job {
                assert_eq!(doc["spec"]["backoffLimit"].as_integer(), Some(18));
            }
            let pod = &doc["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
            assert_eq!(pod["terminationGracePeriodSeconds"].as_integer(), Some(600));
            let container = &pod["containers"][0];
            let args: Vec<_> = container["args"]
                .as_vec()
                .unwrap()
                .iter()
                .map(|arg| arg.as_str().unwrap())
                .collect();
            assert_eq!(
                args,
                [
                    "worker",
                    "--connect=head:4710",
                    "--slots=4",
                    "--memory=6552MiB",
                    &format!("--name={}", HOSTILE.replace('$', "$$")),
                    "--token-file=/run/optwasm/token",
                ]
            );
            assert_eq!(
                container["resources"]["limits"]["memory"].as_str(),
                Some("8192Mi")
            );
            assert_eq!(
                container["resources"]["requests"]["cpu"].as_str(),
                Some("4")
            );
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
            assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
            assert_eq!(security["capabilities"]["drop"][0].as_str(), Some("ALL"));
            let secret = &pod["volumes"][0]["secret"];
            assert_eq!(secret["secretName"].as_str(), Some("optwasm-worker"));
            assert_eq!(secret["defaultMode"].as_integer(), Some(0o440));
            let labels = &doc["spec"]["template"]["metadata"]["labels"];
            let own = labels["app.kubernetes.io/instance"].as_str();
            assert_eq!(own, Some("workers"));
            if kind == Kind::Deployment {
                let selector = &doc["spec"]["selector"]["matchLabels"];
                assert_eq!(selector["app.kubernetes.io/instance"].as_str(), own);
            }
        }
    }

    #[test]
    fn names_that_kubernetes_refuses_are_refused_here() {
        let refused = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest(Kind::Job);
            change(&mut manifest);
            assert!(manifest.render().is_err());
            assert!(manifest.secret_command("token").is_err() || manifest.check().is_ok());
        };
        refused(&|manifest| manifest.name = "Workers".into());
        refused(&|manifest| manifest.name = "w-".into());
        refused(&|manifest| manifest.name = "x".repeat(64));
        refused(&|manifest| manifest.namespace = Some("a b".into()));
        refused(&|manifest| manifest.image = "x\nprivileged: true".into());
        refused(&|manifest| manifest.secret.1 = "../token".into());
        refused(&|manifest| manifest.worker.name = Some("a\nb".into()));
    }

    #[test]
    fn the_secret_is_made_from_a_file() {
        let manifest = manifest(Kind::Job);
        assert_eq!(
            manifest.secret_command("my token").unwrap(),
            "kubectl create secret generic optwasm-worker --namespace=lab \
             '--from-file=token=my token'"
        );
    }
}
