//! One value of one open step, gathered row by row.

use super::Aggregate;

/// The aggregate so far of one column in one step. Missing values never reach it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    pub count: u32,
    /// Sum, extreme or latest value, by the aggregate.
    pub value: f64,
    /// Time of the latest value, microseconds.
    pub latest: i64,
}

impl Cell {
    pub fn add(&mut self, aggregate: Aggregate, time: i64, value: f64) {
        let first = self.count == 0;
        match aggregate {
            Aggregate::Mean | Aggregate::Sum => self.value += value,
            Aggregate::Min if first || value < self.value => self.value = value,
            Aggregate::Max if first || value > self.value => self.value = value,
            Aggregate::Last if first || time > self.latest => self.value = value,
            Aggregate::Min | Aggregate::Max | Aggregate::Last => {}
        }
        self.latest = if first { time } else { self.latest.max(time) };
        self.count = self.count.saturating_add(1);
    }

    /// The step's value, NaN when nothing was observed.
    pub fn value(&self, aggregate: Aggregate) -> f64 {
        match aggregate {
            _ if self.count == 0 => f64::NAN,
            Aggregate::Mean => self.value / f64::from(self.count),
            Aggregate::Sum | Aggregate::Min | Aggregate::Max | Aggregate::Last => self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_aggregate_of_rows_out_of_order() {
        let of = |aggregate| {
            let mut cell = Cell::default();
            [(20, -3.0), (30, 5.0), (10, 4.0)]
                .iter()
                .for_each(|(time, value)| cell.add(aggregate, *time, *value));
            cell.value(aggregate)
        };
        let all = [Aggregate::Mean, Aggregate::Last, Aggregate::Sum, Aggregate::Min, Aggregate::Max];
        assert_eq!(all.map(of), [2.0, 5.0, 6.0, -3.0, 5.0]);
        assert!(Cell::default().value(Aggregate::Sum).is_nan());
    }
}
