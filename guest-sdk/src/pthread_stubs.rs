//! The six pthread functions that std refers to where a crate can spawn threads.
//!
//! wasm32-wasip1 has no threads. Newer versions of wasi-libc still define these functions, to
//! answer that; older ones, such as Debian 12's, do not, and a guest with rayon in it does not
//! link. These definitions answer the same, so that rayon falls back to the calling thread. They
//! take part in the link only where libc's archive has not been asked for them, so they do not
//! clash with it.

use std::ffi::{c_int, c_void};

/// "Function not supported" in WASI's numbering (`__wasi_errno_t`).
const ENOSYS: c_int = 52;

macro_rules! stub {
    ($($name:ident($($argument:ident),*) -> $answer:expr;)*) => {$(
        // SAFETY: the name is libc's and so is the type; the linker takes this definition instead
        // of libc's, never beside it.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: *mut c_void),*) -> c_int {
            $(let _ = $argument;)*
            $answer
        }
    )*};
}

stub! {
    pthread_create(_thread, _attributes, _start, _argument) -> ENOSYS;
    pthread_detach(_thread) -> 0;
    pthread_attr_init(_attributes) -> 0;
    pthread_attr_destroy(_attributes) -> 0;
}

// SAFETY: as above; the size is an integer and not a pointer.
#[unsafe(no_mangle)]
extern "C" fn pthread_attr_setstacksize(_attributes: *mut c_void, _size: usize) -> c_int {
    0
}

// SAFETY: as above; the second argument is a pointer to a pointer that joining would write.
#[unsafe(no_mangle)]
extern "C" fn pthread_join(_thread: *mut c_void, _result: *mut c_void) -> c_int {
    ENOSYS
}
