//! Spreading a batch over threads that live only for one call.
//!
//! Scoped threads, not a pool: a process forked after a call (a data loader's worker) inherits nothing that could hang.
//! Threads take shares of the batch as they get done; which one takes which never shows in a result. Between two items,
//! and within an item that may be huge, the calling thread asks now and then whether to go on, see [`on_pause`].

use std::cell::{Cell, OnceCell};
use std::mem;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Elementary steps (about a nanosecond each) a thread must have to do to be worth starting.
const STEPS_PER_THREAD: usize = 500_000;
/// Elementary steps of a run, of most kernels.
pub(crate) const STEP: usize = 10;
/// Shares of a batch a thread gets, so that uneven items even out.
const SHARES_PER_THREAD: usize = 8;
/// How often the calling thread asks whether to go on.
const PAUSE: Duration = Duration::from_millis(100);

/// Threads a large batch is spread over: the CPUs this process may use, read once.
#[must_use]
pub fn thread_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get))
}

static GO_ON: OnceLock<fn() -> bool> = OnceLock::new();

/// Have `go_on` asked every 100 ms, on the thread that called the kernel: if it says no, the kernel stops with [`Error::Interrupted`]. Set once for the process; later calls change nothing.
pub fn on_pause(go_on: fn() -> bool) {
    GO_ON.get_or_init(|| go_on);
}

thread_local! {
    /// Set on the threads that a kernel starts: whether they have to stop.
    static STOP: OnceCell<Arc<AtomicBool>> = const { OnceCell::new() };
    /// When this thread asked last.
    static ASKED: Cell<Instant> = Cell::new(Instant::now());
}

/// Whether the kernel on this thread may go on; see [`on_pause`].
///
/// # Errors
/// [`Error::Interrupted`] if not.
pub(crate) fn check() -> Result<()> {
    let stop = STOP.with(|stop| stop.get().map_or_else(is_stopped, |stop| stop.load(Ordering::Relaxed)));
    if stop { Err(Error::Interrupted) } else { Ok(()) }
}

fn is_stopped() -> bool {
    if ASKED.get().elapsed() < PAUSE {
        return false;
    }
    ASKED.set(Instant::now());
    GO_ON.get().is_some_and(|go_on| !go_on())
}

/// Counts the elementary steps of an item that may be huge, and checks every million.
#[derive(Default)]
pub(crate) struct Pace(usize);

impl Pace {
    /// So many steps are about to be done.
    ///
    /// # Errors
    /// [`Error::Interrupted`], see [`check`].
    #[inline(always)]
    pub(crate) fn steps(&mut self, count: usize) -> Result<()> {
        self.0 += count;
        if self.0 < 1 << 20 {
            return Ok(());
        }
        self.0 = 0;
        check()
    }
}

