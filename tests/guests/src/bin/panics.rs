//! Panics with its input as the message.

/// Never returns.
#[optwasm_guest::job]
fn compute(message: String) {
    fail_deeply(&message);
}

/// A frame with a name that a test can look for.
#[inline(never)]
fn fail_deeply(message: &str) {
    panic!("told to panic: {message}");
}
