//! How far the rejects of one partition have been sent through again, reason by reason: whoever replays what was malformed
//! leaves what was late for another day. The group's committed offset is the least of them; its metadata says which
//! reasons are farther.

use tidecast_core::series::Refusal;

/// The next offset of each reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks([i64; Refusal::ALL.len()]);

impl Marks {
    /// Nothing below `low` is there any more.
    pub fn new(low: i64) -> Self {
        Self([low; Refusal::ALL.len()])
    }

    /// What [`Marks::offset`] and [`Marks::metadata`] said. Unknown reasons are none of ours.
    pub fn read(offset: i64, metadata: &str) -> Self {
        let mut marks = Self::new(offset);
        for part in metadata.split(' ') {
            let Some((name, next)) = part.split_once('=') else { continue };
            if let (Some(reason), Ok(next)) = (Refusal::named(name), next.parse()) {
                marks.raise(&[reason], next);
            }
        }
        marks
    }

    pub fn is_done(&self, reason: Refusal, offset: i64) -> bool {
        offset < self.0[reason as usize]
    }

    /// All below `next` of these reasons are done.
    pub fn raise(&mut self, reasons: &[Refusal], next: i64) {
        for reason in reasons {
            let mark = &mut self.0[*reason as usize];
            *mark = next.max(*mark);
        }
    }

    /// The first offset at which something may be left to do.
    pub fn offset(&self) -> i64 {
        self.0.into_iter().min().unwrap_or(0)
    }

    /// The first at which something of these reasons may be.
    pub fn offset_of(&self, reasons: &[Refusal]) -> i64 {
        reasons.iter().map(|reason| self.0[*reason as usize]).min().unwrap_or(self.offset())
    }

    pub fn metadata(&self) -> String {
        let ahead = Refusal::ALL.into_iter().zip(self.0).filter(|(_, next)| *next > self.offset());
        let parts: Vec<String> = ahead.map(|(reason, next)| format!("{reason}={next}")).collect();
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_goes_its_way_and_all_are_read_back() {
        let mut marks = Marks::new(3);
        marks.raise(&[Refusal::Malformed, Refusal::TooFar], 10);
        marks.raise(&[Refusal::TooFar], 7);
        assert_eq!((marks.offset(), marks.metadata().as_str()), (3, "malformed=10 too_far=10"));
        assert!(marks.is_done(Refusal::Malformed, 9) && !marks.is_done(Refusal::Late, 3));
        assert_eq!(Marks::read(marks.offset(), &marks.metadata()), marks);
        assert_eq!((marks.offset_of(&[Refusal::TooFar]), marks.offset_of(&Refusal::ALL)), (10, 3));
        marks.raise(&Refusal::ALL, 12);
        assert_eq!((marks.offset(), marks.metadata().as_str()), (12, ""));
        assert_eq!(Marks::read(12, "ours=15 malformed=x"), marks);
    }
}
