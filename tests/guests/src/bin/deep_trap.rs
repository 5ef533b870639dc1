//! Traps below three named functions.

/// Never returns.
#[optwasm_guest::job]
fn compute(depth: u32) -> u32 {
    outer_frame(depth)
}

#[inline(never)]
fn outer_frame(depth: u32) -> u32 {
    middle_frame(depth) + 1
}

#[inline(never)]
fn middle_frame(depth: u32) -> u32 {
    inner_frame(depth) + 1
}

#[inline(never)]
fn inner_frame(depth: u32) -> u32 {
    // The condition keeps the compiler from seeing that nothing here returns.
    if std::hint::black_box(depth) < u32::MAX {
        trap()
    } else {
        0
    }
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}
