//! Computes what processors and engines are most likely to disagree about, and returns every bit of
//! it: rounding, NaNs and their payloads, conversions, elementary functions, long dependent chains
//! of floating point, integer corner cases, and overlapping copies. Workers whose answers and fuel
//! are the same may confirm and answer each other's jobs.

use std::hint::black_box;

/// Steps of the long chains: enough for a difference in the last place to reach the first, and less
/// than a millisecond.
const STEPS: u32 = 20_000;

#[optwasm_guest::job]
fn probe(_input: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Bits::default();
    arithmetic(&mut out);
    nans(&mut out);
    conversions(&mut out);
    functions(&mut out);
    chains(&mut out);
    integers(&mut out);
    copies(&mut out);
    Ok(out.0)
}

/// What is returned: the bits of every result, in order.
#[derive(Default)]
struct Bits(Vec<u8>);

impl Bits {
    fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    fn f32(&mut self, value: f32) {
        self.u64(value.to_bits().into());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

/// Numbers at which something ends: precision, range, sign.
const EDGES: [f64; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1,
    1.0 / 3.0,
    f64::EPSILON,
    f64::MIN_POSITIVE,
    5e-324,
    f64::MAX,
    9_007_199_254_740_993.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    std::f64::consts::PI,
];

fn arithmetic(out: &mut Bits) {
    for &a in &EDGES {
        for &b in &EDGES {
            let (a, b) = (black_box(a), black_box(b));
            for value in [
                a + b,
                a - b,
                a * b,
                a / b,
                a.min(b),
                a.max(b),
                a.copysign(b),
                a % b,
            ] {
                out.f64(value);
            }
            let (a, b) = (a as f32, b as f32);
            for value in [a + b, a * b, a / b] {
                out.f32(value);
            }
        }
        let a = black_box(a);
        for value in [
            a.sqrt(),
            a.floor(),
            a.ceil(),
            a.trunc(),
            a.round_ties_even(),
            a.abs(),
        ] {
            out.f64(value);
        }
    }
}

fn nans(out: &mut Bits) {
    let payload = f64::from_bits(0x7ff8_0000_dead_beef);
    let signalling = f64::from_bits(0xfff0_0000_0000_0001);
    for value in [
        black_box(0.0) / black_box(0.0),
        black_box(f64::INFINITY) - black_box(f64::INFINITY),
        black_box(-1.0_f64).sqrt(),
        black_box(payload) + black_box(1.0),
        black_box(1.0) * black_box(signalling),
        black_box(payload) + black_box(signalling),
        black_box(signalling) + black_box(payload),
        f64::from(black_box(payload) as f32),
    ] {
        out.f64(value);
    }
    out.f32(black_box(signalling) as f32);
}

fn conversions(out: &mut Bits) {
    for &value in EDGES
        .iter()
        .chain(&[1e19, -1e19, 4_294_967_295.5, -0.9, f64::NAN])
    {
        let value = black_box(value);
        out.u64(value as u64);
        out.u64(value as i64 as u64);
        out.u64((value as i32).unsigned_abs().into());
        out.f32(value as f32);
    }
    for value in [u64::MAX, 1 << 63, (1 << 53) + 1, i64::MAX as u64] {
        out.f64(black_box(value) as f64);
        out.f32(black_box(value as i64) as f32);
    }
}

fn functions(out: &mut Bits) {
    for i in 1..60 {
        let x = black_box(f64::from(i) * 0.731);
        for value in [
            x.sin(),
            x.cos(),
            x.tan(),
            x.exp(),
            x.ln(),
            x.powf(1.7),
            x.atan(),
            x.cbrt(),
        ] {
            out.f64(value);
        }
    }
}

/// The logistic map and a linear recurrence, which turn any difference into a large one.
fn chains(out: &mut Bits) {
    let (mut x, mut y) = (black_box(0.3), black_box(1.0_f32));
    let mut sum = 0.0;
    for i in 0..STEPS {
        x = 3.99 * x * (1.0 - x);
        y = y * 1.000_1 + (x as f32) / (1.0 + y.abs());
        sum += x / f64::from(i + 1);
    }
    out.f64(x);
    out.f32(y);
    out.f64(sum);
    // Sums of many terms, whose order vectorization must not change.
    let terms: Vec<f64> = (1..4097).map(|i| 1.0 / f64::from(black_box(i))).collect();
    out.f64(terms.iter().sum());
    out.f64(
        terms
            .iter()
            .zip(terms.iter().rev())
            .map(|(a, b)| a * b)
            .sum(),
    );
}

fn integers(out: &mut Bits) {
    let mut state = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..1000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.u64(u64::from(
            state.count_ones() + state.leading_zeros() + state.trailing_zeros(),
        ));
    }
    out.u64(state.rotate_left(black_box(17)));
    out.u64(black_box(i64::MIN).wrapping_div(black_box(-1)) as u64);
    out.u64(black_box(i64::MIN).wrapping_rem(black_box(7)) as u64);
    out.u64(((u128::from(state) * u128::from(state)) >> 64) as u64);
}

fn copies(out: &mut Bits) {
    let mut bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    bytes.copy_within(0..9_000, 777);
    bytes.copy_within(1_000..10_000, 13);
    bytes[100..5_000].fill(0xa5);
    let mixed = bytes.iter().fold(0u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    out.u64(mixed);
}
