//! Values that are alive while their types become others: a struct on the heap, an enumeration, what a kept closure has captured,
//! and a future between two polls.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

const VERSION: i64 = if cfg!(v5) { 5 } else if cfg!(v4) { 4 } else if cfg!(v3) { 3 } else if cfg!(v2) { 2 } else { 1 };

#[repr(C)]
struct World {
    #[cfg(not(v2))]
    width: i64,
    velocity: i64,
    #[cfg(v2)]
    width: i64,
}

enum Event {
    #[cfg(v3)]
    Scroll(i64),
    Key(i64),
    Click(i64),
}

static WORLD: Mutex<Option<Box<World>>> = Mutex::new(None);
static EVENTS: Mutex<Vec<Event>> = Mutex::new(Vec::new());
static KEPT: Mutex<Vec<Box<dyn Fn(i64) -> i64 + Send>>> = Mutex::new(Vec::new());
static RUNNING: Mutex<Option<Pin<Box<dyn Future<Output = i64> + Send>>>> = Mutex::new(None);

async fn rounds(start: i64) -> i64 {
    let mut sum = start;
    #[cfg(v5)]
    let mut before = [sum; 4];
    for round in 0..1000 {
        sum += round * VERSION;
        let mut waited = false;
        poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        #[cfg(v5)]
        before.rotate_left(sum as usize % 4);
    }
    #[cfg(v5)]
    return before[0];
    #[cfg(not(v5))]
    sum
}

#[unsafe(no_mangle)]
pub extern "C" fn set_up(x: i64) -> i64 {
    *WORLD.lock().unwrap() = Some(Box::new(World { width: x, velocity: x + 1 }));
    EVENTS.lock().unwrap().extend([Event::Key(x), Event::Click(x + 1)]);
    #[cfg(v4)]
    let more = x * 1000;
    KEPT.lock().unwrap().push(Box::new(move |y| {
        #[cfg(v4)]
        let y = y + more;
        x * 10 + y
    }));
    *RUNNING.lock().unwrap() = Some(Box::pin(rounds(x)));
    x
}

#[unsafe(no_mangle)]
pub extern "C" fn width(_: i64) -> i64 {
    WORLD.lock().unwrap().as_ref().map_or(-1, |world| world.width * 100 + world.velocity)
}

#[unsafe(no_mangle)]
pub extern "C" fn events(_: i64) -> i64 {
    let events = EVENTS.lock().unwrap();
    let each = events.iter().map(|event| match event {
        #[cfg(v3)]
        Event::Scroll(_) => 0,
        Event::Key(key) => 100 + key,
        Event::Click(at) => 1000 + at,
    });
    each.sum::<i64>() + VERSION * 10_000
}

#[unsafe(no_mangle)]
pub extern "C" fn kept(y: i64) -> i64 {
    KEPT.lock().unwrap().iter().map(|one| one(y)).sum()
}

#[unsafe(no_mangle)]
pub extern "C" fn poll_once(_: i64) -> i64 {
    let mut running = RUNNING.lock().unwrap();
    let Some(future) = running.as_mut() else { return -1 };
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(sum) => sum,
        Poll::Pending => -2,
    }
}
