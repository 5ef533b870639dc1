//! Allocates and touches as many MiB as its input says.

/// Returns how many MiB it has.
#[optwasm_guest::job]
fn compute(mebibytes: u32) -> u32 {
    let blocks: Vec<Vec<u8>> = (0..mebibytes).map(|_| vec![1; 1 << 20]).collect();
    let touched = blocks
        .iter()
        .filter(|block| std::hint::black_box(block)[1 << 19] == 1)
        .count();
    touched as u32
}
