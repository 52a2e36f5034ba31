//! The memory: a fixed diagonal linear recurrence over the first differences of a series, carried from step to step at
//! constant cost, and read out for all steps of the horizon by one matrix.
//!
//! With the value x and a complex pole λ = exp(-1/τ + iω) for each decay τ and frequency ω,
//!
//! ```text
//! s(t) = λ s(t-1) + x(t) - x(t-1)
//! ```
//!
//! A real pole is an exponential moving average's distance from the value; a complex one resonates with what recurs
//! every 2π/ω steps. Being linear, the states of readings in any unit are those of scaled readings times the unit, so they
//! are carried unscaled, and what reads them divides by the scale of the moment.

mod absolute;
mod poles;
mod readout;
mod ridge;

pub use absolute::{RegressionRows, least_absolute_deviations};
use poles::Poles;
pub use readout::{PerSeriesFeatures, Readout, ReadoutError};
pub use ridge::{NormalEquations, Regularization, Solution, solve_ridge};

use super::{Tensor, Tensors};

/// Poles of a memory, at most: each costs two numbers a series and a multiplication a step.
pub const POLES_MAX: usize = 4096;

/// The poles, as a step uses them.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearRecurrence {
    poles: Poles,
    /// Steps that are remembered, and the poles to their power: what leaves is taken out again.
    context: Option<(usize, Poles)>,
}

impl LinearRecurrence {
    /// From poles as `[real, imaginary]`; a pole without imaginary part is real. With `context`, differences older than
    /// so many steps are forgotten altogether. `None` if there are too many, or one does not decay.
    pub fn new(poles: &[[f32; 2]], context: Option<usize>) -> Option<Self> {
        let wide = |[re, im]: [f32; 2]| [f64::from(re), f64::from(im)];
        let decays = |pole: &[f32; 2]| wide(*pole).iter().map(|part| part * part).sum::<f64>() < 1.0;
        if poles.len() > POLES_MAX || !poles.iter().all(decays) || context == Some(0) {
            return None;
        }
        let wide: Vec<[f64; 2]> = poles.iter().copied().map(wide).collect();
        let far = |steps| (steps, Poles::new(wide.iter().map(|pole| power(*pole, steps as u64)), poles));
        Some(Self { poles: Poles::new(wide.iter().copied(), poles), context: context.map(far) })
    }

    /// The poles of a decay and a frequency each: `[τ in steps, ω in radians a step]`, as f32, since that is what a file keeps.
    pub fn pole(decay: f64, frequency: f64) -> [f32; 2] {
        // λ = exp(-1/τ) (cos ω + i sin ω)
        let size = (-1.0 / decay).exp();
        let (sine, cosine) = frequency.sin_cos();
        // At half a turn the sine is rounding.
        let sine = if sine.abs() < 1e-9 { 0.0 } else { sine };
        [(size * cosine) as f32, (size * sine) as f32]
    }

    /// Numbers of a state, in the unit of the readings: of the real poles, then the real and then the imaginary parts of the
    /// complex ones. All are zero before the first reading.
    pub fn numbers(&self) -> usize {
        self.poles.numbers()
    }

    /// Places of the numbers of pole `i` of those it was made of.
    pub fn places(poles: &[[f32; 2]], i: usize) -> Vec<usize> {
        let is_real = |pole: &[f32; 2]| pole[1] == 0.0;
        let (real, before) = (poles.iter().filter(|pole| is_real(pole)).count(), &poles[..i]);
        let complex = poles.len() - real;
        if is_real(&poles[i]) {
            return vec![before.iter().filter(|pole| is_real(pole)).count()];
        }
        let place = real + before.iter().filter(|pole| !is_real(pole)).count();
        vec![place, place + complex]
    }

    /// Values of the past that a step looks back to, besides those since the step before.
    pub fn reach(&self) -> usize {
        self.context.as_ref().map_or(0, |(steps, _)| steps + 1)
    }

    /// A state takes the next steps of a run without a break: `values` ends with the `new` latest ones and begins with as many
    /// as are at hand of the [`LinearRecurrence::reach`] before the first of them, at least one.
    pub fn follow(&self, state: &mut [f32], values: &[f64], new: usize) {
        let first = values.len() - new;
        for place in first..values.len() {
            let leaving =
                self.context.as_ref().map_or(0.0, |(steps, _)| match place.checked_sub(steps + 1) {
                    Some(before) => values[before + 1] - values[before],
                    None => 0.0,
                });
            self.advance(state, values[place] - values[place - 1], leaving);
        }
    }

    /// A run begins at `step`: the first one, or one after a break, in which the states decayed as if nothing had changed
    /// since the reading `last`.
    pub fn start(&self, state: &mut [f32], last: Option<(i64, f64)>, step: i64, value: f64) {
        match last {
            Some((last, before)) if self.context.is_none() => {
                self.decay(state, step.saturating_sub(last).saturating_sub(1).max(0) as u64);
                self.advance(state, value - before, 0.0);
            }
            _ => state.fill(0.0),
        }
    }

