//! Independent trainings spread over threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Does `work` on each of `jobs` and tells `finished` of every result as it comes, on the caller's thread. The results are
/// in the order of the jobs, whatever the number of threads; `None` where the work was broken off.
pub fn each<J: Sync, R: Send>(
    jobs: &[J],
    threads: usize,
    work: impl Fn(&J) -> Option<R> + Sync,
    mut finished: impl FnMut(&J, &R),
) -> Vec<Option<R>> {
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<R>> = jobs.iter().map(|_| None).collect();
    // At most one result a thread waits to be told of: the caller may be slow.
    let threads = threads.clamp(1, jobs.len().max(1));
    let (say, heard) = mpsc::sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (say, next, work) = (say.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(result) = jobs.get(i).and_then(work) else { return };
                    if say.send((i, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(say);
        for (i, result) in heard {
            finished(&jobs[i], &result);
            results[i] = Some(result);
        }
    });
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            let mut told = Vec::new();
            let results = each(&jobs, threads, |job| Some(job * job), |job, _| told.push(*job));
            assert!(results.iter().enumerate().all(|(i, result)| *result == Some((i * i) as u64)));
            told.sort_unstable();
            assert_eq!(told, jobs);
        }
        assert!(each(&[] as &[u64], 2, |job| Some(*job), |_, _| ()).is_empty());
    }

    #[test]
    fn what_was_done_before_a_stop_is_kept() {
        let jobs: Vec<u64> = (0..100).collect();
        let results = each(&jobs, 1, |job| (*job < 10).then_some(*job), |_, _| ());
        assert_eq!(results.iter().flatten().count(), 10);
    }
}
