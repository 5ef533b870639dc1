//! A disk that is simulated: a SQLite VFS whose files are in memory, that forgets or tears what was
//! not synced when it crashes, and fails where it is told to.
//!
//! What was written since a file's last sync is a list of writes. At a crash every sector of 512
//! bytes of each of them has reached the disk or not, by chance, whatever their order was. A file's
//! entry in its folder is as durable as the file's first sync.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::ffi;

use crate::common::Random;

const SECTOR: usize = 512;

/// What goes wrong, at which operation of its kind, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing reaches the disk from this operation on (a write, truncation, sync or removal).
    Crash(u64),
    /// So many writes from this one on find no space; the first of them is done by half.
    Full(u64, u64),
    /// This write fails.
    Write(u64),
    /// This sync fails, and what it was for is not on the disk.
    Sync(u64),
}

#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Default)]
struct File {
    /// What the last sync has left, if there was one.
    durable: Option<Vec<u8>>,
    current: Vec<u8>,
    pending: Vec<Pending>,
    /// Lock levels of those who have it open.
    locks: BTreeMap<u64, c_int>,
    /// Regions of shared memory, 32 KiB each as SQLite asks for them.
    shared: Vec<Box<[u64]>>,
    /// For each of the slots of shared memory, who has it for reading, and who for writing.
    slots: [(Vec<u64>, Option<u64>); ffi::SQLITE_SHM_NLOCK as usize],
}

struct State {
    files: BTreeMap<String, File>,
    fault: Fault,
    /// Operations so far: all that change something, writes, syncs.
    changes: u64,
    writes: u64,
    syncs: u64,
    crashed: bool,
    handles: u64,
}

/// A simulated disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// Registers a new disk as a VFS of this name.
    pub fn register(name: &str) -> Self {
        let disk = Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            fault: Fault::None,
            changes: 0,
            writes: 0,
            syncs: 0,
            crashed: false,
            handles: 0,
        })));
        let name = CString::new(name).unwrap();
        // SAFETY: the VFS, its name and the disk behind it are leaked, so that they live as long as
        // SQLite may use them; all functions that it names are below and keep to the contract of
        // `sqlite3_vfs`.
        let code = unsafe {
            let vfs = Box::new(ffi::sqlite3_vfs {
                iVersion: 2,
                szOsFile: size_of::<Handle>() as c_int,
                mxPathname: 1024,
                pNext: ptr::null_mut(),
                zName: name.into_raw(),
                pAppData: Arc::into_raw(disk.0.clone()).cast_mut().cast(),
                xOpen: Some(open),
                xDelete: Some(delete),
                xAccess: Some(access),
                xFullPathname: Some(full_pathname),
                xDlOpen: None,
                xDlError: None,
                xDlSym: None,
                xDlClose: None,
                xRandomness: Some(randomness),
                xSleep: Some(sleep),
                xCurrentTime: Some(current_time),
                xGetLastError: None,
                xCurrentTimeInt64: Some(current_time_int64),
                xSetSystemCall: None,
                xGetSystemCall: None,
                xNextSystemCall: None,
            });
            ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0)
        };
        assert_eq!(code, ffi::SQLITE_OK);
        disk
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Has this go wrong from now on; operations are counted anew.
    pub fn set_fault(&self, fault: Fault) {
        let mut state = self.lock();
        state.fault = fault;
        (state.changes, state.writes, state.syncs) = (0, 0, 0);
    }

    /// Operations since the fault was set: changes, writes, syncs.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = self.lock();
        (state.changes, state.writes, state.syncs)
    }

    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// An empty disk. Nobody may have a file open.
    pub fn clear(&self) {
        let mut state = self.lock();
        assert!(state.files.values().all(|file| file.locks.is_empty()));
        state.files.clear();
        state.crashed = false;
        state.fault = Fault::None;
    }

    /// The machine goes down and comes up again: what was not synced has reached the disk or not.
    /// Nobody may have a file open.
    pub fn power_cycle(&self, random: &mut Random) {
        let mut state = self.lock();
        state.crashed = false;
        state.fault = Fault::None;
        // Everything, nothing, or every sector by itself.
        let mode = random.below(4);
        let mut survives = move || match mode {
            0 => false,
            1 => true,
            _ => random.below(2) == 0,
        };
        state.files.retain(|_, file| {
            assert!(file.locks.is_empty());
            let Some(mut bytes) = file.durable.take() else {
                return false;
            };
            for pending in file.pending.drain(..) {
                match pending {
                    Pending::Truncate(size) if survives() => bytes.truncate(size),
                    Pending::Truncate(_) => {}
                    Pending::Write(at, data) => write_sectors(&mut bytes, at, &data, &mut survives),
                }
            }
            *file = File {
                durable: Some(bytes.clone()),
                current: bytes,
                ..File::default()
            };
            true
        });
    }
}

