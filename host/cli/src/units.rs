//! Numbers as people write them.

use std::ops::Range;
use std::time::Duration;

use optwasm_client::{Change, Limit};

/// Bytes: `1024`, `64KiB`, `1.5GiB`, `10MB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1u64 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    parse_scaled(text, &units).ok_or_else(|| "expected a size such as 256MiB or 2GiB".to_owned())
}

/// Counts: `1000`, `5e9`, `5G`, `2.5M`.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let units = [
        ("k", 1_000u64),
        ("K", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    parse_scaled(text, &units).ok_or_else(|| "expected a number such as 5e9 or 5G".to_owned())
}

/// A count, or `none`.
pub fn parse_count_limit(text: &str) -> Result<Limit, String> {
    parse_limit(text, parse_count)
}

/// Bytes, or `none`.
pub fn parse_bytes_limit(text: &str) -> Result<Limit, String> {
    parse_limit(text, parse_bytes)
}

fn parse_limit(text: &str, value: impl Fn(&str) -> Result<u64, String>) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit::None),
        _ => value(text).map(Limit::At),
    }
}

fn parse_scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<u64>() {
        return Some(number);
    }
    let unit = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    let (number, scale) = unit.unwrap_or((text, 1));
    let value = number.trim().parse::<f64>().ok()? * scale as f64;
    // Above 2^63 a float no longer tells numbers apart that people mean.
    (0.0..9.2e18).contains(&value).then_some(value as u64)
}

/// Durations: `10s`, `5m`, `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration such as 10s or 1h".to_owned())
}

fn parse_change(text: &str, value: impl Fn(&str) -> Result<u64, String>) -> Result<Change, String> {
    let Some(factor) = text.strip_prefix('x') else {
        return value(text).map(Change::To);
    };
    match factor.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor <= 1e9 => Ok(Change::Times(factor)),
        _ => Err("expected a factor such as x4".to_owned()),
    }
}

/// A count, or a factor: `5G`, `x4`.
pub fn parse_change_of_count(text: &str) -> Result<Change, String> {
    parse_change(text, parse_count)
}

/// Bytes, or a factor: `2GiB`, `x2`.
pub fn parse_change_of_bytes(text: &str) -> Result<Change, String> {
    parse_change(text, parse_bytes)
}

/// A duration, or a factor: `90s`, `x2`.
pub fn parse_change_of_duration(text: &str) -> Result<Change, String> {
    parse_change(text, |text| {
        parse_duration(text).map(|duration| duration.as_millis() as u64)
    })
}

/// Indices: `3,9-12`.
pub fn parse_ranges(text: &str) -> Result<Vec<Range<u32>>, String> {
    let one = |part: &str| -> Option<Range<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u32>().ok()?);
        (first <= last).then_some(first..last.checked_add(1)?)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(one).collect();
    ranges.ok_or_else(|| "expected indices such as 3,9-12".to_owned())
}

/// `KEY=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Bytes for people.
pub fn show_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A count for people: `1.2 G`.
pub fn show_count(count: u64) -> String {
    let scales = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let value = count as f64;
    match scales.iter().find(|(scale, _)| value >= *scale) {
        Some((scale, unit)) => format!("{:.1} {unit}", value / scale),
        None => count.to_string(),
    }
}

/// Microseconds for people.
pub fn show_micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_and_ranges() {
        assert_eq!(parse_change_of_count("x4"), Ok(Change::Times(4.0)));
        assert_eq!(parse_change_of_bytes("2GiB"), Ok(Change::To(2 << 30)));
        assert_eq!(parse_change_of_duration("90s"), Ok(Change::To(90_000)));
        assert_eq!(parse_ranges("3,9-12"), Ok(vec![3..4, 9..13]));
        for bad in ["x0", "x-1", "xnan", "4x"] {
            assert!(parse_change_of_count(bad).is_err(), "{bad}");
        }
        for bad in ["", "4-3", "a", "1,,2"] {
            assert!(parse_ranges(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(parse_bytes("256MiB"), Ok(256 << 20));
        assert_eq!(parse_bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("77"), Ok(77));
        assert_eq!(parse_bytes("10MB"), Ok(10_000_000));
        assert_eq!(parse_count("5e9"), Ok(5_000_000_000));
        assert_eq!(parse_count("2.5M"), Ok(2_500_000));
        for bad in ["", "-1", "x", "1XB", "nan", "1e30"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }
}
