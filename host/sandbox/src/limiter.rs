//! One limit over all memories and tables of a job together.
//!
//! wasmtime's own limiter bounds each memory by itself; here a running total counts. Growth that
//! the limit denies is answered as WebAssembly says (−1), and remembered: a guest that then fails
//! did so for want of memory. Growth beyond the maximum that the module itself declares is
//! answered alike, and not remembered. Growth that the machine denies ends the job instead, since
//! a job must not see the difference between machines.

use wasmtime::ResourceLimiter;

use crate::ended::Ended;

/// What one table element counts for: a pointer.
pub(crate) const TABLE_ELEMENT: u64 = 8;

/// Tables of one instance; the pooling allocator is set up for as many.
pub(crate) const TABLES_MAX: u32 = 4;
/// Elements of one table: the largest solver guests have about 10 000.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 200_000;
/// Memories of one instance in the extended engine; one in the others.
pub(crate) const MEMORIES_MAX: u32 = 8;

#[derive(Debug)]
pub(crate) struct Limiter {
    limit: u64,
    total: u64,
    /// Largest total so far, in bytes.
    pub(crate) peak: u64,
    /// Whether the limit has denied anything.
    pub(crate) denied: bool,
}

impl Limiter {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            total: 0,
            peak: 0,
            denied: false,
        }
    }

    /// Another job of the same guest begins, which may use so much.
    pub(crate) fn next(&mut self, limit: u64) {
        self.limit = limit;
        self.peak = self.total;
        self.denied = false;
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let total = self.total.saturating_add(bytes);
        if total > self.limit {
            self.denied = true;
            return false;
        }
        self.total = total;
        self.peak = self.peak.max(total);
        true
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let declared = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(declared && self.grow(desired.saturating_sub(current) as u64))
    }

    /// Only called for growth that was allowed above, so that it is the machine that denies it.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Ended::HostOutOfMemory(format!("{error:#}")).into())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let declared = maximum.is_none_or(|maximum| desired <= maximum);
        // `maximum` is the declared one, or the allocator's, which must not be told apart here:
        // not every engine's allocator has one.
        if desired > TABLE_ELEMENTS_MAX {
            self.denied = true;
            return Ok(false);
        }
        let bytes = (desired.saturating_sub(current) as u64).saturating_mul(TABLE_ELEMENT);
        Ok(declared && self.grow(bytes))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_grow_failed(error)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