fn write_sectors(
    bytes: &mut Vec<u8>,
    mut at: usize,
    mut data: &[u8],
    survives: &mut impl FnMut() -> bool,
) {
    while !data.is_empty() {
        let len = (SECTOR - at % SECTOR).min(data.len());
        if survives() {
            write_at(bytes, at, &data[..len]);
        }
        at += len;
        data = &data[len..];
    }
}

fn write_at(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl State {
    /// Counts a change; an error where the disk is gone.
    fn change(&mut self) -> Result<(), c_int> {
        if self.fault == Fault::Crash(self.changes) {
            self.crashed = true;
        }
        self.changes += 1;
        match self.crashed {
            // What a store gives up at at once.
            true => Err(ffi::SQLITE_IOERR_FSYNC),
            false => Ok(()),
        }
    }

    fn write(&mut self, name: &str, at: usize, data: &[u8]) -> Result<(), c_int> {
        self.change()?;
        let number = self.writes;
        self.writes += 1;
        let (done, result) = match self.fault {
            Fault::Full(first, _) if number == first => (data.len() / 2, Err(ffi::SQLITE_FULL)),
            Fault::Full(first, count) if (first..first + count).contains(&number) => {
                (0, Err(ffi::SQLITE_FULL))
            }
            Fault::Write(failing) if number == failing => (0, Err(ffi::SQLITE_IOERR_WRITE)),
            _ => (data.len(), Ok(())),
        };
        let data = &data[..done];
        let file = self.files.entry(name.to_owned()).or_default();
        write_at(&mut file.current, at, data);
        file.pending.push(Pending::Write(at, data.to_vec()));
        result
    }

    fn sync(&mut self, name: &str) -> Result<(), c_int> {
        self.change()?;
        let number = self.syncs;
        self.syncs += 1;
        if self.fault == Fault::Sync(number) {
            return Err(ffi::SQLITE_IOERR_FSYNC);
        }
        let file = self.files.entry(name.to_owned()).or_default();
        file.durable = Some(file.current.clone());
        file.pending.clear();
        Ok(())
    }
}

/// An open file; what SQLite allocates for it.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    open: *mut Open,
}

