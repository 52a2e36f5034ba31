//! A row that is believed once the next one agrees.

use super::Row;

/// A row, kept in little room: after a restart of its source every id may hold one.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub offset: i64,
    pub time: i64,
    /// How many of the values are targets, and how many covariates; the others are known ahead.
    targets: u32,
    covariates: u32,
    values: Box<[f64]>,
}

impl Candidate {
    pub fn of(row: Row<'_>) -> Self {
        let Row { offset, time, targets, covariates, ahead } = row;
        let values = [targets, covariates, ahead].concat().into();
        Self { offset, time, targets: targets.len() as u32, covariates: covariates.len() as u32, values }
    }

    pub fn row(&self) -> Row<'_> {
        let Self { offset, time, .. } = *self;
        let (targets, others) = self.values.split_at(self.targets as usize);
        let (covariates, ahead) = others.split_at(self.covariates as usize);
        Row { offset, time, targets, covariates, ahead }
    }

    /// Targets, covariates, then what is known ahead.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}
