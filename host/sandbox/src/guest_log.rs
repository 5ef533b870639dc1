//! What a guest says: log records, and lines on stdout and stderr, bounded and made harmless.

use optwasm_protocol::LogRecord;

/// What a record counts for beside its text, so that empty lines are bounded too.
const RECORD_OVERHEAD: usize = 32;
/// Longest line; a longer one is continued in the next record.
const LINE_MAX: usize = 4096;
/// How much of the end of stderr is kept for the message of a failed plain command.
const TAIL_MAX: usize = 1024;

/// Levels, as `docs/guest-abi.md` numbers them.
pub(crate) const WARN: u8 = 2;
pub(crate) const INFO: u8 = 3;

#[derive(Debug)]
pub(crate) struct GuestLog {
    left: usize,
    pub(crate) records: Vec<LogRecord>,
    pub(crate) dropped: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    stderr_tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    Stdout,
    Stderr,
}

impl GuestLog {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            left: usize::try_from(limit).unwrap_or(usize::MAX),
            records: Vec::new(),
            dropped: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            stderr_tail: Vec::new(),
        }
    }

    /// Whether everything from here on is dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Counts a record that was not even made because the log is full.
    pub(crate) fn drop_record(&mut self) {
        self.dropped += 1;
    }

    pub(crate) fn record(&mut self, level: u8, target: &str, message: &str) {
        if self.is_full() {
            return self.drop_record();
        }
        let (target, message) = (harmless(target), harmless(message));
        let size = target.len() + message.len() + RECORD_OVERHEAD;
        if size > self.left {
            self.left = 0;
            return self.drop_record();
        }
        self.left -= size;
        self.records.push(LogRecord {
            level,
            target,
            message,
        });
    }

    pub(crate) fn write(&mut self, console: Console, bytes: &[u8]) {
        if console == Console::Stderr {
            let keep = &bytes[bytes.len().saturating_sub(TAIL_MAX)..];
            let excess = (self.stderr_tail.len() + keep.len()).saturating_sub(TAIL_MAX);
            self.stderr_tail.drain(..excess);
            self.stderr_tail.extend_from_slice(keep);
        }
        if self.is_full() {
            // A flood must cost no more than looking at it.
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.dropped += lines as u64;
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LINE_MAX) {
                let line = self.line(console);
                line.extend_from_slice(part);
                if line.ends_with(b"\n") || line.len() >= LINE_MAX {
                    self.end_line(console);
                }
            }
        }
    }

    fn line(&mut self, console: Console) -> &mut Vec<u8> {
        match console {
            Console::Stdout => &mut self.stdout,
            Console::Stderr => &mut self.stderr,
        }
    }

    fn end_line(&mut self, console: Console) {
        let line = std::mem::take(self.line(console));
        let target = match console {
            Console::Stdout => "stdout",
            Console::Stderr => "stderr",
        };
        let text = String::from_utf8_lossy(&line);
        self.record(INFO, target, text.trim_end_matches(['\n', '\r']));
    }

    /// Records lines that were not ended.
    pub(crate) fn finish(&mut self) {
        for console in [Console::Stdout, Console::Stderr] {
            if !self.line(console).is_empty() {
                self.end_line(console);
            }
        }
    }

    /// The end of what was written to stderr.
    pub(crate) fn stderr_tail(&self) -> String {
        harmless(String::from_utf8_lossy(&self.stderr_tail).trim())
    }
}

/// `text` without control characters, which could command the terminal that shows it.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            // Bidirectional overrides can make a line read as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_split_and_cleaned() {
        let mut log = GuestLog::new(10_000);
        log.write(Console::Stderr, b"one ");
        log.write(Console::Stderr, b"two\nthr\x1b[31mee");
        log.finish();
        let lines: Vec<&str> = log.records.iter().map(|r| r.message.as_str()).collect();
        assert_eq!(lines, ["one two", "thr\u{fffd}[31mee"]);
        assert!(log.stderr_tail().starts_with("one two"));
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut log = GuestLog::new(1000);
        for _ in 0..100_000 {
            log.write(Console::Stdout, b"\n");
        }
        log.write(Console::Stderr, &[b'x'; 1 << 20]);
        log.finish();
        let size: usize = log.records.iter().map(|r| r.message.len() + 32).sum();
        assert!(size <= 1000, "{size}");
        assert!(log.dropped > 99_000);
        assert!(log.stderr_tail().len() <= TAIL_MAX);
    }
}
