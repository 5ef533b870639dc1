//! The `optwasm` command.
fn main() {}
