//! Reads the blob that its input names.

use std::io::Read;

use optwasm_test_guests::BlobSummary;

/// Length and checksum of the blob.
#[optwasm_guest::job]
fn compute(name: String) -> Result<BlobSummary, String> {
    let mut blob = optwasm_guest::blob(&name).ok_or_else(|| format!("no blob named {name}"))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = [0; 65536];
    loop {
        let count = blob.read(&mut buffer).map_err(|error| error.to_string())?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(BlobSummary {
        len: blob.len(),
        crc32: hasher.finalize(),
    })
}
