//! Points at which a test can abort a process, only in a build with the feature `crash-points`.

/// The variable that names the point at which to abort, as `part step`, and after a colon how often it is passed first.
pub const CRASH_AT: &str = "COUNTERSIGN_CRASH_AT";

/// Aborts here, as by `kill -9`, if the environment says so. Without the feature, this does nothing.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_part: &str, _step: &str) {}

/// Aborts here, as by `kill -9`, if the environment says so.
#[cfg(feature = "crash-points")]
pub fn point(part: &str, step: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };
    static AT: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let at = AT.get_or_init(|| {
        let text = std::env::var(CRASH_AT).ok()?;
        let (point, passes) = text.rsplit_once(':')?;
        Some((point.to_owned(), AtomicU32::new(passes.parse().ok()?)))
    });
    let Some((point, passes)) = at else { return };
    let here = point.split_once(' ') == Some((part, step));
    if here && passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
        tracing::warn!(part, step, "crash point reached: aborting");
        std::process::abort();
    }
}

/// Waits for `work`. Without the feature, this does nothing else.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub async fn each_wait<T>(_part: &str, _step: &str, work: impl Future<Output = T>) -> T {
    work.await
}

/// Waits for `work`. Each time that `work` is pending, for the database for example, is a crash point: a transaction that it
/// has begun is then left open.
#[cfg(feature = "crash-points")]
pub async fn each_wait<T>(part: &str, step: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            point(part, step);
        }
        polled
    })
    .await
}
