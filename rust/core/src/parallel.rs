//! Spreading a batch over threads that live only for one call.
//!
//! Scoped threads, not a pool: a process forked after a call (a data loader's worker) inherits nothing that could hang.

use std::num::NonZero;
use std::ops::Range;
use std::sync::OnceLock;
use std::thread;

use crate::error::Result;

/// Elementary steps (about a nanosecond each) a thread must have to do to be worth starting.
const STEPS_PER_THREAD: usize = 500_000;

/// Threads a large batch is spread over: the CPUs this process may use, read once.
#[must_use]
pub fn thread_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get))
}

/// Apply `work_on` to consecutive ranges that cover `0..count`; the results, in order, or the first error in order.
pub(crate) fn map_ranges<T: Send>(
    count: usize,
    work: usize,
    work_on: impl Fn(Range<usize>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let threads = thread_count().min(work / STEPS_PER_THREAD).min(count).max(1);
    if threads == 1 {
        return work_on(0..count).map(|part| vec![part]);
    }
    let bound = |thread: usize| count * thread / threads;
    thread::scope(|scope| {
        let work_on = &work_on;
        let spawned: Vec<_> = (1..threads).map(|t| scope.spawn(move || work_on(bound(t)..bound(t + 1)))).collect();
        let mut parts = vec![work_on(0..bound(1))?];
        for thread in spawned {
            match thread.join() {
                Ok(part) => parts.push(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(parts)
    })
}

/// Fill `out`, `stride` values an item, in parallel if `work` is worth it; `fill` gets an item and its values.
pub(crate) fn fill_items<T: Send, S: Default>(
    out: &mut [T],
    stride: usize,
    work: usize,
    fill: impl Fn(usize, &mut S, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    let count = out.len().checked_div(stride).unwrap_or(0);
    if count == 0 {
        return Ok(());
    }
    let threads = thread_count().min(work / STEPS_PER_THREAD).min(count).max(1);
    let share = count.div_ceil(threads);
    let run = |first: usize, values: &mut [T]| {
        let mut scratch = S::default();
        values.chunks_mut(stride).enumerate().try_for_each(|(i, values)| fill(first + i, &mut scratch, values))
    };
    if threads == 1 {
        return run(0, out);
    }
    thread::scope(|scope| {
        let run = &run;
        let spawned: Vec<_> = out
            .chunks_mut(share * stride)
            .enumerate()
            .map(|(thread, values)| scope.spawn(move || run(thread * share, values)))
            .collect();
        spawned.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
