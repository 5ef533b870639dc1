//! Sums a range of the blob `data`, which it reads and nothing else of it.

/// The sum of the bytes from `offset` on.
#[optwasm_guest::job]
fn compute((offset, len): (u64, u32)) -> Result<u64, String> {
    let data = optwasm_guest::blob("data").ok_or("there is no data")?;
    let mut range = vec![0; len as usize];
    let read = data.read_at(offset, &mut range);
    Ok(range[..read].iter().map(|byte| u64::from(*byte)).sum())
}
