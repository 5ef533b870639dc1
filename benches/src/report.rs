//! The table that a benchmark ends with.

use std::fmt::Write;

/// A quantity, with its unit.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// Seconds; less is better.
    Seconds(f64),
    /// Operations per second; more is better.
    PerSecond(f64),
    /// Bytes; less is better.
    Bytes(f64),
    /// A share of something of its own kind; less is better.
    Ratio(f64),
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Value::Seconds(n) | Value::PerSecond(n) | Value::Bytes(n) | Value::Ratio(n) => n,
        }
    }

    fn meets(self, reach: Value) -> bool {
        match self {
            Value::PerSecond(rate) => rate >= reach.number(),
            _ => self.number() <= reach.number(),
        }
    }

    fn text(self) -> String {
        match self {
            Value::Seconds(s) if s < 1e-6 => format!("{:.1} ns", s * 1e9),
            Value::Seconds(s) if s < 1e-3 => format!("{:.2} µs", s * 1e6),
            Value::Seconds(s) if s < 1.0 => format!("{:.2} ms", s * 1e3),
            Value::Seconds(s) => format!("{s:.2} s"),
            Value::PerSecond(rate) => format!("{rate:.0} /s"),
            Value::Bytes(bytes) if bytes >= f64::from(1 << 20) => {
                format!("{:.1} MiB", bytes / f64::from(1 << 20))
            }
            Value::Bytes(bytes) => format!("{bytes:.1} B"),
            Value::Ratio(ratio) => format!("{ratio:.3} x"),
        }
    }
}

/// Lines of what was measured.
#[derive(Debug, Default)]
pub struct Report(Vec<[String; 5]>);

impl Report {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line: what was measured, the `floor` of the same run, and what it has to reach.
    pub fn line(&mut self, what: &str, value: Value, floor: Option<Value>, reach: Option<Value>) {
        let ratio = floor.map(|floor| value.number() / floor.number());
        self.0.push([
            what.to_owned(),
            value.text(),
            floor.map(Value::text).unwrap_or_default(),
            ratio
                .map(|ratio| format!("{ratio:.2} x"))
                .unwrap_or_default(),
            reach.map_or_else(String::new, |reach| {
                let verdict = if value.meets(reach) { "met" } else { "MISSED" };
                format!("{} {verdict}", reach.text())
            }),
        ]);
    }

    /// Prints the table under `title`.
    pub fn print(&self, title: &str) {
        let mut rows = vec![["", "median", "floor", "ratio", "reach"].map(str::to_owned)];
        rows.extend(self.0.iter().cloned());
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; 5] = std::array::from_fn(|column| width(column).unwrap_or(0));
        let mut text = format!("\n{title}\n");
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                // Writing to a string cannot fail.
                let _ = match column {
                    0 => write!(text, "  {cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
        println!("{text}");
    }
}
