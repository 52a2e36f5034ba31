//! Forecasting: from whole windows, or one step at a time with the state carried along.

use super::run::{Run, TILE, tiles};
use super::{Network, Shape, State};

/// What the network reads to forecast `width` columns at once.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Columns: windows that are forecast side by side.
    pub width: usize,
    /// Steps of each window.
    pub steps: usize,
    /// `[step][column][input]`: each step is a column-major matrix of inputs x width.
    pub inputs: &'a [f32],
    /// Recursive decoder: `[horizon - 1][column][input]`, the steps after the window. Input 0 is replaced by
    /// what the network says. Direct decoder: empty.
    pub future: &'a [f32],
    /// `[column][horizon][known]`
    pub known: &'a [f32],
    /// The number of each column's series among those that the network has an embedding of, `None` where it is not known;
    /// empty where none is.
    pub series: &'a [Option<u32>],
}

impl Batch<'_> {
    /// Panics when a slice has not the length that follows from `shape`, `width` and `steps`.
    pub(super) fn check(&self, shape: &Shape) {
        let step = self.width * shape.inputs;
        assert_eq!(self.inputs.len(), self.steps * step, "inputs are [step][column][input]");
        assert_eq!(self.future.len(), shape.fed_back() * step, "future is [horizon - 1][column][input]");
        assert_eq!(
            self.known.len(),
            self.width * shape.horizon * shape.known,
            "known is [column][horizon][known]"
        );
        assert!(self.series.is_empty() || self.series.len() == self.width, "series is [column]");
    }
}

/// Buffers of forecasting, used again and again: nothing is allocated for a batch, whatever its width (but
/// for what the matrix product packs its operands into).
pub struct Scratch {
    pub(super) run: Run,
}

impl Scratch {
    pub fn new(shape: &Shape) -> Self {
        Self { run: Run::new(shape, 0, 0, TILE) }
    }
}

impl Network {
    /// Forecasts each column of `batch`, from states of zero, into `out` `[column][quantity][horizon]`: the forecast itself,
    /// then each quantile that the network says.
    ///
    /// A column's forecast depends on that column alone, bit for bit. Panics when a slice has the wrong
    /// length or `scratch` is another shape's.
    pub fn forecast(&self, batch: &Batch<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        self.forecast_tiles(None, batch, &mut scratch.run, out);
    }

    /// As [`Network::forecast`], from the states of `columns`, which stay as they are: a column of the batch each. `batch`
    /// holds the steps since; there may be none.
    pub fn forecast_from(
        &self,
        (state, columns): (&State, &[usize]),
        batch: &Batch<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        self.check(state, columns);
        assert_eq!(columns.len(), batch.width, "a column of the state for each of the batch");
        self.forecast_tiles(Some((state, columns)), batch, &mut scratch.run, out);
    }

    fn forecast_tiles(
        &self,
        from: Option<(&State, &[usize])>,
        batch: &Batch<'_>,
        run: &mut Run,
        out: &mut [f32],
    ) {
        let shape = self.shape();
        batch.check(shape);
        assert_eq!(run.shape, *shape, "the scratch is that of the network's shape");
        let outputs = shape.outputs();
        assert_eq!(out.len(), batch.width * outputs, "out is [column][quantity][horizon]");
        for tile in tiles(batch.width) {
            let out = &mut out[tile.first * outputs..][..tile.count * outputs];
            run.forecast(self, from, batch, tile, out);
        }
    }

    /// The chosen columns of `state`, none of them twice, take one step with `input` `[column][input]` of the columns' `series`
    /// (empty where none is known).
    ///
    /// The same steps give the same bits as in a window, whichever columns step together. Panics when `input` has the wrong
    /// length or a column is not there.
    pub fn step(
        &self,
        (state, columns): (&mut State, &[usize]),
        input: &[f32],
        series: &[Option<u32>],
        scratch: &mut Scratch,
    ) {
        let (shape, width, run) = (self.shape(), columns.len(), &mut scratch.run);
        self.check(state, columns);
        assert_eq!(run.shape, *shape, "the scratch is that of the network's shape");
        assert_eq!(input.len(), width * shape.inputs, "input is [column][input]");
        for tile in tiles(width) {
            run.begin(Some((&*state, columns)), tile);
            run.embed(self, series, tile);
            run.feed(0, super::run::columns(input, 0, width, shape.inputs, tile));
            run.advance(self, 0);
            run.store(1, (&mut *state, columns), tile);
        }
    }

    fn check(&self, state: &State, columns: &[usize]) {
        assert!(state.fits(self.shape()), "the state is that of the network's shape");
        let within = columns.iter().all(|column| *column < state.width());
        assert!(within, "the columns are those of the state");
    }
}
