//! The plugins, and how each is compiled.

use optwasm_toolchain::GuestBuild;

/// The plugins: names of folders, which are those of the binaries. The first that reads a file
/// solves it where several could.
///
/// The number says how often loops are unrolled, because each iteration pays fuel. Without it LPs
/// take 1.3 to 1.6 times as long with HiGHS and 1.5 to 2 times with Clarabel. Eight, the template's
/// number, gains another 4 % over four in HiGHS, and nothing in the others, whose modules it makes
/// larger by a sixth. `cargo bench -p optwasm-benches --bench solvers` is the measure.
pub const PLUGINS: [(&str, Unroll); 7] = [
    ("highs", AS_ALL),
    ("linear", AS_ALL),
    ("conic", Some(4)),
    ("nlp", Some(4)),
    ("least-squares", AS_ALL),
    ("sat", AS_ALL),
    ("opf", Some(4)),
];

/// How often loops are unrolled, where the template does not say it.
pub type Unroll = Option<u8>;

/// As the template says.
pub const AS_ALL: Unroll = None;

/// A build with this many unrolled iterations.
pub fn unrolled(build: GuestBuild, unroll: Unroll) -> GuestBuild {
    match unroll {
        Some(count) => build.unroll(count),
        None => build,
    }
}
