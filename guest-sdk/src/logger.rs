//! The `log` crate's messages, handed to the host.

use crate::host;

struct HostLogger;

impl log::Log for HostLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            host::log(record.level(), record.target(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Installs the logger. The level is that of the environment variable `RUST_LOG` where it names
/// one, else `info`: a message below it costs a comparison only.
pub(crate) fn install() {
    let level = std::env::var("RUST_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    // A program that is run natively or tested may have a logger already, which then stays.
    if log::set_logger(&HostLogger).is_ok() {
        log::set_max_level(level.unwrap_or(log::LevelFilter::Info));
    }
}
