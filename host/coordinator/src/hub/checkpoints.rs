//! The last checkpoint of each running job, for the attempt that may follow.
//!
//! All of them together have a limit, and those of one namespace half of it, so that no namespace
//! takes the room of all others. One for which there is no room is dropped: its job would begin where
//! an older checkpoint was made, or anew.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use optwasm_protocol::{BatchId, JobId, Namespace};

/// Largest checkpoint; the sandbox takes none that is larger, and it fits into an assignment beside
/// an input.
const CHECKPOINT_MAX: usize = 1 << 20;
/// Bytes of all checkpoints that are kept.
const CHECKPOINTS_MAX: usize = 256 << 20;

/// The checkpoints that are kept.
#[derive(Default)]
pub(super) struct Checkpoints {
    of_jobs: BTreeMap<JobId, (Namespace, Bytes)>,
    of_namespaces: HashMap<Namespace, usize>,
    total: usize,
}

impl Checkpoints {
    /// The last one of a job.
    pub fn get(&self, job: JobId) -> Option<Bytes> {
        self.of_jobs.get(&job).map(|(_, bytes)| bytes.clone())
    }

    /// Keeps one in place of the job's last one, where there is room.
    pub fn put(&mut self, namespace: &Namespace, job: JobId, bytes: Bytes) {
        let replaced = self.of_jobs.get(&job).map_or(0, |(_, bytes)| bytes.len());
        let own = self.of_namespaces.get(namespace).copied().unwrap_or(0);
        let fits = |used: usize, most: usize| used - replaced + bytes.len() <= most;
        if bytes.len() > CHECKPOINT_MAX
            || !fits(own, CHECKPOINTS_MAX / 2)
            || !fits(self.total, CHECKPOINTS_MAX)
        {
            return;
        }
        self.remove(job);
        self.total += bytes.len();
        *self.of_namespaces.entry(namespace.clone()).or_default() += bytes.len();
        self.of_jobs.insert(job, (namespace.clone(), bytes));
    }

    /// Drops that of a job that has ended.
    pub fn remove(&mut self, job: JobId) {
        let Some((namespace, bytes)) = self.of_jobs.remove(&job) else {
            return;
        };
        self.total -= bytes.len();
        if let Some(own) = self.of_namespaces.get_mut(&namespace) {
            *own -= bytes.len();
            if *own == 0 {
                self.of_namespaces.remove(&namespace);
            }
        }
    }

    /// Drops those of a batch that is done.
    pub fn remove_batch(&mut self, batch: BatchId) {
        let of_batch = JobId(batch, 0)..=JobId(batch, u32::MAX);
        let jobs: Vec<JobId> = self.of_jobs.range(of_batch).map(|(job, _)| *job).collect();
        for job in jobs {
            self.remove(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_half_of_the_room_and_gets_back_what_it_drops() {
        let [a, b] = ["a", "b"].map(|name| name.parse::<Namespace>().unwrap());
        let mut all = Checkpoints::default();
        let large = Bytes::from(vec![0; CHECKPOINT_MAX]);
        for index in 0..1000 {
            all.put(&a, JobId(BatchId(1), index), large.clone());
            all.put(&b, JobId(BatchId(2), index % 3), large.clone());
        }
        let kept = (0..1000).filter(|i| all.get(JobId(BatchId(1), *i)).is_some());
        assert_eq!(kept.count(), CHECKPOINTS_MAX / 2 / CHECKPOINT_MAX);
        assert_eq!(all.total, CHECKPOINTS_MAX / 2 + 3 * CHECKPOINT_MAX);
        // One in place of another takes no more room, and one that is too large none.
        let first = JobId(BatchId(1), 0);
        all.put(&a, first, Bytes::from_static(b"small"));
        all.put(&a, first, Bytes::from(vec![0; CHECKPOINT_MAX + 1]));
        assert_eq!(all.get(first).unwrap(), "small");
        all.remove_batch(BatchId(1));
        all.remove_batch(BatchId(2));
        assert_eq!((all.total, all.of_namespaces.len()), (0, 0));
    }
}
