//! Numbers for the first weights: the same seed gives the same network on every machine, for ever.

/// SplitMix64: a counter through a mixing function.
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The numbers that belong to a key, unrelated to those of any other: a function of the key alone, whoever draws them
    /// and whenever.
    pub fn keyed(key: &[u64]) -> Self {
        // For words before it that are the same, the mixing gives each last word another state.
        Self { state: key.iter().fold(0, |state, word| Self::new(state ^ word).next_u64()) }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        // The upper 24 bits, as many as an f32 holds exactly.
        (self.next_u64() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Uniform in [-bound, bound).
    pub fn within(&mut self, bound: f32) -> f32 {
        (2.0 * self.unit() - 1.0) * bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_range_and_nothing_else() {
        let mut random = Random::new(7);
        let numbers: Vec<f32> = (0..10_000).map(|_| random.within(0.5)).collect();
        assert!(numbers.iter().all(|x| (-0.5..0.5).contains(x)));
        let mean = numbers.iter().sum::<f32>() / 10_000.0;
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.01 && (square - 1.0 / 12.0).abs() < 0.003, "{mean} {square}");
    }

    #[test]
    fn keys_that_differ_in_a_word_have_other_numbers() {
        let first = |key: &[u64]| Random::keyed(key).next_u64();
        let mut found: Vec<u64> = (0..1000).flat_map(|i| [first(&[1, i]), first(&[i + 2, 1])]).collect();
        found.extend([first(&[]), first(&[1]), first(&[1, 2, 3])]);
        found.sort_unstable();
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
    }

    #[test]
    fn the_sequence_never_changes() {
        let mut random = Random::new(1234567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }
}
