//! A set of job indices as disjoint ranges: a million waiting jobs are one entry. Each member has a
//! mark, a number that neighbours mostly share.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, non-empty ranges; adjacent ones differ in their marks.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeSet {
    /// Start and mark by (exclusive) end: taking the lowest index changes a value and no key.
    by_end: BTreeMap<u32, (u32, u32)>,
    len: u32,
}

impl RangeSet {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn first(&self) -> Option<u32> {
        self.by_end.first_key_value().map(|(_, &(start, _))| start)
    }

    pub(crate) fn last(&self) -> Option<u32> {
        self.by_end.last_key_value().map(|(&end, _)| end - 1)
    }

    /// The mark of a member.
    pub(crate) fn get(&self, index: u32) -> Option<u32> {
        self.range_of(index).map(|(_, mark)| mark)
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.range_of(index).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.by_end.iter().map(|(&end, &(start, _))| start..end)
    }

    /// How many members are smaller than `index`.
    pub(crate) fn count_below(&self, index: u32) -> u32 {
        self.iter()
            .take_while(|r| r.start < index)
            .map(|r| r.end.min(index) - r.start)
            .sum()
    }

    /// Adds a range; those of it that are members get the new mark.
    pub(crate) fn insert(&mut self, mut range: Range<u32>, mark: u32) {
        if range.is_empty() {
            return;
        }
        self.take_range(range.clone());
        self.len += range.end - range.start;
        if let Some(&(start, other)) = self.by_end.get(&range.start)
            && other == mark
        {
            self.by_end.remove(&range.start);
            range.start = start;
        }
        let after = self.by_end.range(range.end..).next();
        if let Some((&end, &(start, other))) = after
            && start == range.end
            && other == mark
        {
            self.by_end.remove(&end);
            range.end = end;
        }
        self.by_end.insert(range.end, (range.start, mark));
    }

    /// Takes out one index; its mark if it was in.
    pub(crate) fn take(&mut self, index: u32) -> Option<u32> {
        let (Range { start, end }, mark) = self.range_of(index)?;
        self.len -= 1;
        if index + 1 < end {
            self.by_end.insert(end, (index + 1, mark));
        } else {
            self.by_end.remove(&end);
        }
        if start < index {
            self.by_end.insert(index, (start, mark));
        }
        Some(mark)
    }

    /// Takes out all members inside `range`, ascending.
    pub(crate) fn take_range(&mut self, range: Range<u32>) -> Vec<Range<u32>> {
        let mut taken = Vec::new();
        // `by_end` has no empty range, so each round takes at least one member out.
        while let Some((&end, &(start, mark))) =
            self.by_end.range(range.start.saturating_add(1)..).next()
        {
            let (from, to) = (start.max(range.start), end.min(range.end));
            if from >= to {
                break;
            }
            self.by_end.remove(&end);
            if to < end {
                self.by_end.insert(end, (to, mark));
            }
            if start < from {
                self.by_end.insert(from, (start, mark));
            }
            self.len -= to - from;
            taken.push(from..to);
        }
        taken
    }

    pub(crate) fn clear(&mut self) {
        *self = RangeSet::default();
    }

    fn range_of(&self, index: u32) -> Option<(Range<u32>, u32)> {
        let (&end, &(start, mark)) = self.by_end.range(index.checked_add(1)?..).next()?;
        (start <= index).then_some((start..end, mark))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u32, u32, u32),
        Take(u32),
        TakeRange(u32, u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..60u32, 0..12u32, 0..2u32).prop_map(|(start, n, mark)| Op::Insert(start, n, mark)),
            (0..60u32).prop_map(Op::Take),
            (0..60u32, 0..60u32).prop_map(|(a, b)| Op::TakeRange(a, b)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec(op(), 1..30)) {
            let mut ranges = RangeSet::default();
            let mut map = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Insert(start, n, mark) => {
                        ranges.insert(start..start + n, mark);
                        map.extend((start..start + n).map(|index| (index, mark)));
                    }
                    Op::Take(index) => prop_assert_eq!(ranges.take(index), map.remove(&index)),
                    Op::TakeRange(a, b) => {
                        let taken: Vec<u32> = ranges.take_range(a..b).into_iter().flatten().collect();
                        let inside: Vec<u32> =
                            map.keys().copied().filter(|i| (a..b).contains(i)).collect();
                        map.retain(|i, _| !(a..b).contains(i));
                        prop_assert_eq!(taken, inside);
                    }
                }
                prop_assert_eq!(ranges.len() as usize, map.len());
                prop_assert_eq!(ranges.first(), map.keys().next().copied());
                prop_assert!(ranges.iter().flatten().eq(map.keys().copied()));
                let all: Vec<_> = ranges.iter().collect();
                let are_apart = |a: &Range<u32>, b: &Range<u32>| {
                    a.end < b.start
                        || (a.end == b.start && ranges.get(a.start) != ranges.get(b.start))
                };
                prop_assert!(all.windows(2).all(|w| are_apart(&w[0], &w[1])));
                for index in 0..75 {
                    prop_assert_eq!(ranges.get(index), map.get(&index).copied());
                    prop_assert_eq!(ranges.contains(index), map.contains_key(&index));
                    prop_assert_eq!(ranges.count_below(index) as usize, map.range(..index).count());
                }
            }
        }
    }

    #[test]
    fn adding_one_by_one_stays_one_range() {
        let mut ranges = RangeSet::default();
        for index in (0..1_000).rev().chain(1_000..2_000) {
            ranges.insert(index..index + 1, 0);
        }
        assert_eq!((ranges.iter().count(), ranges.len()), (1, 2_000));
    }
}
