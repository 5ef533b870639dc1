//! Shared data that a job names.

use std::io::{self, Read, Seek, SeekFrom};

use crate::host;

/// Immutable bytes that the job refers to by a name and that the host holds: large data shared by
/// many jobs. Nothing is copied until it is read.
///
/// Reading has a position, as a file has one; [`Blob::read_at`] has none. Wrap it into a
/// [`std::io::BufReader`] for many small reads: every read is a call into the host.
///
/// ```
/// use std::io::BufRead;
/// # optwasm_guest::mock::Host::new().blob("edges", b"1 2\n2 3\n").run_in(|| {
/// let edges = optwasm_guest::blob("edges").ok_or("no blob named edges")?;
/// let lines = std::io::BufReader::new(edges).lines().count();
/// assert_eq!(lines, 2);
/// # Ok::<_, &str>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Blob {
    handle: i32,
    len: u64,
    position: u64,
}

/// The blob that the job names so; `None` where it names none.
#[must_use]
pub fn blob(name: &str) -> Option<Blob> {
    let handle = host::blob_open(name)?;
    Some(Blob {
        handle,
        len: host::blob_len(handle),
        position: 0,
    })
}

impl Blob {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads from `offset` into `buffer` and returns how many bytes that were: fewer than fit only
    /// at the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        if offset >= self.len || buffer.is_empty() {
            return 0;
        }
        host::blob_read(self.handle, offset, buffer)
    }

    /// All its bytes, wherever the position is.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        // A blob that does not fit into the memory ends the job here, as any allocation would.
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        let got = self.read_at(0, &mut bytes);
        bytes.truncate(got);
        bytes
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.read_at(self.position, buffer);
        self.position += got as u64;
        Ok(got)
    }
}

impl Seek for Blob {
    /// A position past the end is allowed; reading there gives nothing.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a position before the blob's start",
            )
        })?;
        Ok(self.position)
    }
}
