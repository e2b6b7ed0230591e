//! The demo's behaviour. **This is the file to edit**: change something below, build, and watch the running program.
//!
//! Ordinary Rust that knows nothing of being reloaded. Its state sits in all the places where Rust programs keep state: an
//! atomic, a `static mut`, a mutex-guarded collection made on first use, a thread-local, a boxed trait object in the
//! program's hands, and a second thread.

use std::{
    cell::Cell,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use demo_stage::{Canvas, Scene};

mod paint;

// ---- Edit here ------------------------------------------------------------------------------------------------------

/// What is written at the top of the window.
const TITLE: &str = "Edit assets/demo/scene/src/lib.rs";

/// The bodies' colour: teal, coral, gold or violet.
const COLOUR: &str = "teal";

/// Pixels per tick that a falling body gains each tick. Try 0.0 or -0.35.
const GRAVITY: f32 = 0.35;

/// How much of its speed a body keeps when it bounces. Try 1.0.
const BOUNCE: f32 = 0.96;

/// How far the tick counter moves each tick.
const STEP: u64 = 1;

// ---------------------------------------------------------------------------------------------------------------------

/// One bouncing body. Bodies live on through a reload, in the memory they have: a change of these fields needs a restart.
struct Body {
    x: f32,
    y: f32,
    dx: f32,
    dy: f32,
    radius: f32,
    /// Where it has been, newest last.
    trail: Vec<(f32, f32)>,
}

/// Ticks since the program started.
static TICKS: AtomicU64 = AtomicU64::new(0);
/// Rounds of the library's own thread.
static WORKER_ROUNDS: AtomicU64 = AtomicU64::new(0);
/// Bounces since the program started. Touched by the program's main thread alone.
static mut HITS: u64 = 0;
/// The bodies, made when they are first asked for.
static BODIES: OnceLock<Mutex<Vec<Body>>> = OnceLock::new();

thread_local! {
    /// Ticks that the current thread has counted.
    static THREAD_TICKS: Cell<u64> = const { Cell::new(0) };
}

/// What the program holds: made once, called through its vtable ever after.
struct Bouncing {
    touches: u64,
}

/// See [`demo_stage::Create`].
#[unsafe(no_mangle)]
pub fn scene_create() -> Box<dyn Scene> {
    thread::Builder::new()
        .name("scene-worker".into())
        .spawn(|| {
            // This loop never returns, so its own body stays the old one; what it calls is new from the next round on.
            loop {
                worker_round();
            }
        })
        .expect("the system refused a second thread");
    Box::new(Bouncing { touches: 0 })
}

/// See [`demo_stage::Tick`].
#[unsafe(no_mangle)]
pub extern "C" fn scene_tick() -> u64 {
    THREAD_TICKS.set(THREAD_TICKS.get() + 1);
    TICKS.fetch_add(STEP, Ordering::Relaxed) + STEP
}

/// See [`demo_stage::Backdrop`].
#[unsafe(no_mangle)]
pub extern "C" fn scene_backdrop(column: u32, row: u32, tick: u64) -> u32 {
    let wave = (column as u64 * 3 + row as u64 * 5 + tick / 2) % 64;
    let glow = if wave < 32 { wave } else { 63 - wave } as u32 / 4;
    paint::rgb(13 + glow / 2, 17 + glow / 2, 26 + glow)
}

/// One round of the library's own thread.
fn worker_round() {
    WORKER_ROUNDS.fetch_add(1, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(10));
}

fn bodies() -> &'static Mutex<Vec<Body>> {
    BODIES.get_or_init(|| Mutex::new((0..5).map(body).collect()))
}

/// The `index`th body of the beginning.
fn body(index: usize) -> Body {
    let i = index as f32;
    Body {
        x: 90.0 + 130.0 * i,
        y: 90.0 + 40.0 * i,
        dx: 3.0 - 1.6 * i,
        dy: 0.5 * i,
        radius: 14.0 + 3.0 * i,
        trail: Vec::new(),
    }
}

fn colour() -> u32 {
    match COLOUR {
        "coral" => paint::rgb(255, 122, 89),
        "gold" => paint::rgb(245, 197, 66),
        "violet" => paint::rgb(167, 139, 250),
        _ => paint::rgb(45, 212, 191),
    }
}

/// Moves one body and says how often it met a wall.
fn advance_body(body: &mut Body, width: f32, height: f32) -> u64 {
    const TRAIL: usize = 40;

    body.trail.push((body.x, body.y));
    if body.trail.len() > TRAIL {
        body.trail.remove(0);
    }
    body.dy += GRAVITY;
    body.x += body.dx;
    body.y += body.dy;
    let sides = bounce(&mut body.x, &mut body.dx, body.radius, width);
    sides + bounce(&mut body.y, &mut body.dy, body.radius, height)
}

fn bounce(position: &mut f32, speed: &mut f32, radius: f32, extent: f32) -> u64 {
    let (low, high) = (radius, (extent - radius).max(radius));
    if (low..=high).contains(position) {
        return 0;
    }
    *position = position.clamp(low, high);
    *speed = -*speed * BOUNCE;
    1
}

fn hits() -> u64 {
    // SAFETY: only the program's main thread calls the scene, and no reference to the static is kept.
    unsafe { HITS }
}

impl Scene for Bouncing {
    fn advance(&mut self, width: f32, height: f32) {
        let mut bodies = bodies().lock().expect("a body panicked");
        let met: u64 = bodies.iter_mut().map(|body| advance_body(body, width, height)).sum();
        // SAFETY: only the program's main thread calls the scene, and no reference to the static is kept.
        unsafe { HITS += met };
    }

    fn draw(&self, canvas: &mut Canvas<'_>) {
        let status = self.status();
        let bodies = bodies().lock().expect("a body panicked");
        for body in bodies.iter() {
            for (age, &(x, y)) in body.trail.iter().enumerate() {
                let share = age as f32 / body.trail.len() as f32;
                paint::disc(canvas, x, y, body.radius * 0.6 * share, colour(), 0.25 * share);
            }
            paint::disc(canvas, body.x, body.y, body.radius, colour(), 1.0);
            paint::disc(
                canvas,
                body.x - body.radius * 0.3,
                body.y - body.radius * 0.3,
                body.radius * 0.3,
                0xff_ff_ff,
                0.35,
            );
        }
        paint::text(canvas, 20, 18, 2, TITLE, 0xe6_ed_f3);
        for (line, part) in status.split(' ').enumerate() {
            paint::text(canvas, 20, 52 + 14 * line, 1, part, 0x8b_98_a9);
        }
    }

    fn touch(&mut self, x: f32, y: f32) {
        self.touches += 1;
        bodies().lock().expect("a body panicked").push(Body { x, y, ..body(self.touches as usize % 5) });
    }

    fn status(&self) -> String {
        format!(
            "tick={} bodies={} hits={} worker={} thread={} touches={} colour={COLOUR} step={STEP}",
            TICKS.load(Ordering::Relaxed),
            bodies().lock().expect("a body panicked").len(),
            hits(),
            WORKER_ROUNDS.load(Ordering::Relaxed),
            THREAD_TICKS.get(),
            self.touches,
        )
    }
}
