//! Sequences along which a state is carried while it is learned: steps that only bring it to where it would be while
//! serving, and then steps that each say a forecast.

use std::ops::Range;

use super::targets::Examples;
use super::windows::Windows;
use tidecast_core::network::{self, Shape};

/// Steps of a sequence that are learned from, for each one that only warms the state: more would save little, and fewer
/// waste what is read.
const LEARNED: usize = 2;
/// Sequences that one thread works on at a time, each of which has many forecasts: as many as a product takes at least.
pub const AT_ONCE: usize = 8;

/// Numbers that are said along the sequences that a thread works on at once, at most: 64 MiB, and as many slopes.
const SAID: usize = 16 << 20;

/// Examples that a sequence learns from, at most, if its state is warmed by so many steps and each says so many numbers.
pub fn together(lookback: usize, outputs: usize) -> usize {
    (LEARNED * lookback).min(SAID / AT_ONCE / outputs).max(1)
}

/// Examples in the order of time, cut into sequences.
pub struct Sequences<'a> {
    windows: &'a Windows<'a>,
    examples: Examples,
    pieces: Vec<Piece>,
}

struct Piece {
    segment: u32,
    /// Place of the first step, and steps before the first that is learned from.
    first: usize,
    burn_in: usize,
    steps: usize,
    /// Numbers of the examples that are learned from, by rising places.
    examples: Range<usize>,
}

/// Sequences side by side as the network reads them.
#[derive(Default)]
pub struct Buffers {
    width: usize,
    steps: usize,
    burn_in: usize,
    /// `[step][input]` of one sequence.
    one: Vec<f32>,
    inputs: Vec<f32>,
    known: Vec<f32>,
    series: Vec<Option<u32>>,
}

impl Buffers {
    /// Reads a sequence as one of a series that is not known.
    pub fn hide_series(&mut self, column: usize) {
        self.series[column] = None;
    }

    pub fn sequences(&self) -> network::Sequences<'_> {
        let Self { width, steps, burn_in, .. } = *self;
        let Self { inputs, known, series, .. } = self;
        network::Sequences { width, steps, burn_in, inputs, known, series }
    }
}

impl<'a> Sequences<'a> {
    /// Cuts examples that lie together into sequences whose states are warmed by `lookback` steps, where there are so many.
    pub fn new(windows: &'a Windows<'a>, examples: Examples, lookback: usize) -> Self {
        let outputs = windows.description.cells.as_ref().map_or(1, |cells| cells.network.outputs());
        let together = together(lookback, outputs);
        let mut pieces: Vec<Piece> = Vec::new();
        for (number, origin) in examples.origins.iter().enumerate() {
            let place = origin.place as usize;
            if let Some(piece) = pieces.last_mut() {
                let steps = (place + 1).wrapping_sub(piece.first);
                let goes_on = place >= piece.first + piece.steps && steps <= piece.burn_in + together;
                if piece.segment == origin.segment && goes_on {
                    piece.steps = steps;
                    piece.examples.end = number + 1;
                    continue;
                }
            }
            let burn_in = place.min(lookback);
            let (segment, first, steps) = (origin.segment, place - burn_in, burn_in + 1);
            pieces.push(Piece { segment, first, burn_in, steps, examples: number..number + 1 });
        }
        Self { windows, examples, pieces }
    }

    pub fn windows(&self) -> &Windows<'a> {
        self.windows
    }

    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Writes the sequences with the numbers `chosen`; `targets` become `[reading][sequence][horizon]`, NaN where a sequence
    /// has no example.
    pub fn read(&self, shape: &Shape, chosen: &[usize], out: &mut Buffers, targets: &mut Vec<f32>) {
        let pieces = || chosen.iter().map(|number| &self.pieces[*number]);
        let width = chosen.len();
        // Side by side all have the shortest burn-in; what others say in the rest of theirs has no target.
        let burn_in = pieces().map(|piece| piece.burn_in).min().unwrap_or(0);
        let steps = pieces().map(|piece| piece.steps).max().unwrap_or(0);
        (out.width, out.burn_in, out.steps) = (width, burn_in, steps);
        let known = shape.horizon * shape.known;
        clear(&mut out.inputs, steps * width * shape.inputs, 0.0);
        clear(&mut out.known, (steps - burn_in) * width * known, 0.0);
        clear(targets, (steps - burn_in) * width * shape.horizon, f32::NAN);
        out.series.clear();
        for (column, piece) in pieces().enumerate() {
            let lane = self.examples.lanes[piece.examples.start] as usize;
            out.series.push(self.windows.own(lane).map(|own| own as u32));
            clear(&mut out.one, piece.steps * shape.inputs, 0.0);
            self.windows.steps(piece.segment, piece.first..piece.first + piece.steps, &mut out.one);
            for (step, inputs) in out.one.chunks_exact(shape.inputs).enumerate() {
                out.inputs[(step * width + column) * shape.inputs..][..shape.inputs].copy_from_slice(inputs);
            }
            for number in piece.examples.clone() {
                let origin = self.examples.origins[number];
                let reading = origin.place as usize - piece.first - burn_in;
                let place = reading * width + column;
                let to = &mut targets[place * shape.horizon..][..shape.horizon];
                to.copy_from_slice(self.examples.targets(number));
                let to = &mut out.known[place * known..][..known];
                self.windows.description.inputs.write_known(self.windows.ahead(origin), to);
            }
        }
    }
}

fn clear(numbers: &mut Vec<f32>, count: usize, with: f32) {
    numbers.clear();
    numbers.resize(count, with);
}
