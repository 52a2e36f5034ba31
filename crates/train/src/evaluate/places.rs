//! Which lane of a history a forecast is of.

use std::collections::HashMap;

use super::scorer::Task;

pub struct Places<'a> {
    /// By id; only looked up.
    ids: HashMap<&'a str, usize>,
    targets: &'a [String],
    /// The lane of each target of each id.
    numbers: Vec<Vec<Option<usize>>>,
}

impl<'a> Places<'a> {
    pub fn new(task: &Task<'a>) -> Self {
        let Task { history, lanes, targets, .. } = *task;
        let ids = history.ids.iter().enumerate().map(|(number, id)| (id.as_str(), number)).collect();
        let mut numbers = vec![vec![None; targets.len()]; history.ids.len()];
        for (number, lane) in lanes.iter().enumerate() {
            numbers[lane.series][lane.target] = Some(number);
        }
        Self { ids, targets, numbers }
    }

    /// `None` for one that the history has not: both come from the same rows by the same rules, so that what is forecast is in
    /// it.
    pub fn lane(&self, series: &str, target: &str) -> Option<usize> {
        let target = self.targets.iter().position(|name| name == target)?;
        self.numbers[*self.ids.get(series)?][target]
    }
}
