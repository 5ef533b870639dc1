//! A set of job indices as disjoint ranges: a million waiting jobs are one entry.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, non-empty, non-adjacent ranges.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeSet {
    /// Start by (exclusive) end: taking the lowest index changes a value and no key.
    start_by_end: BTreeMap<u32, u32>,
    len: u32,
}

impl RangeSet {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn first(&self) -> Option<u32> {
        self.start_by_end.first_key_value().map(|(_, &start)| start)
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.range_of(index).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.start_by_end.iter().map(|(&end, &start)| start..end)
    }

    /// How many members are smaller than `index`.
    pub(crate) fn count_below(&self, index: u32) -> u32 {
        self.iter()
            .take_while(|r| r.start < index)
            .map(|r| r.end.min(index) - r.start)
            .sum()
    }

    /// Adds a range that lies above all members.
    pub(crate) fn push(&mut self, range: Range<u32>) {
        debug_assert!(
            self.start_by_end
                .last_key_value()
                .is_none_or(|(&end, _)| end <= range.start)
        );
        if range.is_empty() {
            return;
        }
        self.len += range.end - range.start;
        let start = self
            .start_by_end
            .remove(&range.start)
            .unwrap_or(range.start);
        self.start_by_end.insert(range.end, start);
    }

    /// Takes out one index; whether it was in.
    pub(crate) fn remove(&mut self, index: u32) -> bool {
        let Some(Range { start, end }) = self.range_of(index) else {
            return false;
        };
        self.len -= 1;
        if index + 1 < end {
            self.start_by_end.insert(end, index + 1);
        } else {
            self.start_by_end.remove(&end);
        }
        if start < index {
            self.start_by_end.insert(index, start);
        }
        true
    }

    /// Takes out all members inside `range`; how many there were.
    pub(crate) fn remove_range(&mut self, range: Range<u32>) -> u32 {
        let before = self.len;
        // `range_of` never yields an empty range, so each round takes at least one member out.
        while let Some((&end, &start)) = self
            .start_by_end
            .range(range.start.saturating_add(1)..)
            .next()
        {
            let (from, to) = (start.max(range.start), end.min(range.end));
            if from >= to {
                break;
            }
            self.start_by_end.remove(&end);
            if to < end {
                self.start_by_end.insert(end, to);
            }
            if start < from {
                self.start_by_end.insert(from, start);
            }
            self.len -= to - from;
        }
        before - self.len
    }

    pub(crate) fn clear(&mut self) {
        *self = RangeSet::default();
    }

    fn range_of(&self, index: u32) -> Option<Range<u32>> {
        let (&end, &start) = self.start_by_end.range(index.checked_add(1)?..).next()?;
        (start <= index).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Push(u32, u32),
        Remove(u32),
        RemoveRange(u32, u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..3u32, 0..12u32).prop_map(|(gap, n)| Op::Push(gap, n)),
            (0..60u32).prop_map(Op::Remove),
            (0..60u32, 0..60u32).prop_map(|(a, b)| Op::RemoveRange(a, b)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec(op(), 1..30)) {
            let mut ranges = RangeSet::default();
            let mut set = BTreeSet::new();
            let mut end = 0;
            for op in ops {
                match op {
                    Op::Push(gap, n) => {
                        ranges.push(end + gap..end + gap + n);
                        set.extend(end + gap..end + gap + n);
                        end += gap + n;
                    }
                    Op::Remove(index) => prop_assert_eq!(ranges.remove(index), set.remove(&index)),
                    Op::RemoveRange(a, b) => {
                        let before = set.len();
                        set.retain(|&i| !(a..b).contains(&i));
                        prop_assert_eq!(ranges.remove_range(a..b) as usize, before - set.len());
                    }
                }
                prop_assert_eq!(ranges.len() as usize, set.len());
                prop_assert_eq!(ranges.first(), set.first().copied());
                prop_assert!(ranges.iter().flatten().eq(set.iter().copied()));
                let all: Vec<_> = ranges.iter().collect();
                prop_assert!(all.windows(2).all(|w| w[0].end <= w[1].start));
                for index in 0..70 {
                    prop_assert_eq!(ranges.contains(index), set.contains(&index));
                    prop_assert_eq!(ranges.count_below(index) as usize, set.range(..index).count());
                }
            }
        }
    }

    #[test]
    fn pushing_one_by_one_stays_one_range() {
        let mut ranges = RangeSet::default();
        for index in 0..1_000 {
            ranges.push(index..index + 1);
        }
        assert_eq!((ranges.iter().count(), ranges.len()), (1, 1_000));
    }
}