/// Work through `0..count` shares on up to `threads` threads, this one among them; the first error in order.
///
/// `start` makes what a thread keeps between its shares.
fn share_out<S>(
    shares: usize,
    threads: usize,
    start: impl Fn() -> S + Sync,
    work_on: impl Fn(usize, &mut S) -> Result<()> + Sync,
) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let run = || {
        let mut kept = start();
        loop {
            let share = next.fetch_add(1, Ordering::Relaxed);
            if share >= shares {
                return;
            }
            if let Err(error) = work_on(share, &mut kept) {
                stop.fetch_or(error == Error::Interrupted, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|&(first, _)| share < first) {
                    *failed = Some((share, error));
                }
                // Shares are taken in order, so no earlier one is left untaken.
                next.store(shares, Ordering::Relaxed);
                return;
            }
        }
    };
    thread::scope(|scope| {
        let (run, stop) = (&run, &stop);
        let start = || {
            STOP.with(|thread| _ = thread.set(Arc::clone(stop)));
            run();
        };
        // Where the system gives no more threads, those there are do all shares.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, start).ok();
        let spawned: Vec<_> = (1..threads.min(shares)).map_while(spawn).collect();
        ASKED.set(Instant::now());
        run();
        for thread in spawned {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Threads worth starting, and the items of one share.
fn plan(count: usize, work: usize) -> (usize, usize) {
    let threads = thread_count().min(work / STEPS_PER_THREAD).min(count).max(1);
    let shares = if threads == 1 { 1 } else { threads * SHARES_PER_THREAD };
    (threads, count.div_ceil(shares).max(1))
}

/// Do the items of `0..count` one after the other on this thread.
pub(crate) fn each_item(count: usize, mut work_on: impl FnMut(usize) -> Result<()>) -> Result<()> {
    (0..count).try_for_each(|item| {
        check()?;
        work_on(item)
    })
}

/// Apply `work_on` to consecutive ranges that cover `0..count`; the results, in order, or the first error in order.
///
/// `work_on` gets one item at a time, the result so far of its range, and what its thread keeps between items.
pub(crate) fn map_items<T: Default + Send, S: Default>(
    count: usize,
    work: usize,
    work_on: impl Fn(usize, &mut S, &mut T) -> Result<()> + Sync,
) -> Result<Vec<T>> {
    let (threads, share) = plan(count, work);
    let slots: Vec<Mutex<T>> = (0..count.div_ceil(share)).map(|_| Mutex::default()).collect();
    share_out(slots.len(), threads, S::default, |i, kept: &mut S| {
        let mut part = T::default();
        for item in range(i, share, count) {
            check()?;
            work_on(item, kept, &mut part)?;
        }
        *slots[i].lock().unwrap_or_else(PoisonError::into_inner) = part;
        Ok(())
    })?;
    Ok(slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
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
    let (threads, share) = plan(count, work);
    let slots: Vec<Mutex<&mut [T]>> = out.chunks_mut(share * stride).map(Mutex::new).collect();
    share_out(slots.len(), threads, S::default, |i, kept: &mut S| {
        let values = mem::take(&mut *slots[i].lock().unwrap_or_else(PoisonError::into_inner));
        for (item, values) in range(i, share, count).zip(values.chunks_mut(stride)) {
            check()?;
            fill(item, kept, values)?;
        }
        Ok(())
    })
}

/// Work through `items` on up to `threads` threads, however few CPUs there are: for work that waits for a disk.
///
/// `work_on` gets an item's index, what its thread keeps between items, and the item.
pub(crate) fn take_items<T: Send, S: Default>(
    items: Vec<T>,
    threads: usize,
    work_on: impl Fn(usize, &mut S, T) -> Result<()> + Sync,
) -> Result<()> {
    let slots: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    share_out(slots.len(), threads, S::default, |i, kept: &mut S| {
        check()?;
        let item = slots[i].lock().unwrap_or_else(PoisonError::into_inner).take();
        item.map_or(Ok(()), |item| work_on(i, kept, item))
    })
}

fn range(share: usize, items: usize, count: usize) -> Range<usize> {
    share * items..((share + 1) * items).min(count)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{fill_items, map_items};
    use crate::error::Error;

    const MUCH: usize = usize::MAX / 2;

    #[test]
    fn parts_come_in_order() {
        for count in [0, 1, 2, 15, 16, 17, 1000] {
            let parts = map_items(count, MUCH, |item, (): &mut (), part: &mut Vec<usize>| {
                part.push(item);
                Ok(())
            });
            assert_eq!(parts.unwrap().concat(), (0..count).collect::<Vec<_>>());
            let mut out = vec![0; count * 3];
            fill_items(&mut out, 3, MUCH, |item, (): &mut (), values| {
                values.copy_from_slice(&[item; 3]);
                Ok(())
            })
            .unwrap();
            assert_eq!(out, (0..count * 3).map(|i| i / 3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_wins() {
        let done = AtomicUsize::new(0);
        let fail = |item: usize, (): &mut (), _: &mut ()| {
            done.fetch_add(1, Ordering::Relaxed);
            if item % 100 == 37 { Err(Error::EmptyMask { mask: item }) } else { Ok(()) }
        };
        assert_eq!(map_items(1000, MUCH, fail).unwrap_err(), Error::EmptyMask { mask: 37 });
        assert!(done.load(Ordering::Relaxed) < 1000);
        let mut out = vec![0; 1000];
        let fill = |item, (): &mut (), _: &mut [i32]| fail(item, &mut (), &mut ());
        assert_eq!(fill_items(&mut out, 1, MUCH, fill).unwrap_err(), Error::EmptyMask { mask: 37 });
    }
}
