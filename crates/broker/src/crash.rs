//! Points at which a test can have a process die, in a build with the feature `crash-points` only.

/// The variable that names the point at which to die, as `place step`, and after a colon how often it is passed first.
pub const CRASH_AT: &str = "COUNTERSIGN_CRASH_AT";

/// Dies here, as by `kill -9`, if the environment says so. Without the feature, this is nothing.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_place: &str, _step: &str) {}

/// Dies here, as by `kill -9`, if the environment says so.
#[cfg(feature = "crash-points")]
pub fn point(place: &str, step: &str) {
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
    let here = point.split_once(' ') == Some((place, step));
    if here && passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
        tracing::warn!(place, step, "dying here, as told");
        std::process::abort();
    }
}

/// Waits for `work`. Without the feature, this is nothing else.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub async fn each_wait<T>(_place: &str, _step: &str, work: impl Future<Output = T>) -> T {
    work.await
}

/// Waits for `work`, and each time that it waits itself, for the database say, is a point: a transaction that it has begun is
/// then left as it is.
#[cfg(feature = "crash-points")]
pub async fn each_wait<T>(place: &str, step: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            point(place, step);
        }
        polled
    })
    .await
}