struct Open {
    disk: Disk,
    name: String,
    id: u64,
    /// Whether it goes when it is closed.
    temporary: bool,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// # Safety
///
/// `vfs` must be one that [`Disk::register`] has made.
unsafe fn disk_of(vfs: *mut ffi::sqlite3_vfs) -> Disk {
    // SAFETY: `pAppData` came from `Arc::into_raw` and is never given back, so the count is at least
    // one, and stays so after this clone.
    unsafe {
        let state = (*vfs).pAppData.cast::<Mutex<State>>().cast_const();
        Arc::increment_strong_count(state);
        Disk(Arc::from_raw(state))
    }
}

/// # Safety
///
/// `file` must be open.
unsafe fn open_of<'a>(file: *mut ffi::sqlite3_file) -> &'a Open {
    // SAFETY: `open` has made the handle, and `close` has not been called yet.
    unsafe { &*(*file.cast::<Handle>()).open }
}

/// # Safety
///
/// `name` must be a C string.
unsafe fn text(name: *const c_char) -> String {
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}

fn code(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(ffi::SQLITE_OK)
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes our VFS, a C string or null, `szOsFile` bytes for the file, and a
    // place for flags or null.
    unsafe {
        let disk = disk_of(vfs);
        let handle = file.cast::<Handle>();
        (*handle).base.pMethods = ptr::null();
        let mut state = disk.lock();
        state.handles += 1;
        let id = state.handles;
        let temporary = name.is_null();
        let name = match temporary {
            true => format!("temporary {id}"),
            false => text(name),
        };
        if flags & ffi::SQLITE_OPEN_CREATE == 0 && !state.files.contains_key(&name) {
            return ffi::SQLITE_CANTOPEN;
        }
        state.files.entry(name.clone()).or_default();
        drop(state);
        let open = Box::new(Open {
            disk,
            name,
            id,
            temporary,
        });
        (*handle).open = Box::into_raw(open);
        (*handle).base.pMethods = &METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the file is open, and SQLite does not use it again.
    let open = unsafe { Box::from_raw((*file.cast::<Handle>()).open) };
    let mut state = open.disk.lock();
    if let Some(file) = state.files.get_mut(&open.name) {
        file.locks.remove(&open.id);
    }
    if open.temporary {
        state.files.remove(&open.name);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    count: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the file is open, and the buffer has `count` bytes.
    let (open, buffer) = unsafe {
        let buffer = std::slice::from_raw_parts_mut(buffer.cast::<u8>(), count as usize);
        (open_of(file), buffer)
    };
    let state = open.disk.lock();
    let bytes = state
        .files
        .get(&open.name)
        .map_or(&[][..], |file| &file.current);
    let found = bytes.get(at as usize..).unwrap_or_default();
    let len = found.len().min(buffer.len());
    buffer[..len].copy_from_slice(&found[..len]);
    buffer[len..].fill(0);
    match len == buffer.len() {
        true => ffi::SQLITE_OK,
        false => ffi::SQLITE_IOERR_SHORT_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    count: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the file is open, and the buffer has `count` bytes.
    let (open, data) = unsafe {
        let data = std::slice::from_raw_parts(buffer.cast::<u8>(), count as usize);
        (open_of(file), data)
    };
    code(open.disk.lock().write(&open.name, at as usize, data))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { open_of(file) };
    let mut state = open.disk.lock();
    let changed = state.change();
    if changed.is_ok()
        && let Some(file) = state.files.get_mut(&open.name)
    {
        file.current.truncate(size as usize);
        file.pending.push(Pending::Truncate(size as usize));
    }
    code(changed)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { open_of(file) };
    code(open.disk.lock().sync(&open.name))
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the file is open, and there is a place for its size.
    unsafe {
        let open = open_of(file);
        let state = open.disk.lock();
        *size = state
            .files
            .get(&open.name)
            .map_or(0, |file| file.current.len() as i64);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { open_of(file) };
    let mut state = open.disk.lock();
    let file = state.files.entry(open.name.clone()).or_default();
    let others = file.locks.iter().filter(|(id, _)| **id != open.id);
    let others = others
        .map(|(_, level)| *level)
        .max()
        .unwrap_or(ffi::SQLITE_LOCK_NONE);
    let free = match level {
        ffi::SQLITE_LOCK_EXCLUSIVE => others == ffi::SQLITE_LOCK_NONE,
        ffi::SQLITE_LOCK_RESERVED => others < ffi::SQLITE_LOCK_RESERVED,
        _ => others < ffi::SQLITE_LOCK_PENDING,
    };
    if !free {
        return ffi::SQLITE_BUSY;
    }
    let mine = file.locks.entry(open.id).or_insert(level);
    *mine = level.max(*mine);
    ffi::SQLITE_OK
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { open_of(file) };
    let mut state = open.disk.lock();
    if let Some(file) = state.files.get_mut(&open.name) {
        match level {
            ffi::SQLITE_LOCK_NONE => drop(file.locks.remove(&open.id)),
            level => drop(file.locks.insert(open.id, level)),
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(
    file: *mut ffi::sqlite3_file,
    reserved: *mut c_int,
) -> c_int {
    // SAFETY: the file is open, and there is a place for the answer.
    unsafe {
        let open = open_of(file);
        let state = open.disk.lock();
        let locks = state.files.get(&open.name).map(|file| &file.locks);
        let held = locks.is_some_and(|locks| {
            locks
                .values()
                .any(|level| *level >= ffi::SQLITE_LOCK_RESERVED)
        });
        *reserved = c_int::from(held);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    SECTOR as c_int
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    // A torn write changes nothing beside it, as of the disks that SQLite takes ours for.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the file is open, and there is a place for the pointer. Regions are boxes that stay
    // where they are until the disk is cleared, when nobody has a file open.
    unsafe {
        let open = open_of(file);
        let mut state = open.disk.lock();
        let file = state.files.entry(open.name.clone()).or_default();
        let region = region as usize;
        *out = ptr::null_mut();
        if file.shared.len() <= region && extend == 0 {
            return ffi::SQLITE_OK;
        }
        while file.shared.len() <= region {
            file.shared
                .push(vec![0; size as usize / 8].into_boxed_slice());
        }
        *out = file.shared[region].as_mut_ptr().cast();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { open_of(file) };
    let mut state = open.disk.lock();
    let file = state.files.entry(open.name.clone()).or_default();
    let slots = &mut file.slots[offset as usize..(offset + count) as usize];
    let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        for (readers, writer) in slots {
            match exclusive {
                true => *writer = writer.filter(|writer| *writer != open.id),
                false => readers.retain(|reader| *reader != open.id),
            }
        }
        return ffi::SQLITE_OK;
    }
    let free = slots.iter().all(|(readers, writer)| {
        let read = readers.iter().any(|reader| *reader != open.id);
        writer.is_none_or(|writer| writer == open.id) && !(exclusive && read)
    });
    if !free {
        return ffi::SQLITE_BUSY;
    }
    for (readers, writer) in slots {
        match exclusive {
            true => *writer = Some(open.id),
            false => readers.push(open.id),
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { open_of(file) };
    let mut state = open.disk.lock();
    if let Some(file) = state.files.get_mut(&open.name) {
        for (readers, writer) in &mut file.slots {
            readers.retain(|reader| *reader != open.id);
            *writer = writer.filter(|writer| *writer != open.id);
        }
        // Regions stay until the disk is cleared, but whoever comes first finds them empty.
        if file.locks.keys().all(|id| *id == open.id) {
            for region in &mut file.shared {
                region.fill(0);
            }
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _sync_folder: c_int,
) -> c_int {
    // SAFETY: SQLite passes our VFS and a C string.
    let (disk, name) = unsafe { (disk_of(vfs), text(name)) };
    let mut state = disk.lock();
    let changed = state.change();
    match changed {
        Ok(()) if state.files.remove(&name).is_none() => ffi::SQLITE_IOERR_DELETE_NOENT,
        changed => code(changed),
    }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes our VFS, a C string, and a place for the answer.
    unsafe {
        let (disk, name) = (disk_of(vfs), text(name));
        *out = c_int::from(disk.lock().files.contains_key(&name));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a C string and `size` bytes.
    unsafe {
        let len = CStr::from_ptr(name).to_bytes_with_nul().len();
        if len > size as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name, out, len);
    }
    ffi::SQLITE_OK
}

/// The system's VFS, for what is no matter of disks.
fn system() -> *mut ffi::sqlite3_vfs {
    // SAFETY: "unix" is registered when SQLite is initialized, which opening a disk of ours has done.
    unsafe { ffi::sqlite3_vfs_find(c"unix".as_ptr()) }
}

unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, n: c_int, out: *mut c_char) -> c_int {
    // SAFETY: as SQLite calls us, so we call the system's.
    unsafe { (*system()).xRandomness.unwrap()(system(), n, out) }
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    // SAFETY: as SQLite calls us, so we call the system's.
    unsafe { (*system()).xSleep.unwrap()(system(), microseconds) }
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: as SQLite calls us, so we call the system's.
    unsafe { (*system()).xCurrentTime.unwrap()(system(), out) }
}

unsafe extern "C" fn current_time_int64(
    _: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: as SQLite calls us, so we call the system's.
    unsafe { (*system()).xCurrentTimeInt64.unwrap()(system(), out) }
}
