//! Reproducible mutations: bytes changed, removed, repeated or copied between inputs, boundary numbers, and words of a format.

/// xorshift64*: fast, and seeded by the number of the input.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Spreads neighbouring seeds; a state of 0 would never change.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn choose<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// Boundary values of integer types.
pub const INTEGERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    63,
    64,
    65,
    255,
    65_536,
    1 << 31,
    -(1 << 31),
    (1 << 53) + 1,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    1 << 40,
];

/// Boundary values of floats.
pub const FLOATS: [f64; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    5e-324,
    1e300,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// One of `seeds` with a few mutations; `words` belong to the format.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(10) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.below(256) as u8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..end].to_vec();
                let count = if random.one_in(50) { 1000 } else { 1 + random.below(4) };
                drop(bytes.splice(at..at, piece.repeat(count)));
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let start = random.below(other.len() + 1);
                let stop = (start + random.below(64)).min(other.len());
                drop(bytes.splice(at..end, other[start..stop].iter().copied()));
            }
            6 => {
                let number = INTEGERS[random.below(INTEGERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
            }
            7 => {
                let number = INTEGERS[random.below(INTEGERS.len())].to_string();
                let digits = bytes.iter().skip(at).position(u8::is_ascii_digit).map_or(at, |i| at + i);
                let length = bytes.iter().skip(digits).position(|byte| !byte.is_ascii_digit());
                let digits_end = length.map_or(bytes.len(), |i| digits + i);
                drop(bytes.splice(digits..digits_end, number.into_bytes()));
            }
            _ if words.is_empty() => {}
            _ => drop(bytes.splice(at..end.min(at + random.below(3)), random.choose(words).bytes())),
        }
    }
    bytes
}
