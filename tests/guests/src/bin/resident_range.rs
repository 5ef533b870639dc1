//! As `range`, with all of the blob in memory from the start.

/// All of the blob.
struct Data(Vec<u8>);

fn load() -> Result<Data, &'static str> {
    let data = optwasm_guest::blob("data").ok_or("there is no data")?;
    Ok(Data(data.to_vec()))
}

/// The sum of the bytes from `offset` on.
#[optwasm_guest::job(init = load)]
fn compute(Data(data): &Data, (offset, len): (u64, u32)) -> u64 {
    let range = data.iter().skip(offset as usize).take(len as usize);
    range.map(|byte| u64::from(*byte)).sum()
}
