//! Work cut into numbered pieces and spread over threads. The pieces and the order of their results never depend on how
//! many threads there are, so neither does anything computed from them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs `work` on every number below `count`; each thread has a workspace of its own. Results come in the order of the
/// numbers.
pub fn each<W: Send, R: Send>(
    count: usize,
    workspace: impl Fn() -> W,
    work: impl Fn(&mut W, usize) -> R + Sync,
) -> Vec<R> {
    each_in(&mut Vec::new(), count, workspace, work)
}

/// As [`each`], with workspaces that stay for the next time.
pub fn each_in<W: Send, R: Send>(
    workspaces: &mut Vec<W>,
    count: usize,
    workspace: impl Fn() -> W,
    work: impl Fn(&mut W, usize) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(count);
    while workspaces.len() < threads {
        workspaces.push(workspace());
    }
    let run = |own: &mut W| {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return done;
            }
            done.push((i, work(own, i)));
        }
    };
    if let [own] = &mut workspaces[..threads] {
        return run(own).into_iter().map(|(_, result)| result).collect();
    }
    let (run, workspaces) = (&run, &mut workspaces[..threads]);
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let handles: Vec<_> = workspaces.iter_mut().map(|own| scope.spawn(move || run(own))).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("a panic of the work is the caller's"))
            .collect()
    });
    results.sort_unstable_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}
