//! How fast bounds follow what comes, and what each of them is due, by the names that the equations of `tracker` have: known
//! before any series is.

/// Bounds that lie together: four, as two levels have.
pub const BLOCK: usize = 4;

/// How fast what is followed. Chosen on what lies before the scored parts, and on a set that is in no bar; W and T, of values
/// nearly alike there, with the scored parts in sight.
pub struct Gains {
    /// c (of a bound that is missed as often as β₀) and h₀.
    pub step: f32,
    pub slower: f32,
    /// k, h₁ and sat (before it is multiplied by r).
    pub together: f32,
    pub together_slower: f32,
    pub together_most: f32,
    /// W and T, in updates.
    pub memory: f32,
    pub integral: f32,
    /// Updates that the fast and the slow scale are means of, about, and a.
    pub fast: f32,
    pub slow: f32,
    pub share: f32,
    /// Updates after which a score has left the trailing range by about two thirds, at least.
    pub range: f32,
}

pub const GAINS: Gains = Gains {
    step: 0.015,
    slower: 1.0,
    together: 0.024,
    together_slower: 32.0,
    together_most: 0.2,
    memory: 5000.0,
    integral: 1000.0,
    fast: 100.0,
    slow: 2000.0,
    share: 0.5,
    range: 500.0,
};

/// What the gains come to `h` steps ahead: what is only multiplied for every forecast.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// η, σ/2 and sat
    pub step: f32,
    pub together: f32,
    pub together_most: f32,
    /// η/T and 1 - 1/W
    pub made_good: f32,
    pub owed: f32,
    /// 1/τ of the fast and of the slow scale, and a.
    pub scales: [f32; 2],
    pub share: f32,
    /// What is left of the trailing range.
    pub range: f32,
}

impl Rates {
    pub fn new(horizon: usize) -> Self {
        let (gains, h) = (&GAINS, horizon as f32);
        let step = gains.step / (1.0 + h / gains.slower);
        Self {
            step,
            together: gains.together / (1.0 + h / gains.together_slower) / 2.0,
            together_most: gains.together_most,
            made_good: step / gains.integral,
            owed: 1.0 - 1.0 / gains.memory,
            scales: [1.0 / gains.fast, 1.0 / gains.slow],
            share: gains.share,
            // Several runs of errors.
            range: 1.0 - 1.0 / gains.range.max(4.0 * h),
        }
    }
}

/// β₀: that of the bounds of 80 %.
const DUE: f32 = 0.1;

/// What is known of four bounds: how often each is to be missed, what its moves are multiplied by for that, and which way is outward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Due {
    pub due: [f32; BLOCK],
    pub hurry: [f32; BLOCK],
    pub outward: [f32; BLOCK],
}

/// What is known of all bounds. Where the last four are fewer, what lies outward of the others is nowhere: they are never missed.
#[derive(Clone, Debug)]
pub struct Dues {
    /// How many there are.
    pub bounds: usize,
    pub blocks: Vec<Due>,
}

impl Dues {
    pub fn of(probabilities: &[f64]) -> Self {
        let of_some = |some: &[f64]| {
            let mut all = Due::default();
            for (place, p) in some.iter().enumerate() {
                let due = p.min(1.0 - p) as f32;
                // √(β₀/β)
                (all.due[place], all.hurry[place]) = (due, (DUE / due).sqrt());
                all.outward[place] = if *p < 0.5 { -1.0 } else { 1.0 };
            }
            all
        };
        Self { bounds: probabilities.len(), blocks: probabilities.chunks(BLOCK).map(of_some).collect() }
    }
}
