//! Two network namespaces with a link between them, which touch nothing outside.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The namespace of the coordinator and its clients, that of the worker, and the link.
///
/// All is removed when this is dropped.
pub struct Namespaces {
    id: String,
}

/// Where the coordinator listens: a range for tests of networks (RFC 2544).
pub const COORDINATOR: &str = "198.18.0.1";
const WORKER: &str = "198.18.0.2";

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// Why that cannot be done: it takes `ip`, and root.
    pub fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let this = Self {
            id: format!("ow{}x{next}", std::process::id()),
        };
        let (near, far) = (this.near(), this.far());
        ip(&["netns", "add", &near])?;
        ip(&["netns", "add", &far])?;
        let link = [
            "link", "add", "name", "wire", "netns", &near, "type", "veth",
        ];
        ip(&[&link[..], &["peer", "name", "wire", "netns", &far]].concat())?;
        for (name, address) in [(&near, COORDINATOR), (&far, WORKER)] {
            let address = format!("{address}/30");
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "address", "add", &address, "dev", "wire"])?;
            ip(&["-n", name, "link", "set", "wire", "up"])?;
        }
        Ok(this)
    }

    fn near(&self) -> String {
        format!("{}a", self.id)
    }

    fn far(&self) -> String {
        format!("{}b", self.id)
    }

    /// Runs a command where the coordinator is.
    pub fn at_coordinator(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.near()]
            .map(str::to_owned)
            .into()
    }

    /// Runs a command where the worker is.
    pub fn at_worker(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.far()]
            .map(str::to_owned)
            .into()
    }

    /// Takes the link down, or up again.
    ///
    /// # Panics
    ///
    /// Where the link does not obey.
    pub fn set_link(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        let done = ip(&["-n", &self.near(), "link", "set", "wire", state]);
        done.expect("the link is ours");
    }

    /// Whether packets can be lost on the way.
    ///
    /// # Errors
    ///
    /// Why not: `nft` is missing, or the kernel has no support for it.
    pub fn can_lose(&self) -> Result<(), String> {
        self.try_to_lose(1, 1)?;
        self.try_to_lose(0, 0)
    }

    /// Loses these percentages of all packets from now on, to the coordinator and from it.
    ///
    /// # Panics
    ///
    /// Where that [cannot](Self::can_lose) be done.
    pub fn lose(&self, there: u8, back: u8) {
        let done = self.try_to_lose(there, back);
        done.expect("the network is ours");
    }

    fn try_to_lose(&self, there: u8, back: u8) -> Result<(), String> {
        // Packets are dropped where they arrive: who sends them must not notice.
        for (namespace, percent) in [(self.near(), there), (self.far(), back)] {
            let condition = match percent {
                100.. => String::new(),
                percent => format!("numgen random mod 100 < {percent}"),
            };
            let mut rules = "add table netdev loss; delete table netdev loss".to_owned();
            if percent > 0 {
                rules += "; add table netdev loss; add chain netdev loss arriving \
                          { type filter hook ingress device wire priority 0; }; ";
                rules += &format!("add rule netdev loss arriving {condition} drop");
            }
            run("ip", &["netns", "exec", &namespace, "nft", &rules])?;
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // The link goes with them. They may not have been made.
        let _ = ip(&["netns", "delete", &self.near()]);
        let _ = ip(&["netns", "delete", &self.far()]);
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let ran = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    match ran {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => Err(format!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