    /// s' = λ s + Δ, less λ^L times the difference that is L steps old.
    fn advance(&self, numbers: &mut [f32], entering: f64, leaving: f64) {
        self.poles.advance(numbers, bounded(entering));
        if let Some((_, gone)) = self.context.as_ref().filter(|_| leaving != 0.0) {
            gone.take_out(numbers, bounded(leaving));
        }
    }

    /// s' = λ^n s
    fn decay(&self, numbers: &mut [f32], steps: u64) {
        self.poles.decay(numbers, steps);
    }
}

/// A difference that no state can grow beyond all bounds from: with poles as near to one as f32 has them, a state is at most
/// some ten million times as large.
fn bounded(difference: f64) -> f32 {
    const LARGEST: f64 = 1e30;
    difference.clamp(-LARGEST, LARGEST) as f32
}

/// A complex number to a whole power, by squaring.
fn power(base: [f64; 2], mut exponent: u64) -> [f64; 2] {
    let times = |[a, b]: [f64; 2], [c, d]: [f64; 2]| [a * c - b * d, a * d + b * c];
    let (mut result, mut square) = ([1.0, 0.0], base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    result
}

/// The name of the tensor `[poles x 2]`.
pub const POLES: &str = "recurrence.poles";

/// Poles as a tensor.
pub fn poles_tensor(poles: &[[f32; 2]]) -> Tensor {
    Tensor { shape: vec![poles.len(), 2], data: poles.iter().flatten().copied().collect() }
}

/// The poles that a file keeps, taken out of its tensors.
pub fn take_poles(tensors: &mut Tensors) -> Option<Vec<[f32; 2]>> {
    let Tensor { shape, data } = tensors.remove(POLES)?;
    let pairs = shape.len() == 2 && shape[1] == 2 && data.len() == 2 * shape[0];
    pairs.then(|| data.chunks_exact(2).map(|pole| [pole[0], pole[1]]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poles() -> Vec<[f32; 2]> {
        let turn = std::f64::consts::TAU;
        [(2.0, 0.0), (50.0, turn / 24.0), (50.0, turn / 2.0), (7.0, turn / 5.0)]
            .map(|(decay, frequency)| LinearRecurrence::pole(decay, frequency))
            .to_vec()
    }

    fn values(count: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * i) % 23) as f64 - 0.3 * i as f64).collect()
    }

    /// Sum over the past of λ^k Δx(t - k), by the definition.
    fn summed(values: &[f64], context: usize) -> Vec<f64> {
        let poles = poles();
        let mut numbers = vec![0.0; 6];
        for (i, pole) in poles.iter().enumerate() {
            let mut sum = [0.0, 0.0];
            for k in 0..context.min(values.len() - 1) {
                let place = values.len() - 1 - k;
                let difference = values[place] - values[place - 1];
                let [a, b] = power([f64::from(pole[0]), f64::from(pole[1])], k as u64);
                sum = [sum[0] + a * difference, sum[1] + b * difference];
            }
            for (place, part) in LinearRecurrence::places(&poles, i).into_iter().zip(sum) {
                numbers[place] = part;
            }
        }
        numbers
    }

    fn close(a: &[f32], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn carried_it_is_the_sum_over_the_past() {
        for context in [None, Some(9)] {
            let memory = LinearRecurrence::new(&poles(), context).unwrap();
            let all = values(60);
            let mut state = vec![0.0; memory.numbers()];
            memory.start(&mut state, None, 0, all[0]);
            let mut done = 1usize;
            for new in [1, 3, 2, 1, 20, 32] {
                let first = done.saturating_sub(memory.reach().max(1));
                memory.follow(&mut state, &all[first..done + new], new);
                done += new;
            }
            close(&state, &summed(&all, context.unwrap_or(60)));
        }
    }

    #[test]
    fn a_break_decays_as_if_the_value_had_been_held() {
        let memory = LinearRecurrence::new(&poles(), None).unwrap();
        let [mut broken, mut held] = [(); 2].map(|()| vec![0.0; memory.numbers()]);
        for state in [&mut broken, &mut held] {
            memory.start(state, None, 0, 1.0);
            memory.follow(state, &[1.0, 4.0], 1);
        }
        memory.start(&mut broken, Some((1, 4.0)), 1001, -2.0);
        for _ in 2..1001 {
            memory.follow(&mut held, &[4.0, 4.0], 1);
        }
        memory.follow(&mut held, &[4.0, -2.0], 1);
        let held: Vec<f64> = held.iter().copied().map(f64::from).collect();
        close(&broken, &held);
    }

    #[test]
    fn what_does_not_decay_is_no_memory() {
        assert_eq!(LinearRecurrence::new(&[[1.0, 0.0]], None), None);
        assert_eq!(LinearRecurrence::new(&[[0.8, 0.7]], None), None);
        assert_eq!(LinearRecurrence::new(&[[f32::NAN, 0.0]], None), None);
        assert!(LinearRecurrence::new(&[[-0.9, 0.0]], None).is_some());
    }
}
