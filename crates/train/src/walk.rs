//! The memory along a history: its state at every origin that is asked for, as it would have been while serving.

use super::{History, Origin};
use tidecast_core::network::memory::Memory;

/// One target of one id: the numbers of its segments, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub series: usize,
    pub target: usize,
    pub segments: Vec<u32>,
}

/// All lanes, ordered by id and target.
pub fn lanes(history: &History) -> Vec<Lane> {
    let mut order: Vec<u32> = (0..history.segments.len() as u32).collect();
    let key = |number: &u32| {
        let segment = &history.segments[*number as usize];
        (segment.series, segment.target)
    };
    // Stable: segments of a lane were begun in the order of time.
    order.sort_by_key(key);
    let lanes = order.chunk_by(|a, b| key(a) == key(b));
    lanes
        .map(|segments| {
            let (series, target) = key(&segments[0]);
            Lane { series, target, segments: segments.to_vec() }
        })
        .collect()
}

/// Shows `visit` the state at each of `origins`, which belong to the lane and are in the order of time. A memory that is
/// not there has no state.
pub fn walk(
    history: &History,
    lane: &Lane,
    memory: Option<&Memory>,
    origins: &[Origin],
    mut visit: impl FnMut(Origin, &[f32]),
) {
    let mut state = vec![0.0; memory.map_or(0, Memory::numbers)];
    let mut last = None;
    let mut origins = origins.iter().peekable();
    for number in &lane.segments {
        let segment = &history.segments[*number as usize];
        let mut done = 0;
        let mut follow = |state: &mut [f32], until: usize| {
            let Some(memory) = memory else { return };
            if done == 0 {
                memory.start(state, last, segment.start, segment.values[0]);
                done = 1;
            }
            if until > done {
                let first = done.saturating_sub(memory.reach().max(1));
                memory.follow(state, &segment.values[first..until], until - done);
                done = until;
            }
        };
        while let Some(origin) = origins.next_if(|origin| origin.segment == *number) {
            follow(&mut state, origin.place as usize + 1);
            visit(*origin, &state);
        }
        follow(&mut state, segment.values.len());
        last = segment.values.last().map(|value| (segment.step(segment.values.len() - 1), *value));
    }
}
