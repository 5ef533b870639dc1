//! The host's functions, as wasm imports: the only unsafe code of this crate.
//!
//! The normative description is the guest ABI, section 3. Every function here wraps one import and
//! hands it ranges of this module's own memory only.

#[link(wasm_import_module = "optwasm_v1")]
unsafe extern "C" {
    safe fn input_len() -> i64;
    fn input_read(offset: i64, to: *mut u8, len: usize) -> i32;
    fn output_write(from: *const u8, len: usize);
    #[link_name = "fail"]
    fn host_fail(code: i32, from: *const u8, len: usize) -> !;
    #[link_name = "panic"]
    fn host_panic(
        message: *const u8,
        message_len: usize,
        file: *const u8,
        file_len: usize,
        line: i32,
        column: i32,
    ) -> !;
    #[link_name = "log"]
    fn host_log(
        level: i32,
        target: *const u8,
        target_len: usize,
        message: *const u8,
        message_len: usize,
    );
    #[link_name = "progress"]
    safe fn host_progress(done: f64, total: f64) -> i32;
    #[link_name = "incumbent"]
    fn host_incumbent(objective: f64, bound: f64, solution: *const u8, len: usize);
    #[link_name = "checkpoint"]
    fn host_checkpoint(state: *const u8, len: usize);
    safe fn resume_len() -> i64;
    fn resume_read(offset: i64, to: *mut u8, len: usize) -> i32;
    #[link_name = "blob_open"]
    fn host_blob_open(name: *const u8, len: usize) -> i32;
    #[link_name = "blob_len"]
    safe fn host_blob_len(handle: i32) -> i64;
    #[link_name = "blob_read"]
    fn host_blob_read(handle: i32, offset: i64, to: *mut u8, len: usize) -> i32;
    #[link_name = "fuel_left"]
    safe fn host_fuel_left() -> i64;
    #[link_name = "seed"]
    fn host_seed(to: *mut u8);
}

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs what C and C++ code of this module has to do before anything else. To be called once, and
/// not where `_start` was, which does it too.
pub(crate) fn construct() {
    // SAFETY: the linker makes this function; it takes and returns nothing.
    unsafe { __wasm_call_ctors() }
}

/// Reads `len` bytes by `read(offset, to, len)`, which returns how many it wrote.
fn read_all(len: i64, read: impl Fn(i64, *mut u8, usize) -> i32) -> Vec<u8> {
    let len = usize::try_from(len).unwrap_or(0);
    // Not zeroed first: that would cost a unit of fuel for every byte.
    let mut bytes: Vec<u8> = Vec::with_capacity(len);
    while bytes.len() < len {
        let done = bytes.len();
        let room = bytes.spare_capacity_mut();
        let wanted = room.len().min(len - done);
        let got = read(done as i64, room.as_mut_ptr().cast(), wanted) as u32 as usize;
        if got == 0 {
            break;
        }
        // SAFETY: the host has written `got` bytes into the spare capacity, and never more than
        // the `wanted` that fit there, which `min` enforces whatever it answers.
        unsafe { bytes.set_len(done + got.min(wanted)) };
    }
    bytes
}

pub(crate) fn input() -> Vec<u8> {
    // SAFETY: `read_all` passes a range of its own buffer.
    read_all(input_len(), |offset, to, len| unsafe {
        input_read(offset, to, len)
    })
}

pub(crate) fn output(bytes: &[u8]) {
    // SAFETY: the range is a slice, which the host only reads.
    unsafe { output_write(bytes.as_ptr(), bytes.len()) }
}

pub(crate) fn fail(code: i32, bytes: &[u8]) -> ! {
    // SAFETY: the range is a slice, which the host only reads.
    unsafe { host_fail(code, bytes.as_ptr(), bytes.len()) }
}

pub(crate) fn panic(message: &str, file: &str, line: u32, column: u32) -> ! {
    // SAFETY: both ranges are strings, which the host only reads.
    unsafe {
        host_panic(
            message.as_ptr(),
            message.len(),
            file.as_ptr(),
            file.len(),
            line as i32,
            column as i32,
        )
    }
}

pub(crate) fn log(level: log::Level, target: &str, message: &str) {
    // SAFETY: both ranges are strings, which the host only reads. The levels of the `log` crate
    // are those of the ABI: 1 error to 5 trace.
    unsafe {
        host_log(
            level as i32,
            target.as_ptr(),
            target.len(),
            message.as_ptr(),
            message.len(),
        );
    }
}

pub(crate) fn progress(done: f64, total: f64) {
    // The answer is reserved and always 0.
    host_progress(done, total);
}

pub(crate) fn incumbent(objective: f64, bound: f64, solution: &[u8]) {
    // SAFETY: the range is a slice, which the host only reads.
    unsafe { host_incumbent(objective, bound, solution.as_ptr(), solution.len()) }
}

pub(crate) fn checkpoint(state: &[u8]) {
    // SAFETY: the range is a slice, which the host only reads.
    unsafe { host_checkpoint(state.as_ptr(), state.len()) }
}

pub(crate) fn resume() -> Option<Vec<u8>> {
    let len = resume_len();
    // SAFETY: `read_all` passes a range of its own buffer.
    (len >= 0).then(|| {
        read_all(len, |offset, to, len| unsafe {
            resume_read(offset, to, len)
        })
    })
}

pub(crate) fn blob_open(name: &str) -> Option<i32> {
    // SAFETY: the range is a string, which the host only reads.
    let handle = unsafe { host_blob_open(name.as_ptr(), name.len()) };
    (handle >= 0).then_some(handle)
}

pub(crate) fn blob_len(handle: i32) -> u64 {
    host_blob_len(handle) as u64
}

pub(crate) fn blob_read(handle: i32, offset: u64, to: &mut [u8]) -> usize {
    let Ok(offset) = i64::try_from(offset) else {
        return 0;
    };
    // SAFETY: the host writes no more than `to.len()` bytes, all inside the slice.
    let got = unsafe { host_blob_read(handle, offset, to.as_mut_ptr(), to.len()) };
    (got as u32 as usize).min(to.len())
}

pub(crate) fn fuel_left() -> u64 {
    host_fuel_left() as u64
}

pub(crate) fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    // SAFETY: the host writes exactly 32 bytes.
    unsafe { host_seed(seed.as_mut_ptr()) };
    seed
}
